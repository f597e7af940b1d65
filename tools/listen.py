"""Listen again to a stretch of audio, where words on paper are not enough."""

from __future__ import annotations

import threading
from typing import Any

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, StructuredTool
from pydantic import BaseModel, Field

from index.audio.decode import read_range
from index.recording_errors import MossAgentError
from index.records import Recording
from moss_audio.errors import MossAudioError
from moss_audio.listener import LONGEST_S
from moss_audio.timestamps import clock
from tools.clip_times import Heard, on_the_clips_clock, on_the_recordings_clock
from tools.result import (
    MOST_EVIDENCE,
    Seconds,
    Toolbox,
    about,
    as_json,
    cancel_of,
    evidence,
    invalid_arguments,
    joined,
    span_text,
)

__all__ = ["LONGEST_S", "NEEDS_MOSS_AUDIO", "listen", "listen_tool"]

NEEDS_MOSS_AUDIO = (
    "Sounds, music and tone of voice need MOSS-Audio: set MOSS_AGENT_MODEL to a checkpoint or to the address "
    "of a server that runs it (`moss-agent models` says what fits here, docs/engines.md how)."
)


class Listen(BaseModel):
    """Arguments of ``listen``."""

    recording: str = Field(description="Id, unique beginning of the id, or title of the recording.")
    start: Seconds = Field(description="Start of the stretch, seconds from the start of the recording.")
    end: Seconds = Field(description=f"End of the stretch in seconds; at most {LONGEST_S:g} after the start.")
    question: str = Field(
        description="One question about what can be heard there; times in it are those of the recording."
    )


def listen(
    toolbox: Toolbox,
    recording: str,
    start: float,
    end: float,
    question: str,
    cancel: threading.Event | None = None,
) -> dict[str, Any]:
    """Ask the listener about ``[start, end)`` seconds; without one, say what is needed.

    Times in the question that lie in the stretch are moved to the clock of what the listener is given.

    Returns:
        ``recording``, ``range``, the ``answer`` with its times on the recording's clock, and as evidence what
        was transcribed in the range, sounds and music included.

    Raises:
        MossAgentError: No such recording, an empty or overlong stretch, its audio is gone, or the listener
            failed.
    """
    found = toolbox.library.resolve(recording)
    if start >= found.duration:
        raise MossAgentError(
            f"“{found.title}” is {clock(found.duration)} long; nothing lies at {clock(start)}."
        )
    end = min(end, found.duration)
    if end <= start:
        raise MossAgentError("The end of the stretch must lie after its start.")
    result: dict[str, Any] = {"recording": about(found), "range": [round(start, 3), round(end, 3)]}
    if toolbox.listener is None:
        return {**result, "answer": None, "note": NEEDS_MOSS_AUDIO}
    if end - start > LONGEST_S:
        raise MossAgentError(f"At most {LONGEST_S / 60:g} minutes can be listened to at once; name a part.")
    heard = _heard(toolbox, found, start, end, question, cancel)
    segments = toolbox.library.segments(found.id, start, end)
    return {
        **result,
        "answer": heard.text,
        "evidence": [evidence(one) for one in segments[:MOST_EVIDENCE]],
        **joined([f"Heard {span_text(start, end)}.", _beyond(heard)]),
    }


def _heard(
    toolbox: Toolbox,
    found: Recording,
    start: float,
    end: float,
    question: str,
    cancel: threading.Event | None,
) -> Heard:
    """The listener's answer on the recording's clock."""
    path = toolbox.library.audio_path(found.id)
    if not path.exists():
        raise MossAgentError(f"The audio of “{found.title}” is gone; add the file again.")
    assert toolbox.listener is not None
    try:
        asked = on_the_clips_clock(question, start, end)
        answer = toolbox.listener.listen(read_range(path, start, end), asked, cancel)
    except MossAudioError as error:
        raise MossAgentError(str(error)) from error
    return on_the_recordings_clock(answer, start, end)


def _beyond(heard: Heard) -> str | None:
    if not heard.beyond:
        return None
    named = ", ".join(heard.beyond[:5])
    return f"It named times that do not lie in this stretch and cannot be trusted: {named}."


def listen_tool(toolbox: Toolbox) -> BaseTool:
    """The tool over one toolbox."""

    def run(
        recording: str, start: float, end: float, question: str, config: RunnableConfig
    ) -> dict[str, Any]:
        return listen(toolbox, recording, start, end, question, cancel_of(config))

    return StructuredTool.from_function(
        as_json(run),
        name="listen",
        description=(
            "Listen again to a stretch of audio (at most ten minutes) and answer one question about what can "
            "be heard there: sounds, music, tone of voice, emotion. Not for words: read or search those."
        ),
        args_schema=Listen,
        handle_validation_error=invalid_arguments,
    )
