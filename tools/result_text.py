"""A tool's result as a language model reads it: numbered lines, each with the marker to cite it by.

``[#12] 2:05-2:11 Speaker 1: …`` takes far fewer tokens than JSON that repeats long ids and exact times for
every sentence. What is no evidence stands before it as JSON, a line each.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from moss_audio.timestamps import clock
from tools.result import Evidence, Failure, ToolResult

ID_SHOWN = 12
"""Characters of a recording's id that a model sees; tools take any unique beginning."""

_RECORDING_ID = re.compile(r"[0-9a-f]{64}")


def text_of(result: ToolResult) -> str:
    """The lines of a result; words of recordings in it cannot look like markers."""
    if isinstance(result, Failure):
        return result.error
    document = result.document()
    head = {key: value for key, value in document.items() if not _is_rows(value)}
    lines = [json.dumps(shortened(head), ensure_ascii=False)] if head else []
    for key, rows in document.items():
        # Passages are where evidence was found; the evidence says it all.
        if _is_rows(rows) and key not in ("evidence", "passages"):
            lines += [f"{key}:", *(json.dumps(shortened(row), ensure_ascii=False) for row in rows)]
    if "evidence" in document:
        lines.append("evidence:" if result.evidence else "evidence: none")
        # Titles are worth their tokens only where the evidence is from several recordings.
        titles = result.titles if len(result.titles) > 1 else {}
        lines += [_evidence_line(item, titles) for item in result.evidence]
    return "\n".join(lines)


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


def _evidence_line(item: Evidence, titles: Mapping[str, str]) -> str:
    title = titles.get(item.recording)
    where = f"{_one_line(title)}, " if title else ""
    when = f"{clock(item.start)}-{clock(item.end)}"
    who = _one_line(item.speaker or "somebody") if item.kind == "speech" else f"({item.kind})"
    return f"[#{item.id}] {where}{when} {who}: {_one_line(item.text)}"


def _one_line(text: str) -> str:
    return " ".join(_without_markers(text).split())


def _without_markers(text: str) -> str:
    return text.replace("[#", "[ #")
