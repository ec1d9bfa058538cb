"""What an engine serves: its launcher is asked for the command of each kind of model, and each form of the engine."""

from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

import msgspec

from launchers.base import Command, Kind, Launch, Launcher, Program, Refusal, Source
from router.config.json_schema import leaves
from router.config.programs import is_described
from router.config.samples import COMMAND

SOURCES = (Source("hub", "org/model"), Source("file", "/models/model.gguf"))
_LORA = {"tuned": "org/adapter"}


class Served(msgspec.Struct, frozen=True):
    """What an engine does for one kind of model: in one of its forms, where it has several, and with a switch of its
    options on, where it needs one. `source`: where the model comes from."""

    kind: Kind
    form: str
    switch: str
    source: Source
    command: Command
    lora: bool

    @property
    def needs(self) -> tuple[str, ...]:
        """The options, as they are written."""
        return tuple(
            f"{name}: {value}" for name, value in (("form", self.form), (self.switch, "true")) if name and value
        )


def served(launcher: Launcher) -> list[Served]:
    """For each kind of model and each form of the engine."""
    tries = [(kind, form) for kind in launcher.kinds for form in forms_of(launcher) or ("",)]
    found = [_served(launcher, kind, form) for kind, form in tries]
    return [each for each in found if each is not None]


def _served(launcher: Launcher, kind: Kind, form: str) -> Served | None:
    """With the first switch that it needs; None where it does not serve the kind at all."""
    for switch in ("", *_switches(launcher)):
        given = {**({"form": form} if form else {}), **({switch: True} if switch else {})}
        for source in SOURCES:
            command = _command(launcher, kind, given, source, {})
            if command is not None:
                adapted = _command(launcher, kind, given, source, _LORA)
                return Served(kind, form, switch, source, command, bool(adapted and adapted.names))
    return None


def _command(
    launcher: Launcher, kind: Kind, given: Mapping[str, Any], source: Source, lora: Mapping[str, str]
) -> Command | None:
    """None where the launcher refuses."""
    options = msgspec.convert({**(COMMAND if is_described(launcher) else {}), **given}, launcher.Options)
    program = Program((launcher.name,), given.get("form", ""))
    try:
        return launcher.command(
            Launch(name="m", kind=kind, source=source, options=options, port=1, key="", lora=lora, program=program)
        )
    except Refusal:
        return None


def forms_of(launcher: Launcher) -> tuple[str, ...]:
    """That the engine comes in, where it has an option of that name."""
    for field in msgspec.structs.fields(launcher.Options):
        if field.name == "form":
            kinds = [kind for kind, _ in leaves(field.type) if get_origin(kind) is Literal]
            return tuple(form for kind in kinds for form in get_args(kind) if form != "auto")
    return ()


def _switches(launcher: Launcher) -> list[str]:
    return [field.name for field in msgspec.structs.fields(launcher.Options) if field.default is False]
