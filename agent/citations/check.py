"""Citations: markers in an answer's text, checked against what tools returned and against the database.

A *claim* is the text up to and including its markers (``agent.citations.markers``). A claim is dropped when
none of its markers is valid, or when it puts words in quotation marks that the segments cited on its line do
not contain. Of what is left, each sentence that claims something and has no marker is marked
(``agent.citations.uncited``), unless it was composed by rule from what tools returned.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from agent.answer import Citation
from agent.citations.markers import (
    Broken,
    Marker,
    Quote,
    Token,
    bullet,
    claims,
    numbered,
    split_markers,
    tokens,
)
from agent.citations.quotes import contains, fold, tidy
from agent.citations.uncited import LEGEND, Facts, mark_uncited, unmarked
from index.records import Segment
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


_NEGATION = re.compile(r"\b(?:no|not|none|nothing|never|nobody|nowhere|without|neither)\b|n['’]t\b", re.I)
_LONGEST_QUOTE = 400

UNVERIFIED = "I could not verify an answer to this against the recordings, so I give none."


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
    """Whether sentences in it are marked."""

    @property
    def text(self) -> str:
        """The text with labels."""
        return render(self.marked_text, self.citations)


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
        self._allowed: set[int] = set()
        self._fresh: set[int] = set()
        self._titles: set[str] = set()
        self._question = question
        self._facts = Facts()
        self._known: dict[int, Segment] = {}
        self._allowed.update(allowed)
        self._titles.update(map(fold, titles))

    def learn(self, result: ToolResult, soon: bool = True) -> None:
        """Add what a tool returned; ``soon`` when the next lines will probably cite it."""
        new = {item.id for item in result.evidence}
        self._allowed |= new
        if soon:
            self._fresh |= new
        self._titles.update(map(fold, result.titles.values()))
        self.learn_facts(result.document())

    def learn_facts(self, told: Mapping[str, Any]) -> None:
        """Add what may be told without a citation: fields that are no evidence."""
        self._facts.learn(told)

    def check_line(self, line: str, by_rule: bool = False) -> Checked:
        """Check one line: its claims that hold, with bullets and headings kept; empty when none does."""
        if not by_rule:
            line = unmarked(line).rstrip()
        prefix = bullet(line)
        made = [_Claim(tuple(claim)) for claim in claims(tokens(line[len(prefix) :]))]
        cited = {marker: found for claim in made for marker in claim.markers if (found := self._run(marker))}
        # A quote may rest on a neighbour's segments, but only on those of claims that hold by themselves.
        sure = [claim for claim in made if self._holds(claim, cited, "", line)]
        on_line = _joined(
            segment for claim in sure for marker in claim.markers for segment in cited.get(marker, ())
        )
        holding = [claim for claim in made if claim in sure or self._holds(claim, cited, on_line, line)]
        dropped = len(made) - len(holding)
        kept = [claim.rebuilt(cited) for claim in holding]
        citations = [
            _citation(cited[marker]) for claim in holding for marker in claim.markers if marker in cited
        ]
        rest = "".join(kept)
        if dropped and not any(character.isalnum() for character in rest):
            return Checked("", (), dropped)
        marked = (prefix + (rest.lstrip() if dropped else rest)).rstrip()
        # What is left out can bring loose quotation marks or brackets together; then markers would be read
        # otherwise than they were checked, and the line goes too.
        if sum(isinstance(part, Marker) for part in split_markers(marked)) != len(citations):
            return Checked("", (), dropped + 1)
        shown = marked if by_rule else mark_uncited(marked, self._facts, self._question)
        return Checked(shown, tuple(citations), dropped, shown != marked)

    def _holds(self, claim: _Claim, cited: dict[Marker, list[Segment]], on_line: str, line: str) -> bool:
        own = [segment for marker in claim.markers for segment in cited.get(marker, ())]
        if claim.cites and not own:
            return False
        text = _joined(own)
        return all(
            contains(text, quote) or contains(on_line, quote) or self._is_name(quote, line)
            for quote in claim.quotes
        )

    def _is_name(self, quote: str, line: str) -> bool:
        folded = fold(quote)
        if not folded or folded in self._titles:
            return True
        return contains(fold(self._question), quote) and _NEGATION.search(line) is not None

    def _load(self, ids: Iterable[int]) -> None:
        wanted = {number for number in ids if number in self._allowed and number not in self._known}
        if wanted:
            # An answer mostly cites what the last tool returned: one query instead of one a line.
            wanted |= self._fresh - self._known.keys()
            self._fresh = set()
            self._known.update((segment.id, segment) for segment in self._segments.segments_by_id(wanted))

    def _run(self, marker: Marker) -> list[Segment]:
        """The segments a marker stands for; empty when it is not valid."""
        self._load((marker.first, marker.last))
        first, last = self._known.get(marker.first), self._known.get(marker.last)
        if first is None or last is None or first.recording != last.recording:
            return []
        if first.id == last.id:
            return [first]
        if last.start < first.start:
            return []
        between = self._segments.segments(first.recording, first.start, max(first.end, last.end))
        return [segment for segment in between if first.start <= segment.start <= last.start]


class LineStream:
    """Checks one answer while it is written: text goes in as it comes, checked lines come out.

    Nothing comes out before the first line with a citation that holds, because an answer of which no claim
    holds is replaced as a whole. All that comes out together is ``checked.text``.
    """

    def __init__(self, checker: Checker, numbers: Mapping[int, int] | None = None) -> None:
        self._checker = checker
        self._numbers = numbers or {}
        self._rest = ""
        self._held: list[Checked] = []
        self._lines: list[str] = []
        self._blank = 0
        self._citations: list[Citation] = []
        self._dropped = 0
        self._uncited = False
        self._by_rule = False

    @property
    def checked(self) -> Checked:
        """What has come out so far."""
        return Checked("\n".join(self._lines), tuple(self._citations), self._dropped, self._uncited)

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
        if not self._citations:
            self._held, self._dropped, self._uncited = [], 0, False

    def finish(self) -> str:
        """The text ends here; returns what was still held back."""
        out = self._line(self._rest) if self._by_rule else self._end_of_claims()
        self._rest = ""
        if self._uncited:
            self._held += [Checked("", ()), Checked(LEGEND, ())]
        return out + self._release()

    def _end_of_claims(self) -> str:
        """All that a model claimed is known; what comes now is composed by rule, or nothing."""
        out = self._line(self._rest)
        self._rest = ""
        if self._dropped and not self._citations:
            self._held = [Checked(UNVERIFIED, ())]
            self._uncited = False
        return out

    def _line(self, line: str) -> str:
        if not self._by_rule:
            line = numbered(line, {number: segment for segment, number in self._numbers.items()})
        checked = self._checker.check_line(line.rstrip(), self._by_rule)
        self._dropped += checked.dropped
        self._citations += checked.citations
        self._uncited = self._uncited or checked.uncited
        if checked.marked_text.strip() or not line.strip():
            self._held.append(checked)
        return self._release() if self._citations else ""

    def _release(self) -> str:
        out = ""
        for checked in self._held:
            if not checked.marked_text:
                # Blank lines wait for what follows, so that none ends the text or begins it.
                self._blank += 1
                continue
            gap = min(self._blank, 1) if self._lines else 0
            out += "\n" * (gap + bool(self._lines)) + checked.text
            self._lines += [""] * gap + [checked.marked_text]
            self._blank = 0
        self._held = []
        return out


@dataclass(frozen=True)
class _Claim:
    tokens: tuple[Token, ...]

    @property
    def markers(self) -> list[Marker]:
        return [token for token in self.tokens if isinstance(token, Marker)]

    @property
    def cites(self) -> bool:
        return any(isinstance(token, (Marker, Broken)) for token in self.tokens)

    @property
    def quotes(self) -> list[str]:
        return [token.text[1:-1] for token in self.tokens if isinstance(token, Quote)]

    def rebuilt(self, valid: dict[Marker, list[Segment]]) -> str:
        """The claim's text with the valid markers only."""
        pieces: list[str] = []
        after_marker = False
        for token in self.tokens:
            if isinstance(token, Marker):
                if token in valid:
                    pieces.append(f" {token}" if after_marker else str(token))
                    after_marker = True
            elif not isinstance(token, Broken):
                pieces.append(token.text if isinstance(token, Quote) else token)
                after_marker = False
        return "".join(pieces)


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


def _joined(segments: Iterable[Segment]) -> str:
    return fold(" ".join(segment.text for segment in segments))
