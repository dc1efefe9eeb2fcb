"""Whether an array fits in memory, to decide what is cached."""

import os
from pathlib import Path

CACHE_SHARE = 0.25
"""Largest part of the free memory that a cache may take."""

_UNKNOWN = 2 * 2**30  # Bytes assumed free where the system does not say.


def fits_in_memory(num_bytes: int) -> bool:
    """Says whether a cache of this many bytes takes at most `CACHE_SHARE` of what is free."""
    return num_bytes <= CACHE_SHARE * free_memory()


def free_memory() -> int:
    """Bytes that can be allocated without swapping, as far as the system tells."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, OSError, ValueError):
        return _UNKNOWN
