"""Keep freed memory in the process instead of giving it back to the system after every layer.

glibc maps large blocks anew for each activation and unmaps them when freed, so that every forward pass on a CPU pays for fresh,
zeroed pages. Raising its two thresholds keeps the heap: `benchmarks/allocator.py` measures what that is worth.
"""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_NEVER = 2**31 - 1


def keep() -> bool:
    """Raise the thresholds where the C library is glibc; True where it took them."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library, which has no such setting
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _NEVER)) and bool(mallopt(_TRIM_THRESHOLD, _NEVER))
