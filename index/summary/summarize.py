"""The summary of a recording, extracted, never invented: every line is a stretch of what was said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from index.records import Segment
from index.summary.actions import action_items
from index.summary.clauses import Clause, clauses
from index.summary.decisions import decisions, is_explicit
from index.summary.items import ActionItem, Item, Summary, Topic
from index.summary.open_questions import open_questions, questions_asked
from index.summary.speaker_names import infer_names
from index.summary.template_parts import exchanges, updates
from index.summary.topics import announces, key_sentences, topics
from index.templates import TEMPLATES
from moss_audio.timestamps import clock

KEY_QUOTES = 5
MOST_LISTED = 25
"""Items of one kind that are listed at most; more is no summary. The surest are kept."""

T = TypeVar("T", bound=Item)


def summarize(segments: Sequence[Segment], embeddings: np.ndarray, template: str = "meeting") -> Summary:
    """Summarise a recording.

    Args:
        segments: In time order.
        embeddings: float32 ``[n_segments, dimensions]``, unit length, of the same segments.
        template: One of ``TEMPLATES``. For an interview the topics are the questions with the reply's key
            sentences; for a stand-up they are the speakers with their updates; for a lecture
            ``open_questions`` also holds what the audience asked, and only explicit decisions count.

    Raises:
        ValueError: There is no such template.
    """
    if template not in TEMPLATES:
        raise ValueError(f"There is no template “{template}”; there are: {', '.join(TEMPLATES)}.")
    speech = [at for at, segment in enumerate(segments) if segment.kind == "speech" and segment.text.strip()]
    spoken = [segments[at] for at in speech]
    vectors = embeddings[speech] if len(speech) else np.zeros((0, 1), dtype=np.float32)
    names = infer_names(spoken)
    units = clauses(spoken)
    decided = [item for item in decisions(units) if template != "lecture" or is_explicit(item.text)]
    actions = action_items(units, spoken, names)
    questions = _questions(units, spoken, template)
    found = Summary(
        template=template,
        overview="",
        topics=tuple(_topics(spoken, vectors, units, names, template)),
        decisions=tuple(_surest(decided, lambda item: is_explicit(item.text))),
        action_items=tuple(_surest(actions, _sureness)),
        open_questions=tuple(_surest(questions, lambda _: 0)),
        key_quotes=tuple(_quotes(spoken, vectors, [*decided, *actions, *questions])),
    )
    totals = (len(decided), len(actions), len(questions))
    return replace(found, overview=_overview(found, spoken, totals))


def _topics(
    segments: Sequence[Segment],
    embeddings: np.ndarray,
    units: Sequence[Clause],
    names: Mapping[str, str],
    template: str,
) -> list[Topic]:
    if template == "interview":
        return exchanges(segments, embeddings, MOST_LISTED) or topics(segments, embeddings)
    if template == "standup":
        return updates(units, names)[:MOST_LISTED] or topics(segments, embeddings)
    return topics(segments, embeddings)


def _questions(units: Sequence[Clause], segments: Sequence[Segment], template: str) -> list[Item]:
    left_open = open_questions(units)
    if template != "lecture":
        return left_open
    talked: Counter[str] = Counter()
    for segment in segments:
        talked[segment.speaker or ""] += len(segment.text.split())
    lecturer = talked.most_common(1)[0][0] if talked else None
    known = {number for item in left_open for number in item.segments}
    asked = [item for item in questions_asked(segments, but_by=lecturer) if not known & set(item.segments)]
    return sorted([*left_open, *asked], key=lambda item: item.start)


def _sureness(item: ActionItem) -> float:
    return bool(item.due) + bool(item.owner) + 0.5 * (len(item.segments) > 1)


def _surest(items: Sequence[T], sureness: Callable[[T], float]) -> list[T]:
    """The ``MOST_LISTED`` surest items, in the order they were said."""
    order = sorted(range(len(items)), key=lambda at: -sureness(items[at]))[:MOST_LISTED]
    return [items[at] for at in sorted(order)]


def _quotes(segments: Sequence[Segment], embeddings: np.ndarray, listed: Sequence[Item]) -> list[Item]:
    """Key statements that are not listed as something else already."""
    taken = {number for item in listed for number in item.segments}
    able = [
        at
        for at, segment in enumerate(segments)
        if segment.id not in taken and not segment.text.rstrip().endswith("?") and not announces(segment.text)
    ]
    chosen = key_sentences([segments[at] for at in able], embeddings[able], KEY_QUOTES)
    return [Item.whole(segments[able[at]]) for at in chosen]


def _overview(found: Summary, segments: Sequence[Segment], totals: tuple[int, int, int]) -> str:
    """Counted, not written: how long, how many voices, what was found."""
    if not segments:
        return "No speech was found in this recording."
    voices = len({segment.speaker for segment in segments if segment.speaker})
    parts = {"interview": "question", "standup": "update"}.get(found.template, "topic")
    questions = "question" if found.template == "lecture" else "open question"
    counts = [
        _count(len(found.topics), len(found.topics), parts),
        _count(len(found.decisions), totals[0], "decision"),
        _count(len(found.action_items), totals[1], "action item"),
        _count(len(found.open_questions), totals[2], questions),
    ]
    by = f" by {_count(voices, voices, 'speaker')} (estimated)" if voices else ""
    length = clock(max(segment.end for segment in segments))
    return f"{length} of talk{by}: {', '.join(counts[:-1])} and {counts[-1]}."


def _count(listed: int, found: int, noun: str) -> str:
    if listed < found:
        return f"{listed} of {found} {noun}s"
    return f"{found or 'no'} {noun}{'' if found == 1 else 's'}"
