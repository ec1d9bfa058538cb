"""Models that a server elsewhere serves: always there as far as this router knows."""

import msgspec

from router.catalog import Address, Catalog, Model, Target
from router.config import Config, RemoteSpec
from router.fleet.rows import Row
from router.fleet.states import State


class Remote(msgspec.Struct, frozen=True):
    """One such server, as it is in the catalogue."""

    spec: RemoteSpec
    model: Model
    target: Target

    def row(self) -> Row:
        return Row(
            model=self.spec.name,
            replica=0,
            engine="remote",
            state=State.READY,
            pid=None,
            address=str(self.target.address),
            gpus=None,
            uptime_s=None,
            restarts=0,
            in_flight=self.target.in_flight,
            error=None,
            state_s=0.0,
            last_line="",
            circuit=self.target.circuit,
        )


class Remotes:
    """Those of the file, as targets in the catalogue."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._held: list[Remote] = []

    def apply(self, config: Config) -> None:
        """What the file says, from now on. Requests at a server that has changed go on to their end."""
        specs = [spec for spec in config.models if isinstance(spec, RemoteSpec)]
        kept = [remote for remote in self._held if any(_reached_alike(remote.spec, spec) for spec in specs)]
        for remote in self._held:
            if remote not in kept:
                remote.model.remove(remote.target)
        names = {remote.spec.name for remote in kept}
        self._held = kept + [self._add(spec) for spec in specs if spec.name not in names]

    def _add(self, spec: RemoteSpec) -> Remote:
        remote = Remote(spec, self._catalog.resolve(spec.name), _target(spec))
        remote.model.add(remote.target)
        return remote

    def rows(self) -> list[Row]:
        return [remote.row() for remote in self._held]


def _reached_alike(one: RemoteSpec, other: RemoteSpec) -> bool:
    return one.name == other.name and _reach(one) == _reach(other)


def _reach(spec: RemoteSpec) -> tuple[object, ...]:
    return spec.host, spec.port, spec.tls, spec.prefix, spec.key, spec.upstream_model


def _target(spec: RemoteSpec) -> Target:
    address = Address(spec.host, spec.port, prefix=spec.prefix, tls=spec.tls)
    return Target(f"{spec.name}#0", address, served=spec.upstream_model, key=spec.key)
