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

TOLD = {
    "amount": AMOUNT,
    "time": TIME,
    "money": MONEY,
    "cause": re.compile(
        r"\b(?:because|since|so that|'cause|reason|otherwise|that's why|due to|in case|too)\b"
        r"|\b(?:ca|could|was|is|did|do)n['’]t\b",
        re.IGNORECASE,
    ),
    "name": re.compile(r"(?<=[a-z,] )[A-Z][a-z]{2,}"),
    "first person": re.compile(r"\b(?:I|we|me|my)\b"),
    "will": re.compile(r"\b(?:will|can|could)\b|['’]ll\b|\bgoing to\b", re.IGNORECASE),
    "place": re.compile(
        r"\b(?i:in|at|on|to|from|behind|under|next|near|over|into|by) (?:(?i:the|a|our|my)\b|[A-Z])"
    ),
    "yes or no": re.compile(r"^(?:yes|yeah|no|nope|sure|right|exactly|of course|okay)\b", re.IGNORECASE),
    "way": re.compile(r"\b(?:to|by|with|you) [a-z]+", re.IGNORECASE),
    "negation": re.compile(r"\b(?:not|no|never|nobody|none)\b|n['’]t\b", re.IGNORECASE),
}
"""What a sentence may tell, by its words; how much each counts for which question is learned."""

LONG_FROM, SHORT_UP_TO = 13, 4
"""Words from which a sentence is a long one, and up to which a short one."""

ASKED = {
    "who": re.compile(r"\b(?:who|whose|whom|which (?:person|one of))\b", re.IGNORECASE),
    "when": re.compile(
        r"\b(?:when|(?:what|which) (?:time|day|date|year|month|week)|deadline|date of|how soon|until when)\b",
        re.IGNORECASE,
    ),
    "where": re.compile(
        r"\b(?:where|what place|which (?:room|place|street|city|town|country))\b", re.IGNORECASE
    ),
    "how much": re.compile(
        r"\bhow (?:much|many|long|far|old|big|often|high|large|heavy|deep|tall|cold|warm|fast|loud|hot)\b"
        r"|\b(?:price|cost|number of)\b",
        re.IGNORECASE,
    ),
    "why": re.compile(r"\b(?:why|how come|reason|what for)\b", re.IGNORECASE),
    "how": re.compile(
        r"\bhow (?!(?:much|many|long|far|old|big|often|high|large|heavy|come|soon|deep|tall|cold|warm)\b)",
        re.IGNORECASE,
    ),
    "whether": re.compile(
        r"^(?:is|are|was|were|do|does|did|can|could|will|would|has|have|had|should)\b", re.IGNORECASE
    ),
    "what": re.compile(r"\b(?:what|which)\b", re.IGNORECASE),
}
"""What a question asks for, by its words."""


def told(text: str, asks: bool) -> list[float]:
    """What a sentence tells, as 0 or 1 each: the kinds of ``TOLD``, that it asks, is long, is short."""
    count = len(text.split())
    kinds = [pattern.search(text) is not None for pattern in TOLD.values()]
    return [float(value) for value in (*kinds, asks, count >= LONG_FROM, count <= SHORT_UP_TO)]


TOLD_NAMES = (*TOLD, "asks", "long", "short")
"""The names of what ``told`` returns."""

_ASKS_BEYOND = re.compile(r"\b(?:why|when|how|who|whose|whom|where|which)\b", re.IGNORECASE)


def asked_for(question: str) -> re.Pattern[str] | None:
    """What a sentence has that tells the amount or the time which a question asks for; None for others."""
    kinds = ((WANTS_MONEY, MONEY), (WANTS_AMOUNT, AMOUNT), (WANTS_TIME, TIME))
    return next((told for asks, told in kinds if re.search(rf"(?i)\b(?:{asks})", question)), None)


def asks_beyond(question: str) -> bool:
    """Whether a question asks for an amount, a time, a reason, a way, a place or somebody, which sentences
    with its words may not tell."""
    return bool(_ASKS_BEYOND.search(question) or asked_for(question))


def content_terms(text: str) -> frozenset[str]:
    """The terms of a sentence's content words."""
    return frozenset(term for word in content_words(text) for term in search_terms(word))


def echo(said: frozenset[str], asked: Collection[str]) -> float:
    """1 for the terms of a sentence without any of its own beside those that are asked, less for each."""
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
