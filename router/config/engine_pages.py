"""`docs/engines/NAME.md`, a page for each engine: made from its launcher's options, and from the commands that it makes
for each kind of model."""

import inspect
from collections.abc import Iterator

import msgspec

from launchers import LAUNCHERS
from launchers.base import Kind, Launcher
from router.config.json_schema import about, default_of
from router.config.programs import is_described
from router.config.samples import COMMAND, model_of
from router.config.served import Served, served
from router.config.shapes import inline, shape
from router.config.treatment import told


def pages() -> dict[str, str]:
    """By the engine's name."""
    return {name: "\n".join(_page(launcher)) + "\n" for name, launcher in LAUNCHERS.items()}


def _page(launcher: Launcher) -> Iterator[str]:
    found = served(launcher)
    yield from (f"# {launcher.name}", "", f"{_sentence(launcher.summary)}", "")
    yield from _notes(launcher)
    yield from _install(launcher)
    yield from ("## In the file", "", "```yaml", *_example(launcher, found), "```", "")
    yield from _paths(found)
    yield from ("## What the router does for it", "", *_treatment(found), "")
    yield from _options(launcher)
    file = f"{type(launcher).__module__.replace('.', '/')}.py"
    yield f"Made from `{file}` by `python -m router.config.reference`."


def _notes(launcher: Launcher) -> Iterator[str]:
    """What the launcher's own docstring says to users."""
    text = inspect.cleandoc(type(launcher).__doc__ or "")
    yield from (text, "") if text else ()


def _install(launcher: Launcher) -> Iterator[str]:
    yield from ("## Install", "")
    names = list(launcher.recipes)
    if names:
        words = {"cpu": " --cpu", names[0]: ""}
        yield "```sh"
        for name, recipe in launcher.recipes.items():
            command = f"router install {launcher.name}{words.get(name, f' --form {name}')}"
            yield f"{command:<40} # {_variant(name)}{', compiled here: minutes' if recipe.build else ''}"
        yield from ("```", "", "Or install it yourself, and name its environment or program with `environment:`.", "")
    elif is_described(launcher):
        yield from ("Nothing: `argv` below `options` names a program of yours.", "")
    else:
        yield "`router install` has no recipe for it. Install it as its own pages say: it is found on PATH, in the"
        yield from ("router's own environment, or where `environment:` says.", "")


def _variant(name: str) -> str:
    return {"gpu": "for GPUs", "cpu": "for CPUs"}.get(name, f"the form {name}")


def _example(launcher: Launcher, found: list[Served]) -> Iterator[str]:
    """One model of each kind, for the form of the engine that `router install` makes."""
    usual = next(iter(launcher.recipes), "")
    shown: dict[Kind, Served] = {}
    for each in sorted(found, key=lambda each: each.form != usual):
        shown.setdefault(each.kind, each)
    yield "models:"
    for kind, each in shown.items():
        if is_described(launcher) and kind != launcher.default_kind:
            continue
        yield from (f"  my-{kind}:", f"    engine: {launcher.name}")
        if is_described(launcher):
            yield f"    options: {inline(COMMAND)}"
        else:
            on_hub = each.source.where == "hub"
            yield f"    model: {model_of(launcher.name, kind) if on_hub else './models/model.gguf'}"
        yield from [f"    kind: {kind}"] if kind != launcher.default_kind else []
        yield from [f"    options: {{{each.switch}: true}}"] if each.switch else []


def _paths(found: list[Served]) -> Iterator[str]:
    yield from ("## What it serves", "", "| `kind` | paths |", "|---|---|")
    rows: dict[tuple[Kind, tuple[str, ...]], list[Served]] = {}
    for each in found:
        rows.setdefault((each.kind, tuple(each.command.paths)), []).append(each)
    for (kind, paths), alike in rows.items():
        needs = _or(alike, [each for each in found if each.kind == kind])
        yield f"| `{kind}`{f' with {needs}' if needs else ''} | {', '.join(f'`{path}`' for path in paths)} |"
    yield ""


def _treatment(found: list[Served]) -> Iterator[str]:
    """Each sentence once, with what it is true of where that is not all."""
    sentences: dict[str, list[Served]] = {}
    for each in found:
        for sentence in told(each.command, lora=each.lora):
            sentences.setdefault(sentence, []).append(each)
    for sentence, alike in sentences.items():
        yield f"- {_whom(alike, found)}{sentence}"
    yield "- `model` is the public name to clients and the engine's own to the engine, in requests and answers."


def _whom(some: list[Served], every: list[Served]) -> str:
    kinds = dict.fromkeys(each.kind for each in some)
    needs = _or(some, [each for each in every if each.kind in kinds])
    named = ", ".join(f"`{kind}`" for kind in kinds) if len(kinds) < len({each.kind for each in every}) else ""
    words = " with ".join(word for word in (named, needs) if word)
    return f"({words}) " if words else ""


def _or(some: list[Served], every: list[Served]) -> str:
    """The options that tell `some` from `every`; empty where they are the same."""
    needs = (f"`{need}`" for each in some for need in each.needs)
    return " or ".join(dict.fromkeys(needs)) if len(some) < len(every) else ""


def _options(launcher: Launcher) -> Iterator[str]:
    yield from ("## Options", "", *_sentence(launcher.Options.__doc__ or "").splitlines(), "")
    yield from ("| below `options:` | | default |", "|---|---|---|")
    for field in msgspec.structs.fields(launcher.Options):
        default = default_of(field)
        value = "" if default in (None, [], {}) else f"`{inline(default)}`"
        yield f"| `{field.name}`: {_cell(shape(field.type))} | {_cell(about(field.type)[0])} | {_cell(value)} |"
    yield ""


def _sentence(text: str) -> str:
    words = " ".join(text.split())
    words = words if ":" in words else words[:1].upper() + words[1:]
    return words if words.endswith(".") else f"{words}."


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
