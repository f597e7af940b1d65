"""Calls of tools as servers send them, whole or in pieces, and as Qwen3 writes them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass
class Call:
    """One call, as far as it has come."""

    index: Any = None
    id: str = ""
    name: str = ""
    arguments: str = ""

    @property
    def whole(self) -> bool:
        """Whether its arguments are JSON."""
        try:
            json.loads(self.arguments or "{}")
        except ValueError:
            return False
        return bool(self.name)

    def text(self) -> str:
        """The call as the model writes it. Arguments that are no JSON stay as they came: whoever reads them
        also reads those of a model without a server, and knows what to do about them."""
        name = json.dumps(self.name, ensure_ascii=False)
        return f'<tool_call>\n{{"name": {name}, "arguments": {self.arguments.strip() or "{}"}}}\n</tool_call>'


class Calls:
    """Puts calls together from what a stream gives."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    @property
    def whole(self) -> bool:
        """Whether there are calls and nothing is missing from them."""
        return bool(self.calls) and all(one.whole for one in self.calls)

    def take(self, given: Any) -> None:
        """Take ``tool_calls`` of a delta or of a message; what is none is passed over."""
        for piece in given if isinstance(given, list) else ():
            if not isinstance(piece, dict):
                continue
            function = piece.get("function")
            function = function if isinstance(function, dict) else {}
            call = self._place(piece, function)
            call.name = call.name or _text(function.get("name"))
            arguments = function.get("arguments")
            is_object = isinstance(arguments, dict)
            call.arguments += json.dumps(arguments, ensure_ascii=False) if is_object else _text(arguments)

    def _place(self, piece: dict[str, Any], function: dict[str, Any]) -> Call:
        """The call that a piece belongs to: by its number; without one, a new id or name begins another."""
        index, id_ = piece.get("index"), _text(piece.get("id"))
        for call in self.calls if index is not None else ():
            if call.index == index:
                return call
        last = self.calls[-1] if self.calls else None
        if index is None and last is not None and (id_ == last.id or not id_) and not function.get("name"):
            return last
        self.calls.append(Call(index, id_))
        return self.calls[-1]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
