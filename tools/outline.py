"""Outline one recording: its topics, in order, with their times."""

from __future__ import annotations

from langchain_core.tools import BaseTool
from pydantic import BaseModel

from index.records import Segment
from tools import result
from tools.result import OutlineTopic, RecordingInfo
from tools.summarize_recording import embeddings_of, speech_of
from tools.toolbox import Toolbox, make_tool


class Outline(BaseModel):
    """Arguments of ``outline``."""

    recording: str


def outline(toolbox: Toolbox, recording: str) -> result.Outline:
    """Topics with their time spans; evidence holds each topic's first and last segment.

    Raises:
        MossAgentError: No such recording, or nothing is transcribed yet.
    """
    from index.summary import topics

    found = toolbox.library.resolve(recording)
    segments = speech_of(toolbox.library, found)
    known = {segment.id: segment for segment in segments}
    listed: list[OutlineTopic] = []
    cited: dict[int, Segment] = {}
    for topic in topics(segments, embeddings_of(toolbox.library, toolbox.search.embedder, segments)):
        ids = sorted(topic.segments, key=lambda number: known[number].start)
        ends = (ids[0], ids[-1]) if len(ids) > 1 else tuple(ids)
        cited.update((number, known[number]) for number in ends)
        listed.append(
            OutlineTopic(
                title=topic.title,
                start=round(topic.start, 3),
                end=round(topic.end, 3),
                points=topic.points,
                evidence=ends,
            )
        )
    return result.Outline(
        recording=RecordingInfo.of(found),
        topics=tuple(listed),
        evidence=tuple(result.Evidence.of(segment) for segment in cited.values()),
        notes=result.notes(result.unfinished(found)),
    )


def outline_tool(toolbox: Toolbox) -> BaseTool:
    """The tool over one toolbox."""

    def run(recording: str) -> result.Outline:
        return outline(toolbox, recording)

    return make_tool(
        "outline",
        "List the topics of a recording with their times.",
        Outline,
        run,
    )
