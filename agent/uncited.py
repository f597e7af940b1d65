"""Sentences of a language model that say something about a recording and cite nothing: found, and marked.

What else a model writes is left alone: questions, headings, what leads to a list, denials, words to the user
about the conversation itself, and facts that a tool told and no segment can be cited for. All of it goes by
closed lists of words, so that a sentence which is not understood is marked rather than believed.
"""

from __future__ import annotations

import re

from agent.facts import NAME, Facts, words_of
from agent.markers import bullet
from agent.sentence_words import (
    ABOUT_OTHERS,
    ADDRESS,
    CLAUSE,
    DENIES,
    FUNCTION,
    LOOKED,
    PLAIN_ANSWER,
    SAYING,
    TALK,
    TOLD,
)
from agent.sentences import MARKER, QUOTE, mask, sentences

MARK = "[?]"
"""Stands where a citation would."""

LEGEND = f"{MARK} Nothing is cited for this, so it could not be checked against the recordings."
"""Stands once, below an answer with marks."""

_TAIL = " \t.,;:!?…。！？，；|*_"
_HEADING = re.compile(r"\*\*[^*]{1,100}\*\*:?|__[^_]{1,100}__:?")
_LONGEST_HEADING = 8
_LONGEST_LEAD = 12
"""Words of a heading, and of a line that ends with a colon."""


def unmarked(line: str) -> str:
    """A line without marks and without their legend: a model may have learnt them from its answers."""
    before = ""
    while line != before:
        first, *rest = line.split(MARK)
        before, line = (
            line,
            "".join([first.rstrip(" \t"), *(one.rstrip(" \t") for one in rest[:-1]), *rest[-1:]]),
        )
    return "" if line.strip() == LEGEND.removeprefix(MARK).strip() else line


def mark_uncited(line: str, facts: Facts, question: str = "") -> str:
    """The line with ``MARK`` in each sentence that claims something and cites nothing.

    Args:
        line: One line, checked: all markers are citations, all quotes stand in what the line cites.
        facts: What tools told.
        question: The user's question.
    """
    prefix = len(bullet(line))
    reader = _Reader(facts, set(words_of(question)))
    masked = mask(line)
    body = masked[prefix:]
    if _is_heading(line[prefix:], "#" in line[:prefix]) or not any(map(str.isalnum, line[prefix:])):
        return line
    pieces = [line[:prefix]]
    for begin, end in sentences(body):
        text = line[prefix + begin : prefix + end]
        quotes = QUOTE in body[begin:end]
        rests = MARKER in (body if quotes else body[end:])
        claimed = MARKER not in body[begin:end] and reader.claims(text, body[begin:end], rests)
        pieces.append(_with_mark(text) if claimed else text)
    return "".join(pieces)


def _is_heading(text: str, marked: bool) -> bool:
    short = len(words_of(text)) <= _LONGEST_HEADING
    bold = _HEADING.fullmatch(text.strip()) is not None
    return short and (marked or bold) and not text.rstrip(" *_:").endswith((".", "!"))


def _with_mark(text: str) -> str:
    at = len(text.rstrip(_TAIL))
    # Emphasis that ends here belongs to what it encloses.
    while at < len(text) and text[at] in "*_":
        at += 1
    return f"{text[:at]} {MARK}{text[at:]}"


class _Reader:
    """Tells claims from other sentences."""

    def __init__(self, facts: Facts, question: set[str]) -> None:
        self._facts = facts
        self._question = question

    def claims(self, text: str, masked: str, may_rest: bool) -> bool:
        """Whether a sentence without a marker claims something about a recording.

        Args:
            text: The sentence.
            masked: Its mask.
            may_rest: Whether its line has a citation to rest on: for a quote anywhere, else behind.
        """
        plain = masked.replace(QUOTE, " ")
        all_words = words_of(text)
        if not all_words or self._asks_or_leads(text, all_words) or self._denies(plain):
            return False
        words = words_of(self._facts.without_names(text))
        rests = may_rest and self._rests_on_a_neighbour(masked, plain)
        return not (rests or self._talks(text, words) or self._told(words))

    def _asks_or_leads(self, text: str, words: list[str]) -> bool:
        end = text.rstrip(" \t*_)”\"'")
        return end.endswith(("?", "？")) or (end.endswith((":", "：")) and len(words) <= _LONGEST_LEAD)

    def _denies(self, plain: str) -> bool:
        if not DENIES.search(plain):
            return False
        # “I looked, but nothing was said” denies, “he drank, but nothing was said” does not alone.
        return all(
            DENIES.search(clause) or set(words_of(clause)) <= (FUNCTION | TALK) - ABOUT_OTHERS
            for clause in CLAUSE.split(plain)
        )

    def _rests_on_a_neighbour(self, masked: str, plain: str) -> bool:
        """“Yes.” before what is cited, or a quote that stands in what its neighbour cites."""
        words = set(words_of(self._facts.without_names(plain))) - {NAME}
        return words <= (SAYING if QUOTE in masked else PLAIN_ANSWER)

    def _talks(self, text: str, words: list[str]) -> bool:
        """Words to the user: about the conversation, or about what follows."""
        said = set(words) - {NAME}
        if said & ABOUT_OTHERS or not said & ADDRESS:
            return False
        known: set[str] | frozenset[str] = FUNCTION | TALK
        if LOOKED.match(text) and "that" not in said:
            known = known | self._question | {one for one in said if one[0].isdigit()}
        return said <= known

    def _told(self, words: list[str]) -> bool:
        """What a tool told: fields of the record alone, or the words of one remark."""
        said = set(words)
        facts = self._facts
        rest = {one for one in said - {NAME} if one not in facts.numbers and one not in facts.words}
        named = NAME in said or bool(said & facts.numbers) or bool(said & facts.words)
        if named and rest <= TOLD:
            return True
        return facts.echoes({one for one in said - {NAME} if one not in FUNCTION})
