"""The JSON of tool calls as language models write it, repaired where it can be read for sure.

Models forget a brace or the comma's place, put single quotes, fences or Python's ``None``, encode twice, or
call the fields by other names. ``agent.call_reader`` finds the calls in a text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moss_audio.tasks.halfjson import Object, Value, read_object

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
