"""What a model said of one part of a clip, before its times are checked."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Draft:
    """Words with what the model said of their place; None where it said nothing.

    Attributes:
        start: Seconds.
        end: Seconds.
        text: One line, never without a letter or digit.
        speaker: A label such as ``S01``.
        raw: All of it as the model wrote it, for reports.
    """

    start: float | None
    end: float | None
    text: str
    speaker: str | None = None
    raw: str = ""
