"""What `decode_openai_tokens` needs."""

from router.config import EngineSpec, RemoteSpec
from router.doctor.check import Check, fault, ok
from router.proxy.dialects.tokens import Unprepared, text_of


def check_tokens(spec: EngineSpec | RemoteSpec) -> Check | None:
    """None for a model that does not want it."""
    if not spec.wants.decode_openai_tokens:
        return None
    try:
        text_of([])
    except Unprepared as error:
        return fault(f"{spec.name}: token numbers cannot be made text", error.message)
    return ok(f"{spec.name}: the table of token numbers is here")
