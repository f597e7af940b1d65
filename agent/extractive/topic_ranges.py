"""``after the ferry discussion``: the topic whose own place bounds the stretch that is asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from index.vocabulary import CLEAR_MONTHS, STOP_WORDS, WEEKDAYS, word_set


@dataclass(frozen=True)
class TopicRange:
    """What comes before or after a topic; where the topic is, only a search can say.

    ``taken`` are the characters of the text that the expression takes up.
    """

    direction: Literal["before", "after"]
    topic: str
    phrase: str
    taken: tuple[tuple[int, int], ...]


_TOPIC = re.compile(
    r"(?<![\w-])(?P<side>before|after)\s+(?!and\b|or\b)(?:(?:that|this|those|these)\s+(?=\S+\s+\w))?"
    r"(?:(?:they|we|he|she|i|you)\s+)?(?:(?:talk(?:s|ed|ing)?|discuss(?:es|ed|ing)?|mention(?:s|ed|ing)?|"
    r"speak(?:s|ing)?|spoke|about|the|an?|our|their|his|her|its|your|my|all)\s+)*"
    r"(?P<topic>[^\W\d](?:(?!\s(?:what|who|when|where|why|how|which|did|does|do|tell|please|say)\b)"
    r"[^?!.,;:()]){,200})",
    re.IGNORECASE,
)
_PASSED = re.compile(r"(?:\s+(?:was|were|is|are|been|got|\w+ed|brought|came|up|over))+$", re.IGNORECASE)
_NOT_BEFORE = re.compile(
    r"\b(?:must|should|shall|will|needs?|needed|due|deadline|won't|can|going|have\s+to|has\s+to)\b"
    r"|\b(?:look\w*|days?|weeks?|months?|years?|named?|soon|for|(?:before|after)(?:-|\s+(?:and|or)))\s*$",
    re.IGNORECASE,
)
_NO_TOPICS = frozenset((*WEEKDAYS, *CLEAR_MONTHS)) | word_set(
    """that this it those them him me us you which what whom then both now how long too tomorrow today
    yesterday tonight noon midnight lunchtime christmas easter o'clock weekend week month year meeting
    recording call lecture interview session end start beginning middle"""
)
"""Pointers, dates, the recording itself and its edges; no words that a topic begins with."""
_UNITS = re.compile(r"\b(?:minutes?|seconds|hours?)\b", re.IGNORECASE)


def find_topic(text: str) -> TopicRange | None:
    """The first ``before/after <topic>``; pronouns, dates and duties (“must be done before …”) are none."""
    for match in _TOPIC.finditer(text):
        topic = _PASSED.sub("", match["topic"].rstrip())
        words = re.findall(r"[^\W_]+(?:['’][^\W_]+)*", topic.lower())
        if _NOT_BEFORE.search(text[: match.start()]):
            continue
        if words[0] in _NO_TOPICS or _UNITS.search(topic) or {*words} <= STOP_WORDS | _NO_TOPICS:
            continue
        side: Literal["before", "after"] = "before" if match["side"].lower() == "before" else "after"
        place = match.start(), match.start("topic") + len(match["topic"].rstrip())
        return TopicRange(side, topic, text[slice(*place)], (place,))
    return None
