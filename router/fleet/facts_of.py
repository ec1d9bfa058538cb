"""The facts of one model, from its files and from what its engine is told."""

import re
from pathlib import Path

import msgspec

from launchers import gguf
from launchers.base import Refusal
from router.config import EngineSpec, RemoteSpec
from router.downloads.asked import asked, flag
from router.downloads.held import snapshot
from router.downloads.needed import gguf as wanted_gguf
from router.fleet import gguf_header, model_folder
from router.fleet.facts import Facts

LLAMACPP_TEXT = 512
"""Tokens of a text that llama.cpp embeds or ranks, where `ubatch` does not say otherwise."""
LLAMACPP_PYTHON_CONTEXT = 2048
"""llama-cpp-python's own, in tokens."""
_ENCODERS = ("embedding", "rerank")
_CONTEXT_OPTIONS = ("max_model_len", "context_length", "session_len", "max_seq_len", "context")
_CONTEXT_FLAGS = (
    "--max-model-len", "--max_model_len", "--context-length", "--session-len", "--max_seq_len", "-c", "--ctx-size",
    "--n_ctx",
)  # fmt: skip
_PARSERS = {**dict.fromkeys(("vllm", "sglang", "lmdeploy"), "--tool-call-parser"), "trtllm": "--tool_parser"}
"""Engines that call no tools unless they are told how the model writes its calls."""
_QUANTISATION = re.compile(r"[-.]((?:UD-)?(?:IQ|Q)\d\w*|[BF]?F16|F32|MXFP4)(?=[-.]|$)", re.IGNORECASE)
_THINKS = ("<think>", "reasoning_content", "enable_thinking")


def facts_of(spec: EngineSpec | RemoteSpec) -> Facts:
    """Whatever is wrong with its files is for its engine to say; here it is only not known. It reads files: not for the
    event loop."""
    if isinstance(spec, RemoteSpec):
        return Facts()
    try:
        found = _of_files(spec)
    except (OSError, ValueError, Refusal, gguf_header.NotReadable):
        found = None
    return found or _limited(spec, Facts(replicas=spec.replicas, complete=asked(spec) is None))


def _of_files(spec: EngineSpec) -> Facts | None:
    """None where there are none of it here, or not yet."""
    place = _place(spec)
    if place is None:
        return None
    file = _gguf_in(spec, place) if place.is_dir() else place
    if file is not None and file.suffix == ".gguf":
        return _of_gguf(spec, file)
    folder = model_folder.read(place) if place.is_dir() else None
    return None if folder is None else _of_folder(spec, folder)


def _place(spec: EngineSpec) -> Path | None:
    if spec.source.where in ("file", "folder"):
        return Path(spec.source.value)
    wish = asked(spec)
    return None if wish is None else snapshot(wish)


def _gguf_in(spec: EngineSpec, folder: Path) -> Path | None:
    """The file that is served out of the folder; None where that is not a file, but the folder."""
    if spec.source.where == "folder":
        return gguf.file_of(folder) if spec.engine == "llamacpp" else None
    wish = asked(spec)
    tag = wish.tag if wish else ""
    if not tag and spec.engine != "llamacpp":
        return None
    names = wanted_gguf([str(path.relative_to(folder)) for path in folder.rglob("*.gguf")], tag)
    return folder / names[0] if names else None


def _of_gguf(spec: EngineSpec, file: Path) -> Facts:
    header = gguf_header.describe(file)
    template = gguf_header.chat_template(file) if spec.kind == "chat" else ""
    named = _QUANTISATION.search(file.stem)
    facts = Facts(
        format="gguf",
        family=header.architecture,
        quantization=named[1] if named else None,
        context=header.context or None,
        dimensions=header.width or None if spec.kind == "embedding" else None,
        # llama.cpp chats without a template too: it has one of its own.
        tools="tools" in template and getattr(spec.options, "jinja", None) is not False,
        vision=bool(getattr(spec.options, "mmproj", None)),
        reasoning=_thinks(template),
        replicas=spec.replicas,
    )
    return _limited(spec, facts)


def _of_folder(spec: EngineSpec, folder: model_folder.Folder) -> Facts:
    encodes = spec.kind in _ENCODERS
    lengths = [folder.context, folder.text_limit if encodes else None]
    template = folder.templates or ""
    own = getattr(spec.options, "chat_template", None) or flag(spec.args, "--chat-template")
    facts = Facts(
        format=folder.format,
        family=folder.family,
        quantization=getattr(spec.options, "quantization", None) or folder.quantization,
        context=min((length for length in lengths if length), default=None),
        dimensions=folder.dimensions if spec.kind == "embedding" else None,
        chats=folder.templates != "" or bool(own),
        tools="tools" in template and _parses_tools(spec),
        vision=folder.vision,
        audio=folder.audio,
        reasoning=_thinks(template) or bool(getattr(spec.options, "reasoning_parser", None)),
        replicas=spec.replicas,
    )
    return _limited(spec, facts)


def _parses_tools(spec: EngineSpec) -> bool:
    name = _PARSERS.get(spec.engine)
    return name is None or bool(getattr(spec.options, "tool_call_parser", None) or flag(spec.args, name))


def _thinks(template: str) -> bool:
    return any(mark in template for mark in _THINKS)


def _limited(spec: EngineSpec, facts: Facts) -> Facts:
    """With the context that its engine was told to have, if it was."""
    context = _told(spec) or facts.context
    if spec.engine == "llamacpp":
        context = _of_llamacpp(spec, context)
    return msgspec.structs.replace(facts, context=context)


def _told(spec: EngineSpec) -> int | None:
    """None or 0: the model's own."""
    given = flag(spec.args, *_CONTEXT_FLAGS)
    if given is not None:
        return int(given) if given.isdecimal() else None
    options = (getattr(spec.options, name, None) for name in _CONTEXT_OPTIONS)
    return next((value for value in options if isinstance(value, int)), None)


def _of_llamacpp(spec: EngineSpec, context: int | None) -> int | None:
    """Its slots share the context, if their number was given, else each may use all of it. What it embeds has to fit in
    one batch."""
    if spec.program.form == "python" and _told(spec) is None:
        context = LLAMACPP_PYTHON_CONTEXT
    slots = flag(spec.args, "-np", "--parallel") or str(spec.options.slots or 1)
    if context and slots.isdecimal() and int(slots):
        context //= int(slots)
    if spec.kind in _ENCODERS:
        context = min(context or LLAMACPP_TEXT, spec.options.ubatch or LLAMACPP_TEXT)
    return context
