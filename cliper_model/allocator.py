"""What the C library does with freed memory: a setting of the process, so for programs to choose.

A picture's arrays are freed and asked for again a hundred times a second, and glibc hands large
ones back to the system in between, which clears them for the next time. Left alone, it also gives
threads heaps of their own, up to eight for every core, and each keeps what it was once needed for:
a service with many threads grows for hours. One heap serves all of them. Source: mallopt(3).
"""

import ctypes
import mmap
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

MMAP_THRESHOLD, TRIM_THRESHOLD, ARENA_MAX = -3, -1, -8  # mallopt's names for them
LARGE: Final = 32 * 2**20  # bytes; from here on every array is mapped by itself, and handed back
TOLD: Final = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
TOLD_HEAPS: Final = "MALLOC_ARENA_MAX"
KEPT: Final = 256 * 2**20  # bytes that stay ready for the next picture
HEAPS: Final = 1  # of all threads together


def give_back_freed_memory() -> bool:
    """Hand all that is freed back to the system, kept or not; whether any was.

    It is cleared when it is asked for again: 0.4 ms per MB. Not where the C library is another
    one than glibc. Source: malloc_trim(3).
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    return bool(trim is not None and trim(0))


class Gathered:
    """What a process has come to hold since freed memory was last given back.

    Arrays of many sizes leave holes between each other, and holes add up; giving them back after
    every picture costs a tenth of its time. Any number of threads may ask.
    """

    def __init__(self, bound: int = KEPT) -> None:
        """`bound` is in bytes."""
        self._bound = bound
        self._least = _resident()

    def give_back(self) -> bool:
        """Give all that is freed back where more than the bound has gathered; whether it has.
        Not where the system does not tell what a process holds."""
        now = _resident()
        if now is None or self._least is None or now - self._least <= self._bound:
            return False
        give_back_freed_memory()
        self._least = _resident()
        return True


def _resident() -> int | None:
    """Bytes of this process in memory. Source: proc(5)."""
    try:
        told = Path("/proc/self/statm").read_bytes()
    except OSError:
        return None
    return int(told.split()[1]) * mmap.PAGESIZE


def keep_freed_memory(environ: Mapping[str, str]) -> bool:
    """Keep up to `KEPT` bytes, in one heap; whether that is so. To be called before any thread
    is started, since heaps that are there stay.

    Not where the C library is another one, or `environ` says how it is to be done
    (`MALLOC_TRIM_THRESHOLD_`, `MALLOC_MMAP_THRESHOLD_`, `GLIBC_TUNABLES`). The number of
    heaps is another matter: `MALLOC_ARENA_MAX` is heard and the rest done.
    """
    if sys.platform != "linux" or any(name in environ for name in TOLD):
        return False
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"):
        return False
    if TOLD_HEAPS not in environ:
        set_option(ARENA_MAX, HEAPS)
    return bool(set_option(MMAP_THRESHOLD, LARGE)) and bool(set_option(TRIM_THRESHOLD, KEPT))
