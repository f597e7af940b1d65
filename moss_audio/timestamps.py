"""Times as people write them: ``2:05``, ``1:02:05``."""

from __future__ import annotations


def clock(seconds: float) -> str:
    """Render seconds as ``m:ss``, or ``h:mm:ss`` from one hour on; fractions are cut, not rounded.

    Cutting keeps a citation's label inside the second it plays from.
    """
    whole = max(0, int(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    if hours:
        return f"{hours}:{minutes:02d}:{secs:02d}"
    return f"{minutes}:{secs:02d}"
