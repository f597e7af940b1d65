"""Action items: who promised or was asked to do what, and by when, in the words that were said.

First each clause is read alone (``candidate``): promises, wishes, requests, assignments and duties. Then they
are read in order (``action_items``): requests are answered, offers taken up, recaps left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from index.records import Segment
from index.summary.clauses import Clause, about_the_talk, base_of_gerund, due_words, kind_of, stems
from index.summary.items import ActionItem
from index.summary.speaker_names import called, plausible_name, same_name

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
    """The action item that a clause by itself may be, or None."""
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
    forms = (verb[:-1], verb[:-2], verb[:-3] + "y")
    return next((form for form in forms if kind_of(form) == "work"), verb)


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


ACCEPT_SECONDS = 12.0
"""A request is accepted or taken up within this time."""

_ACCEPT = re.compile(
    r"^(?:(?:yes|yeah|yep|yup|sure|okay|ok|of course|absolutely|great|good idea|no problem|alright|right|"
    r"cool|certainly|gladly|fine|happy to|definitely|sounds good|got it|noted|agreed)\b"
    r"|(?:i(?:['’]ll| will| can)|will do|we(?:['’]ll| will) do|consider it done|on it))",
    re.IGNORECASE,
)
_REFUSE = re.compile(
    r"^(?:no\b(?! (?:problem|worries))|sorry|i can(?:['’]t|not)|i won['’]t|i don['’]t)", re.IGNORECASE
)
_POINTS_BACK = re.compile(r"\b(?:it|that|this|them|him|her|those|these)\b", re.IGNORECASE)
_SUGGESTS = re.compile(
    r"\b(?:(?:we|you|someone|somebody)\s+(?:could|should|need|needs|have to|has to|must)|"
    r"who\s+(?:can|could|will|wants|would)|any\s+volunteers?|can\s+(?:anyone|someone|somebody|the|we))\b",
    re.IGNORECASE,
)
_BESIDES = re.compile(r"\b(?:also|as well|in addition|on top of that|besides)\b", re.IGNORECASE)
_DEADLINE = re.compile(r"^(?:by|before|until|no later)\b", re.IGNORECASE)


@dataclass
class _Open:
    """An item while it is being read: a request may yet be answered."""

    first: Candidate
    last: Candidate
    item: ActionItem
    taken: bool = False


class _Reader:
    def __init__(
        self, clauses: Sequence[Clause], segments: Sequence[Segment], names: Mapping[str, str]
    ) -> None:
        self.clauses = clauses
        self.segments = segments
        self.names = names
        self.found: list[_Open] = []
        self.at = {id(clause): position for position, clause in enumerate(clauses)}

    def read(self) -> list[ActionItem]:
        for clause in self.clauses:
            new = candidate(clause)
            if new is None or (new.kind == "wish" and not new.due and not self._suggested(new)):
                continue
            if clause.recap:
                if not any(_repeats(new, old.item) for old in self.found):
                    self.found.append(_Open(new, new, self._item(new)))
                continue
            last = self.found[-1] if self.found else None
            if last and self._takes_up(new, last):
                self._merge(last, new)
            elif not (self._refused(new) or any(_same_again(new, old.item) for old in self.found[-3:])):
                self.found.append(_Open(new, new, self._item(new)))
        answered = [self._answered(opened) for opened in self.found]
        return [item for item in answered if item is not None]

    def _shown(self, owner: str | None) -> str | None:
        return self.names.get(owner, owner) if owner else None

    def _item(self, new: Candidate) -> ActionItem:
        clause = new.clause
        text, start = clause.text, clause.start
        numbers: tuple[int, ...] = (clause.segment.id,)
        before = self.segments[clause.index - 1] if clause.index else None
        opening = " ".join(clause.text[new.act :].split()[:3])
        if (
            new.kind in ("promise", "wish")
            and before is not None
            and clause.text == clause.segment.text
            and _POINTS_BACK.search(opening)
            and clause.start - before.end <= 5
        ):
            # "I'll tell them today" says nothing without the sentence before it.
            text, start, numbers = f"{before.text} {text}", before.start, (before.id, *numbers)
        return ActionItem(text, start, clause.end, numbers, clause.speaker, self._shown(new.owner), new.due)

    def _suggested(self, new: Candidate) -> bool:
        """Whether "I can do that" answers a suggestion, else it is only an ability."""
        position = self.at[id(new.clause)]
        near = [
            earlier
            for earlier in self.clauses[max(0, position - 4) : position]
            if new.clause.start - earlier.end <= ACCEPT_SECONDS
        ]
        return any(_SUGGESTS.search(earlier.text) for earlier in near)

    def _takes_up(self, new: Candidate, last: _Open) -> bool:
        """Whether a clause answers the item before it instead of being one of its own."""
        if new.clause.start - last.last.clause.end > ACCEPT_SECONDS or _BESIDES.search(new.clause.text):
            return False
        mine, theirs = new.clause.speaker, last.last.clause.speaker
        same_voice = mine is not None and mine == theirs
        if new.kind == "assignment":
            # "Good, Helena will do that by Friday" names who just offered.
            return (
                last.first.kind in ("promise", "wish")
                and not same_voice
                and self._may_be(new.owner, last.first)
            )
        if new.kind not in ("promise", "wish"):
            return False
        if last.first.kind == "duty":
            return last.item.owner is None and not last.taken
        if last.first.kind != "request" or last.taken or same_voice:
            return False
        answer = self._answer(last.first)
        return answer is None or answer.speaker == mine

    def _may_be(self, name: str | None, offered: Candidate) -> bool:
        known = self.names.get(offered.owner or "")
        return bool(name) and (known is None or same_name(known, name or ""))

    def _merge(self, old: _Open, new: Candidate) -> None:
        """A deadline goes before a mere moment, and what was said later before what was said earlier."""
        due = new.due or old.item.due
        if old.item.due and new.due and _DEADLINE.match(old.item.due) and not _DEADLINE.match(new.due):
            due = old.item.due
        owner = old.item.owner or self._shown(new.owner)
        if new.kind == "assignment":
            owner = self._shown(new.owner)
        old.item = replace(
            old.item,
            text=f"{old.item.text} {new.clause.text}",
            end=max(old.item.end, new.clause.end),
            segments=tuple(dict.fromkeys((*old.item.segments, new.clause.segment.id))),
            owner=owner,
            due=due,
        )
        old.taken = new.kind != "assignment"
        old.last = new

    def _answer(self, asked: Candidate) -> Clause | None:
        """The next thing another voice says, soon enough to be an answer."""
        for clause in self.clauses[self.at[id(asked.clause)] + 1 :]:
            if clause.start - asked.clause.end > ACCEPT_SECONDS:
                return None
            if clause.index > asked.clause.index and clause.speaker != asked.clause.speaker:
                return clause
        return None

    def _refused(self, new: Candidate) -> bool:
        answer = self._answer(new) if new.kind == "request" else None
        return answer is not None and _REFUSE.search(answer.text) is not None

    def _answered(self, opened: _Open) -> ActionItem | None:
        """A request to nobody by name belongs to whoever said yes; with neither nor a date it is talk."""
        item = opened.item
        if opened.first.kind != "request" or opened.taken:
            return item
        answer = self._answer(opened.first)
        if answer is not None and _ACCEPT.search(answer.text):
            due = (
                due_words(answer.segment.text)
                if item.due is None and len(answer.segment.text.split()) <= 12
                else None
            )
            if due:
                item = replace(
                    item,
                    text=f"{item.text} {answer.segment.text}",
                    end=max(item.end, answer.segment.end),
                    segments=tuple(dict.fromkeys((*item.segments, answer.segment.id))),
                    due=due,
                )
            return replace(item, owner=item.owner or self._shown(answer.speaker))
        return item if item.due or item.owner else None


def action_items(
    clauses: Sequence[Clause], segments: Sequence[Segment], names: Mapping[str, str]
) -> list[ActionItem]:
    """Find action items in order.

    Args:
        clauses: The clauses of all segments.
        segments: The segments themselves, in time order.
        names: Names inferred for labels; an owner is shown by name where one is known.
    """
    return _Reader(clauses, segments, names).read()


def _repeats(recap: Candidate, earlier: ActionItem) -> bool:
    """Whether something said while summing up is an item that was listed when it first came up."""
    shared = stems(recap.clause.text) & stems(earlier.text)
    same_owner = bool(recap.owner and earlier.owner and same_name(recap.owner, earlier.owner))
    same_due = bool(recap.due and earlier.due and stems(recap.due) & stems(earlier.due))
    return bool(shared) and (same_owner or same_due or len(shared) >= 2)


def _same_again(new: Candidate, earlier: ActionItem) -> bool:
    """Whether somebody says once more what was just listed: the same date and most of the same words."""
    mine, theirs = stems(new.clause.text), stems(earlier.text)
    agrees = new.owner is None or earlier.owner is None or same_name(new.owner, earlier.owner)
    return agrees and new.due == earlier.due and len(mine) >= 2 and len(mine & theirs) >= 0.8 * len(mine)
