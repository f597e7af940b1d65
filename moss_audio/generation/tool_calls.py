"""Calls of tools in what a language model writes, told from its words as it writes them.

Qwen3 writes ``<tool_call>{"name": …, "arguments": {…}}</tool_call>``, one block a call. Models also forget
the closing tag, or write the JSON without tags, in fences, in a list, or behind words on the same line. What
can be read for sure becomes calls; what was meant as one and cannot is reported as broken; no piece of either
is ever shown as text.

The JSON of tool calls as language models write it, repaired where it can be read for sure.

Models forget a brace or the comma's place, put single quotes, fences or Python's ``None``, encode twice, or
call the fields by other names. ``agent.call_reader`` finds the calls in a text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from moss_audio.tasks.json_objects import Object, Value, read_object

LONGEST_CALL = 20_000
"""Characters of one block that are read; arguments are short, loops are long."""

Tools = Mapping[str, Mapping[str, Any]]
"""The tools there are: from each name to the JSON schema of its arguments."""

_FENCE = re.compile(r"```[\w+-]{0,20}[ \t]{0,4}\n?|```")
NAMES = ("name", "tool", "tool_name", "function_name")
ARGUMENTS = ("arguments", "parameters", "args", "input", "params")
_DECODER = json.JSONDecoder(strict=False)


@dataclass(frozen=True)
class Call:
    """A call of a tool."""

    name: str
    arguments: Mapping[str, Any]


def read_calls(body: str, tools: Tools | None = None, complete: bool = True) -> list[Call]:
    """The calls in a block of text that holds nothing else; none when it cannot be read for sure.

    Args:
        body: Without tags.
        tools: Names are brought into their form, and arguments of a repaired call into their types.
        complete: Whether the block is known to end here; else missing brackets are not added.
    """
    text = _FENCE.sub("", body[:LONGEST_CALL]).strip()
    values = _strict(text) or _mended(text, complete)
    calls = [_call(one, tools or {}) for one in values or ()]
    if not calls or None in calls:
        calls = [_call(one, tools or {}) for one in _lenient(text, complete) or ()]
    good = [one for one in calls if one is not None]
    return good if len(good) == len(calls) else []


def read_arguments(text: str, schema: Mapping[str, Any], complete: bool = True) -> dict[str, Any] | None:
    """The one JSON object somewhere in a text, as arguments of a schema; None where there is none."""
    text = text[:LONGEST_CALL]
    begin, end = text.find("{"), text.rfind("}")
    if begin < 0:
        return None
    inner = text[begin : end + 1] if end > begin else text[begin:]
    for values in (_strict(inner), _mended(inner, complete), _lenient(inner, complete)):
        if values and len(values) == 1 and isinstance(values[0], dict):
            return dict(coerced(values[0], schema))
    return None


def coerced(value: Any, schema: Mapping[str, Any]) -> Any:
    """A value whose types were lost in repair, brought back to those of a JSON schema where that is clear."""
    if isinstance(value, dict):
        inner = schema.get("properties") or {}
        return {key: coerced(one, inner.get(key) or {}) for key, one in value.items()}
    if isinstance(value, list):
        return [coerced(one, schema.get("items") or {}) for one in value]
    if not isinstance(value, str):
        return value
    kinds = {schema.get("type"), *(one.get("type") for one in schema.get("anyOf") or ())}
    if "string" in kinds or kinds == {None}:
        return value
    word = value.strip().lower()
    if word in ("true", "false") and "boolean" in kinds:
        return word == "true"
    try:
        number = float(word)
    except ValueError:
        return value
    if not math.isfinite(number):
        return value
    return int(number) if "integer" in kinds and number.is_integer() else number


def _strict(text: str) -> list[Any] | None:
    """One JSON value after another; None where anything else stands between or behind them."""
    values, at = [], 0
    while at < len(text):
        if text[at] in " \t\r\n,;":
            at += 1
            continue
        try:
            value, at = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            return None
        values += value if isinstance(value, list) else [value]
    return values


def _mended(text: str, complete: bool) -> list[Any] | None:
    """JSON with commas too many, and brackets too few or too many at its end."""
    pieces: list[str] = []
    stack: list[str] = []
    quoted = escaped = False
    for sign in text:
        if quoted:
            quoted = escaped or sign != '"'
            escaped = sign == "\\" and not escaped
        elif sign == '"':
            quoted = True
        elif sign in "{[":
            stack.append("}" if sign == "{" else "]")
        elif sign in "}]":
            if sign not in stack:
                continue
            _drop_comma(pieces)
            while stack[-1] != sign:
                pieces.append(stack.pop())
            stack.pop()
        pieces.append(sign)
    if quoted or (stack and not complete):
        return None
    _drop_comma(pieces)
    return _strict("".join(pieces + stack[::-1]))


def _drop_comma(pieces: list[str]) -> None:
    at = len(pieces) - 1
    while at >= 0 and pieces[at].isspace():
        at -= 1
    if at >= 0 and pieces[at] == ",":
        del pieces[at]


def _lenient(text: str, complete: bool) -> list[Any] | None:
    """Objects in any quotes, with bare words; all their values come as text."""
    values, at = [], 0
    while (found := read_object(text + ("}}}" if complete else ""), at)) is not None:
        if found.begin >= len(text):
            break
        if found.cut or not found.whole or found.junk.strip("{}[] \n"):
            return None
        values.append(_plain(found.value))
        at = found.finish
    return values or None


def _plain(value: Value) -> Any:
    if isinstance(value, Object):
        return {name: _plain(one) for name, one in value.fields}
    return [_plain(one) for one in value] if isinstance(value, list) else value


def _call(value: Any, tools: Tools) -> Call | None:
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict):
        return None
    key = next((one for one in (*NAMES, "function") if isinstance(value.get(one), str)), None)
    if key is None:
        # {"search_recordings": {"query": …}}
        if len(value) == 1 and isinstance(next(iter(value.values())), dict) and next(iter(value)) in tools:
            name, arguments = next(iter(value.items()))
            return Call(name, coerced(arguments, tools[name]))
        return None
    name = known_name(value[key].strip(), tools)
    given = next((one for one in ARGUMENTS if one in value), None)
    if given is None:
        rest = {one: value[one] for one in value if one not in (key, "type", "id")}
        arguments = rest
    else:
        arguments = value[given]
    if isinstance(arguments, str):
        # Encoded twice, as OpenAI's form has it.
        inner = _strict(arguments) or _mended(arguments, True) or [None] if arguments.strip() else [{}]
        arguments = inner[0] if len(inner) == 1 else None
    arguments = {} if arguments is None and given is not None and value[given] is None else arguments
    if not name or not isinstance(arguments, dict):
        return None
    return Call(name, coerced(arguments, tools.get(name, {})))


def known_name(name: str, tools: Tools) -> str:
    """The tool's own name, where the model wrote it in another way."""
    if name in tools:
        return name
    plain = name.rpartition(".")[2].replace("-", "_").replace(" ", "_").casefold()
    return next((one for one in tools if one.casefold() == plain), name)


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
