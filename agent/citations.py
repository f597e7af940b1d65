"""Citations: markers in an answer's text, checked against what tools returned and against the database.

A marker is ``[#12]`` (one segment) or ``[#12-#18]`` (a run of segments, first and last). Markers inside
quotation marks are words of a recording, not citations: a transcript cannot cite on its own behalf.

A *claim* is the text up to and including its markers. A claim is dropped when none of its markers is
valid, or when it puts words in quotation marks that the segments cited on its line do not contain.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.answer import Citation
from index.clock import clock
from index.records import Segment


class Segments(Protocol):
    """The part of ``index.library.Library`` that a check reads."""

    def segments_by_id(self, ids: Iterable[int]) -> list[Segment]:
        """Segments by number; unknown numbers are left out."""
        ...

    def segments(self, recording: str, start: float | None = None, end: float | None = None) -> list[Segment]:
        """Segments of a stretch, in time order."""
        ...


@dataclass(frozen=True)
class Marker:
    """A citation in marked text: a run of segments from ``first`` to ``last`` (the same for one)."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"[#{self.first}]" if self.first == self.last else f"[#{self.first}-#{self.last}]"


@dataclass(frozen=True)
class _Quote:
    text: str


@dataclass(frozen=True)
class _Broken:
    """Looks like a marker and is none."""


_Token = str | Marker | _Quote | _Broken

_TOKEN = re.compile(
    r"(?P<quote>“[^“”]*”|„[^„“”]*[“”]|«[^«»]*»|「[^「」]*」|\"[^\"]*\")|(?P<marker>\[#[^\[\]]*\])"
)
_PART = re.compile(r"\s*#?\s*([0-9]{1,18})(?:\s*[-–—]\s*#?\s*([0-9]{1,18}))?\s*")
_EXACT = re.compile(r"\[#([0-9]{1,18})(?:-#([0-9]{1,18}))?\]")
_BULLET = re.compile(r"\s*(?:[-*•]\s+|\d{1,3}[.)]\s+|#{1,6}\s+|>\s+)*")
_AFTER_MARKER = re.compile(r"[.,;:!?…)\]}*_]*")
_ELLIPSIS = re.compile(r"\[?(?:\.{3,}|…)\]?")
_NEGATION = re.compile(r"\b(?:no|not|none|nothing|never|nobody|nowhere|without|neither)\b|n['’]t\b", re.I)
_LONGEST_QUOTE = 400

UNVERIFIED = "I could not verify an answer to this against the recordings, so I give none."


def split_markers(text: str) -> list[str | Marker]:
    """Cut marked text at its markers; ``"".join(map(str, parts))`` gives the text back.

    Only markers outside quotation marks count, as in the check.
    """
    parts: list[str | Marker] = []

    def plain(piece: str) -> None:
        if parts and isinstance(parts[-1], str):
            parts[-1] += piece
        elif piece:
            parts.append(piece)

    for number, line in enumerate(text.split("\n")):
        plain("\n" if number else "")
        at = 0
        for match in _TOKEN.finditer(line):
            exact = _EXACT.fullmatch(match.group()) if match.group("marker") else None
            plain(line[at : match.start()])
            if exact:
                parts.append(Marker(int(exact[1]), int(exact[2] or exact[1])))
            else:
                plain(match.group())
            at = match.end()
        plain(line[at:])
    return parts


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
    """Text of which every citation holds."""

    marked_text: str
    citations: tuple[Citation, ...]
    dropped: int = 0
    """Claims left out."""

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
        self._question = fold(question)
        self._known: dict[int, Segment] = {}
        self.learn(allowed, titles, soon=False)

    def learn(self, allowed: Iterable[int], titles: Iterable[str] = (), soon: bool = True) -> None:
        """Add what a tool result brought; ``soon`` when the next lines will probably cite it."""
        new = set(allowed)
        self._allowed |= new
        if soon:
            self._fresh |= new
        self._titles.update(fold(title) for title in titles)

    def check(self, text: str) -> Checked:
        """Check a whole answer; when nothing of what it claimed holds, it becomes ``UNVERIFIED``."""
        tokens = [token for line in text.split("\n") for token in _tokens(line)]
        markers = [token for token in tokens if isinstance(token, Marker)]
        self._load(number for marker in markers for number in (marker.first, marker.last))
        stream = LineStream(self)
        stream.feed(text)
        stream.finish()
        return stream.checked

    def check_line(self, line: str) -> Checked:
        """Check one line: its claims that hold, with bullets and headings kept; empty when none does."""
        indent = _BULLET.match(line)
        prefix = indent.group() if indent else ""
        claims = [_Claim.of(tokens) for tokens in _claims(_tokens(line[len(prefix) :]))]
        cited = {
            marker: found for claim in claims for marker in claim.markers if (found := self._run(marker))
        }
        # A quote may rest on a neighbour's segments, but only on those of claims that hold by themselves.
        sure = [claim for claim in claims if self._holds(claim, cited, "", line)]
        on_line = _joined(one for claim in sure for marker in claim.markers for one in cited.get(marker, ()))
        holding = [claim for claim in claims if claim in sure or self._holds(claim, cited, on_line, line)]
        dropped = len(claims) - len(holding)
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
        return Checked(marked, tuple(citations), dropped)

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
        return contains(self._question, quote) and _NEGATION.search(line) is not None

    def _load(self, ids: Iterable[int]) -> None:
        wanted = {one for one in ids if one in self._allowed and one not in self._known}
        if wanted:
            # An answer mostly cites what the last tool returned: one query instead of one a line.
            wanted |= self._fresh - self._known.keys()
            self._fresh = set()
            self._known.update((one.id, one) for one in self._segments.segments_by_id(wanted))

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
        return [one for one in between if first.start <= one.start <= last.start]


class LineStream:
    """Checks an answer while it is written: text goes in as it comes, checked lines come out.

    Nothing comes out before the first line with a citation that holds, because an answer of which no claim
    holds is replaced as a whole. All that comes out together is ``checked.text``.
    """

    def __init__(self, checker: Checker) -> None:
        self._checker = checker
        self._rest = ""
        self._held: list[Checked] = []
        self._lines: list[str] = []
        self._blank = 0
        self._citations: list[Citation] = []
        self._dropped = 0

    @property
    def checked(self) -> Checked:
        """What has come out so far."""
        return Checked("\n".join(self._lines), tuple(self._citations), self._dropped)

    def feed(self, text: str) -> str:
        """Take the next piece of text; returns the text, with labels, that is certain now."""
        *whole, self._rest = (self._rest + text).split("\n")
        return "".join(self._line(line) for line in whole)

    def finish(self) -> str:
        """The text ends here; returns what was still held back."""
        out = self._line(self._rest)
        self._rest = ""
        if self._dropped and not self._citations:
            self._held = [Checked(UNVERIFIED, ())]
        return out + self._release()

    def _line(self, line: str) -> str:
        one = self._checker.check_line(line.rstrip())
        self._dropped += one.dropped
        self._citations += one.citations
        if one.marked_text.strip() or not line.strip():
            self._held.append(one)
        return self._release() if self._citations else ""

    def _release(self) -> str:
        out = ""
        for one in self._held:
            if not one.marked_text:
                # Blank lines wait for what follows, so that none ends the text or begins it.
                self._blank += 1
                continue
            gap = min(self._blank, 1) if self._lines else 0
            out += "\n" * (gap + bool(self._lines)) + one.text
            self._lines += [""] * gap + [one.marked_text]
            self._blank = 0
        self._held = []
        return out


@dataclass(frozen=True)
class _Claim:
    tokens: tuple[_Token, ...]

    @classmethod
    def of(cls, tokens: Sequence[_Token]) -> _Claim:
        return cls(tuple(tokens))

    @property
    def markers(self) -> list[Marker]:
        return [one for one in self.tokens if isinstance(one, Marker)]

    @property
    def cites(self) -> bool:
        return any(isinstance(one, (Marker, _Broken)) for one in self.tokens)

    @property
    def quotes(self) -> list[str]:
        return [one.text[1:-1] for one in self.tokens if isinstance(one, _Quote)]

    def rebuilt(self, valid: dict[Marker, list[Segment]]) -> str:
        """The claim's text with the valid markers only."""
        pieces: list[str] = []
        after_marker = False
        for token in self.tokens:
            if isinstance(token, Marker):
                if token in valid:
                    pieces.append(f" {token}" if after_marker else str(token))
                    after_marker = True
            elif not isinstance(token, _Broken):
                pieces.append(token.text if isinstance(token, _Quote) else token)
                after_marker = False
        return "".join(pieces)


def _tokens(line: str) -> list[_Token]:
    """A line as text, quotes and markers; lists such as ``[#1, #4]`` become several markers."""
    tokens: list[_Token] = []
    at = 0
    for match in _TOKEN.finditer(line):
        if match.start() > at:
            tokens.append(line[at : match.start()])
        if match.group("quote"):
            tokens.append(_Quote(match.group()))
        else:
            tokens += _markers(match.group()[2:-1])
        at = match.end()
    if at < len(line):
        tokens.append(line[at:])
    return tokens


def _markers(inside: str) -> list[Marker | _Broken]:
    markers: list[Marker | _Broken] = []
    for part in re.split(r"[,;]", inside):
        match = _PART.fullmatch(part)
        if match is None:
            return [_Broken()]
        markers.append(Marker(int(match[1]), int(match[2] or match[1])))
    return markers


def _claims(tokens: Iterable[_Token]) -> list[list[_Token]]:
    """Group tokens: a claim ends with its markers and the punctuation that follows them."""
    claims: list[list[_Token]] = [[]]
    marked = False
    for token in tokens:
        if isinstance(token, (Marker, _Broken)):
            marked = True
        elif marked and isinstance(token, str):
            after = _AFTER_MARKER.match(token)
            cut = after.end() if after else 0
            if not token[cut:].strip():
                cut = len(token)
            if cut:
                claims[-1].append(token[:cut])
            if cut == len(token):
                continue
            claims.append([])
            token, marked = token[cut:], False
        elif marked:
            claims.append([])
            marked = False
        claims[-1].append(token)
    return [claim for claim in claims if claim]


def _citation(segments: Sequence[Segment]) -> Citation:
    """One citation of a run: its quote is its text, cut at a segment's end when it is long."""
    quote = ""
    for segment in segments:
        longer = f"{quote} {tidy(segment.text)}".strip()
        if quote and len(longer) > _LONGEST_QUOTE:
            break
        quote = longer
    last = max(segments, key=lambda one: one.end)
    return Citation(segments[0].recording, segments[0].start, last.end, quote)


def _joined(segments: Iterable[Segment]) -> str:
    return fold(" ".join(one.text for one in segments))


def tidy(text: str) -> str:
    """Text on one line with single spaces."""
    return " ".join(text.split())


def quoted(text: str) -> str:
    """Words of a recording in quotation marks: verbatim, on one line; inner double quotes become single."""
    return "“" + tidy(text).translate(_INNER_QUOTES) + "”"


_INNER_QUOTES = str.maketrans('“”„"«»「」', "‘’‚'‹›‘’")
_FOLDED = str.maketrans(dict.fromkeys("“”„\"«»‹›「」‘’‚'`´", " ") | dict.fromkeys("‐‑‒–—―", "-"))


def fold(text: str) -> str:
    """Text as it is compared: lower case, single spaces, quotation marks and outer punctuation gone."""
    return tidy(text.casefold().translate(_FOLDED)).strip(" .,;:!?…-")


def contains(folded: str, quote: str) -> bool:
    """Whether the folded text contains the quote's words, in order where an ellipsis divides them."""
    parts = [part for piece in _ELLIPSIS.split(quote) if (part := fold(piece))]
    at = 0
    for part in parts:
        at = _find_words(folded, part, at)
        if at < 0:
            return False
    return bool(parts)


def _find_words(text: str, words: str, start: int) -> int:
    """Where ``words`` end in ``text`` as whole words at or after ``start``; -1 when they do not occur."""
    at = text.find(words, start)
    while at >= 0:
        end = at + len(words)
        before = at == 0 or not (text[at - 1].isalnum() and words[0].isalnum())
        after = end == len(text) or not (text[end].isalnum() and words[-1].isalnum())
        if before and after:
            return end
        at = text.find(words, at + 1)
    return -1
