"""What the wording of a sentence tells: whether it says the thing itself that a question asks for.

An agenda and a sum-up have words of every subject and say little about any: their parts are about different
stretches of the talk, all away from them. “Next, the vases” has no word of its own. Neither is known by a
list of phrases, so it is known in any talk.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from index.folding import NUMBER
from index.text import content_words, search_terms
from index.vocabulary import CLEAR_MONTHS, LARGE_NUMBERS, STOP_WORDS, WEEKDAYS, number_words, one_of

LISTS, ECHOES, CARRIES = 3.0, 1.0, 4.0
"""What it costs a quote to list subjects, or to say nothing that the question does not; what it counts to
have an amount or a time that is asked for; larger ones did harm elsewhere (benchmarks/README.md)."""

AT_AN_END = 0.1
"""Share of a talk, at its beginning and its end, in which a list of subjects is an agenda or a sum-up."""

APART, SHARE_APART = 8, 8
"""Sentences from which two places of a talk are about different subjects; no more than an eighth of it."""

FEWEST_LISTED = 3
"""Parts of a sentence that lists something; one of them may be about what follows at once."""

_PART_ENDS = re.compile(r"[,;:]\s+|\band\b")
_DATES = one_of((*WEEKDAYS, *CLEAR_MONTHS, "today", "tonight", "tomorrow", "noon", "midnight", "weekend"))
_ORDINALS = r"(?:first|second|third|\w+th)"

AMOUNT, TIME = (
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?<![\d.,:])(?<!\bat )(?<!\bby )(?<!\bthe )\b(?!one\b|{_ORDINALS}\b)(?:{NUMBER})\b|[$€£]|\bhalf\b",
        rf"\b(?:{_DATES}|(?:morning|afternoon|evening|night|week|month|year)s?|ago)\b|\d[:.]\d\d"
        rf"|\b(?:at|by|until|before|in|of|on the|the) (?:{NUMBER}|may\b)",
    )
)
"""How a sentence tells an amount, and a time."""

_LARGE = one_of(LARGE_NUMBERS)
_SMALL = rf"(?:\d(?![.,]?\d)|(?:{one_of(number_words(1, 12))})\b)(?!(?: and a half)?[ -](?:{_LARGE}))"
MONEY = re.compile(
    rf"[$€£]|\b(?:{_LARGE}|euros?|dollars?|pounds?|cents?|pence|francs?)\b"
    rf"|(?<![\d.,:])(?<!\bat )(?<!\bby )(?<!\bthe )\b(?!{_SMALL}|{_ORDINALS}\b)(?:{NUMBER})\b",
    re.IGNORECASE,
)
"""How it tells what something costs: “three things to cover” tells no price."""

_VERB = "(?:is|was|are|were|do|does|did|has|have|had|will|would|can|could|shall|should|must)"
WANTS_AMOUNT = r"how (?:much|many|long|far|old|big|often|high|large|heavy)\b"
WANTS_MONEY = (
    r"how much\b.*\b(?:costs?|pay|paid|charged?|spen[dt]|price|budget)\b"
    rf"|what(?:'s| {_VERB}) (?:(?!about\b)[\w']+ ){{0,4}}?(?:costs?|price|budget)\b"
)
WANTS_TIME = (
    rf"when(?:'s| {_VERB})\b|(?:what|which) (?:minute|hour|time|day|date|week|month|year)\b"
    r"|how (?:soon|late)\b"
)
"""How questions for an amount and for a time begin; “when discussing the price” asks for neither."""

_ASKS_BEYOND = re.compile(r"\b(?:why|when|how|who|whose|whom|where|which)\b", re.IGNORECASE)


def asked_for(question: str) -> re.Pattern[str] | None:
    """What a sentence has that tells the amount or the time which a question asks for; None for others."""
    kinds = ((WANTS_MONEY, MONEY), (WANTS_AMOUNT, AMOUNT), (WANTS_TIME, TIME))
    return next((told for asks, told in kinds if re.search(rf"(?i)\b(?:{asks})", question)), None)


def asks_beyond(question: str) -> bool:
    """Whether a question asks for an amount, a time, a reason, a way, a place or somebody, which sentences
    with its words may not tell."""
    return bool(_ASKS_BEYOND.search(question) or asked_for(question))


def echo(text: str, asked: Collection[str]) -> float:
    """1 for a sentence that has no term of its own beside those that are asked, less for each that it has."""
    said = {term for word in content_words(text) for term in search_terms(word)}
    return 1.0 / (1 + len(said.difference(asked)))


def lists_subjects(text: str, at: int, places: Mapping[str, Sequence[int]], count: int) -> bool:
    """Whether the parts of a sentence are about different stretches of a talk, all away from it.

    Args:
        text: The sentence.
        at: Its number in the talk.
        places: The numbers of the sentences in which each term of the talk is said.
        count: How many sentences the talk has.
    """
    parts = [
        {term for term in search_terms(part) if term not in STOP_WORDS and not term[0].isdigit()}
        for part in _PART_ENDS.split(text)
    ]
    apart, homes = min(APART, count // SHARE_APART), list[int]()
    if sum(map(bool, parts)) < FEWEST_LISTED:
        return False
    for part in parts:
        said = [(place, term) for term in part for place in set(places.get(term, ())) - {at}]
        # Where most of it is said together; what is said near the sentence comes first.
        home = max(
            (place for place, _ in said),
            key=lambda place: (
                len({term for other, term in said if 0 <= other - place <= apart}),
                -abs(place - at),
            ),
            default=at,
        )
        if all(abs(home - other) > apart for other in (at, *homes)):
            homes.append(home)
    return len(homes) >= FEWEST_LISTED - 1
