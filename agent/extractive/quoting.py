"""Answers made of quotes: a stretch of the transcript in order, or what a search found, best first."""

from __future__ import annotations

import re
from collections.abc import Sequence

from agent.citations.quotes import quoted
from agent.extractive.intents import Intent, Span
from agent.extractive.plan import place_of, within
from agent.extractive.reporting import shared, topic_rows
from agent.extractive.rules import content_words
from agent.extractive.situation import Result, Situation
from agent.extractive.wording import (
    between,
    failed,
    line,
    listed,
    lower_first,
    paragraphs,
    plain_name,
    run_marker,
    said,
)
from moss_audio.timestamps import clock
from tools.result import Evidence, Outline, SearchResult, Transcript


def compose_read(intent: Intent, situation: Situation) -> str:
    """What was said at the time that was asked for."""
    read = situation.found(Transcript)
    if read is None:
        before_start = intent.direction == "before"
        return "That is the beginning of the recording." if before_start else failed(situation)
    return stretch(read, intent, situation.found(Outline))


def stretch(read: Result[Transcript], intent: Intent, outline: Result[Outline] | None = None) -> str:
    """What was said in a stretch, with the range named."""
    title, duration = quoted(read.content.recording.title), read.content.recording.duration
    start, end = read.content.range
    note = read.content.note
    if start >= duration:
        if intent.direction == "after":
            return f"Nothing comes after that: {title} ends at {clock(duration)}."
        moment = intent.span is not None and intent.span.kind == "moment" and intent.span.end - 1 < end
        named = (start + end) / 2 if moment else start
        return f"{title} is {clock(duration)} long, so there is nothing at {clock(named)}."
    items = read.evidence
    if not items:
        nobody = f"{plain_name(intent.speaker)} said nothing" if intent.speaker else "Nothing was said"
        return paragraphs([f"{nobody} {lower_first(between(start, end))} in {title}.", note])
    topics = topic_rows(outline.content, Span(start, end)) if outline else []
    if topics:
        heading = listed(f"{between(start, end)} in {title}, by topic:", topics)
        return paragraphs([heading, listed("It begins like this:", [line(item) for item in items]), note])
    heading = _heading(intent, start, end, items) + f" in {title}"
    who = f", {plain_name(intent.speaker)} said:" if intent.speaker else ":"
    return paragraphs([listed(heading + who, [line(item) for item in items]), note])


def _heading(intent: Intent, start: float, end: float, items: Sequence[Evidence]) -> str:
    """``From 2:00 to 3:00``; a moment is named with the whole sentences around it."""
    span = intent.span
    if span is None or span.kind != "moment":
        return between(start, end)
    # Rain that goes on for an hour does not make the moment an hour long.
    spoken = [item for item in items if item.kind == "speech"]
    start = min([start, *(item.start for item in spoken)])
    end = max([end, *(item.end for item in spoken)])
    if span.start <= 0:
        # Cut off at the start of the recording, the stretch no longer has the moment in its middle.
        return between(start, end)
    return f"Around {clock((span.start + span.end) / 2)} ({lower_first(between(start, end))})"


NEAR = 0.3
"""A quote of the right kind leads over others if it is at least this relevant, as a share of the best."""
FEW = 4
"""With fewer quotes of the voice that is asked for, everything that others said about the topic is shown."""
BESIDE_S = 30.0
"""What others said this close to one of its quotes is shown with them, seconds."""


def compose_search(intent: Intent, situation: Situation) -> str:
    """What a search found: one leading quote with support, or all places, or that there is nothing."""
    found = situation.found(SearchResult)
    if found is None:
        return failed(situation)
    items = [item for item in within(found, intent) if item.id not in intent.exclude]
    read = situation.found(Transcript)
    if not items and read is not None:
        nothing = f"I found nothing there about {_topic(intent, situation)}."
        return paragraphs([nothing, stretch(read, intent)])
    items, others = _with_context(intent, items, situation)
    beside = listed("What others said there:", run_rows(runs(others), found, situation)) if others else ""
    if not items:
        nothing = "That is all I found about it." if intent.exclude else _nothing(intent, situation)
        return paragraphs([nothing, beside])
    unnamed = f"No speaker here is named {plain_name(intent.unnamed)}, so this is from everyone."
    if intent.wants == "mentioned":
        text = _moments(intent, items, found, situation)
    elif intent.wants == "all" or intent.exclude:
        text = listed("This was said about it:", run_rows(runs(items), found, situation))
    else:
        text = _lead_and_support(intent, items, found, situation)
    return paragraphs([text, beside, unnamed if intent.unnamed else "", " ".join(found.content.notes)])


def _with_context(
    intent: Intent, items: Sequence[Evidence], situation: Situation
) -> tuple[list[Evidence], list[Evidence]]:
    """What the voice that is asked for said, best first; and what others said about the same, beside it.

    Where the voice said little, all that others said about it is shown.
    """
    whole = next((found for found in situation.all(SearchResult) if not found.arguments.get("speaker")), None)
    if intent.speaker is None or whole is None:
        return list(items), []
    known = {item.id for item in items}
    own = [
        *items,
        *(item for item in whole.evidence if item.speaker == intent.speaker and item.id not in known),
    ]

    def beside(other: Evidence) -> bool:
        return any(max(other.start - item.end, item.start - other.end) <= BESIDE_S for item in own)

    others = [item for item in whole.evidence if item.speaker != intent.speaker]
    return own, [item for item in others if len(own) < FEW or beside(item)]


def _lead_and_support(
    intent: Intent, items: Sequence[Evidence], found: Result[SearchResult], situation: Situation
) -> str:
    lead = leading(items, intent.wants)
    question = next((item for item in items if item.id == lead.reply_to), None)
    used = {question.id} if question else set()
    every = runs([item for item in items if item.id not in used])
    first = next(run for run in every if lead in run)
    text = said(joined(first), _title_of(lead, found, situation), run_marker([item.id for item in first]))
    if question:
        text = f"Asked {quoted(question.text)} [#{question.id}], {_inside(text)}"
    rows = run_rows([run for run in every if run is not first], found, situation)
    return f"{text}\n\n{listed('Also:', rows)}" if rows else text


def runs(items: Sequence[Evidence]) -> list[list[Evidence]]:
    """The items in the order they were said; what one voice said without a break stands together."""
    found: list[list[Evidence]] = []
    for item in sorted(items, key=_place):
        before = found[-1][-1] if found else None
        goes_on = (
            before is not None
            and item.after == before.id
            and item.speaker == before.speaker
            and item.kind == before.kind == "speech"
        )
        if goes_on:
            found[-1].append(item)
        else:
            found.append([item])
    return found


def joined(run: Sequence[Evidence]) -> Evidence:
    """A run of evidence as one quote."""
    text = " ".join(item.text.strip() for item in run)
    return run[0].model_copy(update={"text": text, "end": run[-1].end})


def run_rows(
    every: Sequence[Sequence[Evidence]], found: Result[SearchResult], situation: Situation
) -> list[str]:
    """One row a run, with the recording's title where several were searched."""
    return [
        line(joined(run), _title_of(run[0], found, situation), run_marker([item.id for item in run]))
        for run in every
    ]


def leading(items: Sequence[Evidence], wants: str = "") -> Evidence:
    """The quote to begin with: the most relevant one, or one of the right kind that is nearly so.

    The right kind is a statement, no question; where an amount is asked for, it has one.
    """
    best = items[0]
    near = [item for item in items if item.relevance >= NEAR * best.relevance]
    replies = [item for item in near if item.reply_to == best.id] if _asks(best) else []
    statements = replies or [item for item in near if not _asks(item)] or near
    kind = _KINDS.get(wants)
    return next((item for item in statements if kind and kind.search(item.text)), statements[0])


_KINDS = {
    "how much": re.compile(
        r"\d|\b(?:hundred|thousand|million|half|dozen|t(?:en|wo|hree|welve|wenty)|f(?:our|ive))\b", re.I
    ),
    "when": re.compile(
        r"\d|\b(?:\w+day|today|tomorrow|tonight|noon|midnight|morning|afternoon|evening|week|weekend|month|year|"
        r"january|february|march|april|may|june|july|august|september|october|november|december)\b",
        re.I,
    ),
}


def _asks(item: Evidence) -> bool:
    return item.text.rstrip().endswith(("?", "？"))


def _inside(sentence: str) -> str:
    """A sentence as the end of another one; names keep their capitals."""
    return "somebody" + sentence[8:] if sentence.startswith("Somebody ") else sentence


def _moments(
    intent: Intent, items: Sequence[Evidence], found: Result[SearchResult], situation: Situation
) -> str:
    """Where something comes up: the quotes that say most of its words, else the most relevant ones."""
    words = content_words(intent.query, situation.focus)
    counts = [shared(words, content_words(item.text)) for item in items]
    most = max(counts)
    there = [item for item, count in zip(items, counts, strict=True) if count == most]
    return listed("It comes up here:", _rows(sorted(there, key=_place), found, situation))


def _rows(items: Sequence[Evidence], found: Result[SearchResult], situation: Situation) -> list[str]:
    return [line(item, _title_of(item, found, situation)) for item in items]


def _place(item: Evidence) -> tuple[str, float]:
    return item.recording, item.start


def _title_of(item: Evidence, found: Result[SearchResult], situation: Situation) -> str | None:
    """The recording's title where several were searched; None where it goes without saying."""
    if found.arguments.get("recording") or situation.recordings == 1:
        return None
    return found.content.titles.get(item.recording)


def _nothing(intent: Intent, situation: Situation) -> str:
    where = f" in {quoted(situation.focus.title)}" if situation.focus else " in any recording"
    found = situation.found(SearchResult)
    speaker = f" by {plain_name(intent.speaker)}" if intent.speaker else ""
    said_nothing = f"I found nothing that was said{speaker} about {_topic(intent, situation)}{where}."
    return paragraphs([said_nothing, " ".join(found.content.notes) if found else ""])


def _topic(intent: Intent, situation: Situation) -> str:
    """What was looked for, in the question's own words."""
    text = plain_name(intent.about or intent.query)
    match = re.search(r"\b(?:about|regarding|mention(?:s|ed|ing)?|said on) (.+)$", text, re.I)
    if match and content_words(match[1]):
        return match[1].strip(" ?.!")[:120]
    words = content_words(text, situation.focus, intent.speaker)
    kept = [word for word in re.findall(r"[\w'-]+", text) if word.casefold() in words]
    return " ".join(kept[:8]) or "that"


def compose_around(intent: Intent, situation: Situation) -> str:
    """What was said before or after something that was searched for."""
    found = situation.found(SearchResult)
    place = place_of(intent, found) if found else None
    if found is None or place is None:
        return _nothing(intent, situation)
    best = found.evidence[0]
    read = situation.found(Transcript)
    lead = f"The nearest to that: {said(best, _title_of(best, found, situation))}"
    if read is None:
        return f"{lead}\n\nThe recording begins there."
    return f"{lead}\n\n{stretch(read, intent)}"
