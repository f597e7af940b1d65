"""Which tools to call next for what a question asks, decided from what they have returned so far."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agent.planning.intents import Intent
from agent.planning.rules import named_topic
from agent.planning.situation import Result, Situation
from agent.planning.time_expressions import TimeRange
from index.text import folded_name
from tools.listen import LONGEST_S
from tools.result import Evidence, Heard, RecordingList, SearchResult, ToolResult, Transcript

AROUND_S = 120.0
"""How much is read before or after a topic, seconds."""
MOST_LISTENED = 6
"""Stretches of ten minutes that are listened to for one question."""
BEFORE_MOMENT_S, AFTER_MOMENT_S = 10.0, 20.0
"""What is listened to around a sentence, seconds: how the other one took it comes after."""
MOST_SUMMARISED = 3
"""Recordings summarised for one question to the whole library."""
MOST_OF_PERSON = 6
"""Recordings summarised for a question about somebody who speaks in them."""


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
    made = list(map(_call_of, situation.results))
    return [call for call in calls if call not in made]


def _call_of(result: Result[ToolResult]) -> Call:
    return Call(result.tool, dict(result.arguments))


def seen_by(part: Intent, situation: Situation) -> tuple[Situation, list[Call]]:
    """The situation with the results of one part's calls only, and the calls that it still needs."""
    seen = replace(situation, results=())
    while calls := next_calls(part, seen):
        there = {at: _call_of(result) for at, result in enumerate(situation.results)}
        if missing := [call for call in calls if call not in there.values()]:
            return seen, missing
        own = [situation.results[at] for at, call in there.items() if call in calls]
        seen = replace(seen, results=(*seen.results, *own))
    return seen, []


def _several(intent: Intent, situation: Situation) -> list[Call]:
    every = [call for part in intent.parts for call in seen_by(part, situation)[1]]
    return [call for at, call in enumerate(every) if call not in every[:at]]


def _call(tool: str, **arguments: Any) -> Call:
    """A call with the arguments that are there."""
    return Call(tool, {name: value for name, value in arguments.items() if value is not None})


def _reading(recording: str, span: TimeRange, speaker: str | None = None) -> Call:
    start, end = round(max(0.0, span.start), 3), round(span.end, 3)
    return _call("read_transcript", recording=recording, start=start, end=end, speaker=speaker)


def _searching(query: str, recording: str | None, speaker: str | None = None) -> Call:
    return _call("search_recordings", query=query[:1000], recording=recording or None, speaker=speaker)


def _read(intent: Intent, situation: Situation) -> list[Call]:
    span, read = intent.span, situation.found(Transcript)
    if intent.recording is None or span is None or span.end <= span.start:
        return []
    if not situation.tried("read_transcript"):
        search = [_searching(intent.query, intent.recording)] if intent.query else []
        return [_reading(intent.recording, span, intent.speaker), *search]
    if read and read.content.total > len(read.evidence) and not situation.tried("outline"):
        # More was said there than can be quoted: its topics say what it was about.
        return [_call("outline", recording=intent.recording)]
    return []


def _search(intent: Intent, situation: Situation) -> list[Call]:
    found = situation.found(SearchResult)
    if found is None:
        parts = [_call("summarize", recording=intent.recording)] if intent.about and intent.recording else []
        # What others said beside a voice tells what it speaks of.
        both = intent.speaker and intent.span is None and intent.wants != "mentioned"
        context = [_searching(intent.query, intent.recording)] if both else []
        return [*context, _searching(intent.query, intent.recording, intent.speaker), *parts]
    if intent.span and intent.recording and not within(found, intent):
        return [_reading(intent.recording, intent.span, intent.speaker)]
    topic = named_topic(intent.query)
    if topic and not any(result.evidence for result in situation.all(SearchResult)):
        # “Why are they happy about the app?”, where nobody says that they are.
        return [_searching(topic, intent.recording, intent.speaker)]
    return []


def within(result: Result[SearchResult], intent: Intent) -> list[Evidence]:
    """The evidence in the stretch that is asked about; where somebody said its clock time, that instead."""
    span, clock = intent.span, re.sub(r"\W", "[:.]", intent.clock)
    spoken = [item for item in result.evidence if clock and re.search(rf"(?<!\d){clock}(?!\d)", item.text)]
    if spoken or span is None:
        return spoken or list(result.evidence)
    return [item for item in result.evidence if item.start < span.end and item.end > span.start]


def _around(intent: Intent, situation: Situation) -> list[Call]:
    found = situation.found(SearchResult)
    if found is None:
        return [_searching(intent.query, intent.recording)]
    place = place_of(intent, found)
    if place is None:
        return []
    start, end = place[1:]
    before = intent.direction == "before"
    span = TimeRange(max(0.0, start - AROUND_S), start) if before else TimeRange(end, end + AROUND_S)
    return [_reading(place[0], span, intent.speaker)] if span.end > span.start else []


def place_of(intent: Intent, found: Result[SearchResult]) -> tuple[str, float, float] | None:
    """Where a topic was talked about: recording, start and end of the best sentence or of its passage."""
    if not found.evidence:
        return None
    best = found.evidence[0]
    if re.search(r"\b(?:topic|discussion|part|section|chapter|talk|debate)\b", intent.query, re.IGNORECASE):
        for passage in found.content.passages:
            if best.id in passage.evidence:
                return best.recording, passage.start, passage.end
    return best.recording, best.start, best.end


def _items(intent: Intent, situation: Situation) -> list[Call]:
    wanted = intent.about or intent.query
    if intent.recording:
        narrowed = (intent.about or intent.person) and not situation.tried("search_recordings")
        search = [_searching(wanted, intent.recording)] if narrowed else []
        return [_call("summarize", recording=intent.recording), *search]
    if intent.person:
        # Names are often misheard, so nobody is searched for: the newest recordings are summarised.
        there = situation.found(RecordingList)
        if there is None:
            return [_call("list_recordings")]
        entries = [entry for entry in there.content.recordings if entry.status == "ready"]
        own = [entry.id for entry in entries if _speaks(entry.speakers, intent.person)]
        own += [entry.id for entry in entries if _speaks(tuple(entry.may_be.values()), intent.person)]
        if own:
            return [_call("summarize", recording=recording) for recording in own[:MOST_OF_PERSON]]
        recordings = [entry.id for entry in entries]
    else:
        found = situation.found(SearchResult)
        if found is None:
            return [_searching(wanted, None)]
        recordings = list(dict.fromkeys(item.recording for item in found.evidence))
    return [_call("summarize", recording=recording) for recording in recordings[:MOST_SUMMARISED]]


def _speaks(speakers: Sequence[str], person: str) -> bool:
    return any(folded_name(name) == folded_name(person) for name in speakers)


def _listen(intent: Intent, situation: Situation) -> list[Call]:
    """Listen to the stretch that is meant, ten minutes at a time; the rest once the first was answered.

    Where nothing can listen, what was written down there is read, or searched for.
    """
    whole = intent.span is None or intent.span.kind == "whole"
    if not situation.can_listen:
        if situation.results:
            return []
        if intent.span and intent.recording and not whole:
            return [_reading(intent.recording, intent.span)]
        return [_searching(intent.query, intent.recording)]
    heard = situation.all(Heard)
    if len(heard) < sum(result.tool == "listen" for result in situation.results):
        return []  # it failed once and would again
    span = intent.span or TimeRange(0.0, AROUND_S)
    if intent.about and span.end - span.start > LONGEST_S:
        if not situation.tried("search_recordings"):
            return [_searching(intent.about, intent.recording)]
        span = moment_of(situation) or span
    asked = {"recording": intent.recording, "question": intent.query}
    parts = stretches(span)
    return [
        _call("listen", start=round(part.start, 3), end=round(part.end, 3), **asked)
        for part in (parts if heard else parts[:1])
    ]


def moment_of(situation: Situation) -> TimeRange | None:
    """What lies around the sentence that was searched for."""
    found = situation.found(SearchResult)
    if found is None or not found.evidence:
        return None
    best = found.evidence[0]
    return TimeRange(max(0.0, best.start - BEFORE_MOMENT_S), best.end + AFTER_MOMENT_S)


def stretches(span: TimeRange) -> list[TimeRange]:
    """A span in parts of equal length that can each be listened to, the first ``MOST_LISTENED`` of them."""
    start, length = max(0.0, span.start), span.end - max(0.0, span.start)
    count = max(1, math.ceil(length / LONGEST_S))
    if count > MOST_LISTENED:
        count, length = MOST_LISTENED, MOST_LISTENED * LONGEST_S
    part = length / count
    return [TimeRange(start + at * part, start + (at + 1) * part) for at in range(count)]


_PLANS: Mapping[str, Callable[[Intent, Situation], list[Call]]] = {
    "list": lambda *_: [_call("list_recordings")],
    "which": lambda *_: [_call("list_recordings")],
    "facts": lambda intent, _: [_call("list_recordings", recording=intent.recording)],
    "read": _read,
    "search": _search,
    "around": _around,
    "items": _items,
    "summary": lambda intent, _: [_call("summarize", recording=intent.recording, template=intent.template)],
    "outline": lambda intent, _: [_call("outline", recording=intent.recording)],
    "listen": _listen,
    "several": _several,
}
