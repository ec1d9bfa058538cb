"""What an engine is asked where it differs from what clients send, and what they are answered. No I/O."""

from router.proxy.dialects.adapt import adapt, may_adapt
from router.proxy.dialects.adapter import Adapter, NotUnderstood, Wants
from router.proxy.dialects.edits import Edits, edited

__all__ = ["Adapter", "Edits", "NotUnderstood", "Wants", "adapt", "edited", "may_adapt"]
