"""Lets the tensors of a step take over the pages of the step before."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST_KEPT = 32 * 2**20  # glibc's DEFAULT_MMAP_THRESHOLD_MAX: a larger block goes back to the system
_NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Make glibc's malloc keep freed blocks up to 32 MiB in the process. No effect on other C libraries.

    By default blocks of a few MiB go back to the system and come anew page by page, zeroed: at 64 px 10,000 page
    faults a step, 10 to 15 % of its time (mallopt(3); measured by tests/benchmarks/step.py).
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)
