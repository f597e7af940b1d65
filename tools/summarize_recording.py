"""Summarise one recording: topics, decisions, action items, open questions, key quotes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from langchain_core.tools import BaseTool
from pydantic import BaseModel, Field

from index.recording_errors import InvalidInput
from index.records import Recording, Segment, Summary, Template
from index.store.library import Library
from tools.result import Evidence, RecordingInfo, SummaryResult, notes, unfinished
from tools.toolbox import OWN, Toolbox, make_tool

if TYPE_CHECKING:
    from index.search.embeddings import Embedder

KEPT = 16
"""Summaries kept in memory, so that a question about decisions does not summarise the meeting again."""

_kept: OrderedDict[tuple[object, ...], Summary] = OrderedDict()
_lock = threading.Lock()
_making: dict[tuple[object, ...], threading.Lock] = {}


class Summarize(BaseModel):
    """Arguments of ``summarize``."""

    recording: str
    template: Template = Field(default="meeting", json_schema_extra=OWN)


def summarize_recording(
    library: Library, embedder: Embedder, recording: Recording, template: str = "meeting"
) -> Summary:
    """The summary of what is transcribed so far; the same segments give the same summary.

    Raises:
        MossAgentError: Nothing is transcribed yet, or there is no such template.
    """
    segments = speech_of(library, recording)
    key = (
        recording.id,
        template,
        embedder.name,
        tuple((segment.id, segment.speaker, segment.version) for segment in segments),
    )
    with _lock:
        if key in _kept:
            _kept.move_to_end(key)
            return _kept[key]
        making = _making.setdefault(key, threading.Lock())
    # A page asks for topics and summary at a time: what takes a second or more is done once.
    with making:
        with _lock:
            if key in _kept:
                return _kept[key]
        try:
            summary = _summarize(segments, embeddings_of(library, embedder, segments), template)
        except BaseException:
            with _lock:
                _making.pop(key, None)
            raise
        with _lock:
            # At once: nobody finds neither the summary nor who makes it.
            _making.pop(key, None)
            _kept[key] = summary
            while len(_kept) > KEPT:
                _kept.popitem(last=False)
    return summary


def speech_of(library: Library, recording: Recording) -> list[Segment]:
    """All speech of a recording.

    Raises:
        MossAgentError: There is none.
    """
    segments = [segment for segment in library.segments(recording.id) if segment.kind == "speech"]
    if not segments:
        raise InvalidInput(f"“{recording.title}” has no speech that could be summarised.")
    return segments


def embeddings_of(library: Library, embedder: Embedder, segments: list[Segment]) -> np.ndarray:
    """Sentence embeddings ``[n_segments, dimensions]``: the stored ones, or computed where there are none."""
    stored = library.segment_embeddings(segments)
    if stored is not None and stored.shape[1] == embedder.dimensions:
        return stored
    return embedder.encode_passages([segment.text for segment in segments])


def _summarize(segments: list[Segment], embeddings: np.ndarray, template: str) -> Summary:
    from index.summary import summarize

    try:
        return summarize(segments, embeddings, template)
    except (KeyError, ValueError) as error:
        raise InvalidInput(f"There is no summary template “{template}”.") from error


def cited_ids(summary: Summary) -> list[int]:
    """The number of every segment that an item of the summary rests on, each once."""
    parts = (
        summary.topics,
        summary.decisions,
        summary.action_items,
        summary.open_questions,
        summary.key_quotes,
    )
    return list(dict.fromkeys(number for part in parts for item in part for number in item.segments))


def summarize(toolbox: Toolbox, recording: str, template: str = "meeting") -> SummaryResult:
    """The summary, with the segments it rests on as evidence.

    Raises:
        MossAgentError: No such recording, nothing transcribed, or no such template.
    """
    found = toolbox.library.resolve(recording)
    summary = _with_topic_ends(summarize_recording(toolbox.library, toolbox.search.embedder, found, template))
    segments = toolbox.library.segments_by_id(cited_ids(summary))
    return SummaryResult(
        recording=RecordingInfo.of(found),
        summary=summary,
        evidence=tuple(Evidence.of(segment) for segment in segments),
        notes=notes(unfinished(found)),
        may_be=toolbox.may_be(found.id).get(found.id, {}),
    )


def _with_topic_ends(summary: Summary) -> Summary:
    """The summary with each topic's segments cut to first and last, which is all a citation needs."""
    topics = [
        replace(topic, segments=(topic.segments[0], topic.segments[-1])) if len(topic.segments) > 2 else topic
        for topic in summary.topics
    ]
    return replace(summary, topics=tuple(topics))


def summarize_tool(toolbox: Toolbox) -> BaseTool:
    """The tool over one toolbox."""

    def run(recording: str, template: str = "meeting") -> SummaryResult:
        return summarize(toolbox, recording, template)

    return make_tool(
        "summarize",
        "Summarise a recording: decisions, action items, open questions, topics.",
        Summarize,
        run,
    )
