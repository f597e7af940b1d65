"""Decisions, by the phrases people mark them with and by the agreement that follows a proposal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from index.summary.clauses import Clause, due_words, join, kind_of, rest_of_sentence, said_before
from index.summary.items import Item
from index.summary.open_questions import leaves_open

AGREE_SECONDS = 8.0
"""A proposal is agreed to within this time."""

MOTION_SECONDS = 180.0
"""A motion is voted on within this time."""

_ADVERBS = r"(?:(?:just|all|now|finally|also|already|then|both|therefore|hereby)\s+)*"
_DECIDED = re.compile(
    rf"""\b(?:
      we(?:['’]ve|\s+have)?\s+{_ADVERBS}(?:decided|agreed|settled|chosen|voted|approved)\b
    | we\s+{_ADVERBS}(?:decide|agree|approve)\s+(?:to|that|on)\b
    | (?:the|our|final|my)\s+decision\s+(?:is|was)\b
    | (?:the|our)\s+(?:agreement|conclusion|consensus)\s+is\s+(?:to|that)\b
    | (?:it|that|this)(?:['’]s|\s+is)\s+{_ADVERBS}(?:decided|settled|agreed|approved)\b
    | (?:is|are)\s+(?:hereby|now)\s+(?:decided|settled|agreed|approved|accepted)\b
    | let['’]s\s+go\s+(?:with|for|ahead\s+with)\b
    | we(?:['’]re|\s+are)\s+{_ADVERBS}(?:going|going\s+to\s+go)\s+(?:with|for)\b
    | we(?:['’]ll|\s+will)\s+{_ADVERBS}go\s+(?:with|ahead|for)\b
    | (?:motion|proposal)\s+(?:is\s+)?(?:carried|carries|passed|passes|approved|accepted)\b
    | (?:so|then)\s+it(?:['’]s|\s+is)\s+a\s+deal\b
    )""",
    re.IGNORECASE | re.VERBOSE,
)
_MARKED = re.compile(
    r"^(?:(?:okay|ok|alright|all\s+right|right|good|great|fine|perfect|excellent)[,.]?\s+)(?:(?:so|then|well)[,]?\s+)*"
    rf"(?:we(?:['’]ll|\s+will|['’]re\s+going\s+to|\s+are\s+going\s+to)\s+|(?<=then\s)we\s+){_ADVERBS}"
    r"(?P<act>[^\W\d_][\w-]*)",
    re.IGNORECASE,
)
_PROPOSED = re.compile(
    rf"^(?P<marker>(?:(?:okay|ok|alright|right|good|great|fine|perfect|excellent|so|then|well|and|wonderful)[,.]?\s+)*)"
    rf"let['’]s\s+{_ADVERBS}(?P<act>[^\W\d_][\w-]*)",
    re.IGNORECASE,
)
_TALK_PLANS = re.compile(
    r"^(?:start|begin|move|go|continue|turn|talk|switch|jump|look|see|hear|get|take\s+(?:a|an|it|that|this|five|ten)|discuss|wait|come|think|"
    r"hope|face|say|be|have|not|try|call|leave|park|table|postpone|decide|cover|focus|make\s+sure|do\s+(?:that|it|this)"
    r"|stop|keep|stay|check|meet|open|sum|recap|review|introduce|read|imagine|assume|suppose|consider|find|run)\b",
    re.IGNORECASE,
)
_AGREES = re.compile(
    r"^(?:agreed|yes|yeah|yep|ok|okay|sure|sounds\s+good|good|great|perfect|fine|deal|that\s+works|works\s+for\s+me|"
    r"absolutely|i\s+agree|exactly|alright|definitely|no\s+objections?)\b",
    re.IGNORECASE,
)
_IT_IS = re.compile(
    r"^(?:(?:okay|ok|so|then|alright|right|good)[,.]?\s+)*(?P<what>[\w’' -]{2,40}?)\s+it\s+is"
    r"(?:[,.]?\s+then)?[.!]?$",
    re.I,
)
_NOT_CHOICES = re.compile(
    r"\b(?:what|that|this|how|where|who|why|as|here|there|because|think|like|whatever|and|but|if)\b", re.I
)
_NOT_DECIDED = re.compile(
    r"""\b(?:not|never|nobody|if|unless|whether|until|before|once|when|had|would|could|should|might|almost|
    nearly|last\s+(?:year|month|week|time|summer|winter|spring|autumn)|years?\s+ago|months?\s+ago|back\s+then|
    previously|used\s+to|in\s+(?:19|20)\d\d)\b|n['’]t\b""",
    re.IGNORECASE | re.VERBOSE,
)
_PAST = re.compile(
    r"\b(?:last\s+(?:year|month|week|time|summer|winter|spring|autumn)|(?:years?|months?|weeks?)\s+ago|back\s+(?:then|in)|"
    r"yesterday|at\s+the\s+time|in\s+(?:19|20)\d\d|in\s+(?:two\s+thousand|nineteen|twenty)\s+\w+)\b",
    re.IGNORECASE,
)
_CARRIED = re.compile(r"\b(?:motion|proposal)\b", re.IGNORECASE)
_MOVES = re.compile(
    r"\b(?:i\s+move\s+(?:that|to)|i\s+propose|the\s+motion\s+is\s+to|i['’]d\s+like\s+to\s+propose)\b",
    re.IGNORECASE,
)


def decisions(clauses: Sequence[Clause]) -> list[Item]:
    """What was decided, in order; said again while summing up, it is listed once."""
    found: list[Item] = []
    for position, clause in enumerate(clauses):
        if not _is_decision(clauses, position):
            continue
        item = _with_motion(clauses, position, rest_of_sentence(clauses, position))
        if not said_before(item, found, recap=clause.recap):
            found.append(item)
    return found


def is_explicit(text: str) -> bool:
    """Whether a text says in so many words that something was decided."""
    return _DECIDED.search(text) is not None


def _is_decision(clauses: Sequence[Clause], position: int) -> bool:
    clause = clauses[position]
    text, sentence = clause.text, clause.segment.text
    asks = text.rstrip().endswith("?") or (sentence.rstrip().endswith("?") and clause.last_of_segment)
    if asks or _PAST.search(text) or leaves_open(text):
        return False
    if cue := _DECIDED.search(text):
        # Only what stands before or in the cue can take it back: "we agreed not to" is a decision.
        return _NOT_DECIDED.search(text[: cue.end()]) is None
    return not clause.recap and (_marked(clauses, position) or _chosen(text) or _proposed(clauses, position))


def _marked(clauses: Sequence[Clause], position: int) -> bool:
    """ "Okay, we will extend the search": a conclusion is drawn."""
    text = _with_marker(clauses, position)
    match = _MARKED.search(text)
    if not match or _TALK_PLANS.search(text[match.start("act") :]):
        return False
    return kind_of(text[match.start("act") :]) != "talk" or match["act"].casefold() in (
        "keep",
        "skip",
        "continue",
    )


def _with_marker(clauses: Sequence[Clause], position: int) -> str:
    """The clause with a marker that was cut off as a sentence of its own ("Okay.")."""
    clause = clauses[position]
    before = clauses[position - 1] if position else None
    if (
        before
        and before.speaker == clause.speaker
        and len(before.text.split()) <= 2
        and clause.start - before.end <= 2
    ):
        return f"{before.text} {clause.text}"
    return clause.text


def _chosen(text: str) -> bool:
    """ "Tuesday it is.\""""
    match = _IT_IS.search(text)
    return match is not None and not _NOT_CHOICES.search(match["what"])


def _proposed(clauses: Sequence[Clause], position: int) -> bool:
    """A proposal ("let's remove it") somebody agrees to, or that draws the conclusion ("then let's …")."""
    text = _with_marker(clauses, position)
    match = _PROPOSED.search(text)
    if not match or _TALK_PLANS.search(text[match.start("act") :]) or due_words(text):
        return False
    concludes = re.search(r"\bthen\b", match["marker"], re.I) or re.search(r"\bthen[.!]?$", text, re.I)
    return bool(concludes) or _agreed(clauses, position)


def _agreed(clauses: Sequence[Clause], position: int) -> bool:
    clause = clauses[position]
    for other in clauses[position + 1 : position + 8]:
        if other.start - clause.end > AGREE_SECONDS:
            return False
        if other.speaker != clause.speaker:
            return _AGREES.search(other.text) is not None
    return False


def _with_motion(clauses: Sequence[Clause], position: int, item: Item) -> Item:
    """ "The motion is carried" says nothing without the motion."""
    if not _CARRIED.search(item.text):
        return item
    for earlier in reversed(clauses[:position]):
        if item.start - earlier.end > MOTION_SECONDS:
            break
        if _MOVES.search(earlier.text):
            said = Item(earlier.text, earlier.start, earlier.end, (earlier.segment.id,), earlier.speaker)
            return replace(join([said, item]), speaker=earlier.speaker)
    return item
