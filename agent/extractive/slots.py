"""The parts of a question that rules do not spell out: its time, its recording, the people it names.

What such a part takes is overwritten, letter by letter, with the capital that stands for it, in a text that
is otherwise lower case: “what did Anna say at minute 2” becomes ``what did NNNN say TTTTTTTTTTT``. Places in
both texts are the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from agent.extractive.situation import Focus
from agent.extractive.time_expressions import TimeRange, TopicRange, find_time
from index.speaker_names import NO_NAMES, find_voices
from index.vocabulary import word_set

TIME, TOPIC, TITLE, NAME, OWNER = "TBRNP"
"""A stretch of time; what lies before or after a topic; the recording's title; who speaks (“did Anna say”);
whom something is for (“tasks for Anna”)."""

_SPEAKING = (
    r"say\w*|said|th(?:ink|inks|ought)|mention\w*|talk\w*|sp(?:eak|eaks|oke)|ask\w*|answer\w*|propos\w*|"
    r"suggest\w*|t(?:ell|ells|old)|want\w*|explain\w*|report\w*|repl\w+|object\w*|argu\w*|believ\w*|"
    r"fe(?:el|els|lt)|recommend\w*|promis\w*|describ\w*|agree\w*|sounds?"
)
_BEFORE_SPEAKER = re.compile(
    r"\b(?:did|does|do|has|have|had|is|was|were|are|will|would|can|could|should|must|according to|what|that|"
    r"and|or|than|(?:words|quotes?|comments?) (?:by|from|of)) (?:the )?$",
    re.IGNORECASE,
)
_AFTER_SPEAKER = re.compile(
    rf" (?:also |really )?(?:{_SPEAKING})\b|'s? (?:own )?(?:words?|quotes?|opinions?|views?|ideas?|answers?|"
    r"comments?|points?|concerns?|suggestions?|positions?|thoughts?|attitudes?|conclusions?|arguments?)\b",
    re.IGNORECASE,
)
_BEFORE_OWNER, _AFTER_OWNER = re.compile(r"\b(?:for|of|by) (?:the )?$", re.IGNORECASE), re.compile("'s? ")
_UNKNOWN = re.compile(
    r"\b(?:did|does|has|is|was|will|should|according to) (?:the )?"
    r"(?P<a>[A-Z][\w-]+(?: (?:\d+|[A-Z][\w-]*))*)(?= \w|\W*$)"
    rf"|\b(?P<b>[A-Z][\w-]+)(?: (?:{_SPEAKING})|'s (?:tasks?|to-?do\w*|actions?|assignments?))\b"
    r"|\b(?P<owner>(?:for|of|by) (?P<c>[A-Z]\w+(?: \d+)?))\W*$"
)
NOBODY = NO_NAMES | word_set("people team group meeting please")
"""Words in the place of a name that name nobody."""


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
        pairs = zip(self.text, self.masked, strict=True)
        return " ".join("".join(" " if mask in letters else letter for letter, mask in pairs).split())


def read_question(text: str, target: Focus | None) -> Question:
    """A question with its parts found.

    Args:
        text: As it was typed.
        target: The recording that is meant, if known: its title, speakers and length.
    """
    text = " ".join(text.replace("’", "'").split())
    lower = "".join(letter.lower() if len(letter.lower()) == 1 else letter for letter in text)
    masked = re.sub(r"(?<!\d)[.,:]|[.,:](?!\d)|[^\w'.,:-]", " ", lower)
    if target:
        for found in re.finditer(rf"(?<!\w){re.escape(target.title)}(?!\w)", text, re.IGNORECASE):
            masked = _mask(masked, *found.span(), TITLE)
    time = find_time(text, target.duration if target else None)
    for span in time.taken if time else ():
        masked = _mask(masked, *span, TIME if isinstance(time, TimeRange) else TOPIC)
    people: list[str] = []
    speakers: set[str] = set()
    for start, end, name, letter in _people(text, target.speakers if target else ()):
        if set(masked[start:end]) & {TIME, TOPIC, TITLE, NAME, OWNER}:
            continue
        masked = _mask(masked, start, end, letter)
        people.append(name or text[start:end])
        speakers |= {name} if name and letter == NAME else set()
    speaker = min(speakers) if len(speakers) == 1 else None
    return Question(text, masked, time, speaker, people[0] if people else "")


def _mask(masked: str, start: int, end: int, letter: str) -> str:
    return masked[:start] + letter * (end - start) + masked[end:]


def _people(text: str, voices: tuple[str, ...]) -> Iterator[tuple[int, int, str, str]]:
    """Who speaks or is to do something in a question: place, voice and letter; no voice for a stranger."""
    known, last = False, -2
    for start, end, voice in find_voices(text, voices):
        after = text[end:]
        speaks = _AFTER_SPEAKER.match(after) or (
            _BEFORE_SPEAKER.search(text[:start]) and not _AFTER_OWNER.match(after)
        )
        named = text[start].isupper() or end - start == len(voice)
        owns = named and (_BEFORE_OWNER.search(text[:start]) or _AFTER_OWNER.match(after))
        # “The user interface designer”: what follows a name at once belongs to it.
        if (speaks or owns) and start != last + 1:
            known, last = True, end
            yield start, end, voice, NAME if speaks else OWNER
    for found in () if known else _UNKNOWN.finditer(text):
        group = next(name for name in ("a", "b", "c") if found[name])
        if found[group].split()[0].casefold() not in NOBODY:
            yield *found.span(group), "", OWNER if found["owner"] else NAME
            return
