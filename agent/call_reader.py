"""Calls of tools in what a language model writes, told from its words as it writes them.

Qwen3 writes ``<tool_call>{"name": …, "arguments": {…}}</tool_call>``, one block a call. Models also forget
the closing tag, or write the JSON without tags, in fences, in a list, or behind words on the same line. What
can be read for sure becomes calls; what was meant as one and cannot is reported as broken; no piece of either
is ever shown as text.
"""

from __future__ import annotations

import re
from enum import IntEnum

from agent.tool_calls import ARGUMENTS, LONGEST_CALL, NAMES, Call, Tools, known_name, read_calls

_TAG = re.compile(r"<(/?)tool_calls?\b\s{0,8}>?", re.IGNORECASE)
_TAGS = ("<tool_call", "</tool_call")
_OPENER = re.compile(r"(?:```[\w+-]{0,20}\s{0,8}|`{1,2})?(?:\[\s{0,8}){0,3}\Z")
"""A fence, a list, or both, right before an object; nothing more of them than their beginning, too."""
_CLOSER = re.compile(r"[\s\]},;]*")
_CLOSER_FENCED = re.compile(r"[\s\]},;]*`{0,3}")
_FENCED_NOTHING = re.compile(r"```[\w+-]{0,20}\s{0,8}```")
_OPENER_REACH = 64
_QUOTES = "\"'“”‘’"
_FIELD = re.compile(rf"[\s,]*[{_QUOTES}]?([\w-]*)([{_QUOTES}]?)\s*(:?)\s*")
_VALUE = re.compile(rf"([{_QUOTES}]?)([^{_QUOTES},}}\n]*)([{_QUOTES}]?)")
_BESIDE = ("type", "id", "index")
_CALLS = ("tool_calls", "tool_call", "function_call")
_FIRST = ("arguments", "parameters")
"""Fields of arguments that also tell a call where no name stands before them."""
_FIELDS = (*NAMES, *ARGUMENTS, *_CALLS, *_BESIDE, "function")
_LONGEST_NAME = 64


class Looks(IntEnum):
    """Whether text that begins with a brace is meant as a call."""

    OTHER = 0
    OPEN = 1
    """It ends before that can be told."""
    CALL = 2


class CallReader:
    """Parts words from calls while a text is written.

    ``feed`` gives out words that are certain to be no part of a call, ``finish`` the rest; together they do
    not depend on how the text was cut into pieces. From the first tag on, or from the first brace that looks
    like a call, everything waits for the end.

    Args:
        tools: The tools there are; without any, only what stands between tags is a call.

    Attributes:
        calls: What was called, in order; complete after ``finish``.
        broken: What was meant as a call and cannot be read, as written.
    """

    def __init__(self, tools: Tools | None = None) -> None:
        self.calls: list[Call] = []
        self.broken: list[str] = []
        self._tools = tools or {}
        self._buffer = ""
        self._out = ""
        """The words that have come out."""
        self._holding = False

    def feed(self, text: str) -> str:
        """Take more text; returns the words that are certain now."""
        self._buffer += text
        if self._holding:
            return ""
        at = self._certain()
        words, self._buffer = self._buffer[:at], self._buffer[at:]
        self._out += words
        return words

    def finish(self, complete: bool = True) -> str:
        """The text has ended; returns the words that were still held back.

        Args:
            complete: Whether the model ended it; false where it was cut off.
        """
        rest, self._buffer = self._buffer, ""
        rest = self._without_beginning(rest)
        words: list[str] = []
        inside, at = False, 0
        for tag in [*_TAG.finditer(rest), None]:
            part = rest[at : tag.start() if tag else len(rest)]
            if inside:
                self._block(part, complete or tag is not None)
            else:
                words.append(self._untagged(part, complete or tag is not None))
            if tag:
                inside, at = not tag[1], tag.end()
        said = "".join(words)
        if not (self.calls or self.broken):
            return said
        said = _FENCED_NOTHING.sub("", said)
        return said if said.strip("` \t\n") else ""

    def _certain(self) -> int:
        """Up to where no call can begin; holds from there on where one has begun."""
        text = self._buffer
        tag = _TAG.search(text)
        self._holding = tag is not None
        end = tag.start() if tag else len(text) - len(_begun_tag(text))
        at = text.find("{", 0, end) if self._tools else -1
        while at >= 0:
            looks = _looks(text, at, self._tools)
            if looks is not Looks.OTHER:
                self._holding = self._holding or looks is Looks.CALL
                return _opened(text, at)
            at = text.find("{", at + 1, end)
        return _opened(text, end) if self._tools else end

    def _without_beginning(self, text: str) -> str:
        """The text without the first characters of a tag, a fence or a list at its end."""
        if tag := _begun_tag(text):
            text = text[: -len(tag)]
            if len(tag) > 1:
                self.broken.append(tag)
        at = _opened(text, len(text))
        begun, before = text[at:], self._out + text[:at]
        if not self._tools or not begun:
            return text
        opens = begun.rstrip().endswith("[") or not _inside_code(before, begun)
        return text[:at] if opens else text

    def _block(self, body: str, complete: bool) -> None:
        calls = read_calls(body, self._tools, complete)
        self.calls += calls
        if not calls and body.strip():
            self.broken.append(body.strip()[:LONGEST_CALL])

    def _untagged(self, part: str, complete: bool) -> str:
        """Take calls without tags out of a part; returns the words around them."""
        if not self._tools:
            return part
        words, at = "", 0
        brace = part.find("{")
        while brace >= 0:
            if _looks(part, brace, self._tools) is Looks.OTHER:
                brace = part.find("{", brace + 1)
                continue
            end = _end_of_object(part, brace)
            self._bare(part[brace:end], complete or end is not None)
            opened = _opened(part[at:brace], brace - at) + at
            words += part[at:opened]
            closer = _CLOSER_FENCED if "`" in part[opened:brace] else _CLOSER
            closed = closer.match(part, len(part) if end is None else end)
            at = closed.end() if closed else len(part)
            brace = part.find("{", at)
        return words + part[at:]

    def _bare(self, text: str, complete: bool) -> None:
        calls = read_calls(text, self._tools, complete)
        if calls and all(one.name in self._tools for one in calls):
            self.calls += calls
        else:
            self.broken.append(text[:LONGEST_CALL])


def _begun_tag(text: str) -> str:
    """The first characters of a tag, where the text ends with them."""
    tail = text[-len(_TAGS[1]) :].casefold()
    for length in range(len(tail), 0, -1):
        if any(tag.startswith(tail[-length:]) for tag in _TAGS):
            return text[-length:]
    return ""


def _opened(text: str, at: int) -> int:
    """Where the fence or the list begins that opens right before a place, else that place."""
    before = text[max(0, at - _OPENER_REACH) : at]
    opener = _OPENER.search(before)
    return at - len(opener.group()) if opener else at


def _inside_code(before: str, marks: str) -> bool:
    """Whether a text ends inside the code that these marks begin and end: a fence, or marks on one line."""
    if marks.startswith("```"):
        return before.count("```") % 2 == 1
    opened = ""
    for run in re.findall("`+", before.rpartition("\n")[2]):
        opened = "" if run == opened else opened or run
    return opened == marks


def _end_of_object(text: str, at: int) -> int | None:
    """Behind the brace that closes the one at a place; None where none does."""
    depth = 0
    quoted = escaped = False
    for place in range(at, len(text)):
        sign = text[place]
        if quoted:
            quoted = escaped or sign != '"'
            escaped = sign == "\\" and not escaped
        elif sign == '"':
            quoted = True
        elif sign == "{":
            depth += 1
        elif sign == "}":
            depth -= 1
            if depth == 0:
                return place + 1
    return None


def _looks(text: str, at: int, tools: Tools) -> Looks:
    """Whether the object that begins at a brace is meant as a call, by its first fields."""
    named = False
    at += 1
    while True:
        field = _FIELD.match(text, at)
        assert field is not None
        key, at = field[1].casefold(), field.end()
        if not field[3]:
            return _without_colon(text, at, key, bool(field[2]), tools)
        if key in _CALLS or (key in ARGUMENTS and (named or key in _FIRST)):
            return Looks.CALL
        if at == len(text):
            return Looks.OPEN if _is_field(key, tools) else Looks.OTHER
        if key == "function" and text[at] == "{":
            at += 1
            continue
        if key in _BESIDE or key in NAMES or key == "function":
            value = _VALUE.match(text, at)
            assert value is not None
            at = value.end()
            if at == len(text) and not (value[1] and value[3]):
                return Looks.OPEN if len(value[2]) <= _LONGEST_NAME else Looks.OTHER
            if not value[2] or bool(value[1]) != bool(value[3]):
                return Looks.OTHER
            if key not in _BESIDE:
                if known_name(value[2].strip(), tools) in tools:
                    return Looks.CALL
                named = True
            continue
        return Looks.CALL if text[at] == "{" and _is_field(key, tools, whole=True) else Looks.OTHER


def _without_colon(text: str, at: int, key: str, closed: bool, tools: Tools) -> Looks:
    """What an object looks like that ends, or goes on in another way, behind the name of a field."""
    if at == len(text):
        return Looks.OPEN if _is_field(key, tools, whole=closed) else Looks.OTHER
    forgotten = closed and text[at] not in ",}]" and _is_field(key, tools, whole=True)
    return Looks.CALL if forgotten else Looks.OTHER


def _is_field(key: str, tools: Tools, whole: bool = False) -> bool:
    """Whether a name, or the beginning of one, is that of a field of calls, or of a tool."""
    names = (*_FIELDS, *(one.casefold() for one in tools))
    return key in names if whole else any(one.startswith(key) for one in names)
