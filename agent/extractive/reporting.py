"""Summaries, outlines and lists of decisions as answers: quotes with markers, in the order they were said."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from agent.citations.quotes import fold, quoted
from agent.extractive.intents import Span
from agent.extractive.situation import Result
from agent.extractive.wording import between, listed, lower_first, paragraphs, plain_name, run_marker
from index.records import ActionItem, Item, Summary
from index.text import similarity
from moss_audio.timestamps import clock
from tools.result import Evidence, Outline, SummaryResult

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
    part = _part(span, recording.duration)
    head = f"Summary of {quoted(recording.title)} ({clock(recording.duration)}){part}:"
    sections = [head, "" if span else plain_line(summary.overview)]
    for name, heading in HEADINGS.items():
        rows = item_rows(inside(items_of(summary, name), span), result)
        if rows:
            sections.append(listed(heading, rows))
    topics = [
        _topic_row(topic.title, topic.start, topic.end, topic.segments)
        for topic in inside(summary.topics, span)
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
        for topic in inside(outline.topics, span)
    ]


def _topic_row(title: str, start: float, end: float, numbers: Sequence[int]) -> str:
    """``- 0:12 to 1:11: ferry, crew, operator [#4-#21]``."""
    marker = f" {run_marker(numbers)}" if numbers else ""
    return f"- {clock(start)} to {clock(end)}: {plain_line(title)}{marker}"


def plain_line(text: str) -> str:
    """Text on one line that can neither quote nor cite."""
    return plain_name(text) if text.strip() else ""


NAMES = {
    "decisions": ("decision", "decisions"),
    "action_items": ("action item", "action items"),
    "open_questions": ("open question", "open questions"),
    "key_quotes": ("key quote", "key quotes"),
}
"""What one and several items of a section are called."""


def item_rows(items: Sequence[Item], result: Result[SummaryResult]) -> list[str]:
    """One row an item: who, by when, its words and their citation."""
    known = {item.id: item for item in result.evidence}
    return [row for item in items if (row := _item_row(item, known))]


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


def shared(wanted: Iterable[str], heard: Iterable[str]) -> int:
    """How many of the wanted words were heard; other endings and sound-alikes (“Calum”) count."""
    heard = list(heard)
    return sum(any(similarity(word, other) > 0 for other in heard) for word in wanted)


def inside(items: Sequence[T], span: Span | None) -> list[T]:
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
    runs = _runs(numbers)
    if len(runs) == 1:
        return f"{head}{quoted(item.text)} {run_marker(numbers)}"
    # A request and its answer with something in between: no quote may span what was not quoted.
    said = [f"{quoted(' '.join(known[at].text for at in run))} {run_marker(run)}" for run in runs]
    return head + " ".join(said)


def _runs(numbers: Sequence[int]) -> list[list[int]]:
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
