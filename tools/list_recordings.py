"""Say which recordings there are."""

from __future__ import annotations

from langchain_core.tools import BaseTool
from pydantic import BaseModel

from tools.calling import make_tool
from tools.result import RecordingEntry, RecordingList
from tools.toolbox import Toolbox

MOST_RECORDINGS = 100
"""Recordings one result lists at most, newest first."""


class ListRecordings(BaseModel):
    """Arguments of ``list_recordings``: none."""


def list_recordings(toolbox: Toolbox) -> RecordingList:
    """The newest recordings with their length, language, speakers and state."""
    recordings = toolbox.library.recordings()
    entries = tuple(
        RecordingEntry(
            id=recording.id,
            title=recording.title,
            duration=round(recording.duration, 3),
            language=recording.language,
            languages=recording.languages,
            status=recording.status.value,
            coverage=recording.coverage,
            speakers=recording.speakers,
            added_at=recording.added_at,
        )
        for recording in recordings[:MOST_RECORDINGS]
    )
    return RecordingList(recordings=entries, total=len(recordings))


def list_recordings_tool(toolbox: Toolbox) -> BaseTool:
    """The tool over one toolbox."""

    def run() -> RecordingList:
        return list_recordings(toolbox)

    return make_tool(
        "list_recordings",
        "List the recordings with length, language and speakers.",
        ListRecordings,
        run,
    )
