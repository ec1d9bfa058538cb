"""Any other engine: a program that serves HTTP on a port it is told, described by the model's own options."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Annotated

import msgspec

from launchers import adapters, devices, programs
from launchers.base import Command, KeepAlive, Kind, Launch, Probe, Program, Recipe, Refusal
from launchers.kinds import KIND_PATHS, PUBLIC_PATHS

Meta = msgspec.Meta


class CommandOptions(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Options of the `command` engine: what the router cannot know about a program of yours."""

    argv: Annotated[
        list[str],
        Meta(
            min_length=1,
            description="The program and its arguments. ${PORT}, ${HOST}, ${MODEL}, ${NAME} and ${KEY} are filled in; "
            "other users of the machine can see arguments, so prefer `key_env` to ${KEY}. $$ is a dollar sign.",
        ),
    ]
    ready: Annotated[str, Meta(pattern="^/", description="Path that answers once the program can serve.")] = "/health"
    ready_status: Annotated[
        Annotated[int, Meta(ge=100, le=599)], Meta(description="Status of that answer, once it can.")
    ] = 200
    paths: Annotated[
        list[str] | dict[str, str] | None,
        Meta(description="Public paths it serves, or public path: its own path. Not set: those of the model's kind."),
    ] = None
    served_name: Annotated[
        str | None, Meta(description="Name by which the program knows the model. Not set: the model's public name.")
    ] = None
    key_env: Annotated[
        str | None,
        Meta(description="Environment variable through which the program takes the API key it shall ask for."),
    ] = None
    keep_alive: Annotated[
        Annotated[float, Meta(ge=0)], Meta(description="Seconds after which it closes idle connections, less a margin.")
    ] = 4
    concurrency: Annotated[
        Annotated[int, Meta(ge=1)] | None, Meta(description="Requests it takes at the same time. Not set: it queues.")
    ] = None


class CommandLauncher:
    name = "command"
    summary = "any program that serves HTTP on a port it is told"
    Options: type[msgspec.Struct] = CommandOptions
    kinds: tuple[Kind, ...] = ("chat", "embedding", "rerank", "transcription", "speech", "image", "video")
    default_kind: Kind = "chat"
    recipes: Mapping[str, Recipe] = {}

    def find(self, places: Sequence[Path], options: CommandOptions) -> Program | None:
        named = Path(options.argv[0])
        if named.is_absolute():
            return Program((str(named),)) if named.is_file() else None
        found = programs.find(places, options.argv[0])
        return Program((str(found),)) if found else None

    def command(self, launch: Launch) -> Command:
        options: CommandOptions = launch.options
        probe = Probe(options.ready, (options.ready_status,), key=options.key_env is not None)
        adapters.refuse(launch, "engine: command", "add the adapters to options.argv, and an alias for each")
        key = {options.key_env: launch.key} if options.key_env else {}
        return Command(
            argv=(*launch.program.argv, *_filled(launch, options.argv[1:]), *launch.args),
            env=devices.visible(launch.gpus, launch.accelerator) | key,
            readiness=probe,
            liveness=probe,
            served=options.served_name or launch.name,
            paths=_paths(launch.kind, options.paths),
            keep_alive=KeepAlive(idle=options.keep_alive),
            concurrency=options.concurrency,
        )


def _filled(launch: Launch, words: Sequence[str]) -> list[str]:
    values = {
        "PORT": str(launch.port),
        "HOST": launch.host,
        "MODEL": launch.source.value,
        "NAME": launch.name,
        "KEY": launch.key,
    }
    try:
        return [Template(word).substitute(values) for word in words]
    except (KeyError, ValueError) as error:
        raise Refusal(
            "options.argv",
            f"has a placeholder that means nothing ({error})",
            f"use one of {', '.join(f'${{{name}}}' for name in values)}, and $$ for a dollar sign",
        ) from None


def _paths(kind: Kind, given: Sequence[str] | Mapping[str, str] | None) -> Mapping[str, str]:
    if given is None:
        given = KIND_PATHS[kind]
    paths = given if isinstance(given, Mapping) else {path: path for path in given}
    unknown = sorted(set(paths) - PUBLIC_PATHS)
    if unknown:
        known = ", ".join(sorted(PUBLIC_PATHS))
        raise Refusal("options.paths", f"{unknown[0]} is not a public path", f"choose among {known}")
    return paths
