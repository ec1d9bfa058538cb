"""WebSockets: the handshake goes on to the engine that has the model, then every byte, until either side ends."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from pathlib import Path

import anyio
import pytest
from lab import OK, Engine, Lab, Wire, answer, post, soon, until
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request
from websockets.typing import Subprotocol

from router.catalog import Address, Target
from router.proxy.client import ClientProtocol
from router.proxy.keys import Keys
from router.proxy.tunnel import Tunnel

pytestmark = pytest.mark.anyio

PATH = "/v1/realtime?model=m"
KEY = b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
UPGRADE = b"connection: Upgrade\r\nupgrade: websocket\r\n"
WISH = b"GET /v1/realtime?model=m HTTP/1.1\r\nhost: r\r\n" + UPGRADE + KEY + b"\r\n"
GRANTED = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nx-a: b\r\n\r\n"


class Server:
    """A WebSocket server as an engine; each connection is `handle`d."""

    def __init__(self, handle: Callable[[ServerConnection], Awaitable[None]]) -> None:
        self.handle = handle
        self.requests: list[Request] = []
        self.closed = asyncio.Event()

    async def _handle(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        self.requests.append(socket.request)
        with suppress(ConnectionClosed):  # however it ends
            await self.handle(socket)
        await socket.wait_closed()
        self.closed.set()


async def echo(socket: ServerConnection) -> None:
    async for message in socket:
        await socket.send(message)


@asynccontextmanager
async def serving(
    lab: Lab, handle: Callable[[ServerConnection], Awaitable[None]] = echo, **target: object
) -> AsyncIterator[Server]:
    server = Server(handle)
    protocols = [Subprotocol("realtime")]
    async with serve(server._handle, "127.0.0.1", 0, subprotocols=protocols, select_subprotocol=_first) as listening:
        (end,) = listening.sockets
        engine = Engine()
        engine.port = end.getsockname()[1]
        lab.add(engine, **target)
        yield server


def _first(_socket: ServerConnection, offered: object) -> Subprotocol | None:
    return Subprotocol("realtime") if "realtime" in list(offered) else None  # type: ignore[call-overload]


def socket_to(lab: Lab, path: str = PATH, **options: object) -> connect:
    return connect(f"ws://127.0.0.1:{lab.port}{path}", **options)  # type: ignore[arg-type]


def client_of(lab: Lab) -> ClientProtocol:
    (client,) = lab.server._connections()
    return client


def tunnel_of(lab: Lab) -> Tunnel:
    turn = client_of(lab)._turn
    assert turn is not None
    assert isinstance(turn.work, Tunnel)
    return turn.work


async def test_messages_go_both_ways(lab: Lab) -> None:
    async with serving(lab) as server:
        async with socket_to(lab, compression=None) as socket:
            for message in ("grüße", b"\x00\xff" * 1000, "", "x" * 900_000):
                await socket.send(message)
                assert await soon(socket.recv()) == message
        await soon(server.closed.wait())
    await until(lambda: lab.records)
    record = lab.records[0]
    assert (record.status, record.error, record.method, record.path) == (101, "", "GET", "/v1/realtime")
    assert (record.model, record.target, record.key) == ("m", "m#0", "")
    assert record.request_bytes > 900_000
    assert record.response_bytes > 900_000


async def test_the_handshake_is_the_clients_but_for_name_and_keys(lab: Lab) -> None:
    protocols = [Subprotocol("realtime"), Subprotocol("openai-insecure-api-key.sk-mine"), Subprotocol("beta.v1")]
    async with serving(lab, served="org/inner name", key="sk-engine") as server:
        path = "/realtime?intent=x%20y&mod%65l=alias&b"
        headers = {"Authorization": "Bearer sk-mine", "X-A": "b", "OpenAI-Beta": "realtime=v1"}
        async with socket_to(
            lab, path, subprotocols=protocols, additional_headers=headers, origin="http://o"
        ) as socket:
            assert socket.subprotocol == "realtime"
            assert socket.response is not None
            assert socket.response.headers["x-router-target"] == "m#0"
            assert socket.response.headers["x-request-id"]
    request = server.requests[0]
    assert request.path == "/v1/realtime?intent=x%20y&model=org%2Finner%20name&b"
    assert request.headers["authorization"] == "Bearer sk-engine"
    assert request.headers["sec-websocket-protocol"] == "realtime, beta.v1"
    assert (request.headers["x-a"], request.headers["openai-beta"]) == ("b", "realtime=v1")
    assert request.headers["origin"] == "http://o"
    assert request.headers["host"] == f"127.0.0.1:{lab.targets[0].address.port}"
    assert "sk-mine" not in str(request.headers)


async def test_the_engines_own_path_is_asked(lab: Lab) -> None:
    async with serving(lab, paths={"/v1/realtime": "/speech/live"}) as server, socket_to(lab):
        assert server.requests[0].path == "/speech/live?model=m"


async def test_compression_is_agreed_between_the_ends(lab: Lab) -> None:
    async with serving(lab), socket_to(lab, compression="deflate") as socket:
        assert socket.response is not None
        assert "permessage-deflate" in socket.response.headers["sec-websocket-extensions"]
        await socket.send("x" * 100_000)
        assert await soon(socket.recv()) == "x" * 100_000
        assert tunnel_of(lab).turn.size < 10_000


async def test_the_engines_close_frame_reaches_the_client(lab: Lab) -> None:
    async def leave(socket: ServerConnection) -> None:
        await socket.send("last")
        await socket.close(4001, "enough")

    async with serving(lab, leave), socket_to(lab) as socket:
        assert await soon(socket.recv()) == "last"
        await soon(socket.wait_closed())
        assert (socket.close_code, socket.close_reason) == (4001, "enough")


async def test_the_clients_close_frame_reaches_the_engine(lab: Lab) -> None:
    codes = []

    async def listen(socket: ServerConnection) -> None:
        await socket.wait_closed()
        codes.append((socket.close_code, socket.close_reason))

    async with serving(lab, listen) as server:
        async with socket_to(lab) as socket:
            await socket.close(4002, "bye")
        await soon(server.closed.wait())
    assert codes == [(4002, "bye")]


async def test_a_client_that_vanishes_ends_the_engines_side(lab: Lab) -> None:
    async with serving(lab) as server:
        async with socket_to(lab) as socket:
            await socket.send("x")
            await soon(socket.recv())
            socket.transport.abort()
            await soon(server.closed.wait())
        await until(lambda: not lab.targets[0].in_flight)


async def test_an_engine_that_vanishes_ends_the_clients_side(lab: Lab) -> None:
    async def vanish(socket: ServerConnection) -> None:
        await socket.recv()
        socket.transport.abort()

    async with serving(lab, vanish), socket_to(lab) as socket:
        await socket.send("x")
        await soon(socket.wait_closed())
        assert socket.close_code == 1006


async def test_a_stop_of_the_router_is_told_by_a_frame(lab: Lab) -> None:
    async with serving(lab) as server, socket_to(lab) as socket:
        await socket.send("x")
        await soon(socket.recv())
        lab.server.should_exit = True
        await soon(socket.wait_closed())
        assert socket.close_code == 1001
        await soon(server.closed.wait())
    await until(lambda: lab.records)
    assert (lab.records[0].status, lab.records[0].error) == (101, "shutting_down")


async def test_nobodys_unread_bytes_are_heaped_up(lab: Lab) -> None:
    """Either side sends much more than the other reads."""
    go = asyncio.Event()
    piece = os.urandom(1 << 20)

    async def stubborn(socket: ServerConnection) -> None:
        sending = asyncio.ensure_future(_send(socket, piece, 30))
        await go.wait()
        for _ in range(30):
            assert await socket.recv() == piece
        await sending

    lab.limits.send_timeout = 30.0
    async with serving(lab, stubborn), socket_to(lab, max_queue=1, compression=None) as socket:
        sending = asyncio.ensure_future(_send(socket, piece, 30))
        await until(lambda: client_of(lab)._body_paused and client_of(lab)._unread)
        engine = tunnel_of(lab)._engine
        assert engine is not None
        assert engine.get_write_buffer_size() < 2 << 20
        assert client_of(lab).transport.get_write_buffer_size() < 2 << 20
        go.set()
        for _ in range(30):
            assert await soon(socket.recv()) == piece
        await sending


async def _send(socket: ServerConnection | ClientConnection, piece: bytes, count: int) -> None:
    for _ in range(count):
        await socket.send(piece)


@pytest.mark.parametrize("stays", [True, False])
async def test_an_engine_that_takes_nothing_is_given_up(lab: Lab, stays: bool) -> None:
    """The client is not read meanwhile, so that nobody sees whether it is still there."""
    lab.limits.stall_timeout = 0.3
    over = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.head()
        await wire.send(GRANTED)
        wire._writer.transport.pause_reading()  # type: ignore[attr-defined]  # asyncio's can
        await over.wait()

    await lab.engine(script)
    wire = await lab.send(WISH)
    await wire.head()
    flood = asyncio.ensure_future(_flood(wire))
    await until(lambda: client_of(lab)._body_paused)
    if not stays:
        wire.reset()
    await until(lambda: not lab.in_work)
    over.set()
    flood.cancel()
    assert lab.records[0].error == "engine_timeout"
    assert not lab.targets[0].in_flight


async def _flood(wire: Wire) -> None:
    with suppress(ConnectionError):
        while True:
            await wire.send(bytes(65536))


async def test_a_grant_has_no_length(lab: Lab) -> None:
    await lab.answering(GRANTED.replace(b"x-a: b", b"content-length: 5"))
    wire = await lab.send(WISH)
    head = await wire.head()
    assert (head.status, head[b"content-length"]) == (101, None)


async def test_a_client_that_never_reads_is_given_up(lab: Lab) -> None:
    lab.limits.send_timeout = 0.1

    async def flood(socket: ServerConnection) -> None:
        await _send(socket, bytes(1 << 20), 60)

    async with serving(lab, flood) as server:
        wire = await lab.send(WISH)
        await soon(server.closed.wait())
        await until(lambda: lab.records)
        assert lab.records[0].error == "client_gone"
        wire.reset()


async def test_bytes_that_come_with_either_head_are_not_lost(lab: Lab) -> None:
    async def granting(wire: Wire) -> None:
        await wire.head()
        await wire.send(GRANTED + b"first")
        assert await wire.exactly(5) == b"early"
        await wire.send(b"then")

    await lab.engine(granting)
    wire = await lab.send(WISH + b"early")
    head = await wire.head()
    assert (head.status, head[b"upgrade"], head[b"connection"], head[b"x-a"]) == (101, b"websocket", b"Upgrade", b"b")
    assert await wire.rest() == b"firstthen"


async def test_who_sends_much_before_it_is_granted_is_not_read_on(lab: Lab) -> None:
    go = asyncio.Event()
    much = os.urandom(8 << 20)

    async def script(wire: Wire) -> None:
        await wire.head()
        await go.wait()
        await wire.send(GRANTED)
        assert await wire.exactly(len(much)) == much
        await wire.send(b"all")

    await lab.engine(script)
    wire = await lab.send(WISH)
    sending = asyncio.ensure_future(wire.send(much))
    await until(lambda: client_of(lab)._body_paused)
    assert len(tunnel_of(lab)._early) < 1 << 20
    go.set()
    await sending
    await wire.head()
    assert await wire.rest() == b"all"


async def test_a_clients_end_is_passed_on_and_it_may_still_be_told(lab: Lab) -> None:
    async def script(wire: Wire) -> None:
        await wire.head()
        await wire.send(GRANTED)
        assert await wire.rest() == b"over"
        await wire.send(b"and out")

    await lab.engine(script)
    wire = await lab.send(WISH)
    assert (await wire.head()).status == 101
    await wire.send(b"over")
    wire._writer.write_eof()
    assert await wire.rest() == b"and out"
    await until(lambda: lab.records)
    assert lab.records[0].error == ""


async def test_an_engine_that_ignores_a_clients_end_is_given_up(lab: Lab) -> None:
    lab.limits.stall_timeout = 0.1
    stop = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.head()
        await wire.send(GRANTED)
        await stop.wait()

    await lab.engine(script)
    wire = await lab.send(WISH)
    await wire.head()
    wire._writer.write_eof()
    assert await wire.rest() == b""
    stop.set()


async def test_another_answer_is_passed_on_and_ends_the_connection(lab: Lab) -> None:
    engine = await lab.answering(answer(b'{"error":"no"}', status=b"403 Forbidden", extra=b"x-a: b\r\n"))
    wire = await lab.send(WISH)
    reply = await wire.response()
    assert (reply.status, reply.body, reply[b"x-a"]) == (403, b'{"error":"no"}', b"b")
    assert reply[b"connection"] == b"close"
    await wire.gone()
    assert engine.requests[0][b"upgrade"] == b"websocket"
    with pytest.raises(InvalidStatus, match="403"):
        async with socket_to(lab):
            pass


@pytest.mark.parametrize(
    ("wish", "code"),
    [
        (WISH.replace(UPGRADE, b""), "invalid_http"),
        (WISH.replace(b"upgrade: websocket", b"upgrade: h2c"), "invalid_http"),
        (WISH.replace(b"websocket-key", b"websocket-lock"), "invalid_http"),
        (WISH.replace(b"HTTP/1.1", b"HTTP/1.0"), "invalid_http"),
        (WISH.replace(KEY, KEY + b"content-length: 2\r\n") + b"{}", "invalid_http"),
        (WISH.replace(b"?model=m", b""), "missing_model"),
        (WISH.replace(b"?model=m", b"?model="), "missing_model"),
        (WISH.replace(b"?model=m", b"?model=m&model=n"), "duplicate_model"),
    ],
)
async def test_what_is_no_handshake_is_refused(lab: Lab, wish: bytes, code: str) -> None:
    engine = await lab.answering(OK)
    reply = await lab.ask(wish)
    assert (reply.status, reply.code) == (400, code)
    assert not engine.wires


async def test_the_only_model_that_has_the_path_need_not_be_named(lab: Lab) -> None:
    lab.model.paths = frozenset(("/v1/realtime",))
    async with serving(lab, served="inner") as server:
        for path in ("/v1/realtime", "/v1/realtime?intent=transcription"):
            async with socket_to(lab, path):
                assert server.requests.pop().path == path
    lab.declare("other").paths = frozenset(("/v1/realtime",))
    assert (await lab.ask(WISH.replace(b"?model=m", b""))).code == "missing_model"


async def test_an_unknown_model_and_one_without_the_path_are_told(lab: Lab) -> None:
    assert (await lab.ask(WISH.replace(b"model=m", b"model=nobody"))).code == "model_not_found"
    lab.model.paths = frozenset(("/v1/chat/completions",))
    reply = await lab.ask(WISH)
    assert (reply.status, reply.code) == (501, "not_supported_by_model")


async def test_a_key_is_asked_for(lab: Lab) -> None:
    class Key:
        name, digest, admin = "holder", b"of nobody", False

    lab.proxy.keys = Keys([Key()])
    reply = await lab.ask(WISH)
    assert (reply.status, reply.code) == (401, "missing_api_key")


async def test_a_browsers_key_is_read_and_its_protocol_kept_back(lab: Lab) -> None:
    class Key:
        name, digest, admin = "holder", sha256(b"sk-mine").digest(), False

    lab.proxy.keys = Keys([Key()])
    protocols = [Subprotocol("openai-insecure-api-key.sk-mine")]
    async with serving(lab) as server:
        with pytest.raises(InvalidStatus, match="401"):
            async with socket_to(lab):
                pass
        async with socket_to(lab, subprotocols=protocols):
            assert "sec-websocket-protocol" not in server.requests[0].headers
    await until(lambda: len(lab.records) == 2)
    assert lab.records[1].key == "holder"


async def test_another_replica_is_asked_where_one_cannot_be_reached(lab: Lab) -> None:
    lab.model.add(gone := Target("gone", Address("127.0.0.1", 1), served="m", paths={"/v1/realtime": "/v1/realtime"}))
    async with serving(lab) as server, socket_to(lab) as socket:
        assert socket.response is not None
        assert socket.response.headers["x-router-target"] == "m#0"
        assert server.requests
    lab.model.remove(gone)


async def test_an_engine_that_does_not_answer_the_handshake_is_given_up(lab: Lab) -> None:
    lab.limits.response_timeout = 0.1
    stop = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.head()
        await stop.wait()

    await lab.engine(script)
    reply = await lab.ask(WISH)
    assert (reply.status, reply.code) == (504, "engine_timeout")
    stop.set()


async def test_a_client_that_leaves_before_it_is_granted_ends_the_handshake(lab: Lab) -> None:
    left = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.head()
        assert await wire.rest() == b""
        left.set()

    engine = await lab.engine(script)
    wire = await lab.send(WISH)
    await until(lambda: engine.wires)
    wire.close()
    await soon(left.wait())


async def test_a_tunnel_counts_as_a_request_in_flight(lab: Lab) -> None:
    async with serving(lab, limit=1):
        async with socket_to(lab):
            assert lab.targets[0].in_flight == 1
        await until(lambda: not lab.targets[0].in_flight)


async def test_a_handshake_that_is_granted_shows_that_the_engine_is_well(lab: Lab) -> None:
    async with serving(lab):
        lab.model.failed(lab.targets[0])
        assert lab.targets[0].breaker.doubted
        async with socket_to(lab):
            assert not lab.targets[0].breaker.doubted


async def test_a_connection_that_was_used_can_still_become_a_tunnel(lab: Lab) -> None:
    async def script(wire: Wire) -> None:
        while request := await wire.request():
            await wire.send(OK if request.start.startswith(b"POST") else GRANTED)

    await lab.engine(script)
    wire = await lab.client()
    for _ in range(3):
        await wire.send(post(b'{"model":"m"}'))
        assert (await wire.response()).status == 200
    await wire.send(WISH)
    assert (await wire.head()).status == 101


async def test_a_wish_for_a_websocket_elsewhere_is_ignored(lab: Lab) -> None:
    engine = await lab.answering(OK)
    wire = await lab.client()
    for _ in range(2):
        await wire.send(post(b'{"model":"m"}', extra=UPGRADE + KEY))
        assert (await wire.response()).status == 200
    assert engine.requests[0][b"upgrade"] is None


async def test_an_engine_behind_tls_is_reached(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost"
    await anyio.run_process(
        [*command.split(), "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with serve(Server(echo)._handle, "127.0.0.1", 0, ssl=context) as listening:
        (end,) = listening.sockets
        target = Target("tls", Address("localhost", end.getsockname()[1], prefix="/v1", tls=True), served="m")
        lab.targets.append(target)
        lab.model.add(target)
        async with socket_to(lab) as socket:
            await socket.send("x" * 100_000)
            assert await soon(socket.recv()) == "x" * 100_000
        await until(lambda: not target.in_flight)
        wire = await lab.send(WISH)
        assert (await wire.head()).status == 101
        wire._writer.write_eof()
        await wire.gone()
