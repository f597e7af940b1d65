"""Calls of tools in what a model writes: Qwen3's ``<tool_call>`` text, turned into calls as it streams."""

from __future__ import annotations

import json
from dataclasses import dataclass

OPEN_TAG, CLOSE_TAG = "<tool_call>", "</tool_call>"


@dataclass(frozen=True)
class Call:
    """A call of a tool; ``arguments`` is the text of a JSON object."""

    name: str
    arguments: str


class CallSplitter:
    """Splits a stream of text into plain text and calls, however tags are cut by the stream.

    White space around a call belongs to the call. What stands between the tags and is no call (broken
    JSON, no name, arguments that are no object) comes out as it was written, tags and all: nothing is
    guessed and nothing lost.
    """

    def __init__(self) -> None:
        self._buffer = ""
        self._inside = False
        self._space = ""
        """White space of the plain text that a call may follow."""
        self._begun = False
        """Whether plain text has come out since the last call."""

    def feed(self, text: str) -> list[str | Call]:
        """Take more text; give out what is certain by now."""
        self._buffer += text
        out: list[str | Call] = []
        while True:
            tag = CLOSE_TAG if self._inside else OPEN_TAG
            at = self._buffer.find(tag)
            again = self._buffer.find(OPEN_TAG) if self._inside else -1
            if again >= 0 and (at < 0 or again < at) and read_call(self._buffer[:again]) is not None:
                # A call that was never closed ends where the next one begins.
                self._close(self._buffer[:again], "", out)
                self._buffer = self._buffer[again + len(OPEN_TAG) :]
                continue
            if at < 0:
                break
            before, self._buffer = self._buffer[:at], self._buffer[at + len(tag) :]
            if self._inside:
                self._close(before, CLOSE_TAG, out)
            else:
                self._plain(before, out)
            self._inside = not self._inside
        if not self._inside:
            certain = len(self._buffer) - _begun(self._buffer, OPEN_TAG)
            self._plain(self._buffer[:certain], out)
            self._buffer = self._buffer[certain:]
        return out

    def flush(self) -> list[str | Call]:
        """The text has ended: a call whose closing tag is missing counts if it is whole."""
        out: list[str | Call] = []
        if self._inside:
            self._close(self._buffer, "", out)
        else:
            self._plain(self._buffer, out)
        if self._space and self._begun:
            out.append(self._space)
        self._buffer, self._inside, self._space = "", False, ""
        return out

    def _plain(self, text: str, out: list[str | Call]) -> None:
        text = self._space + text
        solid = text.rstrip()
        self._space = text[len(solid) :]
        if solid:
            out.append(solid)
            self._begun = True

    def _close(self, inside: str, closing: str, out: list[str | Call]) -> None:
        call = read_call(inside)
        if call is None:
            self._plain(OPEN_TAG + inside + closing, out)
            return
        self._space, self._begun = "", False
        out.append(call)


def read_call(text: str) -> Call | None:
    """The call that a JSON document describes; None if it describes none."""
    try:
        document = json.loads(text, parse_constant=_refuse)
        if not isinstance(document, dict) or not isinstance(document.get("name"), str):
            return None
        arguments = document.get("arguments", {})
        if isinstance(arguments, str):
            arguments = json.loads(arguments, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    if not document["name"].strip() or not isinstance(arguments, dict):
        return None
    written = json.dumps(arguments, ensure_ascii=False)
    # JSON can name halves of surrogate pairs, which no response can hold.
    name, written = (one.encode("utf-8", "replace").decode() for one in (document["name"].strip(), written))
    return Call(name, written)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _begun(text: str, tag: str) -> int:
    """How many characters at the end of ``text`` may be the beginning of ``tag``."""
    return next((n for n in range(min(len(text), len(tag) - 1), 0, -1) if tag.startswith(text[-n:])), 0)
