"""How much memory there is, so that a computation can say no before it begins."""

from numbers import Real
from pathlib import Path

import psutil

from fpbook.validation import require_type

CGROUP = Path("/sys/fs/cgroup")
"""Where Linux tells a container, such as one of Binder, how much it may use."""


def available_memory() -> float:
    """Memory that this process may still take.

    Returns
    -------
    float
        Bytes: what the computer has left, or the container's limit minus its use if
        that is less.
    """
    free = float(psutil.virtual_memory().available)
    limit, used = CGROUP / "memory.max", CGROUP / "memory.current"
    if limit.exists() and used.exists():
        allowed = limit.read_text().strip()
        if allowed != "max":
            stat = CGROUP / "memory.stat"
            lines = stat.read_text().splitlines() if stat.exists() else []
            # Files that the kernel keeps cached count as used, but it gives them back.
            cached = dict(line.split() for line in lines).get("inactive_file", "0")
            taken = float(used.read_text()) - float(cached)
            free = min(free, max(0.0, float(allowed) - taken))
    return free


def require_memory(needed: float, what: str, allowed: float | None = None) -> None:
    """Require that an estimate fits into the memory that is available.

    Parameters
    ----------
    needed
        Estimate in bytes, >= 0.
    what
        What needs it, for the message.
    allowed
        Bytes that may be used; None for those that are available.

    Raises
    ------
    ValueError
        If an argument is no number, or negative.
    MemoryError
        If it does not fit; says both numbers.
    """
    require_type(str, what=what)
    _require_bytes("needed", needed)
    free = available_memory()
    if allowed is not None:
        _require_bytes("allowed", allowed)
        free = allowed
    if not needed <= free:
        raise MemoryError(
            f"{what} needs about {needed / 1e9:.3g} GB, available are {free / 1e9:.3g}"
        )


def _require_bytes(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, Real) or value < 0:
        raise ValueError(f"{name} must be a number of bytes, >= 0, got {value!r}")
