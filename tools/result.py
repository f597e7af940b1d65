"""What tools return: typed results for the program, and the text that a language model reads.

Each tool is a LangChain tool with ``response_format="content_and_artifact"``: its message carries the text as
content and the result as artifact. The program reads the artifact and never its own text.

The text is numbered lines, each with the marker to cite it by. ``[12] 2:05 Speaker 1: …`` takes far fewer
tokens than JSON that repeats long ids and exact times for every sentence. What is no evidence stands before
it as JSON, a line each.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from langchain_core.messages import ToolMessage
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from index.records import ActionItem, Item, Recording, Segment, Summary, Topic
from moss_audio.timestamps import clock

MOST_EVIDENCE = 60
"""Segments one tool result carries at most; about ten minutes of talk, and what a reader can take in."""

NOTHING_RELEVANT = "Nothing relevant to this was said."


class _Data(BaseModel):
    """Plain, immutable data; unknown keys of an older version are ignored."""

    model_config = ConfigDict(frozen=True)


class Evidence(_Data):
    """One segment that can be cited: ``[start, end)`` seconds of a recording."""

    id: int
    """The segment's number in the database."""
    recording: str
    start: float
    end: float
    speaker: str | None = None
    kind: str = "speech"
    text: str
    relevance: float = 0.0
    """How well it fits a search, in [0, 1]; 0 where nothing was searched for."""
    reply_to: int | None = None
    """The number of the question that it answers."""
    after: int | None = None
    """The number of the segment that stands right before it in the transcript; only a search tells it."""

    @classmethod
    def of(cls, segment: Segment, relevance: float = 0.0, reply_to: int | None = None) -> Evidence:
        """A stored segment as evidence; times to the millisecond."""
        return cls(
            id=segment.id,
            recording=segment.recording,
            start=round(segment.start, 3),
            end=round(segment.end, 3),
            speaker=segment.speaker,
            kind=segment.kind,
            text=segment.text,
            relevance=relevance,
            reply_to=reply_to,
        )

    def document(self) -> dict[str, Any]:
        """The evidence as JSON, without what only a search knows."""
        return self.model_dump(mode="json", exclude={"relevance", "reply_to", "after"})


class RecordingInfo(_Data):
    """The recording a result is about; ``duration`` in seconds."""

    id: str
    title: str
    duration: float

    @classmethod
    def of(cls, recording: Recording) -> RecordingInfo:
        """What is told about a stored recording."""
        return cls(id=recording.id, title=recording.title, duration=round(recording.duration, 3))


class ToolResult(_Data):
    """What every tool result has: evidence that can be cited, and remarks."""

    evidence: tuple[Evidence, ...] = ()
    notes: tuple[str, ...] = ()
    """Remarks, a sentence each."""

    @property
    def note(self) -> str:
        """All remarks in one line; empty for none."""
        return " ".join(self.notes)

    @property
    def titles(self) -> dict[str, str]:
        """Titles of the recordings in it, by id."""
        return {}

    @property
    def recording_ids(self) -> set[str]:
        """Ids of all recordings whose words or titles stand in it."""
        return {item.recording for item in self.evidence} | self.titles.keys()

    def document(self) -> dict[str, Any]:
        """The result as JSON: what the command line prints and the model's text is made of."""
        return {
            **self._fields(),
            "evidence": [item.document() for item in self.evidence],
            **({"note": self.note} if self.note else {}),
        }

    def _fields(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude={"evidence", "notes"})


class Failure(ToolResult):
    """A tool call that failed: one sentence for the user."""

    error: str

    def document(self) -> dict[str, Any]:
        """The error alone."""
        return {"error": self.error}


class AboutRecording(ToolResult):
    """A result about one recording."""

    recording: RecordingInfo

    @property
    def titles(self) -> dict[str, str]:
        """The one recording's title."""
        return {self.recording.id: self.recording.title}


class Transcript(AboutRecording):
    """What was said in ``range``, seconds."""

    range: tuple[float, float]
    total: int
    """How many segments there are; more than ``evidence`` holds where the range is long."""


class Passage(_Data):
    """A stretch that a search found, seconds, with the numbers of the evidence in it."""

    recording: str
    title: str
    start: float
    end: float
    score: float
    evidence: tuple[int, ...]


class SearchResult(ToolResult):
    """Relevant segments, best first, and the passages they lie in."""

    query: str
    passages: tuple[Passage, ...] = ()
    unsaid: tuple[str, ...] = ()
    """Words of the question that nobody says, where they are most of what it is about."""

    @property
    def note(self) -> str:
        """Remarks, led by that there is nothing where there is nothing."""
        return " ".join([*([] if self.evidence else [NOTHING_RELEVANT]), self.caveat, *self.notes]).strip()

    @property
    def caveat(self) -> str:
        """That what was found need not be about the question; empty where there is no doubt."""
        if not self.unsaid:
            return ""
        several = len(self.unsaid) > 1
        named = f"words {' and '.join(self.unsaid)} are" if several else f"word {self.unsaid[0]} is"
        return f"The {named} not said here; this comes nearest."

    @property
    def titles(self) -> dict[str, str]:
        """Titles of the recordings in which something was found."""
        return {passage.recording: passage.title for passage in self.passages}

    def document(self) -> dict[str, Any]:
        """The result as JSON, with the relevance of each piece of evidence."""
        return {
            "query": self.query,
            "evidence": [
                item.model_dump(
                    mode="json", exclude={"after"} if item.reply_to is not None else {"after", "reply_to"}
                )
                for item in self.evidence
            ],
            "passages": [passage.model_dump(mode="json") for passage in self.passages],
            **({"note": self.note} if self.note else {}),
        }


class RecordingEntry(RecordingInfo):
    """One recording of the library."""

    language: str | None = None
    languages: tuple[str, ...] = ()
    status: str
    coverage: float | None = None
    notes: tuple[str, ...] = ()
    """What could not be done with it, a sentence each."""
    has_media: bool = True
    """False for an imported transcript without its media: nothing of it can be played."""
    speakers: tuple[str, ...] = ()
    speaking: dict[str, float] = Field(default_factory=dict)
    """How long each speaker speaks, seconds; empty where several recordings are listed."""
    may_be: dict[str, str] = Field(default_factory=dict)
    """Who a speaker may be by the voice, which nobody has confirmed."""
    added_at: str


class RecordingList(ToolResult):
    """The newest recordings, and how many there are."""

    recordings: tuple[RecordingEntry, ...]
    total: int

    @property
    def titles(self) -> dict[str, str]:
        """The titles listed."""
        return {entry.id: entry.title for entry in self.recordings}

    def document(self) -> dict[str, Any]:
        """The list as JSON; nothing of it is evidence."""
        fields = self._fields()
        for entry in fields["recordings"]:
            for name in ("speaking", "may_be"):
                if not entry[name]:
                    del entry[name]
        return fields


class OutlineTopic(_Data):
    """One topic, seconds; ``evidence`` holds the numbers of its first and last segment."""

    title: str
    start: float
    end: float
    points: tuple[str, ...] = ()
    evidence: tuple[int, ...] = ()


class Outline(AboutRecording):
    """The topics of a recording in order."""

    topics: tuple[OutlineTopic, ...]


class SummaryResult(AboutRecording):
    """The summary of a recording; each topic names its first and last segment alone."""

    summary: Summary
    may_be: dict[str, str] = Field(default_factory=dict)
    """Who a speaker may be by the voice, which nobody has confirmed."""

    def _fields(self) -> dict[str, Any]:
        return {
            "recording": self.recording.model_dump(mode="json"),
            "summary": self.summary.to_json(),
            **({"may_be_unconfirmed": self.may_be} if self.may_be else {}),
        }


class Heard(AboutRecording):
    """What a listener answered about ``range``, seconds; times in the answer are the recording's."""

    range: tuple[float, float]
    answer: str
    beyond: tuple[str, ...] = ()
    """Times that it named and that do not lie in the range."""

    @property
    def warning(self) -> str:
        """That some times cannot be trusted; empty where all can."""
        if not self.beyond:
            return ""
        named = ", ".join(self.beyond[:5])
        return f"It named times that do not lie in this stretch and cannot be trusted: {named}."

    @property
    def note(self) -> str:
        """What was heard, and the warning."""
        return " ".join(part for part in (f"Heard {span_text(*self.range)}.", self.warning) if part)

    def _fields(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude={"evidence", "notes", "beyond"})


RESULTS: Mapping[str, type[ToolResult]] = {
    "read_transcript": Transcript,
    "search_recordings": SearchResult,
    "list_recordings": RecordingList,
    "outline": Outline,
    "summarize": SummaryResult,
    "listen": Heard,
}
"""What each tool returns."""


def result_of(message: ToolMessage) -> ToolResult:
    """The typed result of a tool message; a message without one is a call that failed."""
    if isinstance(message.artifact, ToolResult):
        return message.artifact
    return Failure(error=str(message.text))


def restore(tool: str, stored: Any, text: str) -> ToolResult:
    """A result read back from a stored conversation.

    Args:
        tool: The tool's name.
        stored: The artifact as plain data; None in conversations of versions before artifacts.
        text: The content of the message, in such conversations the result as JSON.

    Returns:
        The result; a ``Failure`` with the text for what is none.
    """
    if stored is None:
        stored = _from_json(text)
    if not isinstance(stored, Mapping) or "error" in stored or tool not in RESULTS:
        error = stored.get("error") if isinstance(stored, Mapping) else None
        return Failure(error=str(error or text))
    try:
        return RESULTS[tool].model_validate(stored)
    except ValidationError:
        return Failure(error=text)


def _from_json(text: str) -> dict[str, Any] | None:
    """The JSON that tools answered in before they returned artifacts, in today's form."""
    try:
        stored = json.loads(text)
    except ValueError:
        return None
    if not isinstance(stored, dict):
        return None
    if "answer" in stored:
        # Where nothing could listen, the answer was null.
        stored["answer"] = stored["answer"] or ""
    elif "note" in stored:
        stored["notes"] = [stored["note"]]
    return stored


def unfinished(recording: Recording) -> str | None:
    """One sentence when the transcript is not whole, else None."""
    if recording.status == "listening":
        return f"“{recording.title}” is still being transcribed; this is what there is so far."
    if recording.status in ("failed", "cancelled"):
        return (
            f"The transcription of “{recording.title}” was not finished ({recording.status}); "
            "add the file again to continue where it stopped."
        )
    return None


def notes(*sentences: str | None) -> tuple[str, ...]:
    """The remarks that there are."""
    return tuple(sentence for sentence in sentences if sentence)


def evidence(segments: Iterable[Segment]) -> tuple[Evidence, ...]:
    """Segments as evidence, the first ``MOST_EVIDENCE`` of them."""
    found: list[Evidence] = []
    for segment in segments:
        if len(found) == MOST_EVIDENCE:
            break
        found.append(Evidence.of(segment))
    return tuple(found)


def span_text(start: float, end: float) -> str:
    """``from 2:00 to 3:00``."""
    return f"from {clock(start)} to {clock(end)}"


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
