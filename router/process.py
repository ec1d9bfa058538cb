"""What the router asks of the system and of Python for itself: descriptors, memory, collections."""

import ctypes
import gc
import resource

DESCRIPTORS = 65536
"""Open files, sockets among them, that the router asks the system for."""
COLLECTED_EVERY = 20_000
"""Objects between two looks for cycles."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT = 8 << 20
"""Bytes of freed memory that are kept at most."""
OWN_PAGES = 1 << 20
"""Bytes beyond which a body has pages of its own."""


def prepare() -> None:
    """Once, when everything is put together and before the first request."""
    _raise_descriptor_limit()
    _keep_freed_memory()
    _collect_seldom()


def _raise_descriptor_limit() -> None:
    """A request in flight takes two, and the usual soft limit of 1,024 is for programs that use `select`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _keep_freed_memory() -> None:
    """Some of it: glibc gives what a large body took back to the system at once, and taking it anew, page by page, is a
    third of what a body of 250 KB costs. Larger than `OWN_PAGES` ones go back at once as before."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_TRIM_THRESHOLD, KEPT)
        libc.mallopt(M_MMAP_THRESHOLD, OWN_PAGES)


def _collect_seldom() -> None:
    """What was made so far stays to the end, and a request makes no cycles that a collection every 700 objects, the
    default, would be for."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECTED_EVERY)
