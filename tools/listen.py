"""Listen again to a stretch of audio, where words on paper are not enough."""

from __future__ import annotations

import threading

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool
from pydantic import BaseModel

from index.audio.decode import read_range
from index.recording_errors import MossAgentError
from index.records import Recording
from moss_audio.errors import MossAudioError
from moss_audio.listener import LONGEST_S, Listener
from moss_audio.timestamps import clock
from tools.calling import Seconds, make_tool
from tools.clip_times import MovedAnswer, on_the_clips_clock, on_the_recordings_clock
from tools.result import Heard, RecordingInfo, evidence
from tools.toolbox import Toolbox, cancel_of

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
        MossAgentError: No such recording, an empty or overlong stretch, nothing here can listen, the audio is
            gone, or the listener failed.
    """
    found = toolbox.library.resolve(recording)
    if start >= found.duration:
        raise MossAgentError(
            f"“{found.title}” is {clock(found.duration)} long; nothing lies at {clock(start)}."
        )
    end = min(end, found.duration)
    if end <= start:
        raise MossAgentError("The end of the stretch must lie after its start.")
    if toolbox.listener is None:
        raise MossAgentError(NEEDS_MOSS_AUDIO)
    if end - start > LONGEST_S:
        raise MossAgentError(f"At most {LONGEST_S / 60:g} minutes can be listened to at once; name a part.")
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
        raise MossAgentError(f"The audio of “{found.title}” is gone; add the file again.")
    try:
        asked = on_the_clips_clock(question, start, end)
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
