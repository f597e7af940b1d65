"""Titles of topics, in words that were said: what an announcement names, else the most telling phrases."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from index.records import Segment
from index.terms import STOP_WORDS, stem, words

TITLE_WORDS = 6

_CUE = re.compile(
    r"""(?:^|[.?!,]\s+|^(?:\w+,?\s+){1,3})(?:
      (?:the\s+|our\s+|my\s+)?
        (?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|next|last|final|another|other)\s+
        (?:topic|point|item|thing|question|subject|part|chapter|section|agenda\s+item)\b
        (?:\s+(?:on\s+(?:the|our|my|today['’]s)\s+(?:list|agenda)(?:\s+(?:today\s+)?is)?|today\s+is|is|on|about))?
    | (?:let['’]s|let\s+us|i['’]d\s+like\s+to|we(?:['’]ll|\s+(?:will|can|should|could)))\s+(?:now\s+)?
        (?:(?:start|begin|move|continue|turn|switch|jump)(?:\s+on)?\s+(?:with|to|over\s+to|into|about)
        | go\s+(?:on\s+(?:with|to)|over\s+to|to|into) | talk\s+about)\b
    | moving\s+on(?:\s+to)?\b | (?:now\s+)?on\s+to\b | next\s+up(?:\s+is)?\b | turning\s+to\b | coming\s+to\b
    | what\s+about\b | how\s+about\b | any\s+other\s+business\b | one\s+more\s+thing(?:\s+about)?\b
    | (?:so\s+)?(?:today|now)\s+(?:we(?:['’]ll|\s+will|['’]re\s+going\s+to)?|i(?:['’]ll|\s+will)?)\s+
        (?:talk|look|cover|discuss)\s*(?:about|at)?
    | let\s+me\s+(?:now\s+)?(?:turn|move|come|start)\s+(?:to|on\s+to|with)\b
    | (?:let\s+me|to)\s+(?:sum\s+up|summari[sz]e)\b
    )""",
    re.IGNORECASE | re.VERBOSE,
)
# These announce something small as often as a topic, so they weigh half.
_WEAK = re.compile(
    r"what\s+about|how\s+about|one\s+more\s+thing|sum\s+up|summari[sz]e|on\s+to\b", re.IGNORECASE
)
_NO_TITLE_WORDS = """
absolutely actually afternoon agree agreed alright basically bit bye called cheers course definitely
everyone evening exactly fine folks goodbye goes good great guess guys hello hey hi honestly joining kind
let look lot lots maybe morning new nice obviously perfect pretty probably really right second sense sort
start started sure talk talking thank thanks think today tomorrow true way welcome word words work yeah
yep yesterday first next last also even already quite rather little big much many need needs want wants
know take takes taken makes made make come comes came year years month months week weeks day days time
times hour hours minute minutes monday tuesday wednesday thursday friday saturday sunday people person
one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty sixty seventy
eighty ninety hundred thousand million
"""
_PLAIN = STOP_WORDS | frozenset(_NO_TITLE_WORDS.split())
_BEFORE_NOUN = "the a an our my your his her their this that these those of for with no any some each every"
_BEFORE_VERB = (
    "we i you they he she it who to will can could would should must may might not did do does don ll"
)
_AFTER_VERB = "the a an it them us me him her this that your our my"
_NOUN_CUES = frozenset(_BEFORE_NOUN.split())
_VERB_CUES = frozenset(_BEFORE_VERB.split())
_OBJECTS = frozenset(_AFTER_VERB.split())


@dataclass(frozen=True)
class Announcement:
    """Words with which a sentence changes the subject."""

    text: str
    end: int
    """Where they end in the sentence."""
    weak: bool


def announces(text: str) -> Announcement | None:
    """How a sentence changes the subject, if it does."""
    match = _CUE.search(text)
    return Announcement(match[0], match.end(), _WEAK.search(match[0]) is not None) if match else None


def word_counts(segments: Sequence[Segment]) -> Counter[str]:
    """How often the stem of each word that may stand in a title was said."""
    found = [word for one in segments for word in words(one.text)]
    return Counter(stem(word) for word in found if _may_stand(word))


def title(segments: Sequence[Segment], own: Counter[str], spread: Counter[str], count: int) -> str:
    """A title for a topic.

    Args:
        segments: Of the topic.
        own: Its ``word_counts``.
        spread: In how many topics each stem occurs.
        count: Of topics.
    """
    found = _announced(segments) or _telling(segments, own, spread, count) or segments[0].text[:60]
    return found[:1].upper() + found[1:]


def _announced(segments: Sequence[Segment]) -> str | None:
    """What is named after an announcement: "second topic, the sound stage" → the sound stage."""
    for segment in segments[:3]:
        cue = announces(segment.text)
        if not cue:
            continue
        if re.search("sum|recap", cue.text, re.IGNORECASE):
            return cue.text.strip(" .,")
        rest = re.split(r"[.?!,;:]", segment.text[cue.end :].lstrip(" ,.:;–-"))[0]
        found = re.match(
            r"(?:(?:is|are|will\s+be|on|about)\s+)?(?:(?:the|our|your|my|a|an)\s+)?((?:[\w'’-]+\s*){1,6})",
            rest.strip(),
            re.IGNORECASE,
        )
        telling = [word for word in words(found[1]) if word not in _PLAIN] if found else []
        if found and telling and len(found[1].split()) <= TITLE_WORDS:
            return found[1].strip()
        if "business" in cue.text.casefold():
            return cue.text.strip(" .,")
    return None


def _telling(segments: Sequence[Segment], own: Counter[str], spread: Counter[str], count: int) -> str | None:
    """Two phrases that tell this topic from the others, as they were said, in the order they were said."""
    phrases = _phrases(segments)
    nouns = _noun_weights(segments)
    worth = {one: own[one] * float(np.log(1 + count / spread[one])) * nouns.get(one, 1.0) for one in own}

    def score(phrase: tuple[str, ...]) -> float:
        parts = [stem(word) for word in phrase]
        whole = sum(worth.get(one, 0.0) for one in parts) / len(parts) ** 0.6
        # A phrase should end in a noun: "boat leaves" is worth less than "last boat".
        return whole * min(1.0, nouns.get(parts[-1], 1.0))

    chosen: list[tuple[str, ...]] = []
    for phrase in sorted(phrases, key=lambda one: (-score(one), phrases[one][0])):
        used = {stem(word) for one in chosen for word in one}
        if not used & {stem(word) for word in phrase}:
            chosen.append(phrase)
        if len(chosen) == 2:
            break
    return ", ".join(phrases[one][1] for one in sorted(chosen, key=lambda one: phrases[one][0])) or None


def _may_stand(word: str) -> bool:
    return word not in _PLAIN and not word[0].isdigit() and len(word) > 2


def _phrases(segments: Sequence[Segment]) -> dict[tuple[str, ...], tuple[int, str]]:
    """Every run of up to three title words: where it was first said, and how."""
    out: dict[tuple[str, ...], tuple[int, str]] = {}
    place = 0
    for segment in segments:
        for part in re.split(r"[^\w\s'’-]+", segment.text):
            raw = part.split()
            plain = [(words(one) or [""])[0] for one in raw]
            for first in range(len(raw)):
                place += 1
                for last in range(first + 1, min(first + 3, len(raw)) + 1):
                    if not plain[last - 1] or not _may_stand(plain[last - 1]):
                        break
                    out.setdefault(tuple(plain[first:last]), (place, " ".join(raw[first:last])))
    return out


def _noun_weights(segments: Sequence[Segment]) -> dict[str, float]:
    """How far each stem is used as a noun (above 1) or a verb (below 1), from the words beside it."""
    noun: Counter[str] = Counter()
    verb: Counter[str] = Counter()
    for segment in segments:
        found = words(segment.text)
        for at, word in enumerate(found):
            if not _may_stand(word):
                continue
            before = found[at - 1] if at else ""
            after = found[at + 1] if at + 1 < len(found) else ""
            noun[stem(word)] += before in _NOUN_CUES or (bool(before) and _may_stand(before))
            verb[stem(word)] += (before in _VERB_CUES) + (after in _OBJECTS)
    return {one: float(np.clip((1 + noun[one]) / (1 + verb[one]), 0.4, 2.0)) for one in {*noun, *verb}}
