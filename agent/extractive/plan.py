"""Which tools to call next for what a question asks, decided from what they have returned so far."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agent.extractive.intents import Intent, Span
from agent.extractive.situation import Result, Situation
from tools.listen import LONGEST_S
from tools.result import Evidence, Heard, RecordingList, SearchResult, Transcript

AROUND_S = 120.0
"""How much is read before or after a topic, seconds."""
MOST_LISTENED = 6
"""Stretches of ten minutes that are listened to for one question."""
BEFORE_MOMENT_S, AFTER_MOMENT_S = 10.0, 20.0
"""What is listened to around a sentence, seconds: how the other one took it comes after."""
MOST_SUMMARISED = 3
"""Recordings summarised for one question to the whole library."""


@dataclass(frozen=True)
class Call:
    """A tool to call."""

    tool: str
    arguments: Mapping[str, Any]


def next_calls(intent: Intent, situation: Situation) -> list[Call]:
    """The calls to make now; none when everything is there to answer with."""
    plan = _PLANS.get(intent.kind)
    calls = plan(intent, situation) if plan else []
    # A call that was made and failed is not made again: its error is the answer.
    made = [(result.tool, dict(result.arguments)) for result in situation.results]
    return [call for call in calls if (call.tool, dict(call.arguments)) not in made]


def _list(_: Intent, situation: Situation) -> list[Call]:
    return [] if situation.tried("list_recordings") else [Call("list_recordings", {})]


def _read(intent: Intent, situation: Situation) -> list[Call]:
    span = intent.span
    if intent.recording is None or span is None or span.end <= span.start:
        return []
    if not situation.tried("read_transcript"):
        return [_reading(intent.recording, span, intent.speaker)]
    read = situation.found(Transcript)
    if read and read.content.total > len(read.evidence) and not situation.tried("outline"):
        # More was said there than can be quoted: its topics say what it was about.
        return [Call("outline", {"recording": intent.recording})]
    return []


def _reading(recording: str, span: Span, speaker: str | None = None) -> Call:
    arguments: dict[str, Any] = {
        "recording": recording,
        "start": round(max(0.0, span.start), 3),
        "end": round(span.end, 3),
    }
    return Call("read_transcript", {**arguments, "speaker": speaker} if speaker else arguments)


def _searching(query: str, recording: str | None, speaker: str | None = None) -> Call:
    arguments: dict[str, Any] = {"query": query[:1000]}
    if recording:
        arguments["recording"] = recording
    if speaker:
        arguments["speaker"] = speaker
    return Call("search_recordings", arguments)


def _search(intent: Intent, situation: Situation) -> list[Call]:
    found = situation.found(SearchResult)
    if found is None:
        return [_searching(intent.query, intent.recording, intent.speaker)]
    if intent.span and intent.recording and not within(found, intent.span):
        return [_reading(intent.recording, intent.span, intent.speaker)]
    return []


def within(result: Result[SearchResult], span: Span | None) -> list[Evidence]:
    """The evidence that overlaps a stretch; all of it without one."""
    return [
        item for item in result.evidence if span is None or (item.start < span.end and item.end > span.start)
    ]


def _around(intent: Intent, situation: Situation) -> list[Call]:
    found = situation.found(SearchResult)
    if found is None:
        return [_searching(intent.query, intent.recording)]
    place = place_of(intent, found)
    if place is None:
        return []
    recording, start, end = place
    if intent.direction == "before":
        span = Span(max(0.0, start - AROUND_S), start)
    else:
        span = Span(end, end + AROUND_S)
    return [_reading(recording, span)] if span.end > span.start else []


def place_of(intent: Intent, found: Result[SearchResult]) -> tuple[str, float, float] | None:
    """Where a topic was talked about: recording, start and end of the best sentence or of its passage."""
    if not found.evidence:
        return None
    best = found.evidence[0]
    if _is_topic(intent.query):
        for passage in found.content.passages:
            if best.id in passage.evidence:
                return best.recording, passage.start, passage.end
    return best.recording, best.start, best.end


def _is_topic(query: str) -> bool:
    words = query.casefold().split()
    return any(
        word in words for word in ("topic", "discussion", "part", "section", "chapter", "talk", "debate")
    )


def _items(intent: Intent, situation: Situation) -> list[Call]:
    narrowed = bool(intent.about or intent.person)
    if intent.recording:
        calls = [Call("summarize", {"recording": intent.recording})]
        if narrowed and not situation.tried("search_recordings"):
            calls.append(_searching(intent.query, intent.recording))
        return calls
    if intent.person:
        # Names are often misheard, so nobody is searched for: the newest recordings are summarised.
        there = situation.found(RecordingList)
        if there is None:
            return [Call("list_recordings", {})]
        newest = [entry.id for entry in there.content.recordings if entry.status == "ready"]
        return [Call("summarize", {"recording": recording}) for recording in newest[:MOST_SUMMARISED]]
    found = situation.found(SearchResult)
    if found is None:
        return [_searching(intent.query, None)]
    recordings = list(dict.fromkeys(item.recording for item in found.evidence))[:MOST_SUMMARISED]
    return [Call("summarize", {"recording": recording}) for recording in recordings]


def _summary(intent: Intent, _: Situation) -> list[Call]:
    return [Call("summarize", {"recording": intent.recording, "template": intent.template})]


def _outline(intent: Intent, _: Situation) -> list[Call]:
    return [Call("outline", {"recording": intent.recording})]


def _listen(intent: Intent, situation: Situation) -> list[Call]:
    """Listen to the stretch that is meant, ten minutes at a time; the rest once the first was answered.

    Where nothing can listen, sounds that were written down can still be found.
    """
    if not situation.can_listen:
        tried = situation.tried("search_recordings")
        return [] if tried else [_searching(intent.query, intent.recording)]
    heard = situation.all(Heard)
    if len(heard) < sum(result.tool == "listen" for result in situation.results):
        return []  # it failed once and would again
    span = intent.span or Span(0.0, AROUND_S)
    if intent.about and span.end - span.start > LONGEST_S:
        if not situation.tried("search_recordings"):
            return [_searching(intent.about, intent.recording)]
        span = moment_of(situation) or span
    parts = stretches(span)
    return [
        Call(
            "listen",
            {
                "recording": intent.recording,
                "start": round(part.start, 3),
                "end": round(part.end, 3),
                "question": intent.query,
            },
        )
        for part in (parts if heard else parts[:1])
    ]


def moment_of(situation: Situation) -> Span | None:
    """What lies around the sentence that was searched for."""
    found = situation.found(SearchResult)
    if found is None or not found.evidence:
        return None
    best = found.evidence[0]
    return Span(max(0.0, best.start - BEFORE_MOMENT_S), best.end + AFTER_MOMENT_S)


def stretches(span: Span) -> list[Span]:
    """A span in parts of equal length that can each be listened to, the first ``MOST_LISTENED`` of them."""
    start, length = max(0.0, span.start), span.end - max(0.0, span.start)
    count = max(1, math.ceil(length / LONGEST_S))
    if count > MOST_LISTENED:
        count, length = MOST_LISTENED, MOST_LISTENED * LONGEST_S
    part = length / count
    return [Span(start + at * part, start + (at + 1) * part) for at in range(count)]


_PLANS: Mapping[str, Callable[[Intent, Situation], list[Call]]] = {
    "list": _list,
    "which": _list,
    "facts": _list,
    "read": _read,
    "search": _search,
    "around": _around,
    "items": _items,
    "summary": _summary,
    "outline": _outline,
    "listen": _listen,
}
