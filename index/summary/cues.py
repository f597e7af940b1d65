"""Decisions and open questions, by the phrases people mark them with."""

from __future__ import annotations

import re
from collections.abc import Sequence

from index.records import Segment
from index.summary.clauses import Clause
from index.summary.model import Item
from index.terms import STOP_WORDS, stem, words

NEIGHBOUR_SECONDS = 10.0
"""Cue sentences of one speaker this close together speak of one matter."""

_DECIDED = re.compile(
    r"""\b(?:
      we(?:'ve|’ve|\s+have)?\s+(?:just\s+|all\s+|now\s+|finally\s+)?
        (?:decided|agreed|settled|chosen|voted|approved)\b
    | we\s+(?:decide|agree|approve)\s+(?:to|that|on)\b
    | (?:the|our|final|my)\s+decision\s+(?:is|was)\b
    | (?:it|that)(?:'s|’s|\s+is)\s+(?:decided|settled|agreed|approved)\b
    | let(?:'s|’s)\s+go\s+(?:with|for|ahead\s+with)\b
    | we(?:'re|’re|\s+are)\s+(?:going|going\s+to\s+go)\s+with\b
    | we(?:'ll|’ll|\s+will)\s+go\s+(?:with|ahead|for)\b
    | (?:motion|proposal)\s+(?:is\s+)?(?:carried|passed|approved|accepted)\b
    | (?:so|then)\s+it(?:'s|’s|\s+is)\s+a\s+deal\b
    )""",
    re.IGNORECASE | re.VERBOSE,
)
_NOT_DECIDED = re.compile(
    r"""\b(?:not|never|n't|n’t|nobody|if|unless|whether|until|before|once|when|had|would|could|should|might|almost|
    nearly|
    last\s+(?:year|month|week|time|summer|winter|spring|autumn)|years?\s+ago|months?\s+ago|back\s+then|previously|
    used\s+to|in\s+(?:19|20)\d\d)\b|n't\b|n’t\b""",
    re.IGNORECASE | re.VERBOSE,
)
_OPEN = re.compile(
    r"""\b(?:
      leav(?:e|ing)\s+(?:\w+\s+){0,6}?open\b | open\s+question
    | (?:stays?|remains?|is\s+still|still)\s+(?:an?\s+)?open\b
    | (?:still|yet)\s+(?:need|have|has)?\s*to\s+(?:decide|figure|find\s+out|clarify|work\s+out|agree|settle)
    | (?:we|someone|somebody)\s+(?:need|have|needs|has)\s+to\s+(?:decide|figure\s+out|clarify|settle)\b
    | (?:not|n't|n’t)\s+(?:yet\s+)?(?:decide|decided|settled|resolved)\b | undecided | unresolved
    | to\s+be\s+(?:decided|determined|confirmed) | (?:do\s+not|don't|don’t)\s+know\s+yet
    | not\s+clear\s+yet
    | (?:come|get)\s+back\s+to\s+(?:this|that|it)\s+(?:later|next|another|when|once|tomorrow)
    | let(?:'s|’s)\s+(?:park|table|postpone)\b | remains\s+to\s+be\s+seen
    | we(?:'ll|’ll|\s+will)\s+have\s+to\s+see
    | decide\s+(?:that|this|it|on\s+(?:that|this|it))\s+(?:later|next|another|tomorrow)
    )""",
    re.IGNORECASE | re.VERBOSE,
)

_POINTS_BACK = re.compile(r"\b(?:this|that|it)\b", re.IGNORECASE)


def decisions(clauses: Sequence[Clause], segments: Sequence[Segment]) -> list[Item]:
    """What was decided, in order; said again while summing up, it is listed once."""
    found: list[Item] = []
    for position, clause in enumerate(clauses):
        cue = _DECIDED.search(clause.text)
        if not cue or not _is_decision(clauses, position, cue):
            continue
        item = _rest_of_sentence(clauses, position)
        if not _said_before(item, found, recap=clause.recap):
            found.append(item)
    return found


def open_questions(clauses: Sequence[Clause], segments: Sequence[Segment]) -> list[Item]:
    """What was left open, in order; neighbouring sentences about one matter are one item."""
    found: list[Item] = []
    for position, clause in enumerate(clauses):
        if not _OPEN.search(clause.text):
            continue
        item = _rest_of_sentence(clauses, position)
        last = found[-1] if found else None
        near = last is not None and 0 <= item.start - last.end <= NEIGHBOUR_SECONDS
        if last and near and (last.speaker == item.speaker or _POINTS_BACK.search(item.text)):
            if item.segments[0] not in last.segments:
                found[-1] = join([last, item])
            continue
        if not _said_before(item, found, recap=clause.recap):
            found.append(item)
    return found


def join(items: Sequence[Item]) -> Item:
    """Several items as one, in order; the text is what was said, one after the other."""
    return Item(
        text=" ".join(one.text for one in items),
        start=min(one.start for one in items),
        end=max(one.end for one in items),
        segments=tuple(dict.fromkeys(number for one in items for number in one.segments)),
        speaker=items[-1].speaker,
    )


def stems(text: str) -> set[str]:
    """Stems of the words that carry the subject."""
    return {stem(word) for word in words(text) if word not in STOP_WORDS}


def _is_decision(clauses: Sequence[Clause], position: int, cue: re.Match[str]) -> bool:
    text = clauses[position].text
    # Only what stands before or in the cue can take it back: "we agreed not to" is a decision.
    before = text[: cue.end()]
    sentence = clauses[position].segment.text
    if text.rstrip().endswith("?") or (
        sentence.rstrip().endswith("?") and text in sentence[-len(text) - 2 :]
    ):
        return False
    if _NOT_DECIDED.search(before):
        return False
    past = re.search(
        r"\b(?:last (?:year|month|time|summer|winter)|years? ago|back then)\b", text, re.IGNORECASE
    )
    return past is None


def _rest_of_sentence(clauses: Sequence[Clause], position: int) -> Item:
    """The cue's clause and those after it in the same sentence; cues often stand alone ("we've decided:")."""
    first = clauses[position]
    last = position
    while (
        not clauses[last].text.rstrip().endswith((".", "?", "!"))
        and last + 1 < len(clauses)
        and clauses[last + 1].index == first.index
    ):
        last += 1
    begin = first.segment.text.find(first.text)
    end = first.segment.text.find(clauses[last].text, begin) + len(clauses[last].text)
    text = first.segment.text[begin:end]
    numbers: tuple[int, ...] = (first.segment.id,)
    item = Item(text, first.start, clauses[last].end, numbers, first.speaker)
    following = clauses[last + 1] if last + 1 < len(clauses) else None
    if following and following.speaker == first.speaker and _goes_on(text, following):
        more = Item(following.text, following.start, following.end, (following.segment.id,), first.speaker)
        return join([item, more])
    return item


def _goes_on(text: str, following: Clause) -> bool:
    """Whether the next clause belongs to the item.

    "We've decided." alone says nothing, what follows says what; and a recogniser may have put a full stop
    before "and we …".
    """
    if following.recap:
        return False
    return (
        len(words(text)) <= 4
        or re.match(r"and (?:we|to|that|it)\b", following.text, re.IGNORECASE) is not None
    )


def _said_before(item: Item, found: Sequence[Item], recap: bool) -> bool:
    mine = stems(item.text)
    for one in found:
        shared = mine & stems(one.text)
        if recap and shared:
            return True
        if len(shared) >= 0.7 * max(1, min(len(mine), len(stems(one.text)))) and len(shared) >= 2:
            return True
    return False
