"""Stand-ups: what each voice has done, does next, and is held up by."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

from index.summary.clauses import Clause
from index.summary.model import Topic

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
    return [_topic(names.get(speaker, speaker), lines) for speaker, lines in said.items()]


def _topic(speaker: str, lines: Sequence[tuple[Update, Clause]]) -> Topic:
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
