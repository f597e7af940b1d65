"""Outline one recording: its topics, in order, with their times."""

from __future__ import annotations

from typing import Any

from langchain_core.tools import BaseTool, StructuredTool
from pydantic import BaseModel, Field

from index.records import Segment
from tools.result import Toolbox, about, as_json, evidence, invalid_arguments, joined, unfinished
from tools.summarize_recording import embeddings_of, speech_of


class Outline(BaseModel):
    """Arguments of ``outline``."""

    recording: str = Field(description="Id, unique beginning of the id, or title of the recording.")


def outline(toolbox: Toolbox, recording: str) -> dict[str, Any]:
    """Topics with their time spans; evidence holds each topic's first and last segment.

    Raises:
        MossAgentError: No such recording, or nothing is transcribed yet.
    """
    from index.summary import topics

    found = toolbox.library.resolve(recording)
    segments = speech_of(toolbox.library, found)
    known = {one.id: one for one in segments}
    listed: list[dict[str, Any]] = []
    cited: dict[int, Segment] = {}
    for topic in topics(segments, embeddings_of(toolbox.library, toolbox.search.embedder, segments)):
        ids = sorted(topic.segments, key=lambda one: known[one].start)
        ends = [ids[0], ids[-1]] if len(ids) > 1 else list(ids)
        cited.update((one, known[one]) for one in ends)
        listed.append(
            {
                "title": topic.title,
                "start": round(topic.start, 3),
                "end": round(topic.end, 3),
                "points": list(topic.points),
                "evidence": ends,
            }
        )
    return {
        "recording": about(found),
        "topics": listed,
        "evidence": [evidence(one) for one in cited.values()],
        **joined([unfinished(found)]),
    }


def outline_tool(toolbox: Toolbox) -> BaseTool:
    """The tool over one toolbox."""

    def run(recording: str) -> dict[str, Any]:
        return outline(toolbox, recording)

    return StructuredTool.from_function(
        as_json(run),
        name="outline",
        description="List the topics of one recording in order, with their times: what it is about.",
        args_schema=Outline,
        handle_validation_error=invalid_arguments,
    )
