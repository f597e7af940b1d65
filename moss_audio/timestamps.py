"""Times as people write them: ``2:05``, ``1:02:05``, ``2:05.5``. Read and written here and nowhere else."""

from __future__ import annotations

# Fields are separated by colons; SubRip and CJK text put other signs in their places.
_PLAIN = str.maketrans("０１２３４５６７８９：．，,", "0123456789:...")


def parse_clock(written: str) -> float:
    """Read ``1:02:05``, ``2:05``, ``2:05.5`` or ``95.5``.

    A comma may stand for the point, and full-width digits and signs are fine. Which fields a time may have,
    and how large they may be, is for the caller to check.

    Returns:
        Seconds, to the microsecond.

    Raises:
        ValueError: A field isn't a number.
    """
    total = 0.0
    for field in written.strip().translate(_PLAIN).split(":"):
        total = total * 60 + float(field)
    return round(total, 6)


def clock_range(start: float, end: float) -> str:
    """Write a stretch (seconds) as ``2:05–2:10``; one within a second with tenths, as ``0:20.2–0:20.9``."""
    if clock(start) != clock(end):
        return f"{clock(start)}–{clock(end)}"
    first, last = clock(start, 1), clock(end, 1)
    return first if first == last else f"{first}–{last}"


def clock(seconds: float, decimals: int = 0) -> str:
    """Write seconds as ``m:ss``, or ``h:mm:ss`` from one hour on; negative ones as ``0:00``.

    Cut, not rounded: that keeps a citation's label inside the second it plays from.

    Args:
        seconds: The time.
        decimals: Digits of a fraction to keep; a fraction of zero is not written.
    """
    scale = 10**decimals
    whole, fraction = divmod(max(0, int(seconds * scale)), scale)
    minutes, secs = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    written = f"{hours}:{minutes:02d}:{secs:02d}" if hours else f"{minutes}:{secs:02d}"
    return f"{written}.{fraction:0{decimals}d}".rstrip("0") if fraction else written
