"""Find where something was said, in one recording or in all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from langchain_core.tools import BaseTool
from pydantic import BaseModel, Field

from index.folding import fold
from index.recording_errors import MossAgentError
from index.records import Hit, Recording, Segment
from tools.calling import make_tool
from tools.read_transcript import known_speaker
from tools.result import Evidence, Passage, SearchResult, notes, unfinished
from tools.toolbox import Toolbox

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

    query: str = Field(max_length=1000)
    recording: str | None = None
    speaker: str | None = None


def search_recordings(
    toolbox: Toolbox, query: str, recording: str | None = None, speaker: str | None = None
) -> SearchResult:
    """Relevant segments as evidence, best first, and the passages they lie in.

    What follows a matching question as its reply carries ``reply_to``, the question's id. Nothing relevant
    gives no evidence at all.

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
    relevant = [(segment, relevance) for segment, relevance in ranked if relevance >= RELEVANT]
    items = _with_replies(_verbatim(query, hits, relevant), hits)
    recordings = {
        recording: toolbox.library.recording(recording) for recording in {item.recording for item in items}
    }
    searched = [found] if found else recordings.values()
    return SearchResult(
        query=query,
        evidence=tuple(items),
        passages=_passages(hits, items, recordings),
        notes=notes(*map(unfinished, searched)),
    )


def _only(hits: Sequence[Hit], speaker: str) -> list[Hit]:
    """The hits with this speaker's segments only."""
    kept = []
    for hit in hits:
        segments = tuple(segment for segment in hit.segments if segment.speaker == speaker)
        if segments:
            text = " ".join(segment.text for segment in segments)
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
    said = {segment.id: segment for hit in hits for segment in hit.segments if wanted in _words(segment.text)}
    first = sorted(said.values(), key=lambda segment: -own.get(segment.id, 0.0))[:QUOTES]
    rest = [(segment, relevance) for segment, relevance in ranked if segment.id not in said]
    return [(segment, VERBATIM) for segment in first] + rest


def _words(text: str) -> str:
    return f" {fold(text)} "


def _with_replies(ranked: Sequence[tuple[Segment, float]], hits: Sequence[Hit]) -> list[Evidence]:
    """Evidence of the ranked segments, each matching question followed by the reply it got."""
    order: dict[int, Segment] = {}
    for hit in hits:
        spoken = [segment for segment in hit.segments if segment.kind == "speech"]
        order.update((segment.id, following) for segment, following in pairwise(spoken))
    items: dict[int, Evidence] = {}
    for segment, relevance in ranked:
        items.setdefault(segment.id, Evidence.of(segment, round(relevance, 3)))
        reply = order.get(segment.id)
        if reply is None or not _answers(segment, reply):
            continue
        share = round(relevance * REPLY_SHARE, 3)
        known = items.get(reply.id)
        # What is relevant by itself keeps its own relevance.
        share = max(share, known.relevance) if known else share
        items[reply.id] = Evidence.of(reply, share, reply_to=segment.id)
    return sorted(items.values(), key=lambda item: -item.relevance)


def _answers(question: Segment, reply: Segment) -> bool:
    """Whether ``reply`` follows ``question`` at once and in another voice (or in an unknown one)."""
    if not question.text.rstrip().endswith(("?", "？")):
        return False
    if reply.start - question.end > REPLY_WITHIN_S:
        return False
    return question.speaker is None or reply.speaker != question.speaker


def _passages(
    hits: Sequence[Hit], items: Sequence[Evidence], recordings: Mapping[str, Recording]
) -> tuple[Passage, ...]:
    """The hits that hold evidence, with the ids they hold."""
    ids = {item.id for item in items}
    return tuple(
        Passage(
            recording=hit.recording,
            title=recordings[hit.recording].title,
            start=round(hit.start, 3),
            end=round(hit.end, 3),
            score=round(hit.score, 5),
            evidence=tuple(inside),
        )
        for hit in hits
        if (inside := [segment.id for segment in hit.segments if segment.id in ids])
    )


def search_recordings_tool(toolbox: Toolbox) -> BaseTool:
    """The tool over one toolbox."""

    def run(query: str, recording: str | None = None, speaker: str | None = None) -> SearchResult:
        return search_recordings(toolbox, query, recording, speaker)

    return make_tool(
        "search_recordings",
        "Find what was said about something.",
        SearchRecordings,
        run,
    )
