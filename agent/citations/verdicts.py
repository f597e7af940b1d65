"""Statements of a language model against what was said: three verdicts, and what can be mended.

*fabricated*: words, names or numbers that stand in no cited line; *spliced*: a quote whose words never stand
together; *misattributed*: somebody else, or another place, than the cited lines have. Words are compared by
their stems, in one form (``index.folding``). A statement in another language than the evidence shares none
with it, and is compared by names and numbers alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from rapidfuzz import fuzz

from agent.citations.quotes import INNER_QUOTES, contains, fold
from index.language_names import name_languages
from index.records import Segment
from index.text import search_words, similarity, stem
from index.vocabulary import STOP_WORDS
from moss_audio.timestamps import clock

Verdict = Literal["fabricated", "spliced", "misattributed"]

SHARED = 0.5
"""Share of a statement's content words that have to stand in what it cites, or right beside it."""
NEAREST = 80.0
"""Likeness, of 100, of a quote and the words that were said instead, for those to be put in its place."""
BESIDE_S = 15.0
"""What is said within so many seconds of a cited line helps to understand it."""
COMPARABLE = 0.2
"""Share of a statement's words that stand in the evidence if both are in one language."""
CANDIDATES = 3
"""Lines that are tried in the place of a wrong citation."""

_NAME = re.compile(r"(?<=[\w,;’'\"”)] )[^\W\d_a-z][\w’'-]*")
_TIME = re.compile(r"\d+(?::[0-5]\d){1,2}(?!\d)")


@lru_cache(maxsize=4096)
def stems(text: str) -> frozenset[str]:
    """The words of a text as they are compared, stop words included; numbers as digits."""
    return frozenset(map(stem, search_words(text)))


def content(text: str) -> frozenset[str]:
    """The words that carry the subject."""
    words = search_words(NEGATION.sub(" ", text))
    return frozenset(stem(word) for word in words if word not in STOP_WORDS)


@dataclass(frozen=True)
class Statement:
    """One sentence of an answer, or a part that has citations of its own.

    Attributes:
        text: Its words, without markers.
        quotes: What it puts in quotation marks, names of recordings apart.
    """

    text: str
    quotes: tuple[str, ...] = ()

    @property
    def plain(self) -> str:
        """The words outside its quotes."""
        plain = self.text
        for quote in self.quotes:
            plain = plain.replace(quote, " ")
        return plain


@dataclass
class Evidence:
    """What an answer may rest on: lines that can be cited, and facts that tools told.

    Attributes:
        lines: Segments that tools returned, by id.
        titles: Titles of recordings, by id.
        names: Titles and speakers, folded; they may stand anywhere.
        question: The user's question.
    """

    lines: dict[int, Segment] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    question: str = ""
    _words: set[str] = field(default_factory=set)
    _told: set[str] = field(default_factory=set)
    _remarks: list[str] = field(default_factory=list)

    def add(self, segments: Iterable[Segment]) -> None:
        """Add lines."""
        for segment in segments:
            self.lines[segment.id] = segment
            self._words |= stems(segment.text)
            if segment.speaker:
                self.names.add(fold(segment.speaker))

    def learn(self, told: Mapping[str, Any]) -> None:
        """Add what no line can be cited for: lengths, dates, counts, states, remarks of a tool's result."""
        for key, value in told.items():
            if key in ("note", "error", "answer", "overview") and isinstance(value, str):
                self._remarks.append(value)
            elif key not in ("evidence", "points", "text", "query", "id", "recording", "passages", "topics"):
                meant = " length long last take hours minutes seconds" if key == "duration" else ""
                self._told |= stems(key.replace("_", " ") + meant)
                self._take(key, value)
            elif isinstance(value, Mapping):
                self.learn(value)

    def _take(self, key: str, value: Any) -> None:
        if isinstance(value, Mapping):
            self.learn(value)
        elif isinstance(value, list | tuple):
            self._told.add(str(len(value)))
            for item in value:
                self._take(key, item)
        elif isinstance(value, str):
            if key in ("title", "speakers", "speaker"):
                self.names.add(fold(value))
            self._told |= stems(name_languages([value]) if key.startswith("language") else value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            self._told |= _written(value)

    def tells(self, words: frozenset[str], denies: bool) -> bool:
        """Whether content words are all told, as fields or in one remark that denies as much."""
        remarks = (stems(text) for text in self._remarks if bool(NEGATION.search(text)) == denies)
        return words <= self._told or any(words <= remark for remark in remarks)

    def without_names(self, text: str) -> str:
        """A text without the titles and speakers in it."""
        for name in sorted(self.names, key=len, reverse=True):
            text = _named(name).sub(" ", text)
        return text

    def comparable(self, text: str) -> bool:
        """Whether a text is in the language of the evidence, by the words they share."""
        words = [word for word in stems(text) if not word[0].isdigit()]
        return len(words) < 4 or sum(word in self._words for word in words) >= COMPARABLE * len(words)

    def beside(self, cited: Sequence[Segment]) -> frozenset[str]:
        """The words of cited lines and of those right beside them."""
        near = (
            line
            for line in self.lines.values()
            for one in cited
            if line.recording == one.recording
            and line.start < one.end + BESIDE_S
            and line.end > one.start - BESIDE_S
        )
        return _words_of([*cited, *near])


def _words_of(lines: Iterable[Segment]) -> frozenset[str]:
    return frozenset().union(*(stems(f"{line.text} {line.speaker or ''}") for line in lines))


def judge(statement: Statement, cited: Sequence[Segment], evidence: Evidence) -> Verdict | None:
    """What is wrong with a statement, given the lines it cites; None where nothing is."""
    words = _words_of(cited)
    for quote in statement.quotes:
        if not _says(cited, quote[1:-1]):
            spoken = stems(quote)
            return "spliced" if len(spoken) > 1 and spoken <= words else "fabricated"
    plain = evidence.without_names(statement.plain)
    if numbers(plain) - words - _times(cited, evidence.question):
        return "fabricated"
    if wrong_speaker(statement, cited, evidence) or wrong_title(statement.plain, cited, evidence):
        return "misattributed"
    if not evidence.comparable(plain):
        return None
    known, beside = words | stems(evidence.question), evidence.beside(cited)
    if any(not _heard(name, known) for name in names(plain) | _first_name(plain, beside)):
        return "fabricated"
    told = content(plain)
    if statement.quotes or not told:
        # What stands around a quote only says who said it and what it is about.
        return None
    shared = told & words
    return None if shared and len(told & beside) >= SHARED * len(told) else "fabricated"


def numbers(text: str) -> frozenset[str]:
    """The numbers of a text; small ones in words may be counts or pronouns and are left out."""
    written = set(re.findall(r"\d+", text))
    found = {word for word in map(stem, search_words(text)) if word[0].isdigit()}
    return frozenset(word for word in found if word in written or not re.fullmatch("[0-3]", word))


def names(text: str) -> frozenset[str]:
    """Words with a capital letter inside a sentence."""
    found = frozenset[str]().union(*map(stems, _NAME.findall(text)))
    return frozenset(word for word in found if word not in STOP_WORDS and not word[0].isdigit())


def _first_name(text: str, words: frozenset[str]) -> frozenset[str]:
    """The word that a sentence begins with, where what it does was said: then it is probably a name."""
    found = re.match(r"\W*(?:[A-Z]\w*[.:] )?([^\W\d_a-z][\w’'-]*) ", text)
    if not found or found[1].casefold() in STOP_WORDS:
        return frozenset()
    following = [word for word in search_words(text[found.end() :]) if word not in STOP_WORDS]
    return stems(found[1]) if following and stem(following[0]) in words else frozenset()


def _heard(name: str, known: frozenset[str]) -> bool:
    """Whether a name was said, also as a recogniser writes what sounds like it."""
    return name in known or any(similarity(name, word) > 0 for word in known)


def _times(cited: Sequence[Segment], question: str) -> frozenset[str]:
    """Numbers that name when the cited lines are said, and minutes that the question names."""
    asked = numbers(question)
    times: set[str] = set()
    for line in cited:
        times |= {clock(second) for second in range(int(line.start), int(line.end) + 2)}
        minutes = {str(int(at // 60)) for at in (line.start, line.end)}
        minutes |= {str(int(at // 60) + 1) for at in (line.start, line.end)}
        times |= minutes & asked
    # A range that the question names is told again in the answer.
    return frozenset(times | {number for number in asked if ":" in number})


def wrong_speaker(statement: Statement, cited: Sequence[Segment], evidence: Evidence) -> str:
    """The speaker whom a statement takes for the one who said what it cites, and who did not; else empty.

    It is the one named last before the first quote, else the one named first. Somebody of whom the cited
    lines speak may be named for that.
    """
    text = statement.text
    head = text[: text.index(statement.quotes[0])] if statement.quotes else text
    found = [
        (match.start(), name)
        for name in {line.speaker for line in evidence.lines.values() if line.speaker}
        for match in _named(name).finditer(head)
    ]
    if not found:
        return ""
    name = (max(found) if statement.quotes else min(found))[1]
    says = [line for line in cited if any(_says([line], quote[1:-1]) for quote in statement.quotes)]
    who = {fold(line.speaker) for line in says or cited if line.speaker}
    named = {fold(other) for _, other in found}
    right = fold(name) in who or _says(cited, name) or (named & who and not statement.quotes)
    return "" if right or not who else name


def _named(name: str) -> re.Pattern[str]:
    """A name in a text, in any case and with any marks between its words."""
    words = r"[\W_]+".join(map(re.escape, re.findall(r"[^\W_]+", name)))
    return re.compile(rf"(?<!\w){words}(?!\w)" if words else "(?!)", re.IGNORECASE)


def _says(lines: Iterable[Segment], words: str) -> bool:
    """Whether words stand in the lines one after the other."""
    return contains(fold(" ".join(line.text for line in lines)), words)


def wrong_title(text: str, cited: Sequence[Segment], evidence: Evidence) -> str:
    """A title in a statement that is not that of any recording it cites; else empty."""
    own = {evidence.titles.get(line.recording, "") for line in cited}
    plain = fold(text)
    if any(title and f" {fold(title)} " in f" {plain} " for title in own):
        return ""
    others = [title for title in evidence.titles.values() if title not in own and fold(title)]
    # A title of one word may be any word, but not in quotation marks.
    spelt = (title for title in others if " " in title.strip() and contains(plain, title))
    return next(spelt, "") or next((title for title in others if f"“{title}”" in text), "")


@dataclass(frozen=True)
class Mended:
    """A statement that holds on the lines it cites now; ``quoted`` where they speak for themselves."""

    text: str
    cited: tuple[Segment, ...]
    quoted: bool = False


def mend(statement: Statement, cited: Sequence[Segment], evidence: Evidence) -> Mended | None:
    """The statement with the right citation, speaker, time or quote; else the quote alone; None for neither.

    Args:
        statement: What does not hold.
        cited: The lines that it cites, in time order; empty where it cites none that there are.
        evidence: Everything it may rest on.
    """
    if cited and (text := _reworded(statement, cited, evidence)):
        return Mended(text, tuple(cited))
    best = [line for line in ranked(statement, evidence) if _closeness(statement, line) >= SHARED]
    best = best[:CANDIDATES]
    others = [line for line in best if cited and line not in cited]
    for lines in [[line] for line in best] + [sorted([*cited, line], key=place) for line in others]:
        if judge(statement, lines, evidence) is None:
            return Mended(statement.text, tuple(lines))
    for line in best:
        if text := _reworded(statement, [line], evidence):
            return Mended(text, (line,))
    rest = list(cited[:1]) or best[:1]
    return Mended("", tuple(rest), quoted=True) if rest else None


def ranked(statement: Statement, evidence: Evidence) -> list[Segment]:
    """The lines that share words with a statement, the closest first."""
    close = [(_closeness(statement, line), line) for line in evidence.lines.values()]
    return [line for share, line in sorted(close, key=lambda pair: -pair[0]) if share > 0]


def _closeness(statement: Statement, line: Segment) -> float:
    words = content(statement.text)
    own = stems(f"{line.text} {line.speaker or ''}")
    quoted = sum(_says([line], quote[1:-1]) for quote in statement.quotes)
    return quoted + len(words & own) / max(1, len(words))


def place(line: Segment) -> tuple[str, float]:
    """What lines are ordered by."""
    return line.recording, line.start


def _reworded(statement: Statement, cited: Sequence[Segment], evidence: Evidence) -> str:
    """The statement with what is wrong in it put right from the lines it cites; empty where that fails."""
    text = statement.text
    quotes = []
    for quote in statement.quotes:
        if not _says(cited, quote[1:-1]):
            if not (near := nearest(quote[1:-1], cited)):
                return ""
            text = text.replace(quote, quote[0] + near + quote[-1])
            quote = quote[0] + near + quote[-1]
        quotes.append(quote)
    made = Statement(text, tuple(quotes))
    name = wrong_speaker(made, cited, evidence)
    true = {line.speaker for line in cited if line.speaker}
    if name and len(true) == 1:
        text = _named(name).sub(lambda _: str(*true), text)
    title = wrong_title(made.plain, cited, evidence)
    if title:
        text = text.replace(title, evidence.titles.get(cited[0].recording, title))
    for time in _TIME.findall(made.plain):
        if time not in _times(cited, evidence.question):
            text = text.replace(time, clock(cited[0].start))
    made = Statement(text, tuple(quotes))
    return text if text != statement.text and judge(made, cited, evidence) is None else ""


def nearest(quote: str, cited: Sequence[Segment]) -> str:
    """The run of words in the cited lines that is most like a quote; empty where none is like it."""
    wanted, best, found = fold(quote), NEAREST, ""
    size = len(quote.split())
    for line in cited:
        words = line.text.split()
        for length in {max(1, size - 1), size, size + 1, size + 2} if len(words) > 1 else {1}:
            for at in range(max(1, len(words) - length + 1)):
                window = " ".join(words[at : at + length])
                score = fuzz.ratio(fold(window), wanted, score_cutoff=best)
                if score > best:
                    best, found = score, window
    return found.strip(" ,;:").translate(INNER_QUOTES)


NEGATION = re.compile(
    r"\b(?:no|not|none|nothing|never|nobody|nowhere|without|neither|cannot|kein\w*|nicht|nichts|nie\w*)\b"
    r"|n['’]t\b|没有|未|不",
    re.IGNORECASE,
)


def _written(value: float) -> set[str]:
    """A number, and a length of time also as a clock has it and in minutes, as people write them."""
    if not 0 <= value < 1e9:
        return {str(value)}
    ways = {f"{value:g}", f"{value:.1f}", str(round(100 * value))}
    for seconds in {round(value), int(value)}:
        hours, minutes, rest = seconds // 3600, seconds // 60 % 60, seconds % 60
        numbers = (seconds, seconds // 60, round(seconds / 60), hours, minutes, rest)
        ways |= {clock(seconds), f"{hours}:{minutes:02d}:{rest:02d}", *map(str, numbers)}
    return ways
