"""Citations: an answer's sentences, checked one by one against what tools returned and against the database.

A sentence that does not hold on what it cites (``agent.citations.verdicts``) is mended from the evidence, or
the words that were said stand in its place, or it is left out. A sentence that cites nothing is given the
citation it rests on; where there is none, it is marked. What was composed by rule is only looked up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from agent.answer import Citation
from agent.citations.markers import (
    Broken,
    Marker,
    Quote,
    bullet,
    numbered,
    split_markers,
    statements,
    tokens,
)
from agent.citations.quotes import contains, fold, quoted, tidy
from agent.citations.verdicts import (
    NEGATION,
    SHARED,
    Evidence,
    Statement,
    Verdict,
    content,
    judge,
    mend,
    place,
    ranked,
    stems,
)
from index.records import Segment
from index.vocabulary import word_set
from moss_audio.timestamps import clock
from tools.result import ToolResult


class Segments(Protocol):
    """The part of ``index.store.library.Library`` that a check reads."""

    def segments_by_id(self, ids: Iterable[int]) -> list[Segment]:
        """Segments by number; unknown numbers are left out."""
        ...

    def segments(self, recording: str, start: float | None = None, end: float | None = None) -> list[Segment]:
        """Segments of a stretch, in time order."""
        ...


_LONGEST_QUOTE = 400

UNVERIFIED = "I could not verify an answer to this against the recordings."
MARK = "[?]"
"""Stands where a citation would."""
LEGEND = f"{MARK} This could not be checked against the recordings."
"""Stands once, below an answer with marks."""

_MOST_READINGS = 4
"""Times that a checked line is read again, until nothing changes."""

_TAIL = " \t.,;:!?…。！？，；|*_"
_HEADING = re.compile(r"\*\*[^*]{1,100}\*\*:?|__[^_]{1,100}__:?")
_LONGEST_HEADING = 8
_LONGEST_LEAD = 12
"""Words of a heading, and of a line that ends with a colon."""
_FEWEST_SHARED = 2
"""Content words that a sentence without a citation shares with a line it is given for one."""
_CLAUSE = re.compile(
    r"[;,，；]|\b(?:but|however|although|because|while|whereas|aber|doch)\b"
    r"|\band\b(?=(?!.*\b(?:no|not|nothing|never)\b).*\b(?:is|are|was|were|has|had|have|did)\b)"
)
_LEADS = re.compile(
    r"\s*(?:here(?:'s| is| are)|below|let me|i(?:'ll| will) (?:look|search|listen|read))\b", re.I
)
_TALK = frozenset().union(
    *map(
        stems,
        word_set(
            "hello welcome thanks sorry unfortunately help look search find read listen "
            "ask question answer say said mention discuss talk tell know information recording "
            "transcript minute speaker speak relevant found enough"
        ),
    )
)
"""What an answer may say of itself, besides the words of the question."""


def label(citation: Citation) -> str:
    """How a citation reads in an answer's text: ``[2:05]``."""
    return f"[{clock(citation.start)}]"


def render(marked_text: str, citations: Sequence[Citation]) -> str:
    """Marked text with each marker replaced by its citation's label, in order."""
    remaining = iter(citations)
    parts = split_markers(marked_text)
    return "".join(part if isinstance(part, str) else label(next(remaining)) for part in parts)


@dataclass(frozen=True)
class Checked:
    """Text of which every citation holds, and of which every claim has one or is marked."""

    marked_text: str
    citations: tuple[Citation, ...]
    dropped: int = 0
    """Claims left out."""
    uncited: bool = False
    """Whether sentences in it are marked as such that could not be checked."""
    verdicts: tuple[Verdict, ...] = ()
    """What was wrong with the statements that did not hold as they were written."""

    @property
    def text(self) -> str:
        """The text with labels."""
        return render(self.marked_text, self.citations)


_LEFT_OUT = Checked("", (), dropped=1)
"""What becomes of a statement that rests on nothing."""


@dataclass(frozen=True)
class _Piece:
    """One statement of a line.

    Attributes:
        statement: Its words and quotes.
        kept: It with the markers that are valid.
        cites: Whether it has markers, valid or not.
        cited: The segments of the valid ones, in time order.
    """

    statement: Statement
    kept: Checked
    cites: bool
    cited: list[Segment]

    def holds(self, said: str) -> bool:
        """Whether all it quotes is in a folded text, and its markers are not all invalid."""
        quotes = (quote[1:-1] for quote in self.statement.quotes)
        return bool(self.cited or not self.cites) and all(contains(said, quote) for quote in quotes)


class Checker:
    """Checks text against the segments that tools returned in a conversation.

    Args:
        segments: Where segments are looked up; the database has the last word.
        allowed: Ids of segments that tools returned in this conversation.
        titles: Names that may stand in quotation marks without a citation: titles of recordings.
        question: The user's question; its words may be repeated in quotation marks in a denial
            (``nothing was said about “penguins”``).
    """

    def __init__(
        self, segments: Segments, allowed: Iterable[int] = (), titles: Iterable[str] = (), question: str = ""
    ) -> None:
        self._segments = segments
        self._allowed = set(allowed)
        self._fresh = set(self._allowed)
        self._evidence = Evidence(names=set(map(fold, titles)), question=question)

    def learn(self, result: ToolResult) -> None:
        """Add what a tool returned."""
        new = {item.id for item in result.evidence}
        self._allowed |= new
        self._fresh |= new - self._evidence.lines.keys()
        self._evidence.titles.update(result.titles)
        self._evidence.names.update(map(fold, result.titles.values()))
        self.learn_facts(result.document())

    def learn_facts(self, told: Mapping[str, Any]) -> None:
        """Add what may be told without a citation: fields that are no evidence."""
        self._evidence.learn(told)

    def check_line(self, line: str, by_rule: bool = False) -> Checked:
        """Check one line: its statements that hold or were mended, with bullets and headings kept."""
        if self._fresh:
            self._evidence.add(self._segments.segments_by_id(self._fresh))
            self._fresh = set()
        checked = self._check(line if by_rule else unmarked(line).rstrip(), by_rule)
        dropped, verdicts = checked.dropped, checked.verdicts
        # What was left out or put in may change where sentences end and what they rest on.
        for _ in range(0 if by_rule else _MOST_READINGS):
            before, checked = checked, self._check(unmarked(checked.marked_text).rstrip())
            if checked.marked_text == before.marked_text:
                break
            dropped, verdicts = dropped + checked.dropped, verdicts + checked.verdicts
        return replace(checked, dropped=dropped, verdicts=verdicts)

    def _check(self, line: str, by_rule: bool = False) -> Checked:
        prefix = bullet(line)
        text = line[len(prefix) :]
        pieces = [self._read(piece) for piece in statements(text)]
        if by_rule:
            said = fold(" ".join(segment.text for piece in pieces for segment in piece.cited))
            kept = [piece.kept if piece.holds(said) else _LEFT_OUT for piece in pieces]
        else:
            held = [self._cited(piece) if piece.cites else None for piece in pieces]
            # What cites nothing may rest on what its neighbours cite.
            said = fold(" ".join(citation.quote for item in held if item for citation in item.citations))
            heading = _is_heading(text, "#" in prefix)
            kept = [
                item or self._uncited(piece.statement, said, heading)
                for item, piece in zip(held, pieces, strict=True)
            ]
        dropped = sum(item.dropped for item in kept)
        rest = "".join(item.marked_text for item in kept)
        if dropped and not any(map(str.isalnum, rest)):
            return Checked("", (), dropped)
        marked = (prefix + (rest.lstrip() if dropped else rest)).rstrip()
        citations = tuple(citation for item in kept for citation in item.citations)
        # What is left out can bring loose quotation marks or brackets together; then markers would be read
        # otherwise than they were checked, and the line goes too.
        markers = sum(isinstance(part, Marker) for part in split_markers(marked))
        if markers != len(citations) or any(isinstance(part, Broken) for part in tokens(marked)):
            return Checked("", (), dropped + 1)
        verdicts = tuple(verdict for item in kept for verdict in item.verdicts)
        return Checked(marked, citations, dropped, any(item.uncited for item in kept), verdicts)

    def _read(self, text: str) -> _Piece:
        words, marked, after_marker = "", "", False
        quotes, runs = list[str](), list[list[Segment]]()
        parts = tokens(text)
        for part in parts:
            if isinstance(part, Marker) and (run := self._run(part)):
                marked += f" {part}" if after_marker else str(part)
                runs.append(run)
                after_marker = True
            elif isinstance(part, (str, Quote)):
                said = part if isinstance(part, str) else part.text
                words, marked, after_marker = words + said, marked + said, False
                if isinstance(part, Quote) and not self._is_name(said[1:-1], text):
                    quotes.append(said)
        cites = any(isinstance(part, (Marker, Broken)) for part in parts)
        lines = {segment.id: segment for run in runs for segment in run}
        kept = Checked(marked, tuple(map(_citation, runs)))
        return _Piece(Statement(words, tuple(quotes)), kept, cites, sorted(lines.values(), key=place))

    def _cited(self, piece: _Piece) -> Checked:
        """What becomes of a statement with citations."""
        statement = piece.statement
        if not any(map(str.isalnum, statement.text)):
            return piece.kept
        verdict = judge(statement, piece.cited, self._evidence) if piece.cited else "fabricated"
        if verdict is not None:
            return self._mended(statement, piece.cited, verdict)
        if statement.quotes or self._evidence.comparable(statement.plain):
            return piece.kept
        return replace(piece.kept, marked_text=_with_mark(piece.kept.marked_text), uncited=True)

    def _mended(
        self, statement: Statement, cited: Sequence[Segment], verdict: Verdict, quoting: bool = True
    ) -> Checked:
        made = mend(statement, cited, self._evidence)
        if made is None or (made.quoted and not quoting):
            return replace(_LEFT_OUT, verdicts=(verdict,))
        citations = tuple(_citation([segment]) for segment in made.cited)
        if verdict == "fabricated" and not made.quoted and made.text == statement.text and cited:
            # It was said, but elsewhere.
            verdict = "misattributed"
        text = re.sub(r"(?<!\s)\s{1,3}(?=[.,;:!?…])", "", made.text)
        if made.quoted:
            line = made.cited[0]
            text = f"{tidy(line.speaker or 'Somebody')}: {quoted(line.text)}"
        gap = statement.text[len(statement.text.rstrip()) :]
        markers = " ".join(str(Marker(segment.id, segment.id)) for segment in made.cited)
        text = _with_mark(text.rstrip(), markers)
        # As of a statement that was not mended: where words cannot be compared, it is not checked.
        unsure = not made.quoted and not statement.quotes and not self._evidence.comparable(made.text)
        text = _with_mark(text) if unsure else text
        return Checked(text + gap, citations, uncited=unsure, verdicts=(verdict,))

    def _uncited(self, statement: Statement, said: str, heading: bool) -> Checked:
        """What becomes of a statement without citations, on a line whose citations say so much."""
        text = statement.text
        rests = statement.quotes and all(contains(said, quote[1:-1]) for quote in statement.quotes)
        says_nothing = heading or not any(map(str.isalnum, text))
        if rests or says_nothing or (not statement.quotes and self._claims_nothing(text, bool(said))):
            return Checked(text, ())
        # Names and times can be put right.
        words = {word for word in content(self._evidence.without_names(text)) if ":" not in word}
        for line in ranked(statement, self._evidence)[:3]:
            enough = len(words & stems(line.text)) >= max(_FEWEST_SHARED, 1.5 * SHARED * len(words))
            if not (enough or statement.quotes):
                continue
            if (verdict := judge(statement, [line], self._evidence)) is not None:
                kept = self._mended(statement, [line], verdict, quoting=False)
                if not kept.dropped:
                    return kept
                continue
            gap = text[len(text.rstrip()) :]
            marker = str(Marker(line.id, line.id))
            return Checked(_with_mark(text.rstrip(), marker) + gap, (_citation([line]),))
        if statement.quotes:
            return self._mended(statement, (), "fabricated")
        return Checked(_with_mark(text), (), uncited=True)

    def _claims_nothing(self, text: str, may_rest: bool) -> bool:
        """Whether a sentence asks, leads to a list, denies, talks to the user, or tells what tools told."""
        end = text.rstrip(" \t*_)”\"'")
        plain = self._evidence.without_names(text)
        words = content(plain)
        if end.endswith(("?", "？")) or (end.endswith((":", "：")) and len(text.split()) <= _LONGEST_LEAD):
            return True
        asked = stems(self._evidence.question)
        denies = NEGATION.search(text) is not None
        if not words:
            return may_rest or denies or plain != text
        if words <= _TALK or self._evidence.tells(words, denies):
            return True
        if _LEADS.match(text) and " that " not in text and words <= _TALK | asked:
            return True
        return denies and all(
            content(clause) <= (_TALK | asked if NEGATION.search(clause) else _TALK)
            for clause in _CLAUSE.split(plain)
        )

    def _is_name(self, quote: str, line: str) -> bool:
        folded = fold(quote)
        if not folded or folded in self._evidence.names:
            return True
        return contains(fold(self._evidence.question), quote) and NEGATION.search(line) is not None

    def _run(self, marker: Marker) -> list[Segment]:
        """The segments a marker stands for; empty when it is not valid."""
        known = self._evidence.lines
        first, last = known.get(marker.first), known.get(marker.last)
        if first is None or last is None or first.recording != last.recording:
            return []
        if first.id == last.id:
            return [first]
        if last.start < first.start:
            return []
        between = self._segments.segments(first.recording, first.start, max(first.end, last.end))
        return [segment for segment in between if first.start <= segment.start <= last.start]


def unmarked(line: str) -> str:
    """A line without marks and without their legend: a model may have learnt them from its answers."""
    line = line.replace(LEGEND, "")
    while MARK in line:
        before, _, after = line.partition(MARK)
        line = before.rstrip(" \t") + after
    return "" if line.strip() == LEGEND.removeprefix(MARK).strip() else line


def _is_heading(text: str, signed: bool) -> bool:
    bold = _HEADING.fullmatch(text.strip()) is not None
    short = len(text.split()) <= _LONGEST_HEADING
    return short and (signed or bold) and not text.rstrip(" *_:").endswith((".", "!"))


def _with_mark(text: str, mark: str = MARK) -> str:
    at = len(text)
    while at and (text[at - 1] in _TAIL or text[at - 1].isspace()):
        at -= 1
    # Emphasis that ends here belongs to what it encloses.
    while at < len(text) and text[at] in "*_":
        at += 1
    return f"{text[:at].rstrip()} {mark}{text[at:]}"


class LineStream:
    """Checks one answer while it is written: text goes in as it comes, checked lines come out.

    Nothing comes out before the first line with a citation that holds, because an answer of which no claim
    holds is replaced as a whole. All that comes out together is ``checked.text``.
    """

    def __init__(self, checker: Checker, numbers: Mapping[int, int] | None = None) -> None:
        self._checker = checker
        self._numbers = numbers
        self._rest = ""
        self._held: list[Checked] = []
        self._blank = 0
        self._by_rule = False
        self.checked = Checked("", ())
        """The text that has come out so far, and what was found out about all that was read."""

    def feed(self, text: str, by_rule: bool = False) -> str:
        """Take the next piece of text; returns the text, with labels, that is certain now.

        Args:
            text: More of the answer.
            by_rule: Whether this, and all that follows, was composed by rule.
        """
        out = ""
        if by_rule and not self._by_rule:
            out = self._end_of_claims()
            self._by_rule = True
        *whole, self._rest = (self._rest + text).split("\n")
        return out + "".join(self._line(line) for line in whole)

    def forget(self) -> None:
        """Leave out the line that is not finished, and all before it where nothing has come out yet."""
        self._rest = ""
        if not self.checked.citations:
            self._held, self.checked = [], replace(self.checked, dropped=0, uncited=False)

    def finish(self) -> str:
        """The text ends here; returns what was still held back."""
        out = self._line(self._rest) if self._by_rule else self._end_of_claims()
        self._rest = ""
        if self.checked.uncited:
            self._held += [Checked("", ()), Checked(LEGEND, ())]
        return out + self._release()

    def _end_of_claims(self) -> str:
        """All that a model claimed is known; what comes now is composed by rule, or nothing."""
        out = self._line(self._rest)
        self._rest = ""
        if self.checked.dropped and not self.checked.citations:
            self._held = [Checked(UNVERIFIED, ())]
            self.checked = replace(self.checked, uncited=False)
        return out

    def _line(self, line: str) -> str:
        if not self._by_rule and self._numbers is not None:
            line = numbered(line, {number: segment for segment, number in self._numbers.items()})
        checked = self._checker.check_line(line.rstrip(), self._by_rule)
        so_far = self.checked
        self.checked = Checked(
            so_far.marked_text,
            so_far.citations + checked.citations,
            so_far.dropped + checked.dropped,
            so_far.uncited or checked.uncited,
            so_far.verdicts + checked.verdicts,
        )
        if checked.marked_text.strip() or not line.strip():
            self._held.append(checked)
        return self._release() if self.checked.citations else ""

    def _release(self) -> str:
        out, text = "", self.checked.marked_text
        for checked in self._held:
            if not checked.marked_text:
                # Blank lines wait for what follows, so that none ends the text or begins it.
                self._blank += 1
                continue
            gap = "\n" * (1 + min(self._blank, 1)) if text else ""
            out, text = out + gap + checked.text, text + gap + checked.marked_text
            self._blank = 0
        self._held, self.checked = [], replace(self.checked, marked_text=text)
        return out


def _citation(segments: Sequence[Segment]) -> Citation:
    """One citation of a run: its quote is its text, cut at a segment's end when it is long."""
    quote = ""
    for segment in segments:
        longer = f"{quote} {tidy(segment.text)}".strip()
        if quote and len(longer) > _LONGEST_QUOTE:
            break
        quote = longer
    last = max(segments, key=lambda segment: segment.end)
    return Citation(segments[0].recording, segments[0].start, last.end, quote)
