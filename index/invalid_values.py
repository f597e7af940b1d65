"""What is wrong with a value that does not fit its field, in plain words.

Programs' requests, the arguments of tools and the settings are all checked by pydantic; its own sentences
("Input should be a valid integer, unable to parse string as an integer") are written for developers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from index.text import one_line

LONGEST_FIELD = 60
"""Characters of a field's name that are repeated; a sender may name it as it likes."""

_TEXT = "must be text"
_UNICODE = "must be text in valid Unicode; it has half a surrogate pair, or bytes that are no UTF-8"
_WHOLE = "must be a whole number"
_NUMBER = "must be a number"
_SWITCH = "must be true or false"
_LIST = "must be a list"
_OBJECT = "must be an object with fields"

_PHRASES = {
    "missing": "is missing",
    "missing_argument": "is missing",
    "extra_forbidden": "is not a field that is known here",
    "unexpected_keyword_argument": "is not a field that is known here",
    "string_type": _TEXT,
    "string_unicode": _UNICODE,
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": "must be a finite number",
    "bool_type": _SWITCH,
    "bool_parsing": _SWITCH,
    "list_type": _LIST,
    "tuple_type": _LIST,
    "dict_type": _OBJECT,
    "mapping_type": _OBJECT,
    "model_type": _OBJECT,
    "model_attributes_type": _OBJECT,
    "path_type": "must be the path of a file or folder",
}
_BOUNDS = {
    "greater_than_equal": ("ge", "must be at least"),
    "greater_than": ("gt", "must be more than"),
    "less_than_equal": ("le", "must be at most"),
    "less_than": ("lt", "must be less than"),
}


def field_of(place: Sequence[str | int]) -> str:
    """The name of a field by its place in what was sent, such as ``messages.0``; empty for all of it."""
    name = one_line(".".join(str(part) for part in place if part != "[key]"))
    return name if len(name) <= LONGEST_FIELD else f"{name[:LONGEST_FIELD]}…"


def phrase_of(error: Mapping[str, Any]) -> str:
    """What is wrong with a field, as the rest of a sentence that begins with its name.

    Args:
        error: One of those that ``ValidationError.errors()`` lists, with its context.
    """
    kind, context = error["type"], error.get("ctx") or {}
    if kind in _PHRASES:
        return _PHRASES[kind]
    if kind in _BOUNDS:
        key, phrase = _BOUNDS[kind]
        bound = context[key]
        return f"{phrase} {int(bound) if bound == int(bound) else bound:,}"
    match kind:
        case "string_too_short" if context["min_length"] == 1:
            return "must not be empty"
        case "string_too_short":
            return f"must have at least {context['min_length']:,} characters"
        case "string_too_long":
            return f"must have at most {context['max_length']:,} characters"
        case "too_short":
            return f"must have at least {_entries(context['min_length'])}"
        case "too_long":
            return f"must have at most {_entries(context['max_length'])}"
        case "literal_error" | "enum":
            return f"must be {context['expected'].replace(chr(39), '')}"
        case "not_a_time":
            return str(error["msg"])
    return "has a value that cannot be used"


def sentence_of(error: Mapping[str, Any], whole: str = "The value") -> str:
    """What is wrong, as one sentence.

    Args:
        error: One of those that ``ValidationError.errors()`` lists, with its context.
        whole: What is meant where no field is.
    """
    return f"{field_of(error['loc']) or whole} {phrase_of(error)}."


def _entries(count: int) -> str:
    return f"{count:,} {'entry' if count == 1 else 'entries'}"
