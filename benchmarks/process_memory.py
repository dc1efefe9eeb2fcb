"""Memory of this process, as Linux tells it."""

from pathlib import Path

STATUS = Path("/proc/self/status")


def resident_mib() -> float:
    """MiB of this process in memory now."""
    return _told("VmRSS")


def peak_mib() -> float:
    """Most MiB of this process that were in memory at once.

    `resource.getrusage` would not do: its peak holds that of the process which started this one.
    """
    return _told("VmHWM")


def _told(name: str) -> float:
    for line in STATUS.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"the system does not tell the memory of a process in {STATUS}")
