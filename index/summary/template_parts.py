"""What two templates list in the place of topics: an interview's exchanges, a stand-up's updates.

An exchange is a question with the key sentences of the reply; an update is what a voice has done, does next,
and is held up by.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from index.records import Segment
from index.summary.clauses import Clause
from index.summary.items import Topic
from index.summary.topics import key_sentences

QUESTION_WORDS = 5
"""Shorter questions ("How so?") only keep the talk going."""

ASKER_SHARE = 1 / 3
"""Who asks less than this share of what the busiest asker asks is answering, not interviewing."""


def exchanges(segments: Sequence[Segment], embeddings: np.ndarray, count: int) -> list[Topic]:
    """Questions with what the others said until the next one; of many, those with the longest replies.

    Args:
        segments: In time order.
        embeddings: float32 ``[n_segments, dimensions]`` of the same segments.
        count: How many to list at most.

    Returns:
        In order; nothing where the speakers are not labelled.
    """
    asked = _questions(segments)
    found: list[Topic] = []
    for number, at in enumerate(asked):
        until = asked[number + 1] if number + 1 < len(asked) else len(segments)
        reply = [other for other in range(at + 1, until) if segments[other].speaker != segments[at].speaker]
        if reply:
            found.append(_exchange_topic(segments, embeddings, at, reply))
    longest = sorted(range(len(found)), key=lambda number: found[number].start - found[number].end)[:count]
    return [found[number] for number in sorted(longest)]


def _questions(segments: Sequence[Segment]) -> list[int]:
    """Positions of the interviewers' questions: of each turn the last one."""
    askers = _askers(segments)
    out: list[int] = []
    for at, segment in enumerate(segments):
        if segment.speaker not in askers or not _is_question(segment):
            continue
        same_turn = out and all(other.speaker == segment.speaker for other in segments[out[-1] : at])
        if same_turn:
            out[-1] = at
        else:
            out.append(at)
    return out


def _askers(segments: Sequence[Segment]) -> set[str]:
    asked = Counter(segment.speaker for segment in segments if segment.speaker and _is_question(segment))
    most = max(asked.values(), default=0)
    return {speaker for speaker, count in asked.items() if speaker and count > most * ASKER_SHARE}


def _is_question(segment: Segment) -> bool:
    return segment.text.rstrip().endswith("?") and len(segment.text.split()) >= QUESTION_WORDS


def _exchange_topic(
    segments: Sequence[Segment], embeddings: np.ndarray, at: int, reply: Sequence[int]
) -> Topic:
    said = [segments[position] for position in reply]
    chosen = key_sentences(said, embeddings[list(reply)], 2) or [0]
    question = segments[at]
    return Topic(
        title=question.text,
        start=question.start,
        end=max(segment.end for segment in said),
        points=tuple(said[position].text for position in chosen),
        segments=(question.id, *(segment.id for segment in said)),
        speaker=question.speaker,
    )


Update = Literal["done", "next", "blocked"]

MOST_OF_A_KIND = 3
"""Lines of one kind that are listed for a voice."""

_BLOCKED = re.compile(
    r"\b(?:blocked|blockers?|blocking|stuck|held\s+up|waiting\s+(?:for|on)|can(?:no|['’])t\s+(?:\w+\s+){0,4}?until|"
    r"depends?\s+on|need\s+(?:help|access))\b",
    re.IGNORECASE,
)
_NOT_BLOCKED = re.compile(
    r"\b(?:no|not|nothing|without|un)\s*(?:\w+\s+){0,2}?(?:block\w*|stuck)\b", re.IGNORECASE
)
_NEXT = re.compile(
    r"\b(?:tomorrow|next|going\s+to|gonna|plan(?:ning)?\s+to|want\s+to|(?:i|we)(?:['’]ll|\s+will)|continue|later\s+today|"
    r"this\s+(?:afternoon|evening|week)|(?:i['’]m|i\s+am|we['’]re|we\s+are)\s+(?:still\s+)?working\s+on|aim\s+to)\b",
    re.IGNORECASE,
)
_DONE = re.compile(
    r"\b(?:yesterday|finished|completed|done|fixed|merged|shipped|released|deployed|worked\s+on|reviewed|wrote|closed|"
    r"started|added|updated|tested|implemented|(?:spent|had)\s+(?:the|most|a|all)|(?:i|we)(?:['’]ve|\s+have)\s+\w+(?:ed|en|t))\b",
    re.IGNORECASE,
)
_TODAY = re.compile(r"\btoday\b", re.IGNORECASE)


def update_kind(text: str) -> Update | None:
    """Whether a text tells of work done, work to come, or something in the way."""
    if _BLOCKED.search(text):
        return None if _NOT_BLOCKED.search(text) else "blocked"
    if _NEXT.search(text):
        return "next"
    if _DONE.search(text):
        return "done"
    return "next" if _TODAY.search(text) and re.search(r"\bi\b|\bwe\b", text, re.IGNORECASE) else None


def updates(clauses: Sequence[Clause], names: Mapping[str, str]) -> list[Topic]:
    """One topic for each voice, in order of first update; points are ordered done, next, blocked."""
    said: dict[str, list[tuple[Update, Clause]]] = {}
    for clause in clauses:
        kind = update_kind(clause.text)
        if clause.speaker and kind and not clause.text.rstrip().endswith("?"):
            said.setdefault(clause.speaker, []).append((kind, clause))
    return [_update_topic(names.get(speaker, speaker), lines) for speaker, lines in said.items()]


def _update_topic(speaker: str, lines: Sequence[tuple[Update, Clause]]) -> Topic:
    points: list[str] = []
    for wanted in ("done", "next", "blocked"):
        points += _points([clause for kind, clause in lines if kind == wanted])[:MOST_OF_A_KIND]
    return Topic(
        title=speaker,
        start=min(clause.start for _, clause in lines),
        end=max(clause.end for _, clause in lines),
        points=tuple(points),
        segments=tuple(dict.fromkeys(clause.segment.id for _, clause in lines)),
    )


def _points(clauses: Sequence[Clause]) -> list[str]:
    """The clauses' texts; neighbours in one sentence stay together."""
    out: list[str] = []
    previous: Clause | None = None
    begin = 0
    for clause in clauses:
        text = clause.segment.text
        joined = previous is not None and previous.index == clause.index
        gap = text[previous.first + len(previous.text) : clause.first] if joined and previous else ""
        if joined and not gap.strip(" ,"):
            out[-1] = text[begin : clause.first + len(clause.text)]
        else:
            begin = clause.first
            out.append(clause.text)
        previous = clause
    return out
