"""Earlier turns of a conversation as they would read now, after what they quote was corrected."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from langchain_core.messages import AIMessage, AnyMessage, ToolMessage

from agent.citations.check import Segments
from agent.citations.quotes import INNER_QUOTES, tidy
from index.records import Segment
from tools.result import Evidence, ToolResult, restore, result_of, text_of

SHORTEST = 12
"""Characters from which a sentence is looked for in other text; “Yes.” stands everywhere."""


class CurrentSegments(Segments, Protocol):
    """The part of ``index.store.library.Library`` that earlier turns are compared with."""

    def successors(self, recording: str, gone: Iterable[int]) -> dict[int, int]:
        """In which sentence those are now that are no longer there."""
        ...


def as_corrected(messages: Sequence[AnyMessage], segments: CurrentSegments) -> list[AnyMessage]:
    """The messages that change, with evidence, quotes and markers as the database has them now."""
    tools = [message for message in messages if isinstance(message, ToolMessage)]
    known = {item.id: item for message in tools for item in result_of(message).evidence}
    now = {segment.id: segment for segment in segments.segments_by_id(known)}
    successors: dict[int, int] = {}
    for recording in {item.recording for number, item in known.items() if number not in now}:
        gone = [item.id for item in known.values() if item.recording == recording and item.id not in now]
        successors |= segments.successors(recording, gone)
    now |= {segment.id: segment for segment in segments.segments_by_id(successors.values())}
    texts = reworded({number: item.text for number, item in known.items()}, now)
    changed: list[AnyMessage] = []
    for message in messages:
        new: AnyMessage | None = None
        if isinstance(message, ToolMessage):
            result = result_of(message)
            if any(_is_stale(item, now) for item in result.evidence):
                current = _as_corrected(str(message.name), result, now, successors, texts)
                new = message.model_copy(update={"artifact": current, "content": text_of(current)})
        elif isinstance(message, AIMessage) and not message.tool_calls:
            text = _MARKER_NUMBER.sub(lambda found: _number(found, successors), str(message.text))
            text = replaced(text, texts)
            if text != str(message.text):
                new = message.model_copy(update={"content": text})
        if new is not None:
            changed.append(new)
    return changed


def reworded(before: Mapping[int, str], now: Mapping[int, Segment]) -> dict[str, str]:
    """Sentences that read otherwise now, with how they read; the longest first.

    Of one that was split or merged every word is still there, so that it is none of them.

    Args:
        before: Sentences as they were quoted, by number.
        now: As they are.
    """
    found = {}
    for number, text in before.items():
        current = now[number].text if number in now else text
        if len(text) >= SHORTEST and current not in text and text not in current:
            found[text] = current
    return dict(sorted(found.items(), key=lambda item: -len(item[0])))


def replaced(text: str, texts: Mapping[str, str]) -> str:
    """A text with sentences in another wording, also where they stand in quotation marks."""
    for old, new in texts.items():
        text = text.replace(old, new)
        text = text.replace(tidy(old).translate(INNER_QUOTES), tidy(new).translate(INNER_QUOTES))
    return text


_MARKER_NUMBER = re.compile(r"(?<=\[#)\d+(?=[\]-])|(?<=-#)\d+(?=\])")


def _number(found: re.Match[str], successors: Mapping[int, int]) -> str:
    number = int(found[0])
    return str(successors.get(number, number))


def _is_stale(item: Evidence, now: Mapping[int, Segment]) -> bool:
    current = now.get(item.id)
    return current is None or Evidence.of(current, item.relevance, item.reply_to) != item.model_copy(
        update={"after": None}
    )


def _as_corrected(
    tool: str,
    result: ToolResult,
    now: Mapping[int, Segment],
    successors: Mapping[int, int],
    texts: Mapping[str, str],
) -> ToolResult:
    evidence: dict[int, Evidence] = {}
    for item in result.evidence:
        segment = now.get(successors.get(item.id, item.id))
        if segment is not None and segment.id not in evidence:
            current = Evidence.of(segment, item.relevance, item.reply_to)
            evidence[segment.id] = current.model_copy(update={"after": item.after})
    data = _walk(result.model_dump(mode="json"), successors, texts)
    data["evidence"] = [item.model_dump(mode="json") for item in evidence.values()]
    return restore(tool, data, "")


def _walk(value: Any, successors: Mapping[int, int], texts: Mapping[str, str], key: str = "") -> Any:
    """A result's data with sentences in their new wording, and numbers of segments that are there."""
    if isinstance(value, str):
        return replaced(value, texts)
    if isinstance(value, Mapping):
        return {name: _walk(inner, successors, texts, name) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        if key in ("evidence", "segments") and all(isinstance(number, int) for number in value):
            return list(dict.fromkeys(successors.get(number, number) for number in value))
        return [_walk(inner, successors, texts, key) for inner in value]
    return value
