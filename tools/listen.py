"""Listen again to a stretch of audio, where words on paper are not enough."""

from __future__ import annotations

from typing import Any

from langchain_core.tools import BaseTool, StructuredTool
from pydantic import BaseModel, Field

from index.audio import read_range
from index.clock import clock
from index.errors import MossAgentError
from tools.evidence import Seconds, about, as_json, invalid_arguments, span_text
from tools.toolbox import Toolbox

LONGEST_S = 600.0
"""Longest stretch one request may carry, seconds; MOSS-Audio's authors advise at most ten minutes."""

NEEDS_MOSS_AUDIO = (
    "Sounds, music and tone of voice need MOSS-Audio, which this version cannot run yet: "
    "set MOSS_AGENT_MODEL once MOSS-Audio is available (see docs/engines.md)."
)


class Listen(BaseModel):
    """Arguments of ``listen``."""

    recording: str = Field(description="Id, unique beginning of the id, or title of the recording.")
    start: Seconds = Field(description="Start of the stretch, seconds from the start of the recording.")
    end: Seconds = Field(description=f"End of the stretch in seconds; at most {LONGEST_S:g} after the start.")
    question: str = Field(description="One question about what can be heard there.")


def listen(toolbox: Toolbox, recording: str, start: float, end: float, question: str) -> dict[str, Any]:
    """Ask the listener about ``[start, end)`` seconds; without one, say what is needed.

    Raises:
        MossAgentError: No such recording, an empty or overlong stretch, or its audio is gone.
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
    path = toolbox.library.audio_path(found.id)
    if not path.exists():
        raise MossAgentError(f"The audio of “{found.title}” is gone; add the file again.")
    answer = toolbox.listener.listen(read_range(path, start, end), question)
    return {**result, "answer": answer, "note": f"Heard {span_text(start, end)}."}


def listen_tool(toolbox: Toolbox) -> BaseTool:
    """The tool over one toolbox."""

    def run(recording: str, start: float, end: float, question: str) -> dict[str, Any]:
        return listen(toolbox, recording, start, end, question)

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
