"""`model:`: a folder, a file, or an id on Hugging Face or ModelScope."""

import os
import re

from launchers.base import Source
from router.config.faults import Where
from router.config.scope import Scope

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")
MODELSCOPE = "modelscope://"
_LIBRARIES = {"ollama": re.compile(r"\w[\w.-]*(/[\w.-]+)*(:[\w.-]+)?")}
"""What engines with a library of their own call a model in it."""
_REMEDY = "give a folder, a file, a Hugging Face id like org/name, or modelscope://org/name"


def resolve(scope: Scope, text: str, where: Where, engine: str = "") -> Source | None:
    """None with its fault in the document."""
    library = _LIBRARIES.get(engine)
    return Source("library", text) if library and library.fullmatch(text) else _anywhere(scope, text, where)


def _anywhere(scope: Scope, text: str, where: Where) -> Source | None:
    """What stands on disk comes before an id of the same name."""
    if text.startswith(MODELSCOPE):
        return _modelscope(scope, text.removeprefix(MODELSCOPE), where)
    if "://" in text:
        scope.document.fault(where, "an address, not a model", _REMEDY)
        return None
    path = scope.path(text)
    if os.path.isdir(path):
        return Source("folder", str(path))
    if os.path.isfile(path):
        return Source("file", str(path))
    if text.startswith((".", "/", "~")) or text.lower().endswith(".gguf") or not HUB_ID.fullmatch(text):
        scope.document.fault(where, f"no file or folder {scope.document.show(str(path))}", _REMEDY)
        return None
    return Source("hub", text)


def _modelscope(scope: Scope, name: str, where: Where) -> Source | None:
    if HUB_ID.fullmatch(name):
        return Source("modelscope", name)
    scope.document.fault(where, "no id after modelscope://", "write it like modelscope://Qwen/Qwen3-8B")
    return None
