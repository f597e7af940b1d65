"""Open questions: what people say is undecided or unknown, and questions nobody could answer."""

from __future__ import annotations

import re
from collections.abc import Sequence

from index.records import Segment
from index.summary.clauses import Clause, join, rest_of_sentence, said_before
from index.summary.items import Item

NEIGHBOUR_SECONDS = 10.0
"""Cue sentences this close together speak of one matter."""

_WH = r"(?:how|what|who|whom|when|where|why|which|whether|if)"
_OPEN = re.compile(
    rf"""\b(?:
      leav(?:e|ing)\s+(?:\w+\s+){{0,6}}?open\b | open\s+(?:question|issue|point)
    | (?:stays?|remains?|is\s+still|are\s+still|still)\s+(?:an?\s+)?(?:open|unclear|unknown|undecided)\b
    | (?:still|yet)\s+(?:need|have|has)?\s*to\s+(?:decide|figure|find\s+out|clarify|work\s+out|agree|settle)
    | (?:we|someone|somebody)(?:['’]ll)?\s+(?:need|have|needs|has)\s+to\s+(?:decide|figure\s+out|find\s+out|
        clarify|settle|think\s+about)\b
    | we\s+(?:still\s+)?(?:do\s+not|don['’]t)\s+(?:really\s+|yet\s+|actually\s+)*know\s+(?:yet\s+)?{_WH}\b
    | (?:i|we)\s+(?:still\s+(?:do\s+not|don['’]t)|(?:do\s+not|don['’]t)\s+yet)\s+know\b
    | know\s+yet\b | not\s+(?:yet\s+)?clear\s+(?:yet|{_WH})\b | up\s+in\s+the\s+air
    | undecided | unresolved | to\s+be\s+(?:decided|determined|confirmed)
    | yet\s+to\s+be\s+(?:seen|decided|agreed)
    | (?:we|let['’]s)\s+(?:\w+\s+){{0,2}}?(?:come|get|circle)\s+back\s+to\s+(?:this|that|it)\b
    | let['’]s\s+(?:park|table|postpone)\b | remains\s+to\s+be\s+seen
    | let['’]s\s+(?:take|discuss)\s+(?:that|this|it)\s+(?:offline|later|next|another)
    | let['’]s\s+think\s+about\s+(?:this|that|it)\b
    | we(?:['’]ll|\s+will)\s+have\s+to\s+see | (?:we(?:['’]ll|\s+will)|let['’]s)\s+decide\s+(?:\w+\s+){{0,3}}?
        (?:on\s+\w+day|later|tomorrow|next\s+\w+|another\s+time)\b
    | decide\s+(?:that|this|it|on\s+(?:that|this|it))\s+(?:later|next|another|tomorrow)
    )
    | (?:\bnot|n['’]t)\s+(?:yet\s+|really\s+)*(?:decide|decided|settled|resolved|agreed)\b(?!\s+to\b)""",
    re.IGNORECASE | re.VERBOSE,
)
_NO_ANSWER = re.compile(
    r"^(?:(?:well|hm+|um+|honestly|sorry)[,.]?\s+)*(?:i\s+(?:really\s+)?(?:do\s+not|don['’]t)\s+know\b(?!\s+(?:that|the|him|her))|no\s+idea|"
    r"i\s+have\s+no\s+idea|(?:i['’]m\s+)?not\s+sure(?:\s+yet)?[.,]|nobody\s+knows|we\s+(?:do\s+not|don['’]t)\s+know|"
    r"we(?:['’]d|\s+would)\s+have\s+to\s+(?:check|ask|see)|that['’]s\s+(?:still\s+)?(?:open|unclear))",
    re.IGNORECASE,
)
_PAST = re.compile(
    r"\b(?:last\s+(?:year|month|time)|(?:years?|months?)\s+ago|back\s+then|at\s+the\s+time)\b", re.IGNORECASE
)
_POINTS_BACK = re.compile(r"\b(?:this|that|it)\b", re.IGNORECASE)
ASK_WORDS = 4
"""Shorter questions ("Really?", "How so?") are none that a summary lists."""


def leaves_open(text: str) -> bool:
    """Whether a text says that something is undecided or unknown."""
    return _OPEN.search(text) is not None and _PAST.search(text) is None


def open_questions(clauses: Sequence[Clause]) -> list[Item]:
    """What was left open, in order; neighbouring sentences about one matter are one item."""
    found: list[Item] = []
    for position, clause in enumerate(clauses):
        item = _item(clauses, position)
        if item is None:
            continue
        last = found[-1] if found else None
        near = last is not None and -0.5 <= item.start - last.end <= NEIGHBOUR_SECONDS
        if last and near and (last.speaker == item.speaker or _POINTS_BACK.search(item.text)):
            if not set(item.segments) <= set(last.segments):
                found[-1] = join([last, item])
            continue
        if not said_before(item, found, recap=clause.recap):
            found.append(item)
    return found


def _item(clauses: Sequence[Clause], position: int) -> Item | None:
    clause = clauses[position]
    if clause.text.rstrip().endswith("?"):
        return _unanswered(clauses, position)
    return rest_of_sentence(clauses, position) if leaves_open(clause.text) else None


def _unanswered(clauses: Sequence[Clause], position: int) -> Item | None:
    """A question to which the next voice has no answer."""
    clause = clauses[position]
    if len(clause.segment.text.split()) < ASK_WORDS:
        return None
    for answer in clauses[position + 1 : position + 4]:
        if answer.speaker == clause.speaker or answer.start - clause.end > NEIGHBOUR_SECONDS:
            continue
        if _NO_ANSWER.search(answer.text) and len(answer.segment.text.split()) <= 14:
            return Item(clause.text, clause.start, clause.end, (clause.segment.id,), clause.speaker)
        return None
    return None


def questions_asked(segments: Sequence[Segment], but_by: str | None) -> list[Item]:
    """Every question of some length, but those by one voice (a lecturer's are mostly for effect)."""
    return [
        Item.whole(segment)
        for segment in segments
        if segment.text.rstrip().endswith("?")
        and len(segment.text.split()) >= ASK_WORDS
        and segment.speaker is not None
        and segment.speaker != but_by
    ]
