"""A router as in the laboratory, and a house behind it that does nothing but say what it was asked."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from proxy.lab import Lab, Limits

from router.catalog import Group, Manner, Model
from router.console.metrics import Metrics
from router.console.public import Public
from router.fleet.facts import Facts
from router.fleet.rows import Row
from router.proxy.keys import Keys
from router.proxy.server import Server

KINDS = ("chat", "embedding", "rerank", "transcription", "speech", "image", "video")


def row(model: str, state: str) -> Row:
    return Row(
        model=model, replica=0, engine="test", state=state, pid=None, address=None, gpus=None, uptime_s=None,
        restarts=0, in_flight=0, error="its own words", state_s=1.0, last_line="",
    )  # fmt: skip


class House:
    """Its engines are those that have a row."""

    def __init__(self) -> None:
        self.guarded = False
        self.known: dict[str, Facts] = {}
        self.states: dict[str, str] = {}
        self.asked: list[tuple[str, str]] = []

    async def facts(self, name: str) -> Facts:
        return self.known.get(name, Facts())

    def rows(self) -> list[Row]:
        return [row(name, state) for name, state in self.states.items()]

    def start_model(self, name: str) -> bool:
        self.asked.append(("start", name))
        return name in self.states

    def stop_model(self, name: str) -> bool:
        self.asked.append(("stop", name))
        return name in self.states


class Desk(Lab):
    """A model of each kind, by the name of its kind, and the group `any` of `chat` and `m`."""

    def __init__(self) -> None:
        super().__init__()
        self.house = House()
        self.models = {kind: self.named(kind) for kind in KINDS}
        group = Group("any", kind="chat", members=[("chat", 2), ("m", 1)], created=7)
        self.catalog.replace([self.model, *self.models.values()], [group])
        metrics = Metrics(self.measures, self.catalog, list)
        app = Public(self.catalog, metrics, self.house).app()
        self.server = Server(app, self.limits, plane=self.proxy, drain=0.1)

    @staticmethod
    def named(name: str, **info: object) -> Model:
        kind = name if name in KINDS else "chat"
        return Model(name, kind=kind, engine="test", limits=Limits(), manner=Manner(info=info), created=1_700_000_000)

    def declare(self, keys: Sequence[object]) -> None:
        """These keys, from now on."""
        self.proxy.keys = Keys(keys)
        self.house.guarded = bool(keys)


@asynccontextmanager
async def desk() -> AsyncIterator[Desk]:
    one = Desk()
    await one.start()
    try:
        yield one
    finally:
        await one.stop()


def request(method: str, path: str, *lines: str, body: bytes = b"", host: str = "127.0.0.1") -> bytes:
    """Its bytes; `lines` are more header lines."""
    head = [f"{method} {path} HTTP/1.1", f"host: {host}", *lines, f"content-length: {len(body)}", "", ""]
    return "\r\n".join(head).encode() + body
