"""Summaries, outlines and lists of decisions as answers: quotes with markers, in the order they were said."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agent.citations.quotes import fold, quoted
from agent.planning.intents import Intent, Span, content_words
from agent.planning.situation import Result, Situation
from agent.planning.wording import Evidence, between, listed, lower_first, paragraphs, plain_name
from index.text import similarity
from moss_audio.timestamps import clock

HEADINGS = {
    "decisions": "Decisions:",
    "action_items": "Action items:",
    "open_questions": "Open questions:",
    "key_quotes": "Key quotes:",
}


def compose_summary(result: Result, span: Span | None = None) -> str:
    """A whole summary, or the part of it that overlaps a stretch."""
    summary = result.content["summary"]
    recording = result.content["recording"]
    known = _by_id(result)
    part = _part(span, recording["duration"])
    head = f"Summary of {quoted(recording['title'])} ({clock(recording['duration'])}){part}:"
    sections = [head, "" if span else plain_line(str(summary.get("overview") or ""))]
    topics = [_topic_row(one, one.get("segments", ())) for one in _inside(summary.get("topics", ()), span)]
    if topics:
        sections.append(listed("Topics:", topics))
    for name, heading in HEADINGS.items():
        items = _inside(summary.get(name, ()), span)
        rows = [row for one in items if (row := _item_row(one, known, name))]
        if rows:
            sections.append(listed(heading, rows))
    if len([one for one in sections if one]) == 1:
        sections.append("Nothing stood out there.")
    return paragraphs([*sections, result.note])


def _part(span: Span | None, duration: float) -> str:
    return f", {lower_first(between(span.start, min(span.end, duration)))}" if span else ""


def compose_outline(result: Result) -> str:
    """The topics of a recording with their times."""
    recording = result.content["recording"]
    rows = topic_rows(result, None)
    if not rows:
        return paragraphs([f"No topics could be told apart in {quoted(recording['title'])}.", result.note])
    return paragraphs([listed(f"Topics of {quoted(recording['title'])}:", rows), result.note])


def topic_rows(outline: Result, span: Span | None) -> list[str]:
    """One row a topic that overlaps the stretch."""
    topics = _inside(outline.content.get("topics") or (), span)
    return [_topic_row(one, one.get("evidence", ())) for one in topics]


def _topic_row(topic: Mapping[str, Any], ids: Sequence[int]) -> str:
    """``- 0:12 to 1:11: ferry, crew, operator [#4-#21]``."""
    marker = f" [#{ids[0]}]" if len(ids) == 1 else f" [#{ids[0]}-#{ids[-1]}]" if ids else ""
    span = f"{clock(topic['start'])} to {clock(topic['end'])}"
    return f"- {span}: {plain_line(str(topic['title']))}{marker}"


def plain_line(text: str) -> str:
    """Text on one line that can neither quote nor cite."""
    return plain_name(text) if text.strip() else ""


def compose_items(intent: Intent, situation: Situation) -> str:
    """Decisions, action items or open questions, narrowed to a topic, a person or a stretch; "" for none."""
    name = intent.items or "decisions"
    summaries = [one for one in situation.results if one.tool == "summarize" and not one.error]
    found = [_inside(one.content["summary"].get(name, ()), intent.span) for one in summaries]
    if intent.person:
        known = [_by_id(one) for one in summaries]
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
        rows = [row for one in items if (row := _item_row(one, _by_id(result), name))]
        if rows:
            sections.append(listed(_heading(intent, len(rows), result, in_library), rows))
    return paragraphs(sections)


def _heading(intent: Intent, count: int, result: Result, in_library: bool) -> str:
    one, many = _NAMES[intent.items or "decisions"]
    where = f" in {quoted(result.content['recording']['title'])}" if in_library else ""
    for_whom = f" for {plain_name(intent.person)}" if intent.person else ""
    when = f", {lower_first(between(intent.span.start, intent.span.end))}" if intent.span else ""
    number = f"The {one}" if count == 1 else f"{count} {many}"
    return f"{number}{for_whom}{where}{when}:"


_NAMES = {
    "decisions": ("decision", "decisions"),
    "action_items": ("action item", "action items"),
    "open_questions": ("open question", "open questions"),
}


def concerns(item: Mapping[str, Any], person: str, known: Mapping[int, Evidence]) -> bool:
    """Whether an item is somebody's: they own it, are named in it, or (“I'll …”) say it."""
    name = fold(person).split()
    if not name:
        return False
    owner = fold(str(item.get("owner") or "")).split()
    if owner and owner != ["i"]:
        return shared(name, owner) == len(name)
    speakers = [str(known[one].get("speaker") or "") for one in item.get("segments", ()) if one in known]
    if any(fold(one).split() == name for one in speakers):
        return True
    return shared(name, re.findall(r"\w+", fold(str(item["text"])))) == len(name)


def narrowed(
    items: Sequence[Mapping[str, Any]], about: str, relevant: Mapping[int, float]
) -> list[Mapping[str, Any]]:
    """The items about a topic: those that a search for it found, else those that share its words."""
    scored = [
        (max((relevant.get(one, 0.0) for one in item.get("segments", ())), default=0.0), item)
        for item in items
    ]
    best = max((score for score, _ in scored), default=0.0)
    if best > 0:
        return [item for score, item in sorted(scored, key=lambda pair: -pair[0]) if score >= 0.8 * best]
    topic = content_words(about)
    return [item for item in items if shared(topic, content_words(str(item["text"])))]


def shared(wanted: Iterable[str], heard: Iterable[str]) -> int:
    """How many of the wanted words were heard; other endings and sound-alikes (“Calum”) count."""
    heard = list(heard)
    return sum(any(similarity(word, other) > 0 for other in heard) for word in wanted)


def _relevant(situation: Situation) -> dict[int, float]:
    found = situation.found("search_recordings")
    return {one["id"]: float(one["relevance"]) for one in found.evidence} if found else {}


def _inside(items: Sequence[Mapping[str, Any]], span: Span | None) -> list[Mapping[str, Any]]:
    return [one for one in items if span is None or (one["start"] < span.end and one["end"] > span.start)]


def _item_row(item: Mapping[str, Any], known: Mapping[int, Evidence], name: str) -> str:
    """``- Ben, by Friday: “…” [#20]``; nothing when the item rests on no segment."""
    ids = [one for one in item.get("segments", ()) if one in known]
    if not ids:
        return ""
    marker = f"[#{ids[0]}]" if len(ids) == 1 else f"[#{ids[0]}-#{ids[-1]}]"
    who = [str(item.get(key) or "") for key in ("owner", "due")] if name == "action_items" else []
    who = [plain_name(one) for one in who if one]
    speaker = known[ids[0]].get("speaker")
    if not who and speaker:
        who = [plain_name(speaker)]
    return (
        f"- {', '.join(who)}: {quoted(item['text'])} {marker}"
        if who
        else f"- {quoted(item['text'])} {marker}"
    )


def _by_id(result: Result) -> dict[int, Evidence]:
    return {one["id"]: one for one in result.evidence}
