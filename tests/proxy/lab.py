"""A real router between raw sockets: scripted engines on one side, byte-exact clients on the other.

Nothing here waits by sleeping; everything that waits has `DEADLINE`.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from launchers.base import Dialect
from router.catalog import Address, Catalog, Group, Manner, Model, Target
from router.console.metrics import Metrics
from router.console.public import Public
from router.measures import Measures, Record
from router.proxy.headers import NAMED
from router.proxy.keys import Keys
from router.proxy.pool import Pool
from router.proxy.proxy import Proxy
from router.proxy.server import Server

DEADLINE = 10.0
T = TypeVar("T")
Header = tuple[bytes, bytes]


async def soon(work: Awaitable[T], deadline: float = DEADLINE) -> T:
    """`work`'s result, within the deadline."""
    async with asyncio.timeout(deadline):
        return await work


async def until(look: Callable[[], T], deadline: float = DEADLINE) -> T:
    """The first truthy value of `look`, which is asked on every turn of the loop."""
    async with asyncio.timeout(deadline):
        while not (value := look()):  # noqa: ASYNC110 - of what is looked at nobody makes an event
            await asyncio.sleep(0)
    return value


@dataclass
class Message:
    """A request or a response, as it was on the wire."""

    start: bytes
    headers: list[Header]
    body: bytes = b""
    chunks: list[bytes] = field(default_factory=list)
    complete: bool = True
    """False when the connection ended before the body did."""

    def __getitem__(self, name: bytes) -> bytes | None:
        values = self.all(name)
        assert len(values) < 2, f"{name!r} stands {len(values)} times"
        return values[0] if values else None

    def all(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key.lower() == name]

    @property
    def passed_on(self) -> list[Header]:
        """The headers, less those with which the router says whose answer it is and what it took."""
        return [header for header in self.headers if header[0] not in NAMED]

    @property
    def status(self) -> int:
        return int(self.start.split()[1])

    @property
    def target(self) -> bytes:
        return self.start.split()[1]

    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def code(self) -> str:
        """The code of the error envelope, whose whole shape is checked."""
        assert self[b"content-type"] == b"application/json"
        content = self.json()
        assert set(content) == {"error", "detail"}
        assert set(content["error"]) == {"message", "type", "param", "code"}
        assert content["detail"] == content["error"]["message"]
        return str(content["error"]["code"])


class Wire:
    """One end of a TCP connection. `received` is every byte that came."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._buffer = b""
        self.received = bytearray()

    @property
    def socket(self) -> socket.socket:
        found: socket.socket = self._writer.get_extra_info("socket")
        return found

    async def send(self, data: bytes) -> None:
        """Raises ConnectionError."""
        if self._writer.is_closing():  # uvloop has an error of another kind for what is closed altogether
            raise ConnectionResetError("the other end has closed")
        self._writer.write(data)
        await soon(self._writer.drain())

    async def some(self) -> bytes:
        """What comes next, b"" at the end."""
        if self._buffer:
            data, self._buffer = self._buffer, b""
            return data
        data = await soon(self._reader.read(65536))
        self.received += data
        return data

    async def exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            held, self._buffer = self._buffer, b""
            more = await self.some()
            if not more:
                raise asyncio.IncompleteReadError(held, size)
            self._buffer = held + more
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    async def until(self, end: bytes) -> bytes:
        """Up to and with `end`."""
        while end not in self._buffer:
            held, self._buffer = self._buffer, b""
            more = await self.some()
            if not more:
                raise asyncio.IncompleteReadError(held, None)
            self._buffer = held + more
        size = self._buffer.index(end) + len(end)
        return await self.exactly(size)

    async def rest(self) -> bytes:
        """Everything to the end of the connection, however it ends."""
        parts = []
        with suppress(ConnectionError):
            while data := await self.some():
                parts.append(data)
        return b"".join(parts)

    async def gone(self, deadline: float = 1.0) -> None:
        """Returns once the other end has closed, or fails; nothing else may come."""
        try:
            data = await soon(self._reader.read(1), deadline)
        except ConnectionError:
            return
        assert data == b"", f"instead of the end came {data!r}"

    async def head(self) -> Message:
        lines = (await self.until(b"\r\n\r\n"))[:-4].split(b"\r\n")
        headers = [(name, value.strip()) for name, _, value in (line.partition(b":") for line in lines[1:])]
        return Message(lines[0], headers)

    async def request(self) -> Message | None:
        """The next request, None when the connection ends instead."""
        try:
            message = await self.head()
            message.body = await self.exactly(int(message[b"content-length"] or 0))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return message

    async def response(self) -> Message:
        """The next answer, whole or as far as it came."""
        message = await self.head()
        try:
            if message[b"transfer-encoding"] == b"chunked":
                while chunk := await self.chunk():
                    message.chunks.append(chunk)
                    message.body += chunk
            elif (length := message[b"content-length"]) is not None:
                message.body = await self.exactly(int(length))
        except asyncio.IncompleteReadError as error:
            message.body += error.partial
            message.complete = False
        except ConnectionError:
            message.complete = False
        return message

    async def chunk(self) -> bytes:
        """The next chunk's data, b"" for the last one."""
        size = int((await self.until(b"\r\n"))[:-2], 16)
        data = await self.exactly(size + 2)
        assert data.endswith(b"\r\n")
        return data[:-2]

    def close(self) -> None:
        self._writer.close()

    def reset(self) -> None:
        """Ends the connection with RST instead of FIN."""
        if self._writer.is_closing():
            return
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


Script = Callable[[Wire], Awaitable[None]]


class Engine:
    """A TCP server whose n-th connection runs the n-th script, the last one again and again."""

    def __init__(self, *scripts: Script) -> None:
        self.scripts = list(scripts)
        self.wires: list[Wire] = []
        self.requests: list[Message] = []
        self.errors: list[BaseException] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, *, ssl: Any = None) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=ssl)
        self.port: int = self._server.sockets[0].getsockname()[1]

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = Wire(reader, writer)
        script = self.scripts[min(len(self.wires), len(self.scripts) - 1)]
        self.wires.append(wire)
        self._tasks.append(asyncio.ensure_future(self._run(script, wire)))

    async def _run(self, script: Script, wire: Wire) -> None:
        try:
            await script(wire)
        except (ConnectionError, asyncio.CancelledError):
            pass
        except BaseException as error:  # told at the end of the test
            self.errors.append(error)
        finally:
            wire.close()

    def refuse(self) -> None:
        """From here on connections are refused; those that are open stay."""
        self._server.close()

    async def left(self, connection: int = 0, deadline: float = 3.0) -> None:
        """Returns once the script of that connection has come to its end."""
        await soon(asyncio.wait([self._tasks[connection]]), deadline)

    async def stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks)
        for wire in self.wires:
            wire._writer.transport.abort()

    def answering(self, *answers: bytes) -> "Engine":
        """Answers each request on a connection with these bytes, the last one again and again."""

        async def script(wire: Wire) -> None:
            count = 0
            while (request := await wire.request()) is not None:
                self.requests.append(request)
                await wire.send(answers[min(count, len(answers) - 1)])
                count += 1

        self.scripts = [script]
        return self


def answer(body: bytes, kind: bytes = b"application/json", status: bytes = b"200 OK", extra: bytes = b"") -> bytes:
    head = b"HTTP/1.1 %b\r\ncontent-type: %b\r\n%bcontent-length: %d\r\n\r\n"
    return head % (status, kind, extra, len(body)) + body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
OK = answer(b'{"model":"m","ok":true}')
END = b"0\r\n\r\n"


@dataclass
class Limits:
    queue_timeout: float = 5.0
    queue_size: int = 16
    connect_timeout: float = 2.0
    response_timeout: float = 5.0
    stall_timeout: float = 5.0
    max_body: int = 1 << 20
    body_timeout: float = 5.0
    send_timeout: float = 3.0
    keepalive: float = 0.0
    retry_budget: float = 0.2


class Lab:
    """A router with one model, `m`, which the engines call `m` too unless told otherwise."""

    def __init__(self) -> None:
        self.limits = Limits()
        self.model = Model("m", kind="chat", engine="test", aliases=("alias",), limits=self.limits)
        self.catalog = Catalog([self.model])
        self._records: list[Record] = []
        self.measures = Measures([self._records.extend])
        self.proxy = Proxy(self.catalog, Keys([]), self.measures)
        self.engines: list[Engine] = []
        self.pools: list[Pool] = []
        self.wires: list[Wire] = []
        self.targets: list[Target] = []
        self._homes: dict[Target, Model] = {}
        self.server = Server(
            Public(self.catalog, Metrics(self.measures, self.catalog, list)).app(),
            self.limits,
            plane=self.proxy,
            drain=0.1,
        )

    async def start(self) -> None:
        listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self.port: int = listener.getsockname()[1]
        self.serving = asyncio.ensure_future(self.server.serve([listener]))
        await until(lambda: self.server.started)

    async def engine(self, *scripts: Script, **target: Any) -> Engine:
        """An engine, running, and a target of the model."""
        engine = Engine(*scripts)
        await engine.start()
        self.engines.append(engine)
        self.add(engine, **target)
        return engine

    async def answering(self, *answers: bytes, **target: Any) -> Engine:
        return (await self.engine(**target)).answering(*answers)

    def add(
        self,
        engine: Engine,
        *,
        of: Model | None = None,
        served: str = "m",
        paths: Any = ...,
        dialect: Dialect = Dialect(),  # noqa: B008
        names: Mapping[str, str] | None = None,
        **more: Any,
    ) -> Target:
        """A target of the model `of`; without one, of `m`."""
        model = of or self.model
        every = {path: path for path in self.paths()} if paths is ... else paths
        address = Address("127.0.0.1", engine.port)
        target = Target(f"{model.name}#{len(self.targets)}", address, served=served, paths=every, **more)
        target.dialect, target.names = dialect, names or {}
        self.targets.append(target)
        self._homes[target] = model
        model.add(target)
        return target

    def declare(self, name: str, *groups: Group, kind: str = "chat", manner: Manner = Manner()) -> Model:  # noqa: B008
        """Another model, behind those there are."""
        model = Model(name, kind=kind, engine="test", limits=self.limits, manner=manner)
        self.catalog.replace([*self.catalog, model], groups)
        return model

    def call(self, *names: str) -> None:
        """More names for the model."""
        self.model.aliases += names
        self.catalog.replace([self.model])

    @staticmethod
    def paths() -> Sequence[str]:
        from router.proxy.paths import PATHS  # noqa: PLC0415

        return list(PATHS)

    async def client(self, **options: Any) -> Wire:
        reader, writer = await soon(asyncio.open_connection("127.0.0.1", self.port, **options))
        wire = Wire(reader, writer)
        self.wires.append(wire)
        return wire

    async def send(self, data: bytes) -> Wire:
        wire = await self.client()
        await wire.send(data)
        return wire

    async def ask(self, data: bytes) -> Message:
        """One request on a connection of its own, and its answer."""
        return await (await self.send(data)).response()

    async def chat(self, body: bytes = b'{"model":"m"}', **more: Any) -> Message:
        return await self.ask(post(body, **more))

    async def stop(self) -> None:
        """Ends everything, and checks that nothing was left behind on the way."""
        try:
            for wire in self.wires:
                wire.reset()
            await until(lambda: not self.in_work)
            await until(lambda: not any(target.in_flight for target in self.targets))
            assert not any(model.waiting for model in self.catalog)
            assert not any(pool.busy for pool in self._pools()), f"not given back: {self._pools()}"
        finally:
            await self._end()
        errors = [error for engine in self.engines for error in engine.errors]
        if errors:
            raise errors[0]

    @property
    def records(self) -> list[Record]:
        """Of all requests that have ended."""
        self.measures.flush()
        return self._records

    @property
    def in_work(self) -> int:
        """Requests that have begun to come and are not answered."""
        return sum(client._turn is not None for client in self.server._connections())

    def _pools(self) -> list[Pool]:
        return [target.pool for target in self.targets if isinstance(target.pool, Pool)]

    async def _end(self) -> None:
        for target in self.targets:
            self._homes.get(target, self.model).remove(target)
        self.serving.cancel()
        await asyncio.gather(self.serving, return_exceptions=True)
        for server in self.server.servers:
            server.close()
        for connection in list(self.server.server_state.connections):
            connection.transport.abort()
        for engine in self.engines:
            await engine.stop()
        await until(lambda: not self.server.server_state.connections)


def post(body: bytes, path: bytes = b"/v1/chat/completions", extra: bytes = b"", kind: bytes | None = None) -> bytes:
    """A request's bytes. `extra` are more header lines, each ended."""
    kind = b"application/json" if kind is None else kind
    head = b"POST %b HTTP/1.1\r\nhost: router\r\ncontent-type: %b\r\n%bcontent-length: %d\r\n\r\n"
    return head % (path, kind, extra, len(body)) + body


@asynccontextmanager
async def running() -> AsyncIterator[Lab]:
    lab = Lab()
    await lab.start()
    try:
        yield lab
    finally:
        await lab.stop()
