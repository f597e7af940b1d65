"""Conversations as the page shows them: answers and the steps on the way to them as chat messages.

Text of recordings, people and models is escaped for Markdown; the only Markdown that is interpreted is
what this module writes: list markers and links of the form ``#play/START/END/RECORDING``, which
``static/player.js`` turns into buttons that play. The conversations of this run of the server are kept, so
that a reloaded page finds its messages again.
"""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gradio import ChatMessage

from agent.answer import Answer, Citation, StepFinished, StepStarted
from agent.citations.markers import split_markers
from agent.corrected_turns import replaced, reworded
from agent.instructed_summary import InstructedSummary
from index.export.markdown import escape_markdown, to_markdown
from index.records import Recording
from index.store.library import Library
from moss_audio.timestamps import clock
from tools.result import Evidence, Failure, Heard, RecordingList, ToolResult

KEPT = 200
"""Conversations whose messages are kept; older ones lose them, not the agent's memory of them."""


@dataclass
class Conversation:
    """Messages as the page shows them, and the recordings they quote."""

    messages: list[ChatMessage] = field(default_factory=list)
    recordings: set[str] = field(default_factory=set)
    quoted: dict[int, str] = field(default_factory=dict)
    """The sentences that steps and answers may quote, by number, as they read then."""


class Conversations:
    """Messages by thread; safe to use from several threads of the server.

    Args:
        key: Makes of a thread's name one that is nobody else's.
        readable: The ids of the recordings that whoever asks may read; None for all.
    """

    def __init__(
        self,
        key: Callable[[str], str] = str,
        readable: Callable[[], list[str] | None] = lambda: None,
    ) -> None:
        self._key, self._readable = key, readable
        self._kept: OrderedDict[str, Conversation] = OrderedDict()
        self._lock = threading.Lock()
        self._stops: dict[str, threading.Event] = {}
        self._left: set[str] = set()

    def messages(self, thread: str | None) -> list[ChatMessage]:
        """A copy of a conversation's messages; empty for one that is unknown or quotes what is hidden now."""
        seen, thread = self._readable(), self._key(thread or "")
        with self._lock:
            found = self._kept.get(thread)
            if found and seen is not None and not found.recordings <= set(seen):
                del self._kept[thread]
                return []
            return list(found.messages) if found else []

    def keep(self, thread: str, messages: list[ChatMessage], recordings: set[str]) -> None:
        """Store the messages of a conversation, and add the recordings that it quotes by now."""
        thread = self._key(thread)
        with self._lock:
            found = self._kept.setdefault(thread, Conversation())
            found.messages = list(messages)
            found.recordings |= recordings
            self._kept.move_to_end(thread)
            while len(self._kept) > KEPT:
                gone, _ = self._kept.popitem(last=False)
                self._stops.pop(gone, None)

    def quote(self, thread: str, evidence: Iterable[Evidence]) -> None:
        """Remember what a conversation may quote."""
        with self._lock:
            found = self._kept.setdefault(self._key(thread), Conversation())
            found.quoted.update((item.id, item.text) for item in evidence)

    def correct(self, thread: str | None, library: Library) -> bool:
        """Bring what a conversation quotes to what it was corrected to since; whether anything changed."""
        with self._lock:
            found = self._kept.get(self._key(thread or ""))
            quoted = dict(found.quoted) if found else {}
        if found is None or not quoted:
            return False
        now = {segment.id: segment for segment in library.segments_by_id(quoted)}
        texts = {escape_markdown(old): escape_markdown(new) for old, new in reworded(quoted, now).items()}
        with self._lock:
            found.quoted.update((number, segment.text) for number, segment in now.items())
            for message in found.messages if texts else ():
                if isinstance(message.content, str):
                    message.content = replaced(message.content, texts)
        return bool(texts)

    def begin(self, thread: str) -> threading.Event:
        """An answer begins, which an earlier wish to stop does not concern; returns what will stop it."""
        thread = self._key(thread)
        with self._lock:
            self._left.discard(thread)
            self._stops[thread] = threading.Event()
            return self._stops[thread]

    def stop(self, thread: str | None) -> None:
        """The user wants no more of the answer that is being written."""
        with self._lock:
            self._stop(thread)

    def is_stopped(self, thread: str) -> bool:
        """Whether the user stopped the answer since it began."""
        thread = self._key(thread)
        with self._lock:
            return thread in self._stops and self._stops[thread].is_set()

    def leave(self, thread: str | None) -> None:
        """The user went on to another conversation; what is still being written is not drawn any more."""
        with self._lock:
            if self._stop(thread):
                self._left.add(self._key(str(thread)))

    def _stop(self, thread: str | None) -> bool:
        """Stop what is being written in a conversation that is known."""
        thread = None if thread is None else self._key(thread)
        if thread is None or thread not in self._kept:
            return False
        self._stops.setdefault(thread, threading.Event()).set()
        return True

    def is_left(self, thread: str) -> bool:
        """Whether the user went on to another conversation since the answer began."""
        with self._lock:
            return self._key(thread) in self._left

    def forget_recording(self, recording: str) -> None:
        """Drop every conversation that quotes a recording."""
        with self._lock:
            for thread in [name for name, one in self._kept.items() if recording in one.recordings]:
                del self._kept[thread]


SHOWN_EVIDENCE = 8
"""Sentences a step shows; the rest is counted."""

SLOW_STEP = 0.5
"""Seconds from which on it is worth saying how long a step took."""

_ITEM = re.compile(r"(\s*(?:[-*•]|\d{1,3}[.)])\s+|\s*>\s+|#{1,6}\s+)?(.*)", re.DOTALL)


def play_link(start: float, end: float, recording: str) -> str:
    """A Markdown link that plays ``[start, end)`` seconds of a recording."""
    return f"[{clock(start)}](#play/{start:.3f}/{end:.3f}/{recording})"


def question_message(question: str) -> ChatMessage:
    """What the user asked, as it was typed."""
    return ChatMessage(role="user", content=plain(question))


def step_message(step: StepStarted, titles: Mapping[str, str]) -> ChatMessage:
    """A tool call that goes on; ``titles`` are those of the recordings worth naming, by id."""
    title = escape_markdown(describe(step.tool, step.arguments, titles))
    return ChatMessage(
        role="assistant", content="", metadata={"title": title, "id": step.id, "status": "pending"}
    )


def finish_step(message: ChatMessage, step: StepFinished, seconds: float) -> None:
    """Put what a tool returned into its message."""
    message.content = step_content(step.result)
    message.metadata["status"] = "done"
    if seconds >= SLOW_STEP:
        message.metadata["duration"] = round(seconds, 1)


class Thought:
    """What a model thinks, as a step that folds away once it is done; it stands before what comes of it."""

    def __init__(self, messages: list[ChatMessage]) -> None:
        self.text = ""
        self.began = time.monotonic()
        self.message = ChatMessage(
            role="assistant", content="", metadata={"title": "Thinking", "status": "pending"}
        )
        messages.append(self.message)

    def add(self, text: str) -> None:
        """More of it."""
        self.text += text
        self.message.content = plain(self.text)

    def end(self) -> None:
        """It is done."""
        self.message.metadata["title"] = "Thought"
        self.message.metadata["status"] = "done"
        if (seconds := time.monotonic() - self.began) >= SLOW_STEP:
            self.message.metadata["duration"] = round(seconds, 1)


def end(messages: list[ChatMessage]) -> None:
    """Leave no step pending and no question without a word; nothing changes for a complete answer."""
    for message in messages:
        if message.metadata and message.metadata.get("status") == "pending":
            message.metadata["status"] = "done"
    if messages and (messages[-1].role == "user" or (messages[-1].metadata or {}).get("title")):
        messages.append(ChatMessage(role="assistant", content="Stopped."))


def instructed_text(written: InstructedSummary, recording: Recording, plays: bool) -> str:
    """A summary by instruction as Markdown.

    Args:
        written: What came of the instruction.
        recording: What it is a summary of.
        plays: Whether times are links that play, as on the page; else they are as in any text.
    """
    usual = to_markdown(written.summary, recording.title, times_of(recording.id) if plays else None)
    title, _, rest = usual.partition("\n")
    parts = [title]
    if written.note:
        parts.append(f"*{escape_markdown(written.note)}*")
    if written.text:
        parts.append(answer_text(written) if plays else plain(written.text))
        return "\n\n".join(parts) + "\n"
    if written.fitting:
        time_of = times_of(recording.id) if plays else (lambda start, _end: f"\\[{clock(start)}\\]")
        parts.append(f"## What fits “{escape_markdown(written.instruction)}”")
        parts.append(
            "\n".join(
                f"- {time_of(one.start, one.end)} {_voice(one.speaker)}“{escape_markdown(one.text)}”"
                for one in written.fitting
            )
        )
        parts.append("## The usual summary")
    return "\n\n".join(parts) + f"\n{rest}"


def times_of(recording: str) -> Callable[[float, float], str]:
    """What writes a span of a recording, in seconds, as a link that plays."""
    return lambda start, end: play_link(start, end, recording)


def _voice(speaker: str | None) -> str:
    return f"{escape_markdown(speaker)}: " if speaker else ""


def answer_text(answer: Answer | InstructedSummary) -> str:
    """The answer with its citations as links that play."""
    citations = iter(answer.citations)
    parts = []
    for part in split_markers(answer.marked_text):
        if isinstance(part, str):
            # NUL frames the links below; no text of a recording may bring its own.
            parts.append(part.replace("\0", ""))
        else:
            parts.append(f"\0{_cite(next(citations))}\0")
    return "\n".join(_line(line) for line in "".join(parts).split("\n"))


def plain(text: str) -> str:
    """Text of several lines, none of it interpreted but list markers at the start of a line."""
    return "\n".join(_line(line) for line in text.split("\n"))


def describe(tool: str, arguments: Mapping[str, Any], titles: Mapping[str, str]) -> str:
    """One line that says what a tool call does."""
    where = _title(arguments.get("recording"), titles)
    what = {
        "read_transcript": f"Read {_range(arguments)}",
        "search_recordings": f"Search for “{arguments.get('query', '')}”",
        "list_recordings": "List the recordings",
        "outline": "Outline the recording",
        "summarize": "Summarise the recording",
        "listen": f"Listen to {_range(arguments)}",
    }
    return what.get(tool, tool) + where


def step_content(result: ToolResult) -> str:
    """What a tool returned: its note or error, and the first sentences it found."""
    error = result.error if isinstance(result, Failure) else ""
    answer = result.answer if isinstance(result, Heard) else ""
    lines = [escape_markdown(text) for text in (error, answer, result.note) if text]
    found = result.evidence
    lines += [_sentence(item) for item in found[:SHOWN_EVIDENCE]]
    if len(found) > SHOWN_EVIDENCE:
        lines.append(f"and {len(found) - SHOWN_EVIDENCE} more")
    if not lines and isinstance(result, RecordingList):
        count = len(result.recordings)
        lines.append(f"{count} recording{'' if count == 1 else 's'}")
    return "\n\n".join(lines) or "Nothing was found."


def recordings_of(result: ToolResult) -> set[str]:
    """Ids of the recordings whose words a tool returned."""
    return {item.recording for item in result.evidence}


def suggestions(recording: Recording | None) -> list[str]:
    """First questions that make sense for what is open."""
    if recording is None or recording.duration <= 0:
        return ["Which recordings are there?", "What was decided?"]
    minute = 2 if recording.duration > 180 else 0
    first = f"What was said at minute {minute}?" if minute else "What was said in the first 30 seconds?"
    return [first, "What was decided?", "What are the action items?", "Summarise this recording."]


def _cite(citation: Citation) -> str:
    return play_link(citation.start, citation.end, citation.recording)


def _line(line: str) -> str:
    """One line: its list marker kept, links of this module kept (between NULs), the rest escaped."""
    match = _ITEM.match(line)
    assert match is not None
    marker, rest = match[1] or "", match[2]
    if marker.strip() in ("•", "*"):
        marker = marker.replace("•", "-").replace("*", "-")
    pieces = rest.split("\0")
    escaped = [piece if number % 2 else _spaced(piece) for number, piece in enumerate(pieces)]
    return marker + "".join(escaped)


def _spaced(text: str) -> str:
    """Escape, but keep the spaces at both ends, which belong between words and citations."""
    body = escape_markdown(text)
    before = " " if body and text[:1].isspace() else ""
    after = " " if text[-1:].isspace() else ""
    return before + body + after


def _sentence(item: Evidence) -> str:
    when = play_link(item.start, item.end, item.recording)
    return f"{when} {_voice(item.speaker)}{escape_markdown(item.text)}"


def _range(arguments: Mapping[str, Any]) -> str:
    try:
        return f"{clock(float(arguments['start']))}–{clock(float(arguments['end']))}"
    except (KeyError, TypeError, ValueError):
        return "a stretch"


def _title(reference: object, titles: Mapping[str, str]) -> str:
    if not reference:
        return ""
    title = titles.get(str(reference), "")
    return f" · {title}" if title else ""
