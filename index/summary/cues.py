"""What decisions and open questions have in common: from a clause with a cue to an item."""

from __future__ import annotations

import re
from collections.abc import Sequence

from index.summary.clauses import Clause
from index.summary.model import Item
from index.terms import STOP_WORDS, stem, words

GOES_ON_SECONDS = 4.0
"""The next sentence of the same voice continues an item when it begins within this time."""


def rest_of_sentence(clauses: Sequence[Clause], position: int) -> Item:
    """The cue's clause and those after it in the same sentence; cues often stand alone ("we've decided:")."""
    first = clauses[position]
    last = position
    while (
        not clauses[last].text.rstrip().endswith((".", "?", "!"))
        and last + 1 < len(clauses)
        and clauses[last + 1].index == first.index
    ):
        last += 1
    text = first.segment.text[first.first : clauses[last].first + len(clauses[last].text)]
    item = Item(text, first.start, clauses[last].end, (first.segment.id,), first.speaker)
    following = clauses[last + 1] if last + 1 < len(clauses) else None
    if following and following.speaker == first.speaker and _goes_on(item, following):
        more = Item(following.text, following.start, following.end, (following.segment.id,), first.speaker)
        return join([item, more])
    return item


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


def said_before(item: Item, found: Sequence[Item], recap: bool) -> bool:
    """Whether an item repeats one that is listed; while summing up one common word is enough."""
    mine = stems(item.text)
    for one in found:
        shared = mine & stems(one.text)
        if recap and shared:
            return True
        if len(shared) >= 0.7 * max(1, min(len(mine), len(stems(one.text)))) and len(shared) >= 2:
            return True
    return False


def _goes_on(item: Item, following: Clause) -> bool:
    """Whether the next clause belongs to the item.

    "We've decided." alone says nothing, what follows says what; and a recogniser may have put a full stop
    before "and we …".
    """
    if following.recap or following.start - item.end > GOES_ON_SECONDS:
        return False
    return (
        len(words(item.text)) <= 4
        or re.match(r"and (?:we|to|that|it)\b", following.text, re.IGNORECASE) is not None
    )
