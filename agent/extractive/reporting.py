"""Summaries, outlines and lists of decisions as answers: quotes with markers, in the order they were said."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from agent.citations.quotes import fold, quoted
from agent.extractive.intents import Intent, Span, content_words
from agent.extractive.situation import Result, Situation
from agent.extractive.wording import between, listed, lower_first, paragraphs, plain_name, run_marker
from index.summary.items import ActionItem, Item, Summary
from index.text import similarity
from moss_audio.timestamps import clock
from tools.result import Evidence, Outline, SearchResult, SummaryResult

HEADINGS = {
    "key_quotes": "Key quotes:",
    "decisions": "Decisions:",
    "action_items": "Action items:",
    "open_questions": "Open questions:",
}


class _Timed(Protocol):
    """Something that lies in ``[start, end)``, seconds."""

    @property
    def start(self) -> float: ...
    @property
    def end(self) -> float: ...


T = TypeVar("T", bound=_Timed)


def compose_summary(result: Result[SummaryResult], span: Span | None = None) -> str:
    """A whole summary, or the part of it that overlaps a stretch."""
    summary, recording = result.content.summary, result.content.recording
    known = _by_id(result)
    part = _part(span, recording.duration)
    head = f"Summary of {quoted(recording.title)} ({clock(recording.duration)}){part}:"
    sections = [head, "" if span else plain_line(summary.overview)]
    for name, heading in HEADINGS.items():
        items = _inside(items_of(summary, name), span)
        rows = [row for item in items if (row := _item_row(item, known))]
        if rows:
            sections.append(listed(heading, rows))
    topics = [
        _topic_row(topic.title, topic.start, topic.end, topic.segments)
        for topic in _inside(summary.topics, span)
    ]
    if topics:
        sections.append(listed("Topics:", topics))
    if not any(sections[1:]):
        sections.append("Nothing stood out there.")
    return paragraphs([*sections, result.content.note])


def items_of(summary: Summary, name: str) -> tuple[Item, ...]:
    """The items of one section, by its key in ``HEADINGS``."""
    sections: Mapping[str, tuple[Item, ...]] = {
        "decisions": summary.decisions,
        "action_items": summary.action_items,
        "open_questions": summary.open_questions,
        "key_quotes": summary.key_quotes,
    }
    return sections[name]


def _part(span: Span | None, duration: float) -> str:
    return f", {lower_first(between(span.start, min(span.end, duration)))}" if span else ""


def compose_outline(result: Result[Outline]) -> str:
    """The topics of a recording with their times."""
    title, note = quoted(result.content.recording.title), result.content.note
    rows = topic_rows(result.content, None)
    if not rows:
        return paragraphs([f"No separate topics were found in {title}.", note])
    return paragraphs([listed(f"Topics of {title}:", rows), note])


def topic_rows(outline: Outline, span: Span | None) -> list[str]:
    """One row a topic that overlaps the stretch."""
    return [
        _topic_row(topic.title, topic.start, topic.end, topic.evidence)
        for topic in _inside(outline.topics, span)
    ]


def _topic_row(title: str, start: float, end: float, numbers: Sequence[int]) -> str:
    """``- 0:12 to 1:11: ferry, crew, operator [#4-#21]``."""
    marker = f" {run_marker(numbers)}" if numbers else ""
    return f"- {clock(start)} to {clock(end)}: {plain_line(title)}{marker}"


def plain_line(text: str) -> str:
    """Text on one line that can neither quote nor cite."""
    return plain_name(text) if text.strip() else ""


def compose_items(intent: Intent, situation: Situation) -> str:
    """Decisions, action items or open questions, narrowed to a topic, a person or a stretch; "" for none."""
    name = intent.items or "decisions"
    summaries = situation.all(SummaryResult)
    found = [_inside(items_of(result.content.summary, name), intent.span) for result in summaries]
    if intent.person:
        known = [_by_id(result) for result in summaries]
        found = [
            [item for item in items if concerns(item, intent.person, ids)]
            for items, ids in zip(found, known, strict=True)
        ]
    elif intent.about:
        kept = narrowed([item for items in found for item in items], intent.about, _relevant(situation))
        found = [[item for item in kept if item in items] for items in found]
    in_library = situation.focus is None and situation.recordings > 1
    sections = []
    for result, items in zip(summaries, found, strict=True):
        rows = [row for item in items if (row := _item_row(item, _by_id(result)))]
        if rows:
            sections.append(listed(_heading(intent, len(rows), result, in_library), rows))
    return paragraphs(sections)


def _heading(intent: Intent, count: int, result: Result[SummaryResult], in_library: bool) -> str:
    one, many = _NAMES[intent.items or "decisions"]
    where = f" in {quoted(result.content.recording.title)}" if in_library else ""
    for_whom = f" for {plain_name(intent.person)}" if intent.person else ""
    when = f", {lower_first(between(intent.span.start, intent.span.end))}" if intent.span else ""
    number = f"The {one}" if count == 1 else f"{count} {many}"
    return f"{number}{for_whom}{where}{when}:"


_NAMES = {
    "decisions": ("decision", "decisions"),
    "action_items": ("action item", "action items"),
    "open_questions": ("open question", "open questions"),
}


def concerns(item: Item, person: str, known: Mapping[int, Evidence]) -> bool:
    """Whether an item is somebody's: they own it, are named in it, or (“I'll …”) say it."""
    name = fold(person).split()
    if not name:
        return False
    owner = fold((item.owner if isinstance(item, ActionItem) else None) or "").split()
    if owner and owner != ["i"]:
        return shared(name, owner) == len(name)
    speakers = [known[number].speaker or "" for number in item.segments if number in known]
    if any(fold(speaker).split() == name for speaker in speakers):
        return True
    return shared(name, re.findall(r"\w+", fold(item.text))) == len(name)


def narrowed(items: Sequence[Item], about: str, relevant: Mapping[int, float]) -> list[Item]:
    """The items about a topic: those that a search for it found, else those that share its words."""
    scored = [
        (max((relevant.get(number, 0.0) for number in item.segments), default=0.0), item) for item in items
    ]
    best = max((score for score, _ in scored), default=0.0)
    if best > 0:
        return [item for score, item in sorted(scored, key=lambda pair: -pair[0]) if score >= 0.8 * best]
    topic = content_words(about)
    return [item for item in items if shared(topic, content_words(item.text))]


def shared(wanted: Iterable[str], heard: Iterable[str]) -> int:
    """How many of the wanted words were heard; other endings and sound-alikes (“Calum”) count."""
    heard = list(heard)
    return sum(any(similarity(word, other) > 0 for other in heard) for word in wanted)


def _relevant(situation: Situation) -> dict[int, float]:
    found = situation.found(SearchResult)
    return {item.id: item.relevance for item in found.evidence} if found else {}


def _inside(items: Sequence[T], span: Span | None) -> list[T]:
    """The items that overlap a stretch; all of them without one."""
    return [item for item in items if span is None or (item.start < span.end and item.end > span.start)]


def _item_row(item: Item, known: Mapping[int, Evidence]) -> str:
    """``- Ben, by Friday: “…” [#20]``; nothing when the item rests on no segment."""
    numbers = [number for number in item.segments if number in known]
    if not numbers:
        return ""
    speakers = {known[number].speaker or "" for number in numbers}
    who = [plain_name(name) for name in _whose(item) or (speakers if len(speakers) == 1 else ()) if name]
    head = f"- {', '.join(who)}: " if who else "- "
    return f"{head}{quoted(item.text)} {run_marker(numbers)}"


def _whose(item: Item) -> list[str]:
    """Who is to do an action item, and by when."""
    return [name for name in (item.owner, item.due) if name] if isinstance(item, ActionItem) else []


def _by_id(result: Result[SummaryResult]) -> dict[int, Evidence]:
    return {item.id: item for item in result.evidence}
