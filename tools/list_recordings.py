"""Say which recordings there are, and of one how long each speaker speaks."""

from __future__ import annotations

from langchain_core.tools import BaseTool
from pydantic import BaseModel, Field

from index.notes import describe, told_coverage
from tools.result import RecordingEntry, RecordingList
from tools.toolbox import Toolbox, make_tool

MOST_RECORDINGS = 100
"""Recordings one result lists at most, newest first."""


class ListRecordings(BaseModel):
    """Arguments of ``list_recordings``."""

    recording: str | None = Field(
        default=None, description="Id or title of one recording, to learn how long each speaker speaks."
    )


def list_recordings(toolbox: Toolbox, recording: str | None = None) -> RecordingList:
    """The newest recordings with their length, language, speakers and state; or one with speaking times.

    Raises:
        MossAgentError: No such recording.
    """
    library = toolbox.library
    recordings = [library.resolve(recording)] if recording else library.recordings()
    may_be = toolbox.may_be(recordings[0].id if recording else None)
    entries = tuple(
        RecordingEntry(
            id=recording.id,
            title=recording.title,
            duration=round(recording.duration, 3),
            language=recording.language,
            languages=recording.languages,
            status=recording.status.value,
            coverage=told_coverage(recording.coverage, recording.problems),
            notes=tuple(describe(note) for note in recording.problems),
            has_media=recording.has_media,
            speakers=recording.speakers,
            speaking=library.speaking_times(recording.id) if len(recordings) == 1 else {},
            may_be=may_be.get(recording.id, {}),
            added_at=recording.added_at,
        )
        for recording in recordings[:MOST_RECORDINGS]
    )
    return RecordingList(recordings=entries, total=len(recordings))


def list_recordings_tool(toolbox: Toolbox) -> BaseTool:
    """The tool over one toolbox."""

    def run(recording: str | None = None) -> RecordingList:
        return list_recordings(toolbox, recording)

    return make_tool(
        "list_recordings",
        "List the recordings with length, language and speakers.",
        ListRecordings,
        run,
    )
