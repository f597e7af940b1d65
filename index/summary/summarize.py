"""The summary of a recording, extracted and never invented: every line is a stretch of what was said."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from index.clock import clock
from index.records import Segment
from index.summary.actions import action_items
from index.summary.clauses import clauses
from index.summary.decisions import decisions
from index.summary.model import TEMPLATES, Item, Summary, Topic
from index.summary.names import infer_names
from index.summary.questions import open_questions
from index.summary.sentences import key_sentences
from index.summary.topics import topics

KEY_QUOTES = 5
MOST_LISTED = 25
"""Items of one kind that are listed at most; more is no summary."""

_UPDATE = re.compile(
    r"\b(?:yesterday|today|tomorrow|blocked|blocker|stuck|waiting (?:for|on)|finished|done|working on|next|"
    r"plan to|going to|i(?:'ll|’ll| will)|merged|fixed|shipped|started|completed)\b",
    re.IGNORECASE,
)


def summarize(segments: Sequence[Segment], embeddings: np.ndarray, template: str = "meeting") -> Summary:
    """Summarise a recording.

    Args:
        segments: In time order.
        embeddings: float32 ``[n_segments, dimensions]``, unit length, of the same segments.
        template: One of ``TEMPLATES``. For an interview the topics are the questions with the reply's key
            sentences; for a stand-up they are the speakers with their updates.

    Raises:
        ValueError: There is no such template.
    """
    if template not in TEMPLATES:
        raise ValueError(f"There is no template “{template}”; there are: {', '.join(TEMPLATES)}.")
    speech = [at for at, one in enumerate(segments) if one.kind == "speech" and one.text.strip()]
    spoken = [segments[at] for at in speech]
    vectors = embeddings[speech] if len(speech) else np.zeros((0, 1), dtype=np.float32)
    names = infer_names(spoken)
    units = clauses(spoken)
    divided = _topics(spoken, vectors, template)
    found = Summary(
        template=template,
        overview="",
        topics=tuple(divided[:MOST_LISTED]),
        decisions=tuple(decisions(units)[:MOST_LISTED]),
        action_items=tuple(action_items(units, spoken, names)[:MOST_LISTED]),
        open_questions=tuple(open_questions(units)[:MOST_LISTED]),
        key_quotes=tuple(_quotes(spoken, vectors)),
    )
    return replace(found, overview=_overview(found, spoken))


def _topics(segments: Sequence[Segment], embeddings: np.ndarray, template: str) -> list[Topic]:
    if template == "interview":
        return _exchanges(segments, embeddings) or topics(segments, embeddings)
    if template == "standup":
        return _updates(segments) or topics(segments, embeddings)
    return topics(segments, embeddings)


def _exchanges(segments: Sequence[Segment], embeddings: np.ndarray) -> list[Topic]:
    """Each question of five words or more with the key sentences of the reply by another voice."""
    out: list[Topic] = []
    for at, question in enumerate(segments):
        if not question.text.rstrip().endswith("?") or len(question.text.split()) < 5:
            continue
        first = last = at + 1
        while last < len(segments) and segments[last].speaker != question.speaker:
            last += 1
        if first == last:
            continue
        reply = segments[first:last]
        chosen = key_sentences(reply, embeddings[first:last], 2) or [0]
        out.append(
            Topic(
                title=question.text,
                start=question.start,
                end=max(one.end for one in reply),
                points=tuple(reply[one].text for one in chosen),
                segments=(question.id, *(one.id for one in reply)),
            )
        )
    return out


def _updates(segments: Sequence[Segment]) -> list[Topic]:
    """Each voice with what it said about work done, to come, and blocked."""
    said: dict[str, list[Segment]] = {}
    for one in segments:
        if one.speaker and _UPDATE.search(one.text):
            said.setdefault(one.speaker, []).append(one)
    return [
        Topic(
            title=speaker,
            start=lines[0].start,
            end=max(one.end for one in lines),
            points=tuple(one.text for one in lines[:5]),
            segments=tuple(one.id for one in lines),
        )
        for speaker, lines in said.items()
    ]


def _quotes(segments: Sequence[Segment], embeddings: np.ndarray) -> list[Item]:
    chosen = [segments[at] for at in key_sentences(segments, embeddings, KEY_QUOTES)]
    return [Item(one.text, one.start, one.end, (one.id,), one.speaker) for one in chosen]


def _overview(found: Summary, segments: Sequence[Segment]) -> str:
    """Counted, not written: how long, how many voices, what was found."""
    if not segments:
        return "Nothing was said in this recording."
    voices = len({one.speaker for one in segments if one.speaker})
    counts = [
        _count(
            len(found.topics), {"interview": "question", "standup": "update"}.get(found.template, "topic")
        ),
        _count(len(found.decisions), "decision"),
        _count(len(found.action_items), "action item"),
        _count(len(found.open_questions), "open question"),
    ]
    by = f" by {_count(voices, 'speaker')} (estimated)" if voices else ""
    length = clock(max(one.end for one in segments))
    return f"{length} of talk{by}: {', '.join(counts[:-1])} and {counts[-1]}."


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"
