"""The parts of a question that rules do not spell out: its time, its recording, the people it names.

What such a part takes is overwritten, letter by letter, with the capital that stands for it, in a text that
is otherwise lower case: “what did Anna say at minute 2” becomes ``what did NNNN say TTTTTTTTTTT``. Places in
both texts are the same.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from agent.extractive.situation import Focus
from agent.extractive.time_expressions import TimeRange, TopicRange, find_time
from index.text import similarity
from index.vocabulary import MONTHS, STOP_WORDS, WEEKDAYS, word_set

TIME, TOPIC, TITLE, NAME, OWNER = "TBRNP"
"""A stretch of time; what lies before or after a topic; the recording's title; who speaks (“did Anna say”);
whom something is for (“tasks for Anna”)."""

_SPEAKING = (
    r"sa(?:y|ys|id|ying)|th(?:ink|inks|ought)|mention\w*|talk\w*|sp(?:eak|eaks|oke)|ask\w*|answer\w*|"
    r"propos\w*|"
    r"suggest\w*|t(?:ell|ells|old)|want\w*|explain\w*|report\w*|repl\w+|object\w*|argu\w*|believ\w*|"
    r"fe(?:el|els|lt)|"
    r"recommend\w*|promis\w*|describ\w*|agree\w*|sounds?"
)
_BEFORE_NAME = re.compile(
    r"\b(?:(?:did|does|do|has|have|had|is|was|will|would|can|could|should|must|according to|by|from|what|"
    r"that|and|or|than)|"
    r"(?P<owner>for|of)) (?:the )?$",
    re.IGNORECASE,
)
_AFTER_NAME = re.compile(rf"(?:'s (?!$)|s' | (?:also |really )?(?:{_SPEAKING})\b)", re.IGNORECASE)
_UNKNOWN = re.compile(
    rf"\b(?:did|does|has|is|was|will|should|must|according to) "
    rf"(?P<a>[A-Z]\w+(?: (?:\d+|[A-Z]\w*))?)(?= \w|\W*$)|"
    rf"\b(?P<b>[A-Z]\w+)(?:'s\b| (?:{_SPEAKING})\b)|\b(?P<owner>(?:for|of|by) (?P<c>[A-Z]\w+(?: \d+)?))\W*$"
)
NOBODY = word_set(
    """we they you i everyone everybody people somebody someone anyone anybody one us team all it he she who
    what why when how where which the did that this there group meeting let here please a an"""
)
"""Words in the place of a name that name nobody."""
_NO_NAMES = NOBODY | STOP_WORDS | frozenset((*WEEKDAYS, *MONTHS))


@dataclass(frozen=True)
class Question:
    """A question and what its parts are.

    Attributes:
        text: On one line, with straight apostrophes.
        masked: The same in lower case, its parts as runs of capitals, other marks as spaces.
        time: The stretch, or the topic before or after which something was said.
        speaker: The voice whose words are asked for.
        person: Somebody who is named, whether there is such a voice or not.
    """

    text: str
    masked: str
    time: TimeRange | TopicRange | None = None
    speaker: str | None = None
    person: str = ""

    def without(self, *letters: str) -> str:
        """The text without the parts that have these letters."""
        kept = "".join(
            " " if mask in letters else letter for letter, mask in zip(self.text, self.masked, strict=True)
        )
        return " ".join(kept.split())


def read_question(text: str, target: Focus | None) -> Question:
    """A question with its parts found.

    Args:
        text: As it was typed.
        target: The recording that is meant, if known: its title, speakers and length.
    """
    text = " ".join(text.replace("’", "'").split())
    masked = _plain(text)
    if target:
        for found in re.finditer(rf"(?<!\w){re.escape(target.title)}(?!\w)", text, re.IGNORECASE):
            masked = _mask(masked, found.span(), TITLE)
    time = find_time(text, target.duration if target else None)
    for span in _taken(time, text):
        masked = _mask(masked, span, TIME if isinstance(time, TimeRange) else TOPIC)
    voices = list(_voices(text, masked, target.speakers if target else ()))
    for span, _, letter in voices:
        masked = _mask(masked, span, letter)
    speakers = {name for _, name, letter in voices if letter == NAME}
    named = [name for _, name, _ in voices]
    if not voices and (match := _unknown(text, masked)):
        span, letter = match
        masked, named = _mask(masked, span, letter), [text[span[0] : span[1]]]
    return Question(
        text, masked, time, min(speakers) if len(speakers) == 1 else None, named[0] if named else ""
    )


def _plain(text: str) -> str:
    lower = "".join(letter.lower() if len(letter.lower()) == 1 else letter for letter in text)
    return re.sub(r"(?<!\d)[.,:]|[.,:](?!\d)|[^\w'.,:-]", " ", lower)


def _mask(masked: str, span: tuple[int, int], letter: str) -> str:
    return masked[: span[0]] + letter * (span[1] - span[0]) + masked[span[1] :]


def _covered(masked: str, span: tuple[int, int]) -> bool:
    return any(letter in (TIME, TOPIC, TITLE, NAME, OWNER) for letter in masked[span[0] : span[1]])


def _taken(time: TimeRange | TopicRange | None, text: str) -> tuple[tuple[int, int], ...]:
    """Which characters of a question its time takes."""
    at = text.find(time.phrase) if time else -1
    return ((at, at + len(time.phrase)),) if time and at >= 0 else ()


def _voices(text: str, masked: str, speakers: tuple[str, ...]) -> Iterator[tuple[tuple[int, int], str, str]]:
    """Where voices are named as those who speak or are to do something: place, name and letter."""
    parts = Counter(part.casefold() for name in speakers for part in set(name.split()))
    taken: list[tuple[int, int]] = []
    for name in sorted(speakers, key=len, reverse=True):
        own = [part for part in name.split() if parts[part.casefold()] == 1] if " " in name else []
        for found in _named(text, name, own):
            span = found.span()
            before, after = _BEFORE_NAME.search(text[: span[0]]), _AFTER_NAME.match(text[span[1] :])
            overlaps = any(span[0] < end and start < span[1] for start, end in taken)
            if (before or after) and not overlaps and not _covered(masked, span):
                taken.append(span)
                yield span, name, OWNER if before and before["owner"] else NAME


def _named(text: str, name: str, own: list[str]) -> Iterator[re.Match[str]]:
    """Where a question names a voice: in full, by a word or an initial that is its alone, or by its sound."""
    yield from re.finditer(rf"(?<!\w){re.escape(name)}(?!\w)", text, re.IGNORECASE)
    for part in own or ([name] if " " not in name else []):
        if len(part.rstrip(".")) == 1:
            # A digit or an “I” alone could be anything; “E” is written large.
            if part.isalpha() and part != "I" and own:
                yield from re.finditer(rf"(?<![\w'-]){re.escape(part)}(?![\w'-])", text)
        elif part.casefold() not in _NO_NAMES and part.casefold() != "speaker":
            for found in re.finditer(r"[^\W\d_]+", text):
                same = found[0].casefold() == part.casefold()
                if same or (found[0][0].isupper() and similarity(found[0].casefold(), part.casefold()) > 0):
                    yield found


def _unknown(text: str, masked: str) -> tuple[tuple[int, int], str] | None:
    """Somebody named who is none of the voices: place and letter."""
    for found in _UNKNOWN.finditer(text):
        group = next(name for name in ("a", "b", "c") if found[name])
        start, end = found.span(group)
        if found[group].split()[0].casefold() not in _NO_NAMES and not _covered(masked, (start, end)):
            return (start, end), OWNER if found["owner"] else NAME
    return None
