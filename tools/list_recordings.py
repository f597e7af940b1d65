"""Say which recordings there are."""

from __future__ import annotations

from typing import Any

from langchain_core.tools import BaseTool, StructuredTool
from pydantic import BaseModel

from tools.result import Toolbox, as_json, invalid_arguments

MOST_RECORDINGS = 100
"""Recordings one result lists at most, newest first."""


class ListRecordings(BaseModel):
    """Arguments of ``list_recordings``: none."""


def list_recordings(toolbox: Toolbox) -> dict[str, Any]:
    """Every recording with its length, language, speakers and state."""
    recordings = toolbox.library.recordings()
    listed = [
        {
            "id": one.id,
            "title": one.title,
            "duration": round(one.duration, 3),
            "language": one.language,
            "status": one.status.value,
            "coverage": one.coverage,
            "speakers": list(one.speakers),
            "added_at": one.added_at,
        }
        for one in recordings[:MOST_RECORDINGS]
    ]
    return {"recordings": listed, "total": len(recordings)}


def list_recordings_tool(toolbox: Toolbox) -> BaseTool:
    """The tool over one toolbox."""

    def run() -> dict[str, Any]:
        return list_recordings(toolbox)

    return StructuredTool.from_function(
        as_json(run),
        name="list_recordings",
        description=(
            "List the recordings of the library, newest first: id, title, length in seconds, language, "
            "speakers (estimated from the voices), state, and the share of speech that was transcribed."
        ),
        args_schema=ListRecordings,
        handle_validation_error=invalid_arguments,
    )
