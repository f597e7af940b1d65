"""Calls of tools in what a language model writes, told from its words as it writes them.

Qwen3 writes ``<tool_call>{"name": …, "arguments": {…}}</tool_call>``, one block a call; servers call the same
form Hermes. Models also forget the closing tag or a brace, put single quotes, fences or Python's ``None``,
encode twice, call the fields by other names, or write the JSON without tags, in a list, or behind words on
the same line.

``CallReader`` finds the calls in a stream; ``read_calls`` reads the JSON of one block.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

from moss_audio.generation.streaming import begun

LONGEST_CALL = 20_000
"""Characters of one block that are read; arguments are short, loops are long."""

LONGEST_REPAIR = 3_000
"""Characters of a damaged object that is repaired: on hostile text the library's time grows with the square
of the length (measured: 17 s for 20,000 characters, 0.2 s for these)."""

Tools = Mapping[str, Mapping[str, Any]]
"""The tools there are: from each name to the JSON schema of its arguments."""

OPEN_TAG, CLOSE_TAG = "<tool_call>", "</tool_call>"

_FENCE = re.compile(r"```[\w+-]{0,20}[ \t]{0,4}\n?|```")
NAMES = ("name", "tool", "tool_name", "function_name")
ARGUMENTS = ("arguments", "parameters", "args", "input", "params")
_DECODER = json.JSONDecoder(strict=False)
_QUOTE = re.compile(r"[\"'“”‘’＂]")
_CURLY = str.maketrans("“”‘’＂", '""\'\'"')
_SIGN = re.compile(r"\\.|[{}\[\]\"']", re.DOTALL)
_AFTER_STRING = re.compile(r"\s{0,40}(?:[,:}\]]|\Z)")
_BETWEEN_OBJECTS = re.compile(r"(?<=[}\]])[\s,;]*(?=\{)")
_FIELD_NAME = re.compile(r"[^\"'“”‘’{}\[\]:,\n]+")
_DEEPEST = 32
"""Brackets within brackets that are repaired; no tool has such arguments, and the library recurses."""

_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{4}|U[0-9a-f]{8}|x[0-9a-f]{2}|.)", re.DOTALL)
_WORD_OR_NUMBER = re.compile(r"[a-z_]+|\d+(?:\.\d+)?")
_LITERALS = {"none", "null", "true", "false"}


@dataclass(frozen=True)
class Call:
    """A call of a tool."""

    name: str
    arguments: Mapping[str, Any]


def write_call(name: str, arguments: str) -> str:
    """A call as Qwen3 writes it.

    Args:
        name: The tool.
        arguments: A JSON object, or what a server sent as one. Text that is no JSON stays as it is: whoever
            reads the call back knows what to do about it.
    """
    quoted = json.dumps(name, ensure_ascii=False)
    return f'{OPEN_TAG}\n{{"name": {quoted}, "arguments": {arguments}}}\n{CLOSE_TAG}'


def read_call(text: str) -> Call | None:
    """The call that a text describes in plain JSON; None where it is anything else."""
    try:
        document = json.loads(text, parse_constant=_refuse)
        if not isinstance(document, dict) or not isinstance(document.get("name"), str):
            return None
        arguments = document.get("arguments", {})
        if isinstance(arguments, str):
            arguments = json.loads(arguments, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    name = document["name"].strip()
    return Call(name, arguments) if name and isinstance(arguments, dict) else None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def read_calls(body: str, tools: Tools | None = None, complete: bool = True) -> list[Call]:
    """The calls in a block of text that holds nothing else; none when it cannot be read for sure.

    Args:
        body: Without tags.
        tools: Names are brought into their form, and arguments of a repaired call into their types.
        complete: Whether the block is known to end here; else missing brackets are not added.
    """
    text = _FENCE.sub("", body[:LONGEST_CALL]).strip()
    for values in (_json_values(text), _side_by_side(text, complete), _repaired(text, complete)):
        calls = [call for value in values if (call := _call(value, tools or {})) is not None]
        if calls and len(calls) == len(values):
            return calls
    return []


def read_arguments(text: str, schema: Mapping[str, Any], complete: bool = True) -> dict[str, Any] | None:
    """The one JSON object somewhere in a text, as arguments of a schema; None where there is none."""
    text = text[:LONGEST_CALL]
    begin, end = text.find("{"), text.rfind("}")
    if begin < 0:
        return None
    inner = text[begin : end + 1] if end > begin else text[begin:]
    for values in (_json_values(inner), _repaired(inner, complete)):
        if len(values) == 1 and isinstance(values[0], dict):
            return dict(coerced(values[0], schema))
    return None


def coerced(value: Any, schema: Mapping[str, Any]) -> Any:
    """A value whose types were lost in repair, brought back to those of a JSON schema where that is clear."""
    if isinstance(value, dict):
        inner = schema.get("properties") or {}
        return {key: coerced(value[key], inner.get(key) or {}) for key in value}
    if isinstance(value, list):
        return [coerced(item, schema.get("items") or {}) for item in value]
    if not isinstance(value, str):
        return value
    kinds = {schema.get("type"), *(variant.get("type") for variant in schema.get("anyOf") or ())}
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


def _json_values(text: str) -> list[Any]:
    """One JSON value after another, lists taken apart; none where anything else stands between or behind."""
    values, at = [], 0
    while at < len(text):
        if text[at] in " \t\r\n,;":
            at += 1
            continue
        try:
            value, at = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            return []
        values += value if isinstance(value, list) else [value]
    return values


def _side_by_side(text: str, complete: bool) -> list[Any]:
    """Objects next to each other, each read on its own, since one may lack its last brace; all or none."""
    *parts, last = _BETWEEN_OBJECTS.split(text)
    found = [_json_values(part) or _repaired(part, True) for part in parts]
    found.append(_json_values(last) or _repaired(last, complete))
    return [value for values in found for value in values] if all(found) and parts else []


def _repaired(text: str, complete: bool) -> list[dict[str, Any]]:
    """Objects of damaged JSON; none where it is not sure what was meant.

    json-repair mends quotes, commas, brackets and bare words. It always finds something: it closes what was
    cut off, passes over what it does not understand, fills in a value that is missing, and keeps one of two
    objects that look alike. So each object is cut out here, must have an end, and must come back with every
    word and number that it had, and with nothing else.
    """
    quote = _QUOTE.search(text, max(0, text.find("{")))
    if quote and quote[0] not in "\"'":
        text = text.translate(_CURLY)
    values: list[dict[str, Any]] = []
    at = 0
    while (begin := text.find("{", at)) >= 0:
        extent = _extent(text, begin)
        # A quote may be missing; what ends in a bracket was not cut off within a string.
        has_end = complete and (not extent.quoted or text.rstrip(" \t\r\n]").endswith("}"))
        sure = extent.deepest <= _DEEPEST and (has_end or extent.end is not None)
        if not sure or not _is_aside(text[at:begin]):
            return []
        at = len(text) if extent.end is None else extent.end
        written = text[begin:at]
        if len(written) > LONGEST_REPAIR:
            return []
        try:
            # Imported here: the model and its engine run without it.
            from json_repair import repair_json

            value = repair_json(written, return_objects=True, skip_json_loads=True)
        except (ValueError, RecursionError):
            return []
        if not isinstance(value, dict) or not _holds_what_was_written(value, written):
            return []
        values.append(value)
    return values if _is_aside(text[at:]) else []


def _is_aside(outside: str) -> bool:
    """Whether text around objects, such as “json” or “Done.”, is no part of any of them."""
    return re.search(r"[{}\[\]\":\d]", outside.strip("[]},; \t\r\n")) is None


def _holds_what_was_written(value: Any, written: str) -> bool:
    if _content(json.dumps(value)) != _content(written):
        return False
    has_empty_text = re.search(r"([\"'])\1", written) is not None
    inner = [value]
    while inner:
        item = inner.pop()
        if isinstance(item, dict):
            inner += item.values()
            if not all(_FIELD_NAME.fullmatch(name) for name in item):
                return False
        elif isinstance(item, list):
            inner += item
        elif item == "" and not has_empty_text:
            return False
    return True


def _content(text: str) -> Counter[str | float]:
    """The words and numbers of JSON, however they are quoted or escaped."""
    plain = _ESCAPE.sub(" ", text.encode("ascii", "backslashreplace").decode())
    found = _WORD_OR_NUMBER.findall(plain.lower())
    return Counter(float(item) if item[0].isdigit() else item for item in found if item not in _LITERALS)


class _Extent(NamedTuple):
    """How far an object goes.

    Attributes:
        end: Behind the brace that closes it; None where none does.
        quoted: Whether the text ends within a string of it.
        deepest: How many brackets lie within each other at most.
    """

    end: int | None
    quoted: bool
    deepest: int


def _extent(text: str, begin: int) -> _Extent:
    """Follow the object that begins at a brace to its end.

    Strings stand in double quotes; in a text that has none, in single ones, within which an apostrophe does
    not end them.
    """
    quote = '"' if text.find('"', begin) >= 0 else "'"
    braces = depth = deepest = 0
    quoted = False
    for match in _SIGN.finditer(text, begin):
        sign = match[0]
        if sign == quote:
            ends = quote == '"' or _AFTER_STRING.match(text, match.end()) is not None
            quoted = not (quoted and ends)
        elif quoted or sign[0] in "\\\"'":
            continue
        elif sign in "{[":
            braces += sign == "{"
            depth += 1
            deepest = max(deepest, depth)
        else:
            braces -= sign == "}"
            depth -= 1
            if sign == "}" and braces == 0:
                return _Extent(match.end(), False, deepest)
    return _Extent(None, quoted, deepest)


def _call(value: Any, tools: Tools) -> Call | None:
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict):
        return None
    key = next((name for name in (*NAMES, "function") if isinstance(value.get(name), str)), None)
    if key is None:
        # {"search_recordings": {"query": …}}
        if len(value) == 1 and isinstance(next(iter(value.values())), dict) and next(iter(value)) in tools:
            name, arguments = next(iter(value.items()))
            return Call(name, coerced(arguments, tools[name]))
        return None
    name = known_name(value[key].strip(), tools)
    given = next((field for field in ARGUMENTS if field in value), None)
    if given is None:
        rest = {field: value[field] for field in value if field not in (key, "type", "id")}
        arguments = rest
    else:
        arguments = value[given]
    if isinstance(arguments, str):
        # Encoded twice, as OpenAI's form has it.
        inner = (_json_values(arguments) or _repaired(arguments, True)) if arguments.strip() else [{}]
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
    return next((tool for tool in tools if tool.casefold() == plain), name)


_TAG = re.compile(r"<(/?)tool_calls?\b\s{0,8}>?", re.IGNORECASE)
_OPENING = re.compile(r"<tool_calls?\b\s{0,8}>?", re.IGNORECASE)
_CLOSING = re.compile(r"<(/)tool_calls?\b\s{0,8}>?", re.IGNORECASE)
_EXACT_OPENING = re.compile(r"<()tool_call>")
_EXACT_CLOSING = re.compile(r"<(/)tool_call>")
_LONGEST_TAG = 24
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


Piece = str | Call
"""Words, or a call."""


class CallReader:
    """Parts words from calls while a text is written.

    What comes out of ``feed`` and ``finish`` does not depend, taken together, on how the text was cut into
    pieces. There are two ways to read:

    *With repair*, for a model whose calls this program follows itself: whatever can be read for sure becomes
    calls; what was meant as one and cannot be read is reported as broken, and no piece of either is shown.
    From the first tag on, or from the first brace that looks like a call, words wait for the end.

    *Without*, for an API that passes on what a model wrote: only exact tags and plain JSON are calls. What
    stands between tags and is no call comes out as it was written, tags and all, so that nothing is guessed
    and nothing lost; white space around a call belongs to the call.

    Args:
        tools: The tools there are; without any, only what stands between tags is a call.
        repair: Which of the two ways.

    Attributes:
        calls: What was called, in order; complete after ``finish``.
        broken: What was meant as a call and cannot be read, as written.
    """

    def __init__(self, tools: Tools | None = None, repair: bool = True) -> None:
        self.calls: list[Call] = []
        self.broken: list[str] = []
        self._tools = tools or {}
        self._repair = repair
        self._buffer = ""
        self._searched = 0
        """How much of the buffer is known to hold no tag that ends the present stretch."""
        self._before = ""
        """All text that has left the buffer, for repair."""
        self._inside = False
        self._holding = False
        """Whether a call has begun, so that words wait."""
        self._waiting: list[str] = []
        """Words between and behind calls, which come out at the end."""
        self._space = ""
        """White space of the words that a call may follow, without repair."""
        self._begun = False
        """Whether words have come out since the last call, without repair."""
        self._shown = ""
        """The end of the words that have come out, with repair."""

    def feed(self, text: str) -> list[Piece]:
        """Take more text; returns what is certain now."""
        self._buffer += text
        return self._read(last=False)

    def finish(self, complete: bool = True) -> list[Piece]:
        """The text has ended; returns what was still held back.

        Args:
            complete: Whether the model ended it; false where it was cut off.
        """
        if self._repair:
            self._buffer = self._without_beginning(self._buffer)
        pieces = self._read(last=True)
        rest, self._buffer = self._buffer, ""
        pieces += self._block(rest, "", complete) if self._inside else self._words(rest, complete)
        if not self._repair:
            return [*pieces, self._space] if self._space and self._begun else pieces
        said = "".join(self._waiting)
        if self.calls or self.broken:
            said = _FENCED_NOTHING.sub("", said)
            said = said if said.strip("` \t\n") else ""
        # What stood on both sides of a tag that was taken out may read as another one.
        while (without := _TAG.sub("", said)) != said:
            said = without
        if said and _TAG.search(self._shown + said):
            said = f" {said}"
        return [said, *pieces] if said else pieces

    def _read(self, last: bool) -> list[Piece]:
        """Take off the buffer what is certain: words, and each stretch that a tag ends."""
        pieces: list[Piece] = []
        while True:
            if not self._holding:
                words = self._take(self._certain())
                if self._repair:
                    pieces += [words] if words else []
                    self._shown = (self._shown + words)[-_LONGEST_TAG:]
                else:
                    pieces += self._plain(words)
            tag = self._next_tag(last) if self._holding else None
            if tag is None:
                return pieces
            stretch = self._take(tag.start())
            self._take(len(tag[0]))
            opens = not tag[1]
            if self._inside:
                pieces += self._block(stretch, tag[0], True)
            else:
                pieces += self._words(stretch, True)
            self._inside = opens
            self._holding = opens or self._repair

    def _take(self, length: int) -> str:
        text, self._buffer = self._buffer[:length], self._buffer[length:]
        if self._repair:
            self._before += text
        self._searched = 0
        return text

    def _next_tag(self, last: bool) -> re.Match[str] | None:
        """The tag that ends the present stretch; inside a block an opening tag may be a word of it."""
        if self._repair:
            pattern = _CLOSING if self._inside else _TAG
        else:
            pattern = _EXACT_CLOSING if self._inside else _EXACT_OPENING
        tag = pattern.search(self._buffer, self._searched)
        if tag is None:
            self._searched = max(0, len(self._buffer) - _LONGEST_TAG)
            return None
        # What follows may still belong to it.
        return tag if last or tag[0].endswith(">") or tag.end() < len(self._buffer) else None

    def _certain(self) -> int:
        """Up to where no call can begin; holds from there on where one has begun."""
        text = self._buffer
        tag = (_TAG if self._repair else _EXACT_OPENING).search(text)
        self._holding = tag is not None
        if not self._repair:
            return tag.start() if tag else len(text) - begun(text, (OPEN_TAG,))
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
        opener, before = text[at:], self._before + text[:at]
        if not self._tools or not opener:
            return text
        opens = opener.rstrip().endswith("[") or not _inside_code(before, opener)
        return text[:at] if opens else text

    def _block(self, body: str, closing: str, complete: bool) -> list[Piece]:
        """Read what stood between tags; a block whose end was forgotten ends where the next one begins."""
        # An opening tag may also be part of an argument.
        parts = [body]
        if read_call(body) is None:
            parts = _OPENING.split(body) if self._repair else body.split(OPEN_TAG)
        pieces: list[Piece] = []
        for at, part in enumerate(parts, start=1):
            is_last = at == len(parts)
            calls = self._calls_in(part, complete or not is_last)
            self.calls += calls
            pieces += calls
            if calls:
                self._space, self._begun = "", False
            elif not self._repair:
                pieces += self._plain(OPEN_TAG + part + (closing if is_last else ""))
            elif part.strip():
                self.broken.append(part.strip()[:LONGEST_CALL])
        return pieces

    def _calls_in(self, text: str, complete: bool) -> list[Call]:
        if self._repair:
            return read_calls(text, self._tools, complete)
        call = read_call(text)
        return [call] if call else []

    def _words(self, part: str, complete: bool) -> list[Piece]:
        """Take calls without tags out of what stood outside of tags; the words around them wait, or go on."""
        if not self._repair:
            return self._plain(part)
        calls: list[Piece] = []
        at = 0
        brace = part.find("{") if self._tools else -1
        while brace >= 0:
            if _looks(part, brace, self._tools) is Looks.OTHER:
                brace = part.find("{", brace + 1)
                continue
            end = _extent(part, brace).end
            calls += self._bare(part[brace:end], complete or end is not None)
            opened = _opened(part[at:brace], brace - at) + at
            self._waiting.append(part[at:opened])
            closer = _CLOSER_FENCED if "`" in part[opened:brace] else _CLOSER
            closed = closer.match(part, len(part) if end is None else end)
            at = closed.end() if closed else len(part)
            brace = part.find("{", at)
        self._waiting.append(part[at:])
        return calls

    def _bare(self, text: str, complete: bool) -> list[Call]:
        calls = read_calls(text, self._tools, complete)
        if not calls or any(call.name not in self._tools for call in calls):
            self.broken.append(text[:LONGEST_CALL])
            return []
        self.calls += calls
        return calls

    def _plain(self, text: str) -> list[Piece]:
        """Words as they are, without the white space at their end: a call may follow."""
        text = self._space + text
        solid = text.rstrip()
        self._space = text[len(solid) :]
        self._begun = self._begun or bool(solid)
        return [solid] if solid else []


def words_in(pieces: Iterable[Piece]) -> str:
    """The words among what a ``CallReader`` gave out."""
    return "".join(piece for piece in pieces if isinstance(piece, str))


def _begun_tag(text: str) -> str:
    """The first characters of a tag, where the text ends with them."""
    tail = text[-len(CLOSE_TAG) :]
    # Some letters are longer in lower case.
    length = begun(tail.lower() if tail.isascii() else tail, (OPEN_TAG, CLOSE_TAG))
    return tail[len(tail) - length :] if length else ""


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
    names = (*_FIELDS, *(tool.casefold() for tool in tools))
    return key in names if whole else any(name.startswith(key) for name in names)
