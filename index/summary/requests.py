"""Whether a clause makes somebody responsible for something: promises, requests, assignments, duties."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from index.summary.clauses import Clause
from index.summary.due import due_words
from index.summary.names import called, plausible_name
from index.summary.verbs import about_the_talk, base_of_gerund, kind_of

Kind = Literal["promise", "wish", "request", "assignment", "duty"]

_ADVERBS = (
    r"(?:(?:just|also|then|definitely|certainly|probably|quickly|personally|please|gladly|happily|now|first|"
    r"still|really|maybe|kindly|try\s+(?:and|to)|go\s+(?:and|ahead\s+and)|make\s+sure\s+to|be\s+able\s+to)\s+)*"
)
_VERB = r"(?P<act>[^\W\d_][\w’'-]*)"
_WILL = r"i(?:['’]ll|\s+will|\s+shall|(?:['’]m|\s+am)\s+(?:going\s+to|gonna))"

_PROMISE = re.compile(rf"\b{_WILL}\s+{_ADVERBS}{_VERB}", re.IGNORECASE)
_VOLUNTEERS = re.compile(
    rf"^(?:(?:yes|yeah|sure|ok|okay|well|right|and)[,.]?\s+)*(?:i\s+(?:can|could)|(?:i['’]m\s+|i['’]d\s+be\s+)?"
    rf"(?:happy|glad)\s+to)\s+{_ADVERBS}{_VERB}",
    re.IGNORECASE,
)
_DELIVERS = re.compile(r"\byou(?:['’]ll|\s+will)\s+(?P<act>have|get|receive|hear)\b", re.IGNORECASE)
_WISH = re.compile(
    rf"\b(?:would\s+like|i['’]d\s+like|i\s+want|i\s+plan|i['’]m\s+planning|my\s+plan\s+is)\s+to\s+{_ADVERBS}{_VERB}",
    re.IGNORECASE,
)
_REQUESTS = (
    re.compile(rf"\b(?:can|could|would|will)\s+you\s+(?!mind\b|like\b){_ADVERBS}{_VERB}", re.IGNORECASE),
    re.compile(rf"\b(?:would|do)\s+you\s+mind\s+{_VERB}", re.IGNORECASE),
    re.compile(
        rf"\b(?:i(?:['’]d|\s+would)\s+like|i\s+need|i\s+want)\s+you\s+to\s+{_ADVERBS}{_VERB}", re.IGNORECASE
    ),
    re.compile(rf"\bplease\s+{_ADVERBS}{_VERB}", re.IGNORECASE),
)
_NAMED_REQUEST = re.compile(rf"^(?:[\w’']+,?\s+)?(?P<name>[A-Z][\w’'-]+),?\s+you(?:['’]ll)?\s+{_VERB}")
_ASSIGN = re.compile(
    rf"\b(?P<name>[^\W\d_][\w’'-]+)\s+(?:(?:will|is\s+going\s+to|has\s+to|needs\s+to|should)\s+{_ADVERBS}{_VERB}"
    r"|(?P<third>[^\W\d_]+s)\b)",
    re.IGNORECASE,
)
_DUTY = re.compile(
    rf"\b(?P<who>we|i|someone|somebody)\s+(?:really\s+|still\s+|also\s+)*(?:need\s+to|needs\s+to|have\s+to|has\s+to|must|"
    rf"should)\s+{_ADVERBS}{_VERB}",
    re.IGNORECASE,
)
_PLAN = re.compile(rf"\b(?:let['’]s|let\s+us)\s+{_ADVERBS}{_VERB}", re.IGNORECASE)
_ORDER = re.compile(
    r"^(?:(?:and|then|also|so)\s+)*(?P<act>[^\W\d_][\w-]*)\s+(?:(?:in|up|out|over|on)\s+)?"
    r"(?:the|a|an|your|our|my|their|his|her|me|us|them|it|this|that|these|those|all|both|everyone|each)\b",
    re.IGNORECASE,
)
_CONDITIONAL = re.compile(
    r"^(?:(?:and|but|so)\s+)?(?:if|unless|suppose|imagine|when|even if)\b", re.IGNORECASE
)
_ON_CONDITION = re.compile(r"\b(?:if|unless)\b", re.IGNORECASE)
_PAST = re.compile(
    r"\b(?:said|told|thought|promised|asked|used\s+to|would\s+have|always\s+say)\b", re.IGNORECASE
)
_NO_OWNERS = frozenset(
    ["we", "they", "it", "that", "he", "she", "who", "which", "i", "you", "there", "this", "what", "one"]
)


@dataclass(frozen=True)
class Candidate:
    """A clause that may be an action item; ``act`` is where its verb begins in the clause's text."""

    kind: Kind
    clause: Clause
    owner: str | None
    due: str | None
    act: int


def candidate(clause: Clause) -> Candidate | None:
    """What a clause makes of whom, if anything."""
    if _CONDITIONAL.search((clause.lead + clause.text).strip()):
        return None
    for read in (_request, _promise, _assignment, _duty, _order):
        found = read(clause, due_words(clause.text))
        if found is not None:
            return found
    return None


def _checked(kind: Kind, clause: Clause, owner: str | None, due: str | None, act: int) -> Candidate | None:
    """The candidate, unless its verb is one of talk, or an unknown one without a date."""
    rest = clause.text[act:]
    verb = kind_of(rest)
    if verb == "talk" or (verb == "other" and not due):
        return None
    if (
        due
        and due.casefold() == "today"
        and about_the_talk(rest)
        and clause.text.casefold().startswith("today")
    ):
        return None
    return Candidate(kind, clause, owner, due, act)


def _request(clause: Clause, due: str | None) -> Candidate | None:
    text = clause.text
    for pattern in _REQUESTS:
        match = pattern.search(text)
        if not match:
            continue
        owner = called(text) or _vocative_before(text, match.start())
        gerund = base_of_gerund(match["act"])
        if pattern is _REQUESTS[1]:
            return (
                Candidate("request", clause, owner, due, match.start("act"))
                if kind_of(gerund) == "work"
                else None
            )
        found = _checked("request", clause, owner, due, match.start("act"))
        if found:
            return found
        # Not "Please, I'll do it" or "please Ben, …": only a verb may follow.
        return None if pattern is not _REQUESTS[3] else _promise(clause, due)
    match = _NAMED_REQUEST.search(text)
    if match and plausible_name(match["name"]) and kind_of(text[match.start("act") :]) == "work":
        return Candidate("request", clause, match["name"], due, match.start("act"))
    return None


def _promise(clause: Clause, due: str | None) -> Candidate | None:
    text = clause.text
    if text.rstrip().endswith("?") or _PAST.search(text):
        return None
    if match := _PROMISE.search(text):
        if _ON_CONDITION.search(text[match.end() :]):
            return None
        return _checked("promise", clause, clause.speaker, due, match.start("act"))
    if due and (match := _DELIVERS.search(text)):
        return Candidate("promise", clause, clause.speaker, due, match.start("act"))
    match = _VOLUNTEERS.search(text)
    if match and kind_of(text[match.start("act") :]) == "work":
        return Candidate("wish", clause, clause.speaker, due, match.start("act"))
    if due and (match := _WISH.search(text)):
        return _checked("wish", clause, clause.speaker, due, match.start("act"))
    return None


def _assignment(clause: Clause, due: str | None) -> Candidate | None:
    text = clause.text
    if text.rstrip().endswith("?"):
        return None
    for match in _ASSIGN.finditer(text):
        name = match["name"]
        if name.casefold() in _NO_OWNERS or not (plausible_name(name) or (clause.recap and due)):
            continue
        act = match.start("act") if match["act"] else match.start("third")
        verb = match["act"] or _third_person(match["third"])
        if kind_of(verb + text[match.end() :]) != "work" or (match["third"] and not (due or clause.recap)):
            continue
        return Candidate("assignment", clause, name[:1].upper() + name[1:], due, act)
    return None


def _third_person(verb: str) -> str:
    """``signs`` → ``sign``, ``fixes`` → ``fix``, ``copies`` → ``copy``."""
    forms: tuple[Callable[[str], str], ...] = (
        lambda one: one[:-1],
        lambda one: one[:-2],
        lambda one: one[:-3] + "y",
    )
    return next((form(verb) for form in forms if kind_of(form(verb)) == "work"), verb)


def _duty(clause: Clause, due: str | None) -> Candidate | None:
    text = clause.text
    if text.rstrip().endswith("?"):
        return None
    match = _DUTY.search(text)
    if match and kind_of(text[match.start("act") :]) == "work":
        who = match["who"].casefold()
        if due or who.startswith("some"):
            owner = clause.speaker if who == "i" else None
            return Candidate("duty", clause, owner, due, match.start("act"))
    match = _PLAN.search(text)
    if due and match and kind_of(text[match.start("act") :]) == "work":
        return Candidate("duty", clause, None, due, match.start("act"))
    return None


def _order(clause: Clause, due: str | None) -> Candidate | None:
    """ "Send them the list by Friday": a bare verb of work, an object, and a date."""
    match = _ORDER.search(clause.text)
    if not due or not match or clause.text.rstrip().endswith("?"):
        return None
    if kind_of(clause.text[match.start("act") :]) != "work":
        return None
    return Candidate("request", clause, called(clause.text), due, match.start("act"))


def _vocative_before(text: str, position: int) -> str | None:
    """A name right before the request inside a longer clause: "… and Ben, please check it"."""
    match = re.search(r"([A-Z][\w'’-]+),?\s*$", text[:position])
    return match[1] if match and plausible_name(match[1]) else None
