"""Action items: who promised or was asked to do what, and by when, in the words that were said."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from index.records import Segment
from index.summary.clauses import Clause
from index.summary.cues import stems
from index.summary.due import due_words
from index.summary.model import ActionItem
from index.summary.names import same_name
from index.summary.requests import Candidate, candidate

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
                if not any(_repeats(new, one.item) for one in self.found):
                    self.found.append(_Open(new, new, self._item(new)))
                continue
            last = self.found[-1] if self.found else None
            if last and self._takes_up(new, last):
                self._merge(last, new)
            elif not self._refused(new) and not any(_same_again(new, one.item) for one in self.found[-3:]):
                self.found.append(_Open(new, new, self._item(new)))
        answered = [self._answered(one) for one in self.found]
        return [one for one in answered if one is not None]

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
            one
            for one in self.clauses[max(0, position - 4) : position]
            if new.clause.start - one.end <= ACCEPT_SECONDS
        ]
        return any(_SUGGESTS.search(one.text) for one in near)

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

    def _answered(self, one: _Open) -> ActionItem | None:
        """A request to nobody by name belongs to whoever said yes; with neither nor a date it is talk."""
        item = one.item
        if one.first.kind != "request" or one.taken:
            return item
        answer = self._answer(one.first)
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
        clauses: Of all segments.
        segments: The same segments.
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
