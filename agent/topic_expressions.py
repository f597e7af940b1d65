"""``before/after <topic>``: a stretch that the topic's own place in the recording bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from agent.time_words import FUNCTION_WORDS, Tokens, word_set


@dataclass(frozen=True)
class TopicRange:
    """What comes before or after a topic; where the topic is, only a search can say."""

    direction: Literal["before", "after"]
    topic: str
    phrase: str


LONGEST_TOPIC = 20
"""Words of a topic that are read; questions are shorter."""

_DETERMINERS = word_set("the a an our their his her its your my all")
_POINTERS = word_set(
    "that this it those these them him me us you which what whom then all both now how long too"
)
_SUBJECTS = word_set("they we he she i you")
_TALKING = word_set(
    """talk talked talking discuss discussed discussing mention mentioned mentioning speak spoke speaking
    talks discusses mentions about"""
)
_PASSED = word_set(
    "was were is are been got discussed mentioned raised brought came come up over finished ended"
)
_DATES = word_set(
    """monday tuesday wednesday thursday friday saturday sunday tomorrow today yesterday tonight noon midnight
    lunchtime january february march april june july august september october november december christmas
    easter o'clock weekend week month year meeting recording call lecture interview session"""
)
_DUTIES = word_set("must should shall will need needs needed due deadline ought wo won't can going")
_BLOCKED_LEADS = word_set(
    "look looks looked looking day days week weeks month months year years name named soon for"
)
_EDGES = word_set("end start beginning middle")
_TIME_UNITS = word_set("minute minutes seconds hour hours")
_STOPS = frozenset("?!.,;:()")
_ENDERS = word_set("what who when where why how which did does do tell please say")


def find_topic(tokens: Tokens) -> TopicRange | None:
    """The first ``before/after <topic>``; pronouns, dates and duties (“must be done before …”) are none."""
    for index, token in enumerate(tokens):
        if _is_duty(tokens, index):
            return None
        if token.text in ("before", "after") and not _is_blocked(tokens, index):
            found = _read_topic(tokens, index)
            if found is not None:
                return found
    return None


def _is_duty(tokens: Tokens, index: int) -> bool:
    word = tokens.word(index)
    return word in _DUTIES or (word in ("have", "has") and tokens.word(index + 1) == "to")


def _is_blocked(tokens: Tokens, index: int) -> bool:
    """“Look after …”, “the day after …”, “before and after”."""
    beyond, before = tokens.words(index - 2, 2)
    joined = before in ("-", "and", "or", "one") and beyond in ("before", "after")
    return joined or before in _BLOCKED_LEADS


def _read_topic(tokens: Tokens, index: int) -> TopicRange | None:
    first, behind = index + 1, index + 1
    while behind < min(len(tokens), index + LONGEST_TOPIC) and tokens.word(behind) not in _STOPS:
        if behind > first and tokens.word(behind) in _ENDERS and tokens.word(behind - 1) not in _SUBJECTS:
            break
        behind += 1
    phrase_end = behind
    first = _skip_lead(tokens, first, behind)
    while behind - 1 > first and tokens.word(behind - 1) in _PASSED:
        behind -= 1
    words = [tokens.word(place) for place in range(first, behind)]
    if not words or not _is_topic(words, tokens[first].kind):
        return None
    direction: Literal["before", "after"] = "before" if tokens.word(index) == "before" else "after"
    return TopicRange(direction, tokens.phrase(first, behind), tokens.phrase(index, phrase_end))


def _skip_lead(tokens: Tokens, first: int, behind: int) -> int:
    """Over “the”, “they talked about the”, “discussing”, “that” before a longer phrase."""
    place = first
    if tokens.word(place) in ("that", "this", "those", "these") and behind - place >= 3:
        place += 1
    if tokens.word(place) in _SUBJECTS:
        place += 1
    while place < behind and (tokens.word(place) in _TALKING or tokens.word(place) in _DETERMINERS):
        place += 1
    return place


def _is_topic(words: list[str], first_kind: str) -> bool:
    if words[0] in _EDGES or not _TIME_UNITS.isdisjoint(words):
        return False
    if first_kind != "word" or words[0] in _POINTERS or words[0] in _DATES:
        return False
    return any(len(word) > 1 and word not in FUNCTION_WORDS and word not in _DATES for word in words)
