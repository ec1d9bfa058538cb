import faulthandler, asyncio, pytest
from lab import post, until, OK
pytestmark = pytest.mark.anyio
async def test_x(lab):
    faulthandler.dump_traceback_later(6, exit=True)
    await lab.answering(OK)
    w = await lab.send(post(b'{"model":"m"}'))
    assert (await w.response()).status == 200
    async def bad():
        loop = asyncio.get_running_loop()
        def show():
            for t in asyncio.all_tasks(): print(t, flush=True); 
        loop.call_later(3, show)
        1/0
    lab.stop = bad
