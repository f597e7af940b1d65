"""A tool's result as a language model reads it: numbered lines, each with the marker to cite it by.

``[12] 2:05 Speaker 1: …`` takes far fewer tokens than JSON that repeats long ids and exact times for every
sentence. What is no evidence stands before it as JSON, a line each.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from index.records import ActionItem, Item, Summary, Topic
from moss_audio.timestamps import clock
from tools.result import Evidence, Failure, Outline, OutlineTopic, SummaryResult, ToolResult

ID_SHOWN = 12
"""Characters of a recording's id that a model sees; tools take any unique beginning."""

_RECORDING_ID = re.compile(r"[0-9a-f]{64}")
_LIKE_A_MARKER = re.compile(r"\[(?=[#\d])")


def text_of(result: ToolResult, number: Callable[[int], int] | None = None) -> str:
    """The lines of a result; words of recordings in it cannot look like markers.

    Args:
        result: What a tool returned.
        number: From a segment's id to the number it is cited by; by default ``[#id]`` is.
    """
    if isinstance(result, Failure):
        return result.error
    return "\n".join(_Lines(result, number or "#{}".format).all())


class _Lines:
    """The lines of one result."""

    def __init__(self, result: ToolResult, number: Callable[[int], int | str]) -> None:
        self._result, self._number = result, number
        self._known = {item.id: item for item in result.evidence}
        # Titles are worth their tokens only where the evidence is from several recordings.
        self._titles = result.titles if len(result.titles) > 1 else {}

    def all(self) -> list[str]:
        """Every line."""
        result = self._result
        document = result.document()
        # Rows of evidence say all that passages, topics and summaries rest on.
        head = {key: value for key, value in document.items() if key != "summary" and not _is_rows(value)}
        lines = [json.dumps(shortened(head), ensure_ascii=False)] if head else []
        if isinstance(result, Outline):
            return [*lines, "topics:", *map(self._topic, result.topics)]
        if isinstance(result, SummaryResult):
            return [*lines, *self._summary(result.summary)]
        for key, rows in document.items():
            if _is_rows(rows) and key not in ("evidence", "passages"):
                lines += [f"{key}:", *(json.dumps(shortened(row), ensure_ascii=False) for row in rows)]
        if "evidence" in document:
            lines.append("evidence:" if result.evidence else "evidence: none")
            lines += map(self._evidence, result.evidence)
        return lines

    def _evidence(self, item: Evidence) -> str:
        title = self._titles.get(item.recording)
        where = f"{_one_line(title)}, " if title else ""
        who = _one_line(item.speaker or "somebody") if item.kind == "speech" else f"({item.kind})"
        return f"[{self._number(item.id)}] {where}{clock(item.start)} {who}: {_one_line(item.text)}"

    def _summary(self, summary: Summary) -> list[str]:
        parts: dict[str, Sequence[Item]] = {
            "decisions": summary.decisions,
            "action items": summary.action_items,
            "open questions": summary.open_questions,
            "key sentences": summary.key_quotes,
        }
        lines = [_one_line(summary.overview)]
        for name, items in parts.items():
            lines.append(f"{name}:" if items else f"{name}: none")
            for item in items:
                said = [self._evidence(self._known[at]) for at in item.segments if at in self._known]
                lines += [*said[:-1], *(line + _owner(item) for line in said[-1:])]
        return [*lines, "topics:", *map(self._topic, summary.topics)]

    def _topic(self, topic: OutlineTopic | Topic) -> str:
        ends = topic.evidence if isinstance(topic, OutlineTopic) else topic.segments
        cited = "-".join(str(self._number(number)) for number in dict.fromkeys((*ends[:1], *ends[-1:])))
        points = " / ".join(map(_one_line, topic.points)) if isinstance(topic, OutlineTopic) else ""
        when = f"{clock(topic.start)}-{clock(topic.end)}"
        return f"[{cited}] {when} {_one_line(topic.title)}" + (f": {points}" if points else "")


def _owner(item: Item) -> str:
    if not isinstance(item, ActionItem) or not (item.owner or item.due):
        return ""
    told = {"owner": item.owner, "due": item.due}
    return f" ({', '.join(f'{key}: {_one_line(value)}' for key, value in told.items() if value)})"


def shortened(value: Any) -> Any:
    """A JSON value without the precision and the length of ids that no reader needs."""
    if isinstance(value, float):
        return round(value, 1)
    if isinstance(value, str):
        return value[:ID_SHOWN] if _RECORDING_ID.fullmatch(value) else _without_markers(value)
    if isinstance(value, Mapping):
        return {key: shortened(inner) for key, inner in value.items()}
    return [shortened(inner) for inner in value] if isinstance(value, list) else value


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _one_line(text: str) -> str:
    return " ".join(_without_markers(text).split())


def _without_markers(text: str) -> str:
    return _LIKE_A_MARKER.sub("[ ", text)
