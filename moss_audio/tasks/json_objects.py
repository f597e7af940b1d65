"""Read JSON as models write it: single or curly quotes, stray commas, bare words, an end that never comes.

json-repair, which repairs tool calls, cannot do this. It does not say where an object stands in a text, which
field the end of the text cut off (it closes the field and makes its value up), what it passed over, or that a
name was there twice; the parsers here report all of that. Its time also grows with the square of the length
on hostile text, and this reader goes over the text once.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TypeAlias

_QUOTES = {'"': '"', "'": "'", "“": '”“"', "‘": "’‘'", "「": "」", "＂": "＂"}
_BETWEEN = re.compile(r"[\s,，;；]*")
_COLON = re.compile(r"\s{0,20}[:：=]\s{0,20}")
_BARE_KEY = re.compile(r"[^\W\d][\w -]{0,40}(?=\s{0,20}[:：=])")
_AFTER_KEY = re.compile(r"\s{0,20}[:：=]")
_AFTER_VALUE = re.compile(
    r"\s{0,40}(?:[}\]]|\Z|[,，]\s{0,40}(?:[\"'“‘「＂}\]{]|[^\W\d]\w{0,30}\s?[:：]|\Z)"
    r"|[\"'“＂]\w{1,30}[\"'”＂]\s{0,3}[:：])|[ \t\r]{0,40}\n"
)
_IN_STRING = re.compile(
    r"\\(?:u[0-9a-fA-F]{4}|.)|(?P<next>[,，\n]\s{0,40}[\"'“＂]\w{1,30}[\"'”＂]\s{0,3}[:：])|[\"'“”‘’」＂]",
    re.DOTALL,
)
_BARE_VALUE = re.compile(r"[^,，}\]\n]*")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_NARROW = str.maketrans("｛｝", "{}")
_DEEPEST = 6


@dataclass(frozen=True)
class Object:
    """An object's fields as they stand; names may be there twice."""

    fields: tuple[tuple[str, Value], ...]


Value: TypeAlias = "str | Object | list[Value] | None"


@dataclass(frozen=True)
class Found:
    """An object found in a text.

    Attributes:
        value: Its complete fields.
        begin: Where it begins in the text.
        finish: Where it ends, half-open.
        whole: Whether it is closed.
        strict: Whether it is JSON as the standard has it.
        cut: The field that the end of the text cut off, as written; empty if none.
        junk: Characters inside it that are no part of any field.
    """

    value: Object
    begin: int
    finish: int
    whole: bool
    strict: bool
    cut: str
    junk: str


def read_object(text: str, begin: int = 0) -> Found | None:
    """Read the first object at or after a place, in one pass.

    Args:
        text: Any text.
        begin: Where to look from.

    Returns:
        What could be read; None where there is no opening brace.
    """
    text = text.translate(_NARROW)
    begin = text.find("{", begin)
    if begin < 0:
        return None
    scanner = _Scanner(text, begin)
    value = scanner.object(0)
    finish = scanner.at
    whole = not scanner.ended
    return Found(
        value,
        begin,
        finish,
        whole,
        whole and _is_strict(text[begin:finish]),
        scanner.cut,
        "".join(scanner.junk),
    )


def as_text(value: Value) -> str:
    """A value in words: list items after commas, nested fields as ``name: value``."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, Object):
        return "; ".join(f"{name}: {as_text(inner)}" for name, inner in value.fields)
    return ", ".join(as_text(item) for item in value)


def _is_strict(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


@dataclass
class _Scanner:
    """A reader that only moves forward, so that its time is linear whatever it meets."""

    text: str
    at: int
    ended: bool = False
    cut: str = ""
    junk: list[str] = field(default_factory=list)

    def object(self, depth: int) -> Object:
        fields: list[tuple[str, Value]] = []
        self.at += 1
        while self._skip():
            if self.text[self.at] == "}":
                self.at += 1
                return Object(tuple(fields))
            begin = self.at
            name = self._name()
            if name is None:
                self._waste()
                continue
            value: Value = None
            complete = False
            if self.at < len(self.text):
                value, complete = self._value(depth)
            if complete:
                fields.append((name, value))
            else:
                fields += [(name, value)] if isinstance(value, (Object, list)) else []
                self.cut = self.cut or self.text[begin:]
        self.ended = True
        return Object(tuple(fields))

    def _list(self, depth: int) -> list[Value]:
        values: list[Value] = []
        self.at += 1
        while self._skip():
            if self.text[self.at] == "]":
                self.at += 1
                return values
            begin = self.at
            if self.text[self.at] == "}":
                return values
            value, complete = self._value(depth)
            if complete or isinstance(value, (Object, list)):
                values.append(value)
            else:
                self.cut = self.cut or self.text[begin:]
        self.ended = True
        return values

    def _skip(self) -> bool:
        """Go on to the next thing; False at the end of the text."""
        match = _BETWEEN.match(self.text, self.at)
        self.at = match.end() if match else self.at
        return self.at < len(self.text)

    def _waste(self) -> None:
        if self.at < len(self.text):
            self.junk.append(self.text[self.at])
            self.at += 1

    def _name(self) -> str | None:
        """A field's name with its colon; None, and nothing read, where there is none."""
        begin = self.at
        if self.text[self.at] in _QUOTES:
            name, complete = self._string(_AFTER_KEY)
            if not complete:
                self.cut = self.cut or self.text[begin:]
                return None
        else:
            bare = _BARE_KEY.match(self.text, self.at)
            if bare is None:
                return None
            name, self.at = bare[0], bare.end()
        colon = _COLON.match(self.text, self.at)
        if colon is None:
            self.junk.append(self.text[begin : self.at])
            return None
        self.at = colon.end()
        return name.strip()

    def _value(self, depth: int) -> tuple[Value, bool]:
        """A value, and whether it was there to its end."""
        first = self.text[self.at]
        if first in "{[" and depth < _DEEPEST:
            inner: Value = self.object(depth + 1) if first == "{" else self._list(depth + 1)
            return inner, not self.ended
        if first in _QUOTES:
            return self._string(_AFTER_VALUE)
        match = _BARE_VALUE.match(self.text, self.at)
        words = match[0] if match else ""
        self.at += len(words)
        if not words and self.at < len(self.text) and self.text[self.at] not in "},":
            self._waste()
        value = words.strip()
        return (None if value.lower() in ("null", "none", "") else value), self.at < len(self.text)

    def _string(self, after: re.Pattern[str]) -> tuple[str, bool]:
        """A quoted string; it ends at a quote after which JSON goes on, or where the next field begins."""
        closers = _QUOTES[self.text[self.at]]
        self.at += 1
        pieces: list[str] = []
        for match in _IN_STRING.finditer(self.text, self.at):
            if match.start() < self.at:
                continue
            if match[0][0] == "\\":
                pieces += [self.text[self.at : match.start()], _unescaped(match[0][1:])]
                self.at = match.end()
            elif match["next"] and after is _AFTER_VALUE:
                pieces.append(self.text[self.at : match.start()])
                self.at = match.start()
                return _paired("".join(pieces)), True
            elif match[0] in closers and after.match(self.text, match.end()):
                pieces.append(self.text[self.at : match.start()])
                self.at = match.end()
                return _paired("".join(pieces)), True
        pieces.append(self.text[self.at :])
        self.at = len(self.text)
        return _paired("".join(pieces)), False


def _unescaped(escape: str) -> str:
    if escape[0] == "u" and len(escape) == 5:
        return chr(int(escape[1:], 16))
    return _ESCAPES.get(escape, escape)


def _paired(text: str) -> str:
    """Join the two halves of characters that JSON writes as two escapes."""
    if not any("\ud800" <= char <= "\udfff" for char in text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
