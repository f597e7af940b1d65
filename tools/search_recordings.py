"""Find where something was said, in one recording or in all of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from langchain_core.tools import BaseTool, StructuredTool
from pydantic import BaseModel, Field

from index.recording_errors import MossAgentError
from index.records import Hit, Recording, Segment
from tools.read_transcript import known_speaker
from tools.result import Toolbox, as_json, evidence, invalid_arguments, joined, unfinished

PASSAGES = 8
"""Passages looked at for one query."""
QUOTES = 12
"""Relevant segments returned at most."""
REPLY_WITHIN_S = 5.0
"""A reply starts at most this long after the question ends, seconds."""
REPLY_SHARE = 0.95
"""A reply is nearly as relevant as the question it answers; the words that match stand in the question."""
VERBATIM = 1.0
"""Relevance of a segment that contains the query word for word."""


class SearchRecordings(BaseModel):
    """Arguments of ``search_recordings``."""

    query: str = Field(description="What to look for, in a few words or as a question.", max_length=1000)
    recording: str | None = Field(
        default=None, description="Id, beginning of the id, or title, to search one recording; else all."
    )
    speaker: str | None = Field(default=None, description="Only what this speaker said; needs `recording`.")


def search_recordings(
    toolbox: Toolbox, query: str, recording: str | None = None, speaker: str | None = None
) -> dict[str, Any]:
    """Relevant segments as evidence, best first, and the passages they lie in.

    Evidence carries ``relevance`` in [0, 1]; what follows a matching question as its reply also carries
    ``reply_to``, the question's id. Nothing relevant gives no evidence at all.

    Raises:
        MossAgentError: The query is empty, or no such recording or speaker.
    """
    from index.search.searching import RELEVANT

    if not query.strip():
        raise MossAgentError("The query is empty; say what to look for.")
    found = toolbox.library.resolve(recording) if recording else None
    hits = toolbox.search.search(query, found.id if found else None, PASSAGES)
    if speaker is not None:
        if found is None:
            raise MossAgentError("Name the recording in which this speaker is to be searched.")
        hits = _only(hits, known_speaker(found, speaker))
    ranked = toolbox.search.best_segments(query, hits, QUOTES)
    ranked = _verbatim(query, hits, [one for one in ranked if one[1] >= RELEVANT])
    items = _with_replies(ranked, hits)
    recordings = {one: toolbox.library.recording(one) for one in {item["recording"] for item in items}}
    note = None if items else "Nothing relevant to this was said."
    state = [unfinished(one) for one in ({found.id: found} if found else recordings).values()]
    passages = _passages(hits, items, recordings)
    return {"query": query, "evidence": items, "passages": passages, **joined([note, *state])}


def _only(hits: Sequence[Hit], speaker: str) -> list[Hit]:
    """The hits with this speaker's segments only."""
    kept = []
    for hit in hits:
        segments = tuple(one for one in hit.segments if one.speaker == speaker)
        if segments:
            text = " ".join(one.text for one in segments)
            kept.append(Hit(hit.recording, segments[0].start, segments[-1].end, text, hit.score, segments))
    return kept


def _verbatim(
    query: str, hits: Sequence[Hit], ranked: Sequence[tuple[Segment, float]]
) -> list[tuple[Segment, float]]:
    """The ranked segments, led by those that contain the query word for word (two words at least)."""
    wanted = _words(query)
    if " " not in wanted.strip():
        return list(ranked)
    own = {segment.id: relevance for segment, relevance in ranked}
    said = {one.id: one for hit in hits for one in hit.segments if wanted in _words(one.text)}
    first = sorted(said.values(), key=lambda one: -own.get(one.id, 0.0))[:QUOTES]
    rest = [pair for pair in ranked if pair[0].id not in said]
    return [(one, VERBATIM) for one in first] + rest


def _words(text: str) -> str:
    return " ".join(["", *re.findall(r"[^\W_]+", text.casefold()), ""])


def _with_replies(ranked: Sequence[tuple[Segment, float]], hits: Sequence[Hit]) -> list[dict[str, Any]]:
    """Evidence of the ranked segments, each matching question followed by the reply it got."""
    order: dict[int, Segment] = {}
    for hit in hits:
        spoken = [one for one in hit.segments if one.kind == "speech"]
        order.update((one.id, following) for one, following in pairwise(spoken))
    items: dict[int, dict[str, Any]] = {}
    for segment, relevance in ranked:
        items.setdefault(segment.id, evidence(segment, relevance=round(relevance, 3)))
        reply = order.get(segment.id)
        if reply is None or not _answers(segment, reply):
            continue
        share = round(relevance * REPLY_SHARE, 3)
        known = items.get(reply.id)
        if known is None or known["relevance"] < share:
            items[reply.id] = evidence(reply, relevance=share, reply_to=segment.id)
        else:
            known["reply_to"] = segment.id
    return sorted(items.values(), key=lambda item: -item["relevance"])


def _answers(question: Segment, reply: Segment) -> bool:
    """Whether ``reply`` follows ``question`` at once and in another voice (or in an unknown one)."""
    if not question.text.rstrip().endswith(("?", "？")):
        return False
    if reply.start - question.end > REPLY_WITHIN_S:
        return False
    return question.speaker is None or reply.speaker != question.speaker


def _passages(
    hits: Sequence[Hit], items: Sequence[dict[str, Any]], recordings: dict[str, Recording]
) -> list[dict[str, Any]]:
    """The hits that hold evidence, with the ids they hold."""
    ids = {item["id"] for item in items}
    passages = []
    for hit in hits:
        inside = [one.id for one in hit.segments if one.id in ids]
        if inside:
            passages.append(
                {
                    "recording": hit.recording,
                    "title": recordings[hit.recording].title,
                    "start": round(hit.start, 3),
                    "end": round(hit.end, 3),
                    "score": round(hit.score, 5),
                    "evidence": inside,
                }
            )
    return passages


def search_recordings_tool(toolbox: Toolbox) -> BaseTool:
    """The tool over one toolbox."""

    def run(query: str, recording: str | None = None, speaker: str | None = None) -> dict[str, Any]:
        return search_recordings(toolbox, query, recording, speaker)

    return StructuredTool.from_function(
        as_json(run),
        name="search_recordings",
        description=(
            "Find where something was said, by words and by meaning, in one recording or in all. Returns the "
            "relevant segments, best first, each with its relevance from 0 to 1; none when nothing relevant "
            "was said."
        ),
        args_schema=SearchRecordings,
        handle_validation_error=invalid_arguments,
    )
