"""Answers made of what tools returned: quotes with markers, and the few words that hold them together.

Nothing here states anything about a recording that is not quoted, computed or read from its record. What a
listener said is told apart from what was transcribed, with the seconds it heard.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from agent.citations.quotes import fold, quoted, tidy
from agent.planning.intents import WHICH, Intent
from agent.planning.plan import MOST_LISTENED, moment_of, place_of, within
from agent.planning.rules import content_words
from agent.planning.situation import Result, Situation
from agent.planning.time_expressions import TimeRange
from index.language_names import name_languages
from index.records import ActionItem, Item
from index.text import similarity
from moss_audio.timestamps import clock
from tools.listen import NEEDS_MOSS_AUDIO
from tools.result import (
    Evidence,
    Heard,
    Outline,
    RecordingEntry,
    RecordingList,
    SearchResult,
    SummaryResult,
    Transcript,
)
from tools.search_recordings import PASSAGES

NAMES = {
    "key_quotes": "key quote",
    "decisions": "decision",
    "action_items": "action item",
    "open_questions": "open question",
}
"""What one item of each section of a summary is called, in the order in which they are shown."""

LEADS_FROM = 0.3
"""A quote of the right kind leads over others if it is at least this relevant, as a share of the best."""

FEW = 4
"""With fewer quotes of the voice that is asked for, everything that others said about the topic is shown."""

BESIDE_S = 30.0
"""What others said this close to one of its quotes is shown with them, seconds."""

MOST_TITLES = 20
"""Titles listed when asking back."""

NEAR_S = 20.0
"""Seconds after a sentence about a topic at which an item has 1/e of its weight; before it, a quarter."""

MOST_ALSO = 8
"""Quotes beside the items about a topic, so that the reader can judge whether they are about it."""

NEAR_ENOUGH = 0.4
"""Weight from which an item is about a topic."""


HELP = """\
Ask me about your recordings, for example:

- What was said at minute 2?
- What happens in the first half? And after that?
- What did we decide about the budget?
- Who will call the supplier, and when?
- Who spoke the most?
- Write the meeting summary.
- Summarise the discussion about the budget.
- What are the action items?
- Which topics are there?
- Which recordings do you have?

Answers are quotes; the time beside a quote plays it."""


EMPTY = "There are no recordings yet: add one on the page or with `moss-agent add FILE`, then ask again."


ENGLISH = (
    "Without a language model I understand questions in English only; any other is searched for by its words "
    "and its meaning. Ask in English, or set MOSS_AGENT_MODEL to a language model (docs/engines.md)."
)


def compose(intent: Intent, situation: Situation) -> str:
    """The answer's text, with markers."""
    errors = situation.errors
    # What needs a listener where there is none is answered with the setting, whatever else failed.
    unheard = intent.kind == "listen" and not situation.can_listen
    if errors and len(errors) == len(situation.results) and not unheard:
        return errors[0]
    return _COMPOSERS[intent.kind](intent, situation)


# --- about the library -----------------------------------------------------------------------------


def _listing(intent: Intent, situation: Situation) -> str:
    """The recordings that there are, or those to choose from when asking back."""
    rows, total = _recordings(situation)
    if not rows:
        return EMPTY
    shown, head = rows, "There is 1 recording:" if total == 1 else f"There are {total} recordings:"
    if intent.kind == "which":
        shown, head = rows[:MOST_TITLES], WHICH
    more = [f"- … and {total - len(shown)} more"] if total > len(shown) else []
    return _listed(head, [*map(_recording_row, shown), *more])


def _recording_row(entry: RecordingEntry) -> str:
    speakers = [_count(len(entry.speakers), "speaker")] if entry.speakers else []
    state = [] if entry.status == "ready" else [_STATES.get(entry.status, entry.status)]
    return f"- {quoted(entry.title)} ({', '.join([clock(entry.duration), *speakers, *state])})"


_STATES = {"listening": "still being transcribed", "failed": "transcription failed", "cancelled": "cancelled"}


def _recordings(situation: Situation) -> tuple[tuple[RecordingEntry, ...], int]:
    found = situation.found(RecordingList)
    return (found.content.recordings, found.content.total) if found else ((), 0)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _facts(intent: Intent, situation: Situation) -> str:
    entry = next((row for row in _recordings(situation)[0] if row.id == intent.recording), None)
    if entry is None:
        return "This recording is not in the library any more."
    title = quoted(entry.title)
    match intent.fact:
        case "speakers" if entry.speakers:
            voices, names = _count(len(entry.speakers), "voice"), ", ".join(map(_plain_name, entry.speakers))
            return f"{voices} can be told apart in {title} (estimated from the sound): {names}."
        case "speaking" if entry.speaking:
            return _speaking(entry.speaking, title, intent)
        case "speakers" | "speaking":
            return f"The speakers in {title} have not been identified."
        case "language":
            spoken = entry.languages or ((entry.language,) if entry.language else ())
            if not spoken:
                return f"The language of {title} is not known."
            several = len(spoken) > 1
            named = f"The languages of {title} are" if several else f"The language of {title} is"
            return f"{named} {name_languages(spoken)}."
        case "coverage":
            if not entry.has_media:
                return (
                    f"{title} is an imported transcript without its media, so how much of the speech it has "
                    "is not known."
                )
            missing = " ".join(entry.notes)
            if entry.coverage is None:
                return missing or f"No speech in {title} has been found and transcribed yet."
            # Cut, not rounded: 100 % must mean all of it.
            share = (
                f"{int(entry.coverage * 1000) / 10:.1f}% of the detected speech in {title} is transcribed."
            )
            return f"{share} {missing}".rstrip()
    return f"{title} is {clock(entry.duration)} long."


def _speaking(seconds: Mapping[str, float], title: str, intent: Intent) -> str:
    """How long each voice speaks, the longest first; one voice alone where it is asked for."""
    total = sum(seconds.values()) or 1.0
    ranked = sorted(seconds, key=lambda name: -seconds[name])
    rows = {
        name: f"{_plain_name(name)}: {clock(seconds[name])} ({seconds[name] / total:.0%})" for name in ranked
    }
    if intent.speaker in rows:
        return f"Speaking time in {title}, with the share of all speech: {rows[intent.speaker]}."
    unnamed = f"No speaker here is named {_plain_name(intent.unnamed)}." if intent.unnamed else ""
    head = f"Speaking time in {title}, most first (voices are told apart by their sound):"
    return _paragraphs([unnamed, _listed(head, [f"- {row}" for row in rows.values()])])


# --- what was said ---------------------------------------------------------------------------------


def _about_quote(intent: Intent, situation: Situation) -> str:
    """Who said what the last answer led with, or when."""
    item = next((turn.cited[0] for turn in reversed(situation.past) if turn.cited), None)
    if item is None:
        return "There is no quote yet that this could be about."
    if intent.kind == "time_of":
        return f"That was {_between(item.start, item.end)}: {quoted(item.text)} [#{item.id}]"
    if not item.speaker:
        return f"Who said {quoted(item.text)} [#{item.id}] is not known: its voice was not identified."
    return _said(item)


def _searched(intent: Intent, situation: Situation) -> str:
    """What a search found; of a topic that is summarised, what was decided and promised there as well."""
    found = situation.found(SearchResult)
    unknown = intent.foreign and found is not None and not found.evidence
    read = situation.found(Transcript)
    if read and found and not within(found, intent):
        # The best quotes lie elsewhere; in the stretch itself, those with words of the question count.
        words = content_words(intent.query)
        there = [item for item in read.evidence if _shared(words, content_words(item.text))]
        if there:
            head = f"{_between(*read.content.range).capitalize()}, about it:"
            return _listed(head, list(map(_line, there)))
    parts = []
    for result in situation.all(SummaryResult):
        for name in ("decisions", "action_items", "open_questions"):
            items = _about_topic(getattr(result.content.summary, name), intent.about, result, situation)
            items = [item for item in items if found and _in_stretch(item, found.content)]
            if rows := _item_rows(items, result):
                parts.append(_listed(_heading_of(name), rows))
    return _paragraphs([_compose_search(intent, situation), *parts, ENGLISH if unknown else ""])


def _read(intent: Intent, situation: Situation) -> str:
    """What was said at a time; a clock time beyond the end that somebody spoke of is quoted instead."""
    found, read = situation.found(SearchResult), situation.found(Transcript)
    if found is not None and within(found, intent):
        return _compose_search(intent, situation)
    if read is None:
        before_start = intent.direction == "before"
        return "That is the beginning of the recording." if before_start else _failed(situation)
    return _stretch(read, intent, situation.found(Outline))


def _stretch(read: Result[Transcript], intent: Intent, outline: Result[Outline] | None = None) -> str:
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
        nobody = f"{_plain_name(intent.speaker)} said nothing" if intent.speaker else "Nothing was said"
        return _paragraphs([f"{nobody} {_between(start, end)} in {title}.", note])
    topics = _topic_rows(outline.content, TimeRange(start, end)) if outline else []
    if topics:
        heading = _listed(f"{_between(start, end).capitalize()} in {title}, by topic:", topics)
        return _paragraphs([heading, _listed("It begins like this:", [_line(item) for item in items]), note])
    heading = _heading(intent, start, end, items) + f" in {title}"
    who = f", {_plain_name(intent.speaker)} said:" if intent.speaker else ":"
    return _paragraphs([_listed(heading + who, [_line(item) for item in items]), note])


def _heading(intent: Intent, start: float, end: float, items: Sequence[Evidence]) -> str:
    """``From 2:00 to 3:00``; a moment is named with the whole sentences around it."""
    span = intent.span
    if span is None or span.kind != "moment":
        return _between(start, end).capitalize()
    # Rain that goes on for an hour does not make the moment an hour long.
    spoken = [item for item in items if item.kind == "speech"]
    start = min([start, *(item.start for item in spoken)])
    end = max([end, *(item.end for item in spoken)])
    if span.start <= 0:
        # Cut off at the start of the recording, the stretch no longer has the moment in its middle.
        return _between(start, end).capitalize()
    return f"Around {clock((span.start + span.end) / 2)} ({_between(start, end)})"


def _compose_search(intent: Intent, situation: Situation) -> str:
    """What a search found: one leading quote with support, or all places, or that there is nothing."""
    found = situation.found(SearchResult)
    if found is None:
        return _failed(situation)
    items = [item for item in within(found, intent) if item.id not in intent.exclude]
    read = situation.found(Transcript)
    if not items and read is not None:
        nothing = f"I found nothing there about {_topic(intent, situation)}."
        return _paragraphs([nothing, _stretch(read, intent)])
    items, others = _with_context(intent, items, situation)
    beside = _listed("What others said there:", _run_rows(_runs(others), found, situation)) if others else ""
    if not items:
        nothing = "That is all I found about it." if intent.exclude else _nothing(intent, situation)
        return _paragraphs([nothing, beside])
    unnamed = f"No speaker here is named {_plain_name(intent.unnamed)}, so this is from everyone."
    if intent.wants == "mentioned":
        text = _moments(intent, items, found, situation)
    elif intent.wants == "all" or intent.exclude:
        text = _listed("This was said about it:", _run_rows(_runs(items), found, situation))
    else:
        text = _lead_and_support(intent, items, found, situation)
    return _paragraphs([text, beside, unnamed if intent.unnamed else "", " ".join(found.content.notes)])


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
    lead = _leading(items, intent.wants)
    question = next((item for item in items if item.id == lead.reply_to), None)
    used = {question.id} if question else set()
    every = _runs([item for item in items if item.id not in used])
    first = next(run for run in every if lead in run)
    text = _said(_joined(first), _title_of(lead, found, situation), _run_marker([item.id for item in first]))
    if question:
        text = f"Asked {quoted(question.text)} [#{question.id}], {_as_clause(text)}"
    rows = _run_rows([run for run in every if run is not first], found, situation)
    return f"{text}\n\n{_listed('Also:', rows)}" if rows else text


def _runs(items: Sequence[Evidence]) -> list[list[Evidence]]:
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


def _joined(run: Sequence[Evidence]) -> Evidence:
    """A run of evidence as one quote."""
    text = " ".join(item.text.strip() for item in run)
    return run[0].model_copy(update={"text": text, "end": run[-1].end})


def _run_rows(
    every: Sequence[Sequence[Evidence]], found: Result[SearchResult], situation: Situation
) -> list[str]:
    """One row a run, with the recording's title where several were searched."""
    return [
        _line(_joined(run), _title_of(run[0], found, situation), _run_marker([item.id for item in run]))
        for run in every
    ]


def _leading(items: Sequence[Evidence], wants: str = "") -> Evidence:
    """The quote to begin with: the most relevant one, or one of the right kind that is nearly so.

    The right kind is a statement, no question; where an amount is asked for, it has one.
    """
    best = items[0]
    near = [item for item in items if item.relevance >= LEADS_FROM * best.relevance]
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


def _as_clause(sentence: str) -> str:
    """A sentence as the end of another one; names keep their capitals."""
    return "somebody" + sentence[8:] if sentence.startswith("Somebody ") else sentence


def _moments(
    intent: Intent, items: Sequence[Evidence], found: Result[SearchResult], situation: Situation
) -> str:
    """Where something comes up: the quotes that say most of its words, else the most relevant ones."""
    words = content_words(intent.query, situation.focus)
    counts = [_shared(words, content_words(item.text)) for item in items]
    most = max(counts)
    there = [item for item, count in zip(items, counts, strict=True) if count == most]
    runs = [[item] for item in sorted(there, key=_place)]
    return _listed("It comes up here:", _run_rows(runs, found, situation))


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
    speaker = f" by {_plain_name(intent.speaker)}" if intent.speaker else ""
    said_nothing = f"I found nothing that was said{speaker} about {_topic(intent, situation)}{where}."
    return _paragraphs([said_nothing, " ".join(found.content.notes) if found else ""])


def _topic(intent: Intent, situation: Situation) -> str:
    """What was looked for, in the question's own words."""
    text = _plain_name(intent.about or intent.query)
    match = re.search(r"\b(?:about|regarding|mention(?:s|ed|ing)?|said on) (.+)$", text, re.I)
    if match and content_words(match[1]):
        return match[1].strip(" ?.!")[:120]
    words = content_words(text, situation.focus, intent.speaker)
    kept = [word for word in re.findall(r"[\w'-]+", text) if word.casefold() in words]
    return " ".join(kept[:8]) or "that"


def _compose_around(intent: Intent, situation: Situation) -> str:
    """What was said before or after something that was searched for."""
    found = situation.found(SearchResult)
    place = place_of(intent, found) if found else None
    if found is None or place is None:
        return _nothing(intent, situation)
    best = found.evidence[0]
    read = situation.found(Transcript)
    lead = f"The nearest to that: {_said(best, _title_of(best, found, situation))}"
    if read is None:
        return f"{lead}\n\nThe recording begins there."
    return f"{lead}\n\n{_stretch(read, intent)}"


# --- summaries and outlines ------------------------------------------------------------------------


def _summary(intent: Intent, situation: Situation) -> str:
    """A whole summary, or the part of it that overlaps a stretch."""
    result, span = situation.found(SummaryResult), intent.span
    if result is None:
        return _failed(situation)
    summary, recording = result.content.summary, result.content.recording
    part = f", {_between(span.start, min(span.end, recording.duration))}" if span else ""
    head = f"Summary of {quoted(recording.title)} ({clock(recording.duration)}){part}:"
    sections = [head, "" if span else _plain_name(summary.overview)]
    for name in NAMES:
        if rows := _item_rows(_inside(getattr(summary, name), span), result):
            sections.append(_listed(_heading_of(name), rows))
    topics = [
        _topic_row(topic.title, topic.start, topic.end, topic.segments)
        for topic in _inside(summary.topics, span)
    ]
    if topics:
        sections.append(_listed("Topics:", topics))
    if not any(sections[1:]):
        sections.append("Nothing stood out there.")
    return _paragraphs([*sections, result.content.note])


def _heading_of(section: str) -> str:
    return f"{NAMES[section].capitalize()}s:"


def _outline(_: Intent, situation: Situation) -> str:
    """The topics of a recording with their times."""
    result = situation.found(Outline)
    if result is None:
        return _failed(situation)
    title, note = quoted(result.content.recording.title), result.content.note
    rows = _topic_rows(result.content, None)
    if not rows:
        return _paragraphs([f"No separate topics were found in {title}.", note])
    return _paragraphs([_listed(f"Topics of {title}:", rows), note])


def _topic_rows(outline: Outline, span: TimeRange | None) -> list[str]:
    """One row a topic that overlaps the stretch."""
    return [
        _topic_row(topic.title, topic.start, topic.end, topic.evidence)
        for topic in _inside(outline.topics, span)
    ]


def _topic_row(title: str, start: float, end: float, numbers: Sequence[int]) -> str:
    """``- 0:12 to 1:11: ferry, crew, operator [#4-#21]``."""
    marker = f" {_run_marker(numbers)}" if numbers else ""
    return f"- {clock(start)} to {clock(end)}: {_plain_name(title)}{marker}"


# --- decisions, action items, open questions -------------------------------------------------------


def _compose_items(intent: Intent, situation: Situation) -> str:
    """The items asked for, and what else was said about their topic; or what comes nearest."""
    one = NAMES[intent.items or "decisions"]
    for_whom = f" for {_plain_name(intent.person)}" if intent.person else ""
    topic = f" about {_plain_name(intent.about)}" if intent.about not in ("", intent.person) else ""
    when = f", {_between(intent.span.start, intent.span.end)}" if intent.span else ""
    sections, unsure, shown = [], [], set[int]()
    summaries = situation.all(SummaryResult)
    unfinished = " ".join(dict.fromkeys(result.content.note for result in summaries if result.content.note))
    for result in summaries:
        may_be = _unsure_items(intent, result, situation)
        items = [
            item
            for item in _wanted(intent, result, situation)
            if not any(item in theirs for theirs in may_be.values())
        ]
        if rows := _item_rows(items, result):
            several = situation.focus is None and situation.recordings > 1
            where = f" in {quoted(result.content.recording.title)}" if several else ""
            head = f"The {one}" if len(rows) == 1 else _count(len(rows), one)
            sections.append(_listed(f"{head}{for_whom}{topic}{where}{when}:", rows))
            shown |= {number for item in items for number in item.segments}
        unsure += _unsure_rows(intent, may_be, result)
        shown |= {number for theirs in may_be.values() for item in theirs for number in item.segments}
    if unsure and not sections:
        sections.append(f"I found no {one}{for_whom}{topic}{when} that is surely theirs.")
    sections += unsure
    found = situation.found(SearchResult)
    evidence = found.evidence if found else ()
    if sections:
        also = [item for item in evidence if item.id not in shown][:MOST_ALSO]
        rows = _run_rows(_runs(also), found, situation) if topic and found else []
        return _paragraphs([*sections, _listed("What was said about it:", rows) if rows else "", unfinished])
    none = f"I found no {one}{for_whom}{topic}{when}."
    said = _compose_search(replace(intent, span=None), situation) if evidence else unfinished
    return _paragraphs([none, said])


def _unsure_items(
    intent: Intent, result: Result[SummaryResult], situation: Situation
) -> dict[str, Sequence[Item]]:
    """By speaker the items of those who may be the person that is asked for, which nobody has confirmed."""
    known = {item.id: item for item in result.evidence}
    about = "" if intent.about == intent.person else intent.about
    found: dict[str, Sequence[Item]] = {}
    for speaker, voice in result.content.may_be.items():
        if intent.person and fold(voice) == fold(intent.person):
            theirs = _wanted(replace(intent, person=speaker, about=about), result, situation)
            found[speaker] = [item for item in theirs if not _concerns(item, intent.person, known)]
    return found


def _unsure_rows(
    intent: Intent, unsure: Mapping[str, Sequence[Item]], result: Result[SummaryResult]
) -> list[str]:
    person, title = _plain_name(intent.person), quoted(result.content.recording.title)
    return [
        _listed(f"{_plain_name(speaker)} in {title} may be {person}, which nobody has confirmed:", rows)
        for speaker, items in unsure.items()
        if (rows := _item_rows(items, result))
    ]


def _wanted(intent: Intent, result: Result[SummaryResult], situation: Situation) -> Sequence[Item]:
    """The items of one summary in the stretch, of the person and about the topic that are asked for."""
    items: Sequence[Item] = _inside(getattr(result.content.summary, intent.items or "decisions"), intent.span)
    if intent.person:
        known = {item.id: item for item in result.evidence}
        own = [item for item in items if _concerns(item, intent.person, known)]
        if own or intent.about != intent.person:
            return (
                _about_topic(own, intent.about, result, situation) if intent.about != intent.person else own
            )
    return _about_topic(items, intent.about, result, situation)


def _about_topic(
    items: Sequence[Item], topic: str, result: Result[SummaryResult], situation: Situation
) -> Sequence[Item]:
    """The items near what was found about a topic, or in the part of the recording that is named after it."""
    found, wanted = situation.found(SearchResult), content_words(topic)
    if not topic:
        return items
    parts = result.content.summary.topics
    titles = [(part, content_words(part.title)) for part in parts]
    named = [part for part, title in titles if wanted and _shared(wanted, title) == len(wanted)]
    inside_named = [item for item in items if any(part.start <= item.start < part.end for part in named)]
    if inside_named:
        return inside_named
    here = [item for item in found.evidence if item.recording == result.content.recording.id] if found else []
    best = max((item.relevance for item in found.evidence), default=0.0) if found else 0.0

    def part_of(start: float) -> int:
        return sum(part.start <= start for part in parts)

    def weight(item: Item) -> float:
        same = [other for other in here if part_of(other.start) == part_of(item.start)]
        gaps = [max(item.start - other.end, 4 * (other.start - item.end), 0.0) for other in same]
        near = [math.exp(-gap / NEAR_S) * other.relevance for gap, other in zip(gaps, same, strict=True)]
        return max(near, default=0.0) / best if best else 0.0

    return [item for item in items if weight(item) >= NEAR_ENOUGH]


def _in_stretch(item: Item, found: SearchResult) -> bool:
    """Whether an item lies in one of the stretches that fit best."""
    best = found.passages[:PASSAGES]
    return any(passage.start < item.end and item.start < passage.end for passage in best)


def _item_rows(items: Sequence[Item], result: Result[SummaryResult]) -> list[str]:
    """One row an item: who, by when, its words and their citation."""
    known = {item.id: item for item in result.evidence}
    return [row for item in items if (row := _item_row(item, known))]


def _item_row(item: Item, known: Mapping[int, Evidence]) -> str:
    """``- Ben, by Friday: “…” [#20]``; nothing when the item rests on no segment."""
    numbers = [number for number in item.segments if number in known]
    if not numbers:
        return ""
    speakers = {known[number].speaker or "" for number in numbers}
    who = [_plain_name(name) for name in _whose(item) or (speakers if len(speakers) == 1 else ()) if name]
    head = f"- {', '.join(who)}: " if who else "- "
    runs = _neighbours(numbers)
    talk = item.exchange
    where = f" (from the exchange {_between(talk.start, talk.end)})" if talk else ""
    if len(runs) == 1:
        return f"{head}{quoted(item.text)} {_run_marker(numbers)}{where}"
    # A request and its answer with something in between: no quote may span what was not quoted.
    said = [f"{quoted(' '.join(known[at].text for at in run))} {_run_marker(run)}" for run in runs]
    return head + " ".join(said) + where


def _neighbours(numbers: Sequence[int]) -> list[list[int]]:
    """Numbers in runs of neighbours."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs


def _whose(item: Item) -> list[str]:
    """Who is to do an action item, and by when."""
    return [name for name in (item.owner, item.due) if name] if isinstance(item, ActionItem) else []


def _concerns(item: Item, person: str, known: Mapping[int, Evidence]) -> bool:
    """Whether an item is somebody's: they own it, are named in it, or (“I'll …”) say it."""
    name = fold(person).split()
    if not name:
        return False
    owner = fold((item.owner if isinstance(item, ActionItem) else None) or "").split()
    speakers = [fold(known[number].speaker or "").split() for number in item.segments if number in known]
    said = re.findall(r"\w+", fold(item.text))
    if owner and owner != ["i"]:
        # A voice that is shown by its name says what it does, or answers who asks it by that name.
        answers = _shared(owner, said) < len(owner) or any(voice != speakers[-1] for voice in speakers)
        return _shared(name, owner) == len(name) or (answers and speakers[-1:] == [name])
    return name in speakers or _shared(name, said) == len(name)


# --- what a listener heard -------------------------------------------------------------------------


def _compose_listen(intent: Intent, situation: Situation) -> str:
    """What a listener heard where the question means; without one, what is written down and what it takes."""
    if not situation.can_listen:
        return _paragraphs([_written_down(intent, situation), NEEDS_MOSS_AUDIO])
    heard = [result for result in situation.all(Heard) if result.content.answer]
    if not heard:
        return _paragraphs([_written_down(intent, situation), _failed(situation)])
    title = quoted(heard[0].content.recording.title)
    if len(heard) == 1:
        only = heard[0].content
        where = f"Heard {_between(*only.range)} in {title}{_heard_marker(heard[0])}."
        return _paragraphs([_moment(situation), _words(heard[0]), where, only.warning])
    rows = [
        f"- {_between(*result.content.range).capitalize()}: {_words(result)}{_heard_marker(result)}"
        for result in heard
    ]
    return _paragraphs([_listed(f"Heard in {title}:", rows), *situation.errors[:1], _unheard(intent, heard)])


def _words(result: Result[Heard]) -> str:
    """The listener's answer; its quotation marks are not those of a transcript, so they are single ones."""
    return quoted(tidy(result.content.answer))[1:-1]


def _heard_marker(result: Result[Heard]) -> str:
    """A citation of all that was transcribed there, which plays what was heard."""
    numbers = [item.id for item in sorted(result.evidence, key=lambda item: item.start)]
    return f" {_run_marker(numbers)}" if numbers else ""


def _moment(situation: Situation) -> str:
    """The sentence around which was listened, where one was searched for."""
    found = situation.found(SearchResult)
    return _said(found.evidence[0]) if found and moment_of(situation) else ""


def _unheard(intent: Intent, heard: list[Result[Heard]]) -> str:
    end = max(result.content.range[1] for result in heard)
    if intent.span is None or intent.span.end - end < 1:
        return ""
    return (
        f"At most {MOST_LISTENED} stretches are listened to for one question; name a time to hear what comes "
        f"after {clock(end)}."
    )


def _written_down(intent: Intent, situation: Situation) -> str:
    """What is written down where somebody would listen: sounds and music first, else what was said."""
    read, found = situation.found(Transcript), situation.found(SearchResult)
    if read is not None:
        return _stretch(read, intent)
    sounds = [item for item in found.evidence if item.kind != "speech"] if found else []
    if sounds:
        return "\n".join(map(_line, sounds))
    return _compose_search(intent, situation) if found and found.evidence else ""


# --- words, lines and markers ----------------------------------------------------------------------


class _Timed(Protocol):
    """Something that lies in ``[start, end)``, seconds."""

    @property
    def start(self) -> float: ...
    @property
    def end(self) -> float: ...


T = TypeVar("T", bound=_Timed)


def _inside(items: Sequence[T], span: TimeRange | None) -> list[T]:
    """The items that overlap a stretch; all of them without one."""
    return [item for item in items if span is None or (item.start < span.end and item.end > span.start)]


def _shared(wanted: Iterable[str], heard: Iterable[str]) -> int:
    """How many of the wanted words were heard; other endings and sound-alikes (“Calum”) count."""
    heard = list(heard)
    return sum(any(similarity(word, other) > 0 for other in heard) for word in wanted)


def _said(item: Evidence, title: str | None = None, marker: str = "") -> str:
    """``Speaker 2 said: “…” [#12]``; with a title, also where. ``marker`` is that of a run of several."""
    where = f" in {quoted(title)}" if title else ""
    quote = f"{quoted(item.text)} {marker or _run_marker([item.id])}"
    if item.kind != "speech":
        return f"Heard{where}: {quote}"
    return f"{_plain_name(item.speaker or 'Somebody')} said{where}: {quote}"


def _line(item: Evidence, title: str | None = None, marker: str = "") -> str:
    """One quote as a list item: ``- Speaker 2: “…” [#12]``; ``marker`` is that of a run of several."""
    who = _plain_name(item.speaker) if item.speaker else ""
    if item.kind != "speech":
        who = item.kind.capitalize()
    where = f"in {quoted(title)}" if title else ""
    head = " ".join(part for part in (who, where) if part)
    quote = f"{quoted(item.text)} {marker or _run_marker([item.id])}"
    return f"- {head}: {quote}" if head else f"- {quote}"


def _run_marker(numbers: Sequence[int]) -> str:
    """The marker of a run of segments, from the first number to the last; nothing for none."""
    if not numbers:
        return ""
    return f"[#{numbers[0]}]" if len(numbers) == 1 else f"[#{numbers[0]}-#{numbers[-1]}]"


def _plain_name(name: str) -> str:
    """A speaker's name as it may stand in an answer: it cannot quote, cite or break the line."""
    return " ".join(str(name).translate(_UNMARKED).split()) or "Somebody"


_UNMARKED = str.maketrans(dict.fromkeys('“”„"«»「」[]#', " "))


def _listed(title: str, rows: Sequence[str]) -> str:
    """A heading and its rows."""
    return f"{title}\n\n" + "\n".join(rows)


def _between(start: float, end: float) -> str:
    """``from 2:00 to 3:00``."""
    return f"from {clock(start)} to {clock(end)}"


def _paragraphs(parts: Iterable[str]) -> str:
    """The parts that are there, with a blank line between them."""
    return "\n\n".join(part for part in parts if part)


def _failed(situation: Situation) -> str:
    """Why there is nothing to answer with: the last tool's error."""
    return situation.errors[-1] if situation.errors else "I could not look that up."


# --- what answers which kind of question -----------------------------------------------------------


_COMPOSERS: Mapping[str, Callable[[Intent, Situation], str]] = {
    "empty": lambda intent, situation: EMPTY,
    "help": lambda intent, situation: HELP,
    "thanks": lambda intent, situation: "You are welcome. Ask me anything else about your recordings.",
    "list": _listing,
    "which": _listing,
    "facts": _facts,
    "read": _read,
    "around": _compose_around,
    "search": _searched,
    "items": _compose_items,
    "summary": _summary,
    "outline": _outline,
    "listen": _compose_listen,
    "speaker_of": _about_quote,
    "time_of": _about_quote,
}
