"""Libraries to talk about, and chat models to talk with, for tests of tools and agent."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from pydantic import Field

from agent.assistant import Assistant
from agent.checkpointer import Memory
from agent.extractive.extractive_chat import ExtractiveChatModel
from index.search.indexing import index_recording
from index.search.searching import Search
from index.search.vectors import Vectors
from index.store.database import RecordingRow, SegmentRow, SpeakerRow
from tests.support.indexed import embedder, open_library
from tools import Toolbox, build_tools
from tools.result import ToolResult, result_of

HARBOUR = "a" * 64
DURATION = 306.41
TITLE = "Harbour Lights planning call"


def heard() -> list[dict[str, Any]]:
    """What Whisper heard of the sample meeting."""
    return json.loads((Path(__file__).parents[1] / "data" / "harbour_heard.json").read_text())


class Desk:
    """A home folder with an assistant over it: real SQLite, real Chroma, real embeddings."""

    def __init__(self, home: Path, model: BaseChatModel | None = None) -> None:
        self.home, self.embedder = home, embedder()
        self.library = open_library(home)
        self.vectors = Vectors(home / "vectors", self.embedder)
        self.search = Search(self.library, self.embedder, self.vectors)
        self.toolbox = Toolbox(self.library, self.search, listener=None)
        self.memory = Memory(home / "conversations.sqlite")
        self.assistant = self.with_model(model or ExtractiveChatModel())

    def with_model(self, model: BaseChatModel) -> Assistant:
        """Another assistant over the same library and conversations."""
        return Assistant(self.library, build_tools(self.toolbox), model, self.memory.checkpointer)

    def add(
        self,
        recording: str,
        title: str,
        segments: Sequence[dict[str, Any]],
        duration: float,
        gaps: Sequence[Sequence[float]] = (),
        status: str = "ready",
    ) -> str:
        """Store and index a recording; returns its id."""
        with self.library.database.transaction() as session:
            session.add(
                RecordingRow(
                    id=recording,
                    title=title,
                    source_name="call.mp3",
                    duration=duration,
                    status=status,
                    added_at=f"2026-11-23T10:00:{len(self.library.recordings()):02d}Z",
                    language="en",
                    coverage=0.99,
                    gaps=[list(gap) for gap in gaps],
                )
            )
            session.flush()
            speakers: dict[str, int] = {}
            for segment in segments:
                name = segment.get("speaker")
                if name and name not in speakers:
                    row = SpeakerRow(recording_id=recording, name=name)
                    session.add(row)
                    session.flush()
                    speakers[name] = row.id
                session.add(
                    SegmentRow(
                        recording_id=recording,
                        start=segment["start"],
                        end=segment["end"],
                        text=segment["text"],
                        kind=segment.get("kind", "speech"),
                        speaker_id=speakers.get(name or ""),
                        words=[],
                    )
                )
        index_recording(self.library, self.embedder, self.vectors, recording)
        return recording

    def add_harbour(self) -> str:
        """Store the sample meeting as it was heard."""
        return self.add(HARBOUR, TITLE, heard(), DURATION)

    def close(self) -> None:
        """Release the files."""
        self.memory.close()
        self.library.database.close()


def use(toolbox: Toolbox, name: str, **arguments: Any) -> ToolResult:
    """What a tool returns to a call as a language model writes it, errors included."""
    (tool,) = (tool for tool in build_tools(toolbox) if tool.name == name)
    message = tool.invoke(call(name, **arguments))
    assert isinstance(message, ToolMessage)
    return result_of(message)


def said(start: float, end: float, text: str, speaker: str | None = "Speaker 1") -> dict[str, Any]:
    """One sentence of a made-up recording."""
    return {"start": start, "end": end, "text": text, "speaker": speaker}


class ScriptedModel(BaseChatModel):
    """Stands in for a language model: says what it was told to, message by message.

    Texts may use ``{first}`` and ``{last}`` for the numbers of the first and the last line of evidence, and
    ``{line:words}`` for the number of the first line with these words.
    """

    model_name: str = "scripted"
    script: list[AIMessage]
    heard: list[list[BaseMessage]] = Field(default_factory=list)
    tools_offered: list[int] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
        return self.bind(tools=[tool.name for tool in tools], **kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        self.heard.append(list(messages))
        self.tools_offered.append(len(kwargs.get("tools") or ()))
        message = self.script[min(len(self.heard), len(self.script)) - 1]
        results = [str(message.text) for message in messages if isinstance(message, ToolMessage)]
        lines = re.findall(r"^\[(\d+)\] (.*)$", "\n".join(results), re.MULTILINE)
        text = str(message.text)
        if lines:
            text = text.replace("{first}", lines[0][0]).replace("{last}", lines[-1][0])
        text = re.sub(
            r"\{line:([^}]*)\}",
            lambda wanted: next(number for number, line in lines if wanted[1] in line),
            text,
        )
        calls = [dict(call) for call in message.tool_calls]
        return ChatResult(generations=[ChatGeneration(message=AIMessage(text, tool_calls=calls))])


def call(tool: str, id: str = "call_1", **arguments: Any) -> dict[str, Any]:
    """A tool call as a language model writes it."""
    return {"name": tool, "args": arguments, "id": id, "type": "tool_call"}


def prepare_home(home: Path) -> Path:
    """Make a home with the sample meeting in it, to be copied; returns it."""
    desk = Desk(home)
    desk.add_harbour()
    desk.close()
    desk.vectors.close()
    return home
