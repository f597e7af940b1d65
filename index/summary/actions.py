"""Action items: who promised or was asked to do what, and by when, in the words that were said."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from index.records import Segment
from index.summary.clauses import Clause
from index.summary.cues import stems
from index.summary.due import due_words
from index.summary.model import ActionItem
from index.summary.names import called, plausible_name, same_name

ACCEPT_SECONDS = 12.0
"""A request is accepted or taken up within this time."""

_ACT = (
    r"(?:add|approve|arrange|ask|book|bring|build|buy|call|cancel|change|check|circulate|clean|"
    r"collect|compile|"
    r"confirm|contact|copy|correct|create|deliver|deploy|discuss|document|draft|e-?mail|estimate|"
    r"file|fill|find|"
    r"finish|fix|follow|forward|gather|get|handle|hire|implement|inform|install|invite|investigate|"
    r"look into|mail|"
    r"make|measure|meet|merge|message|move|notify|order|organi[sz]e|pay|phone|pick up|post|prepare|"
    r"present|print|"
    r"propose|provide|publish|push|put|reach out|record|remind|renew|repair|replace|reply|report|"
    r"request|reserve|"
    r"resend|review|rewrite|ring|run|schedule|send|set|share|ship|sign|sort|speak|submit|take care|"
    r"talk|tell|test|"
    r"transfer|translate|try|update|upgrade|upload|verify|visit|work on|write)"
)
_ADVERBS = (
    r"(?:(?:just|also|then|definitely|certainly|probably|quickly|personally|please|try to|go and|"
    r"make sure to)\s+)*"
)
_PROMISE = re.compile(
    rf"\b(?:i(?:'ll|’ll)|i\s+(?:will|shall)|i(?:'m|’m|\s+am)\s+going\s+to)\s+{_ADVERBS}(?P<act>{_ACT}|do)\b",
    re.IGNORECASE,
)
_WISH = re.compile(
    r"\b(?:would\s+like|i(?:'d|’d)\s+like|i\s+want|i\s+plan|i(?:'m|’m)\s+planning|my\s+plan\s+is)\s+to\s+"
    rf"(?P<act>{_ACT}|do)\b",
    re.IGNORECASE,
)
_REQUEST = re.compile(
    rf"\b(?:please\s+{_ADVERBS}(?P<a>{_ACT}|do)|(?:can|could|would|will)\s+you\s+{_ADVERBS}(?P<b>{_ACT}|do)"
    rf"|(?:i(?:'d|’d|\s+would)\s+like|i\s+need|i\s+want)\s+you\s+to\s+(?P<c>{_ACT}|do))\b",
    re.IGNORECASE,
)
_ASSIGN = re.compile(
    rf"\b(?P<name>[A-Za-z][\w'’-]+)\s+(?:(?:will|is\s+going\s+to|has\s+to|needs\s+to|should)\s+{_ADVERBS}(?P<a>{_ACT})|"
    rf"(?P<b>{_ACT})e?s)\b",
    re.IGNORECASE,
)
_MUST = re.compile(
    rf"\b(?:we|someone|somebody)\s+(?:really\s+|still\s+)?(?:need\s+to|needs\s+to|have\s+to|has\s+to|must)\s+"
    rf"{_ADVERBS}(?P<act>{_ACT})\b",
    re.IGNORECASE,
)
_ACCEPT = re.compile(
    r"^(?:(?:yes|yeah|yep|sure|okay|ok|of course|absolutely|great|good idea|no problem|alright|"
    r"certainly|gladly)\b"
    r"|(?:i(?:'ll|’ll| will| can)|will do|we(?:'ll|’ll) do|consider it done|on it))",
    re.IGNORECASE,
)
_REFUSE = re.compile(r"^(?:no\b|sorry|i can(?:'t|’t|not)|i won(?:'t|’t)|i don(?:'t|’t))", re.IGNORECASE)
# Promises about the talk itself, and figures of speech.
_IDLE = re.compile(
    r"\b(?:i(?:'ll|’ll|\s+will)\s+(?:tell\s+you|ask\s+you|put\s+it|"
    r"make\s+(?:it\s+(?:short|quick|brief)|this\s+quick|a\s+guess)|"
    r"get\s+(?:to|into|there|going|back\s+to\s+(?:that|this)\s+(?:in|later))|run\s+(?:through|over)|"
    r"talk\s+(?:about|you)|"
    r"speak\s+(?:about|to\s+that)|share\s+(?:my\s+screen|a\s+story)|add\s+that|set\s+the\s+(?:scene|stage)|"
    r"call\s+(?:it|that|this|them)\s+(?:a|the|an)\b|try\s+not|give)|"
    r"(?:can|could|would|will)\s+you\s+(?:tell\s+(?:us|me)|repeat|hear|see|say|explain|"
    r"talk\s+(?:about|us|me)|"
    r"put\s+(?:yourself|that)|run\s+(?:us|me)\s+through))",
    re.IGNORECASE,
)
_CONDITIONAL = re.compile(r"^(?:if|unless|suppose|imagine|when|even if)\b", re.IGNORECASE)
_POINTS_BACK = re.compile(r"\b(?:it|that|this|them|him|her|those|these)\b", re.IGNORECASE)
_DEADLINE = re.compile(r"^(?:by|before|until|no later)\b", re.IGNORECASE)

Kind = Literal["promise", "wish", "request", "assignment", "duty"]


@dataclass(frozen=True)
class _Candidate:
    kind: Kind
    clause: Clause
    owner: str | None
    due: str | None
    act: str


def action_items(
    clauses: Sequence[Clause], segments: Sequence[Segment], names: Mapping[str, str]
) -> list[ActionItem]:
    """Find action items in order.

    Args:
        clauses: Of all segments.
        segments: The same segments.
        names: Names inferred for labels; an owner is shown by name where one is known.
    """
    found: list[tuple[_Candidate, ActionItem]] = []
    for clause in clauses:
        candidate = _candidate(clause)
        if candidate is None:
            continue
        if clause.recap:
            if not any(_repeats(candidate, earlier) for _, earlier in found):
                found.append((candidate, _item(candidate, segments, names)))
            continue
        if found and _takes_up(candidate, found[-1][0], clauses):
            request, item = found[-1]
            found[-1] = (request, _merged(item, candidate, names))
        elif not _refused(candidate, clauses):
            found.append((candidate, _item(candidate, segments, names)))
    accepted = [_with_acceptor(candidate, item, clauses, names) for candidate, item in found]
    return [item for item in accepted if item is not None]


def _candidate(clause: Clause) -> _Candidate | None:
    text = clause.text
    if _IDLE.search(text) or _CONDITIONAL.search((clause.lead + text).strip()):
        return None
    due = due_words(text)
    if match := _REQUEST.search(text):
        owner = called(text) or _vocative_before(text, match.start())
        return _Candidate("request", clause, owner, due, _act(match))
    if text.rstrip().endswith("?") and not _WISH.search(text):
        return None
    if match := _PROMISE.search(text):
        return _Candidate("promise", clause, clause.speaker, due, _act(match))
    if due and (match := _WISH.search(text)):
        return _Candidate("wish", clause, clause.speaker, due, _act(match))
    if (match := _ASSIGN.search(text)) and (plausible_name(match["name"]) or (clause.recap and due)):
        if match["name"].casefold() in ("we", "they", "it", "that", "he", "she", "who", "which", "i", "you"):
            return None
        if match["b"] and not (due or clause.recap):
            return None
        return _Candidate("assignment", clause, match["name"].capitalize(), due, _act(match))
    if due and (match := _MUST.search(text)):
        return _Candidate("duty", clause, None, due, _act(match))
    return None


def _act(match: re.Match[str]) -> str:
    return next(value for key, value in match.groupdict().items() if value and key != "name").casefold()


def _vocative_before(text: str, position: int) -> str | None:
    """A name right before the request inside a longer clause: "… and Ben, please check it"."""
    match = re.search(r"([A-Z][\w'’-]+),?\s*$", text[:position])
    return match[1] if match and plausible_name(match[1]) else None


def _item(candidate: _Candidate, segments: Sequence[Segment], names: Mapping[str, str]) -> ActionItem:
    clause = candidate.clause
    text, start = clause.text, clause.start
    numbers: tuple[int, ...] = (clause.segment.id,)
    before = segments[clause.index - 1] if clause.index else None
    rest = text[text.casefold().find(candidate.act) :]
    if (
        candidate.kind in ("promise", "wish")
        and before is not None
        and before.kind == "speech"
        and clause.text == clause.segment.text
        and _POINTS_BACK.search(" ".join(rest.split()[:3]))
        and clause.start - before.end <= 5
    ):
        # "I'll tell them today" says nothing without the sentence before it.
        text, start, numbers = f"{before.text} {text}", before.start, (before.id, *numbers)
    return ActionItem(
        text=text,
        start=start,
        end=clause.end,
        segments=numbers,
        speaker=clause.speaker,
        owner=_shown(candidate.owner, names),
        due=candidate.due,
    )


def _shown(owner: str | None, names: Mapping[str, str]) -> str | None:
    return names.get(owner, owner) if owner else None


def _takes_up(promise: _Candidate, request: _Candidate, clauses: Sequence[Clause]) -> bool:
    """Whether a promise answers the request before it."""
    if promise.kind not in ("promise", "wish") or request.kind != "request":
        return False
    late = promise.clause.start - request.clause.end > ACCEPT_SECONDS
    same_voice = promise.clause.speaker is not None and promise.clause.speaker == request.clause.speaker
    return not late and not same_voice


def _merged(item: ActionItem, promise: _Candidate, names: Mapping[str, str]) -> ActionItem:
    """A request and the promise that answered it.

    A deadline goes before a mere moment, and what was said later before what was said earlier.
    """
    due = promise.due or item.due
    if item.due and promise.due and _DEADLINE.match(item.due) and not _DEADLINE.match(promise.due):
        due = item.due
    numbers = tuple(dict.fromkeys((*item.segments, promise.clause.segment.id)))
    return replace(
        item,
        text=f"{item.text} {promise.clause.text}",
        end=promise.clause.end,
        segments=numbers,
        owner=item.owner or _shown(promise.owner, names),
        due=due,
    )


def _refused(candidate: _Candidate, clauses: Sequence[Clause]) -> bool:
    """Whether a request was turned down by the next speaker."""
    if candidate.kind != "request":
        return False
    answer = _answer(candidate, clauses)
    return answer is not None and _REFUSE.search(answer.text) is not None


def _with_acceptor(
    candidate: _Candidate, item: ActionItem, clauses: Sequence[Clause], names: Mapping[str, str]
) -> ActionItem | None:
    """A request to nobody by name belongs to whoever said yes.

    With neither name nor yes nor date it is idle talk.
    """
    if candidate.kind != "request" or item.owner:
        return item
    answer = _answer(candidate, clauses)
    if answer is not None and _ACCEPT.search(answer.text):
        return replace(item, owner=_shown(answer.speaker, names))
    return item if item.due else None


def _answer(candidate: _Candidate, clauses: Sequence[Clause]) -> Clause | None:
    for clause in clauses:
        if clause.index <= candidate.clause.index or clause.speaker == candidate.clause.speaker:
            continue
        return clause if clause.start - candidate.clause.end <= ACCEPT_SECONDS else None
    return None


def _repeats(recap: _Candidate, earlier: ActionItem) -> bool:
    """Whether something said while summing up is an item that was listed when it first came up."""
    shared = stems(recap.clause.text) & stems(earlier.text)
    same_owner = bool(recap.owner and earlier.owner and same_name(recap.owner, earlier.owner))
    same_due = bool(recap.due and earlier.due and stems(recap.due) & stems(earlier.due))
    return bool(shared) and (same_owner or same_due or len(shared) >= 2)
