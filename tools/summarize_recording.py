"""Summarise one recording: topics, decisions, action items, open questions, key quotes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np
from langchain_core.tools import BaseTool, StructuredTool
from pydantic import BaseModel, Field

from index.recording_errors import MossAgentError
from index.records import Recording, Segment
from index.store.library import Library
from index.templates import Template
from tools.result import Toolbox, about, as_json, evidence, invalid_arguments, joined, unfinished

if TYPE_CHECKING:
    from index.search.embeddings import Embedder
    from index.summary import Summary

KEPT = 16
"""Summaries kept in memory, so that a question about decisions does not summarise the meeting again."""

_kept: OrderedDict[tuple[object, ...], Summary] = OrderedDict()
_lock = threading.Lock()


class Summarize(BaseModel):
    """Arguments of ``summarize``."""

    recording: str = Field(description="Id, unique beginning of the id, or title of the recording.")
    template: Template = Field(default="meeting", description="What kind of conversation it is.")


def summarize_recording(
    library: Library, embedder: Embedder, recording: Recording, template: str = "meeting"
) -> Summary:
    """The summary of what is transcribed so far; the same segments give the same summary.

    Raises:
        MossAgentError: Nothing is transcribed yet, or there is no such template.
    """
    segments = speech_of(library, recording)
    key = (recording.id, template, embedder.name, tuple((one.id, one.speaker) for one in segments))
    with _lock:
        if key in _kept:
            _kept.move_to_end(key)
            return _kept[key]
    summary = _summarize(segments, embeddings_of(library, embedder, segments), template)
    with _lock:
        _kept[key] = summary
        while len(_kept) > KEPT:
            _kept.popitem(last=False)
    return summary


def speech_of(library: Library, recording: Recording) -> list[Segment]:
    """All speech of a recording.

    Raises:
        MossAgentError: There is none.
    """
    segments = [one for one in library.segments(recording.id) if one.kind == "speech"]
    if not segments:
        raise MossAgentError(f"“{recording.title}” has no speech that could be summarised.")
    return segments


def embeddings_of(library: Library, embedder: Embedder, segments: list[Segment]) -> np.ndarray:
    """Sentence embeddings ``[n_segments, dimensions]``: the stored ones, or computed where there are none."""
    stored = library.segment_embeddings(segments)
    if stored is not None and stored.shape[1] == embedder.dimensions:
        return stored
    return embedder.encode_passages([one.text for one in segments])


def _summarize(segments: list[Segment], embeddings: np.ndarray, template: str) -> Summary:
    from index.summary import summarize

    try:
        return summarize(segments, embeddings, template)
    except (KeyError, ValueError) as error:
        raise MossAgentError(f"There is no summary template “{template}”.") from error


def cited_ids(summary: object) -> list[int]:
    """Every segment id that stands under a ``segments`` key anywhere in a summary's JSON, in order."""
    found: dict[int, None] = {}

    def walk(value: object) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                if key == "segments":
                    found.update((int(one), None) for one in inner)
                else:
                    walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    walk(summary)
    return list(found)


def summarize_json(toolbox: Toolbox, recording: str, template: str = "meeting") -> dict[str, Any]:
    """The summary as the design's JSON, with the segments it rests on as evidence.

    Raises:
        MossAgentError: No such recording, nothing transcribed, or no such template.
    """
    found = toolbox.library.resolve(recording)
    summary = summarize_recording(toolbox.library, toolbox.search.embedder, found, template)
    document = _trimmed(summary.to_json())
    segments = toolbox.library.segments_by_id(cited_ids(document))
    return {
        "recording": about(found),
        "summary": document,
        "evidence": [evidence(one) for one in segments],
        **joined([unfinished(found)]),
    }


def _trimmed(document: dict[str, Any]) -> dict[str, Any]:
    """The summary with its topics' segments cut to first and last, which is all a citation needs."""
    topics = [
        {**topic, "segments": [ids[0], ids[-1]] if len(ids := topic.get("segments", [])) > 2 else list(ids)}
        for topic in document.get("topics", [])
    ]
    return {**document, "topics": topics}


def summarize_tool(toolbox: Toolbox) -> BaseTool:
    """The tool over one toolbox."""

    def run(recording: str, template: str = "meeting") -> dict[str, Any]:
        return summarize_json(toolbox, recording, template)

    return StructuredTool.from_function(
        as_json(run),
        name="summarize",
        description=(
            "Summarise one recording with times: overview, topics, decisions, action items with owner and "
            "due date, open questions, key quotes."
        ),
        args_schema=Summarize,
        handle_validation_error=invalid_arguments,
    )
