"""Times on their way between two clocks: the recording's, and that of a clip cut from it.

The listener hears a clip that begins at 0; people ask with times of the recording, and read such. What counts
as a time says ``tools/time_forms.py``.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from index.clock import clock
from tools.time_forms import Written, find_times

ROUNDING_S = 0.5
"""A time may lie this far behind the clip's end: models round up; it is taken for the end."""

_MARKER = re.compile(r"[ \t]?\[[ \t]{0,3}#[^\[\]\n]{0,60}\]")


@dataclass
class Heard:
    """A listener's answer on the recording's clock.

    Attributes:
        text: The answer, its times as ``m:ss``; citation markers, which are not its to set, are gone.
        times: What it named, seconds on the recording's clock, in order.
        beyond: Times as written that do not lie within the clip; they stand in the text as they were.
    """

    text: str
    times: list[float] = field(default_factory=list)
    beyond: list[str] = field(default_factory=list)


def on_the_recordings_clock(answer: str, start: float, end: float) -> Heard:
    """Move the times of an answer about ``[start, end)``, seconds of the recording.

    Never fails, whatever the answer is.
    """
    heard = Heard("")
    text = _MARKER.sub("", answer)
    length = max(0.0, end - start)
    parts, done = [], 0
    for one in find_times(text):
        moved = _of_the_recording(one, start, length)
        parts.append(text[done : one.begin])
        if moved:
            heard.times += moved
            parts.append(one.with_times([clock(time) for time in moved]))
        else:
            heard.beyond.append(text[one.begin : one.end].strip())
            parts.append(text[one.begin : one.end])
        done = one.end
    heard.text = "".join([*parts, text[done:]]).strip()
    return heard


def on_the_clips_clock(question: str, start: float, end: float) -> str:
    """Move the times of a question that lie within ``[start, end)`` to the clock of the clip.

    A stretch that reaches beyond the clip is cut to it; other times beyond it stay as they are. What comes
    out names the same second when an answer repeats it.
    """
    parts, done = [], 0
    for one in find_times(question):
        moved = _of_the_clip(one, start, end)
        if moved:
            parts += [question[done : one.begin], one.with_times([_clip_clock(time) for time in moved])]
            done = one.end
    return "".join([*parts, question[done:]])


def _of_the_recording(one: Written, start: float, length: float) -> list[float]:
    """Its times on the recording's clock; none where one lies beyond the clip."""
    seconds = list(one.seconds)
    if one.rough and seconds[0] < length:
        seconds[-1] = min(seconds[-1], length)
    if max(seconds) > length + ROUNDING_S:
        return []
    return [max(start, _tidy(start + min(time, length))) for time in seconds]


def _of_the_clip(one: Written, start: float, end: float) -> list[float]:
    """Its times on the clip's clock; none where they lie beyond it."""
    low, high = min(one.seconds), max(one.seconds)
    if one.stretch and low < end and high > start:
        return [min(max(time, start), end) - start for time in one.seconds]
    # People name whole seconds, of which a cut may have taken a part.
    inside = low >= math.floor(start) and high <= end
    return [max(0.0, time - start) for time in one.seconds] if inside else []


def _tidy(seconds: float) -> float:
    """Without what floating point adds to or takes from a whole second, which ``clock`` would cut."""
    whole = round(seconds)
    return float(whole) if abs(seconds - whole) < 1e-6 else seconds


def _clip_clock(seconds: float) -> str:
    """``m:ss``, or ``m:ss.f``: tenths rounded up, so that moved back they lie in the same second."""
    tenths = math.ceil(round(seconds * 10, 5))
    minutes, rest = divmod(tenths, 600)
    fraction = f".{rest % 10}" if rest % 10 else ""
    return f"{minutes}:{rest // 10:02d}{fraction}"
