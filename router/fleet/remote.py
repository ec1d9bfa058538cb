"""Models that a server elsewhere serves: always there as far as this router knows."""

from router.catalog import Address, Model, Target
from router.config import Config, RemoteSpec
from router.fleet.rows import Row
from router.fleet.states import State


def remotes(config: Config) -> list[RemoteSpec]:
    return [spec for spec in config.models if isinstance(spec, RemoteSpec)]


def remote_target(spec: RemoteSpec) -> Target:
    address = Address(spec.host, spec.port, prefix=spec.prefix, tls=spec.tls)
    return Target(f"{spec.name}#0", address, served=spec.upstream_model, key=spec.key)


def remote_row(spec: RemoteSpec, model: Model) -> Row:
    address = Address(spec.host, spec.port, prefix=spec.prefix, tls=spec.tls)
    return Row(
        model=spec.name,
        replica=0,
        engine="remote",
        state=State.READY,
        pid=None,
        address=str(address),
        gpus=None,
        uptime_s=None,
        restarts=0,
        in_flight=model.in_flight,
        error=None,
        state_s=0.0,
        last_line="",
    )
