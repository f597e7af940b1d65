"""Interviews: each question with the key sentences of the reply."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from index.records import Segment
from index.summary.model import Topic
from index.summary.sentences import key_sentences

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
        In order; nothing where voices were not told apart.
    """
    asked = _questions(segments)
    found: list[Topic] = []
    for number, at in enumerate(asked):
        until = asked[number + 1] if number + 1 < len(asked) else len(segments)
        reply = [one for one in range(at + 1, until) if segments[one].speaker != segments[at].speaker]
        if reply:
            found.append(_topic(segments, embeddings, at, reply))
    longest = sorted(range(len(found)), key=lambda one: found[one].start - found[one].end)[:count]
    return [found[one] for one in sorted(longest)]


def _questions(segments: Sequence[Segment]) -> list[int]:
    """Positions of the interviewers' questions: of each turn the last one."""
    askers = _askers(segments)
    out: list[int] = []
    for at, one in enumerate(segments):
        if one.speaker not in askers or not _is_question(one):
            continue
        same_turn = out and all(other.speaker == one.speaker for other in segments[out[-1] : at])
        if same_turn:
            out[-1] = at
        else:
            out.append(at)
    return out


def _askers(segments: Sequence[Segment]) -> set[str]:
    asked = Counter(one.speaker for one in segments if one.speaker and _is_question(one))
    most = max(asked.values(), default=0)
    return {speaker for speaker, count in asked.items() if speaker and count > most * ASKER_SHARE}


def _is_question(segment: Segment) -> bool:
    return segment.text.rstrip().endswith("?") and len(segment.text.split()) >= QUESTION_WORDS


def _topic(segments: Sequence[Segment], embeddings: np.ndarray, at: int, reply: Sequence[int]) -> Topic:
    said = [segments[one] for one in reply]
    chosen = key_sentences(said, embeddings[list(reply)], 2) or [0]
    question = segments[at]
    return Topic(
        title=question.text,
        start=question.start,
        end=max(one.end for one in said),
        points=tuple(said[one].text for one in chosen),
        segments=(question.id, *(one.id for one in said)),
        speaker=question.speaker,
    )
