"""What tools told about recordings that no segment can be cited for: titles, lengths, speakers, remarks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from agent.comparing import fold

NAME = "\x03"
"""What stands for a name of the record in text whose names were blotted out."""

_STATEMENTS = ("note", "error", "answer", "overview")
"""Fields whose value is said about a recording, in words."""
_SPOKEN = ("evidence", "points", "text", "query", "segments")
"""Fields that hold what was said, which is to be cited, or only repeat what was asked for."""
_OF_CITED = ("title", "start", "end")
"""What is learnt of something that has segments to cite."""
_TOKEN = re.compile(r"\d+(?::\d\d)+|\d+(?:[.,]\d+)*|[^\W\d_]+(?:['’][^\W\d_]+)*|\x03")
_WRITTEN_OUT = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty"
)
_NUMBERS = {word: str(number) for number, word in enumerate(_WRITTEN_OUT.split())}


def words_of(text: str) -> list[str]:
    """The words and numbers of a text, small; numbers up to twenty in digits."""
    return [_NUMBERS.get(one, one) for one in _TOKEN.findall(text.casefold().replace("’", "'"))]


class Facts:
    """What tools have told so far."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        """Titles and speakers, folded."""
        self.numbers: set[str] = set()
        """Lengths, dates and counts, in each way they are likely to be written."""
        self.words: set[str] = set()
        """Other values, e.g. a status."""
        self.statements: list[frozenset[str]] = []
        """Remarks, errors and a listener's answers, as sets of words."""

    def learn(self, result: Mapping[str, Any]) -> None:
        """Add what a tool returned."""
        for key, value in result.items():
            self._take(str(key), value)

    def without_names(self, text: str) -> str:
        """The text with each name in it blotted out, quotation marks and case apart."""
        plain = text.casefold()
        for name in sorted(self.names, key=len, reverse=True):
            pattern = r"[\W_]+".join(map(re.escape, re.findall(r"[^\W_]+", name)))
            plain = re.sub(rf"(?<!\w){pattern}(?!\w)", NAME, plain)
        return plain

    def echoes(self, words: set[str]) -> bool:
        """Whether all of some words stand in one statement."""
        return bool(words) and any(words <= one for one in self.statements)

    def _take(self, key: str, value: Any) -> None:
        if isinstance(value, str):
            if key in _STATEMENTS:
                self.statements.append(frozenset(words_of(value)))
            elif key == "title" or key in ("speakers", "speaker"):
                self._name(value)
            elif key not in _SPOKEN and key not in ("id", "recording"):
                self._learn_words(value)
        elif isinstance(value, bool) or value is None:
            return
        elif isinstance(value, (int, float)):
            self.numbers |= _written(value)
        elif isinstance(value, Mapping):
            cited = "segments" in value or "evidence" in value
            for inner, one in value.items():
                if not cited or inner in _OF_CITED:
                    self._take(str(inner), one)
        elif isinstance(value, list):
            self._list(key, value)

    def _list(self, key: str, values: list[Any]) -> None:
        if key not in _SPOKEN:
            self.numbers.add(str(len(values)))
            for one in values:
                self._take(key, one)
            return
        for one in values:
            if isinstance(one, Mapping) and isinstance(one.get("speaker"), str):
                self._name(one["speaker"])

    def _name(self, name: str) -> None:
        if any(map(str.isalnum, name)):
            self.names.add(fold(name))

    def _learn_words(self, text: str) -> None:
        for one in words_of(text):
            (self.numbers if one[0].isdigit() else self.words).add(one.lstrip("0") or "0")
            if one[0].isdigit():
                self.numbers.add(one)


def _written(value: float) -> set[str]:
    """A number, and where it may be seconds also as a clock has it and as minutes, as people write them."""
    if not 0 <= value < 1e9:
        return {str(value)}
    whole = round(value)
    ways = {str(value), str(whole), str(int(value)), f"{value:.1f}", f"{value:.2f}", str(round(100 * value))}
    for seconds in {whole, int(value)}:
        minutes, rest = divmod(seconds, 60)
        hours, left = divmod(minutes, 60)
        ways |= {f"{minutes}:{rest:02d}", f"{hours}:{left:02d}:{rest:02d}"}
        ways |= {str(minutes), str(round(seconds / 60)), str(rest), f"{seconds / 60:.1f}"}
        ways |= (
            {str(hours), str(left), str(round(seconds / 3600)), f"{seconds / 3600:.1f}"} if hours else set()
        )
    return ways
