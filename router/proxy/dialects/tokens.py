"""OpenAI's token numbers as text. Their table comes with no package: tiktoken loads it once, and keeps the file."""

import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from router.errors import RouterError

_ENCODING = "cl100k_base"
_ADDRESS = "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken"


class Unprepared(RouterError):
    code = "tokens_unavailable"


def text_of(tokens: Sequence[int]) -> str:
    """Raises ValueError for a number that is no token, Unprepared where tiktoken or its table is missing."""
    try:
        import tiktoken  # noqa: PLC0415  # an extra, and 20 MB that few need
    except ImportError:
        raise Unprepared(
            "`decode_openai_tokens` needs tiktoken in the router's environment: pip install 'engine-router[tokens]'"
        ) from None
    # Otherwise tiktoken would load it now, and the router would wait for a network that may not answer.
    if not _table().exists():
        raise Unprepared(
            f"`decode_openai_tokens` needs the table of {_ENCODING}: with TIKTOKEN_CACHE_DIR set to a folder that the "
            f"router sees as well, run python -c \"import tiktoken; tiktoken.get_encoding('{_ENCODING}')\" once, where "
            "there is a network"
        )
    try:
        return str(tiktoken.get_encoding(_ENCODING).decode(tokens))
    except (KeyError, OverflowError) as error:
        raise ValueError(str(error)) from None


def _table() -> Path:
    """Where tiktoken keeps it."""
    usual = Path(tempfile.gettempdir(), "data-gym-cache")
    folder = os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR", usual))
    return Path(folder) / hashlib.sha1(_ADDRESS.encode(), usedforsecurity=False).hexdigest()
