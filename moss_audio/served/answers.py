"""What a server answers, as events: thoughts, text, calls of tools, and how it ended.

Nothing is trusted to have a form: what is not understood is passed over. Calls come whole or in pieces and
are given out as Qwen3 writes them, so that one reader reads those of every backend.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from moss_audio.generation.loops import LoopWatch
from moss_audio.generation.requests import Reply, Stopped, TextDelta, ThinkingDelta
from moss_audio.generation.thinking import ThoughtSplitter
from moss_audio.generation.tool_calls import write_call


@dataclass
class PartialCall:
    """A call as far as it has come."""

    index: Any = None
    id: str = ""
    name: str = ""
    arguments: str = ""

    @property
    def whole(self) -> bool:
        """Whether it has a name and its arguments are JSON."""
        try:
            json.loads(self.arguments or "{}")
        except ValueError:
            return False
        return bool(self.name)

    def text(self) -> str:
        """The call as the model wrote it."""
        return write_call(self.name, self.arguments.strip() or "{}")


class CallAssembler:
    """Puts calls together from what a stream gives."""

    def __init__(self) -> None:
        self.calls: list[PartialCall] = []

    @property
    def whole(self) -> bool:
        """Whether there are calls and nothing is missing from them."""
        return bool(self.calls) and all(call.whole for call in self.calls)

    def take(self, given: Any) -> None:
        """Take ``tool_calls`` of a delta or of a message; what is none is passed over."""
        for piece in given if isinstance(given, list) else ():
            if not isinstance(piece, dict):
                continue
            function = piece.get("function")
            function = function if isinstance(function, dict) else {}
            call = self._place(piece, function)
            call.name = call.name or _as_text(function.get("name"))
            arguments = function.get("arguments")
            is_object = isinstance(arguments, dict)
            call.arguments += json.dumps(arguments, ensure_ascii=False) if is_object else _as_text(arguments)

    def _place(self, piece: dict[str, Any], function: dict[str, Any]) -> PartialCall:
        """The call that a piece belongs to: by its number; without one, a new id or name begins another."""
        index, id_ = piece.get("index"), _as_text(piece.get("id"))
        for call in self.calls if index is not None else ():
            if call.index == index:
                return call
        last = self.calls[-1] if self.calls else None
        if index is None and last is not None and (id_ == last.id or not id_) and not function.get("name"):
            return last
        self.calls.append(PartialCall(index, id_))
        return self.calls[-1]


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else ""


Delta = ThinkingDelta | TextDelta

_GAVE_UP = ("abort", "error")
"""Reasons with which vLLM and SGLang end an answer that they could not finish."""


class AnswerReader:
    """Reads one answer, in pieces or whole.

    Args:
        stop_loops: Look for a phrase that is said over and over.
        thoughtless: The model was told not to think.
    """

    def __init__(self, stop_loops: bool = False, thoughtless: bool = False) -> None:
        self._thoughtless = thoughtless
        self._reasoning = ThoughtSplitter(opened=True)
        self._content = ThoughtSplitter()
        self._calls = CallAssembler()
        self._loops = LoopWatch() if stop_loops else None
        self._parts: dict[type[Delta], list[str]] = {ThinkingDelta: [], TextDelta: []}
        self._began = time.monotonic()
        self._pieces = 0
        self._prompt_tokens = 0
        self._new_tokens: int | None = None
        self._reason: str | None = None

    @property
    def ended(self) -> bool:
        """Whether the server has said how the answer ended."""
        return self._reason is not None

    @property
    def complete(self) -> bool:
        """Whether nothing is missing. Some servers close a stream of calls without a reason."""
        return self.ended or self._calls.whole

    @property
    def gave_up(self) -> bool:
        """Whether the server says that it could not finish the answer."""
        return self._reason in _GAVE_UP

    @property
    def looping(self) -> bool:
        """Whether a phrase is being said over and over."""
        return self._loops is not None and self._loops.looping

    @property
    def thought(self) -> bool:
        """Whether there was a thought."""
        return bool(self._parts[ThinkingDelta])

    def take(self, document: Any) -> list[Delta]:
        """Take one piece of a stream, or a whole answer; give out what is certain."""
        if not isinstance(document, dict):
            return []
        self._count(document.get("usage"))
        choices = document.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return []
        reason = choice.get("finish_reason")
        if isinstance(reason, str) and reason:
            self._reason = reason
        for name in ("delta", "message"):
            if isinstance(choice.get(name), dict):
                return self._read(choice[name])
        return []

    def finish(self) -> list[Delta]:
        """What was held back, when no more will come. Of an answer that was cut off, whole calls remain."""
        deltas = self._thoughts(self._reasoning.flush()) + self._answer(self._content.flush())
        text = self._parts[TextDelta]
        calls = [call for call in self._calls.calls if self.ended or call.whole]
        if not text and not calls and self._thoughtless and self._reason == "stop":
            # Seen in vLLM: told not to think, its parser takes the whole answer for a thought.
            deltas += self._keep([TextDelta("".join(self._parts[ThinkingDelta]))] if self.thought else [])
            self._parts[ThinkingDelta] = []
        for call in calls:
            deltas += self._keep([TextDelta(("\n" if text else "") + call.text())])
        return deltas

    def reply(self, stopped: Stopped | None = None) -> Reply:
        """The whole of it; tokens as the server counts them, or pieces where it does not."""
        return Reply(
            text="".join(self._parts[TextDelta]),
            thinking="".join(self._parts[ThinkingDelta]),
            stopped=stopped or ("length" if self._reason == "length" else "end"),
            prompt_tokens=self._prompt_tokens,
            new_tokens=self._pieces if self._new_tokens is None else self._new_tokens,
            seconds=time.monotonic() - self._began,
        )

    def _read(self, message: dict[str, Any]) -> list[Delta]:
        reasoning = _text(message.get("reasoning")) or _text(message.get("reasoning_content"))
        content = _text(message.get("content"))
        calls = message.get("tool_calls")
        self._calls.take(calls)
        self._pieces += bool(reasoning or content or calls)
        if self._loops is not None:
            self._loops.feed(reasoning + content)
        deltas = self._thoughts(self._reasoning.feed(reasoning)) if reasoning else []
        if content:
            deltas += self._thoughts(self._reasoning.flush()) + self._answer(self._content.feed(content))
        return deltas

    def _thoughts(self, pieces: list[Any]) -> list[Delta]:
        return self._keep([ThinkingDelta(piece.text) for piece in pieces])

    def _answer(self, pieces: list[Any]) -> list[Delta]:
        return self._keep(
            [
                ThinkingDelta(piece.text) if piece.kind == "thinking" else TextDelta(piece.text)
                for piece in pieces
            ]
        )

    def _keep(self, deltas: list[Delta]) -> list[Delta]:
        for delta in deltas:
            self._parts[type(delta)].append(delta.text)
        return deltas

    def _count(self, usage: Any) -> None:
        if isinstance(usage, dict):
            prompt, new = usage.get("prompt_tokens"), usage.get("completion_tokens")
            self._prompt_tokens = prompt if isinstance(prompt, int) else self._prompt_tokens
            self._new_tokens = new if isinstance(new, int) else self._new_tokens


def _text(value: Any) -> str:
    """Text, which some servers give in parts."""
    if isinstance(value, list):
        return "".join(_text(part.get("text")) for part in value if isinstance(part, dict))
    return value if isinstance(value, str) else ""
