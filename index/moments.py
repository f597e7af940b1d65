"""Links to a moment of a recording: ``?recording=ID&t=SECONDS`` behind the address of the page."""

from __future__ import annotations

import math
from dataclasses import dataclass
from urllib.parse import urlencode

from index.recording_errors import AmbiguousRecording, UnknownRecording
from index.store.library import Library
from moss_audio.timestamps import clock, parse_clock


@dataclass(frozen=True)
class Moment:
    """Where a link leads.

    Attributes:
        recording: Full id; None where there is no such recording.
        at: Seconds, inside the recording; None where the link names no time, or none that it has.
        problem: One sentence where the link cannot be followed to the letter, else empty.
    """

    recording: str | None = None
    at: float | None = None
    problem: str = ""


def moment_query(recording: str, at: float) -> str:
    """The query of a link to second ``at`` of a recording, to be put behind the page's address and ``?``."""
    return urlencode({"recording": recording, "t": f"{max(0.0, at):.2f}".rstrip("0").rstrip(".")})


def find_moment(library: Library, reference: str, time: str = "") -> Moment:
    """Where a link leads; nothing of it is trusted.

    Args:
        library: The recordings.
        reference: What the link calls the recording: its id, a unique beginning of it, or its title.
        time: Its time, in seconds or as ``1:02:05``; empty for none.
    """
    try:
        recording = library.resolve(reference)
    except AmbiguousRecording:
        return Moment(problem="More than one recording answers to this link; choose one in the library.")
    except UnknownRecording:
        return Moment(problem="The recording that this link leads to is not here; it may have been removed.")
    if not time.strip():
        return Moment(recording.id)
    try:
        at = parse_clock(time)
    except (ValueError, OverflowError):
        at = math.nan
    if not math.isfinite(at) or at < 0:
        return Moment(recording.id, problem="The time in this link is no number of seconds.")
    if at > recording.duration:
        told = f"This link leads to {clock(at)}, but the recording is {clock(recording.duration)} long."
        return Moment(recording.id, problem=told)
    return Moment(recording.id, at)
