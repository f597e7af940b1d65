"""What a chat model is handed of a conversation: evidence under short numbers, the best stretches whole.

Tools number evidence by its segments in the database (``[#48213]``). A model reads and writes ``[3]``
instead: it takes fewer tokens, and small models copy it right. The numbers hold for one turn; answers are
stored, shown and read again with the segments' own (see ``agent.citations.markers``).
"""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import BaseMessage, ToolMessage

from agent.citations.check import Segments
from agent.turns import last_turn
from tools.result import Evidence, SearchResult, ToolResult, result_of, text_of

STRETCHES = 2
"""Stretches that a search found and that are handed over whole."""
REMINDER = "\n\nAnswer in one to three sentences, each with the number of its line in square brackets."
"""Stands last: small models do what they read last, and with tools at hand go on looking without it."""
LONGEST_STRETCH = 24
"""Segments of such a stretch at most."""


class Handout:
    """The numbers of one turn, and what was handed over under them.

    Args:
        segments: Where the stretches around what was found are read.
    """

    def __init__(self, segments: Segments) -> None:
        self._segments = segments
        self._results: dict[str, ToolResult] = {}
        self.numbers: dict[int, int] = {}
        """From a segment's id to its number, from 1 on in the order in which the model reads them."""

    def messages(self, messages: Sequence[BaseMessage]) -> list[BaseMessage]:
        """The conversation as a model reads it: evidence under short numbers."""
        turn = {message.id for message in last_turn(messages)}
        handed = [self._handed(message, message.id in turn) for message in messages]
        last = handed[-1] if handed else None
        if isinstance(last, ToolMessage) and self.result(last).evidence:
            handed[-1] = last.model_copy(update={"content": f"{last.text}{REMINDER}"})
        return handed

    def result(self, message: ToolMessage, now: bool = True) -> ToolResult:
        """What a tool returned; of a search of this turn also the sentences around what it found."""
        key = str(message.id or message.tool_call_id)
        if key not in self._results:
            result = result_of(message)
            if now and isinstance(result, SearchResult):
                result = self._with_stretches(result)
            self._results[key] = result
        return self._results[key]

    def _handed(self, message: BaseMessage, now: bool) -> BaseMessage:
        if not isinstance(message, ToolMessage):
            return message
        return message.model_copy(update={"content": text_of(self.result(message, now), self._number)})

    def _number(self, segment: int) -> int:
        return self.numbers.setdefault(segment, len(self.numbers) + 1)

    def _with_stretches(self, result: SearchResult) -> SearchResult:
        """The best stretches whole and in order, then what else was found."""
        found = {item.id: item for item in result.evidence}
        read: dict[int, Evidence] = {}
        for passage in result.passages[:STRETCHES]:
            segments = self._segments.segments(passage.recording, passage.start, passage.end)
            for segment in segments[:LONGEST_STRETCH]:
                read.setdefault(segment.id, found.get(segment.id) or Evidence.of(segment))
        rest = [item for item in result.evidence if item.id not in read]
        return result.model_copy(update={"evidence": (*read.values(), *rest)})
