"""Listen again to a stretch of audio, where words on paper are not enough.

A listener hears a clip that begins at 0; people ask with times of the recording, and read such. Times of the
form ``m:ss`` are moved between the two clocks, the listener is asked to write them so where the clocks
differ, and whatever else may mean a time stays as it is.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool
from pydantic import BaseModel

from index.audio.decode import read_range
from index.recording_errors import InvalidInput, MossAgentError
from index.records import Recording
from moss_audio.backend import LONGEST_S, Listener
from moss_audio.errors import MossAudioError
from moss_audio.timestamps import clock, parse_clock
from tools.result import Heard, RecordingInfo, evidence
from tools.toolbox import Seconds, Toolbox, cancel_of, make_tool

__all__ = ["LONGEST_S", "NEEDS_MOSS_AUDIO", "listen", "listen_tool"]

NEEDS_MOSS_AUDIO = (
    "Sounds, music and tone of voice need MOSS-Audio: set MOSS_AGENT_MODEL to a checkpoint or to the address "
    "of a server that runs it (`moss-agent models` says what fits here, docs/engines.md how)."
)


class Listen(BaseModel):
    """Arguments of ``listen``."""

    recording: str
    start: Seconds
    end: Seconds
    question: str


def listen(
    toolbox: Toolbox,
    recording: str,
    start: float,
    end: float,
    question: str,
    cancel: threading.Event | None = None,
) -> Heard:
    """Ask the listener about ``[start, end)`` seconds.

    Times in the question that lie in the stretch are moved to the clock of what the listener is given.

    Returns:
        The answer with its times on the recording's clock, and as evidence what was transcribed in the range,
        sounds and music included.

    Raises:
        MossAgentError: No such recording, one without media, an empty or overlong stretch, nothing here can
            listen, the audio is gone, or the listener failed.
    """
    found = toolbox.library.resolve(recording)
    if not found.has_media:
        raise InvalidInput(
            f"“{found.title}” is an imported transcript without its media, so there is nothing to listen to; "
            "`moss-agent attach` gives it the media file."
        )
    if start >= found.duration:
        raise InvalidInput(
            f"“{found.title}” is {clock(found.duration)} long; nothing lies at {clock(start)}."
        )
    end = min(end, found.duration)
    if end <= start:
        raise InvalidInput("The end of the stretch must lie after its start.")
    if toolbox.listener is None:
        raise MossAgentError(NEEDS_MOSS_AUDIO)
    if end - start > LONGEST_S:
        raise InvalidInput(f"At most {LONGEST_S / 60:g} minutes can be listened to at once; name a part.")
    answer = _ask(toolbox.listener, toolbox, found, start, end, question, cancel)
    return Heard(
        recording=RecordingInfo.of(found),
        range=(round(start, 3), round(end, 3)),
        answer=answer.text,
        evidence=evidence(toolbox.library.segments(found.id, start, end)),
        beyond=tuple(answer.beyond),
    )


def _ask(
    listener: Listener,
    toolbox: Toolbox,
    found: Recording,
    start: float,
    end: float,
    question: str,
    cancel: threading.Event | None,
) -> MovedAnswer:
    """The listener's answer on the recording's clock."""
    path = toolbox.library.audio_path(found.id)
    if not path.exists():
        raise InvalidInput(f"The audio of “{found.title}” is gone; add the file again.")
    try:
        asked = on_the_clips_clock(question, start, end)
        if start > 0:
            # From the recording's beginning both clocks agree, whatever form times have.
            asked = f"{asked}\n{ASK_FOR_TIMES}"
        answer = listener.listen(read_range(path, start, end), asked, cancel)
    except MossAudioError as error:
        raise MossAgentError(str(error)) from error
    return on_the_recordings_clock(answer, start, end)


def listen_tool(toolbox: Toolbox) -> BaseTool:
    """The tool over one toolbox."""

    def run(recording: str, start: float, end: float, question: str, config: RunnableConfig) -> Heard:
        return listen(toolbox, recording, start, end, question, cancel_of(config))

    return make_tool(
        "listen",
        "Ask about sounds, music or tone of voice in up to ten minutes of audio.",
        Listen,
        run,
    )


# --- times between two clocks -------------------------------------------------------------------------

ASK_FOR_TIMES = "Write times as [m:ss], counted from the start of this clip."
"""What a listener is asked for behind a question about a clip from within a recording."""
ROUNDING_S = 1.0
"""A time may lie this far behind the clip's end, seconds: models round up; it is taken for the end."""

_TIME = (
    r"(?<![\d.,:：])\d{1,3}[:：][0-5]\d(?:[:：][0-5]\d)?(?:[.,]\d{1,3})?"
    r"(?![:：]?\d|[.,]\d|\s?[ap]\.?m\b)"
)
_PLACE = re.compile(
    rf"(?P<bracket>\[\s?)?(?P<first>{_TIME})(?:(?P<join>\s?(?:-+>?|[–—~→]|to|until|till|至|到)\s?)(?P<last>{_TIME}))?"
    r"(?(bracket)\s?\])",
    re.IGNORECASE,
)
_MARKER = re.compile(r"[ \t]?\[[ \t]{0,3}#[^\[\]\n]{0,60}\]")
"""A citation, which is not a listener's to set."""


@dataclass(frozen=True)
class MovedAnswer:
    """A listener's answer on the recording's clock, and the times in it that do not lie within the clip."""

    text: str
    beyond: tuple[str, ...] = ()


def on_the_recordings_clock(answer: str, start: float, end: float) -> MovedAnswer:
    """Move the times of an answer about ``[start, end)``, seconds of the recording.

    Those that do not lie within the clip stay as they are. Brackets become parentheses, since an answer's
    brackets are citations. Never fails, whatever the answer is.
    """
    beyond = []

    def move(match: re.Match[str], times: list[float]) -> list[float]:
        if max(times) > end - start + ROUNDING_S:
            beyond.append(match[0].strip("[] "))
            return []
        return [min(start + time, max(start, end)) for time in times]

    return MovedAnswer(_moved(_MARKER.sub("", answer), move).strip(), tuple(beyond))


def on_the_clips_clock(question: str, start: float, end: float) -> str:
    """Move the times of a question that lie within ``[start, end)`` to the clock of the clip.

    A stretch that reaches beyond the clip is cut to it; other times beyond it stay as they are. What comes
    out names the same second when an answer repeats it.
    """

    def move(match: re.Match[str], times: list[float]) -> list[float]:
        if times[1:] and min(times) < end and max(times) > start:
            times = [min(max(time, start), end) for time in times]
        inside = math.floor(start) <= min(times) and max(times) <= end
        return [math.ceil(max(0.0, round(time - start, 6))) for time in times] if inside else []

    return _moved(question, move)


def _moved(text: str, move: Callable[[re.Match[str], list[float]], list[float]]) -> str:
    """The text with what ``move`` makes of the times at each place, which stays if it makes nothing."""

    def written(match: re.Match[str]) -> str:
        times = move(match, [parse_clock(match[end]) for end in ("first", "last") if match[end]])
        labels = (match["join"] or "").join(clock(round(time, 6)) for time in times)
        return (f"({labels})" if match["bracket"] else labels) if times else match[0]

    return _PLACE.sub(written, text)
