"""The assistant: a question in, an answer with checked citations out, step by step if wanted."""

from __future__ import annotations

import logging
import re
import threading
import time
import uuid
from collections.abc import Iterator, Sequence, Set
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.types import StreamMode

from agent.answer import Answer, Citation, Event, Step, StepFinished, StepStarted, answer_of
from agent.citations.quotes import fold
from agent.graph import MOST_GATHERED, MOST_ROUNDS, State, build_graph
from agent.planning.situation import Focus
from index.disk_space import disk_full, is_disk_full
from index.recording_errors import Cancelled, InvalidInput, MossAgentError
from index.records import Recording
from index.store.library import Library
from moss_audio.errors import MossAudioError
from tools.toolbox import CANCEL

LONGEST_QUESTION = 4000
"""Characters a question may have."""

MODES: list[StreamMode] = ["updates", "custom"]
"""What each node did, and the events that nodes write: checked text, thoughts, tool results."""

_log = logging.getLogger(__name__)


class Assistant:
    """Answers questions about the recordings of a library.

    Args:
        library: Recordings and segments; citations are checked against it.
        tools: What the agent may do.
        chat_model: Any chat model that can bind tools.
        checkpointer: Where conversations are kept; None forgets each after its answer.
    """

    def __init__(
        self,
        library: Library,
        tools: Sequence[BaseTool],
        chat_model: BaseChatModel,
        checkpointer: BaseCheckpointSaver[Any] | None = None,
    ) -> None:
        self._library = library
        self._model = model_name(chat_model)
        self._graph = build_graph(chat_model, tools, checkpointer, library)
        self._remembers = checkpointer is not None

    def ask(
        self,
        question: str,
        recording: str | None = None,
        thread: str | None = None,
        cancel: threading.Event | None = None,
    ) -> Answer:
        """Answer a question.

        Args:
            question: In plain words.
            recording: Id, unique prefix or title of the recording it is about; by default the one it names,
                or the only one there is.
            thread: Conversation to go on with (``Answer.thread``); by default a new one.
            cancel: Set it from another thread, or from a signal, to stop.

        Raises:
            UnknownRecording, AmbiguousRecording: See ``Library.resolve``.
            Cancelled: ``cancel`` was set.
            MossAgentError: The question is empty or too long, or the chat model failed.
        """
        return answer_of(self.stream(question, recording, thread, cancel))

    def stream(
        self,
        question: str,
        recording: str | None = None,
        thread: str | None = None,
        cancel: threading.Event | None = None,
    ) -> Iterator[Event]:
        """Answer a question step by step; the last event is the ``Answer``.

        Args:
            question, recording, thread: As in ``ask``.
            cancel: Set it from another thread to stop, also in the middle of what a model writes or a tool
                listens to. It is set when the stream is closed before its end, so that both end too.

        Raises:
            Cancelled: ``cancel`` was set.
            MossAgentError: See ``ask``.
            DiskFull: There is no room to keep the conversation.
        """
        started = time.perf_counter()
        question = _clean(question)
        focus, count = self._focus(question, recording)
        thread = thread or uuid.uuid4().hex
        key = self._key(thread)
        cancel = cancel or threading.Event()
        turn = _Turn(self._library, thread, key, focus)
        config: RunnableConfig = {
            "configurable": {"thread_id": key, CANCEL: cancel},
            "recursion_limit": 2 * (MOST_ROUNDS + MOST_GATHERED) + 8,
        }
        try:
            asked: State = {
                "messages": [HumanMessage(question)],
                "question": question,
                "focus": _focus_state(focus) if focus else {},
                "recordings": count,
                "people": () if focus else self._library.people(),
            }
            # One checkpoint at the end of the turn: a turn that breaks off is as if it was never asked.
            events = self._graph.stream(
                asked,
                config,
                stream_mode=MODES,
                durability="exit" if self._remembers else None,
            )
            try:
                for mode, payload in events:
                    if cancel.is_set():
                        raise Cancelled("The answer was stopped.")
                    yield from turn.events(mode, payload)
            finally:
                self._forget_if_removed(key, turn.noted)
        except GeneratorExit:
            # Before the graph's own stream is closed, which waits for the node that is at work.
            cancel.set()
            raise
        except MossAgentError:
            raise
        except MossAudioError as error:
            raise MossAgentError(str(error)) from error
        except Exception as error:
            if is_disk_full(error, self._library.home):
                raise disk_full(self._library.home) from error
            _log.exception("the turn failed")
            raise MossAgentError(
                f"The chat model {self._model} failed ({type(error).__name__}: {_short(error)}); ask again."
            ) from error
        yield turn.answer(self._model, time.perf_counter() - started)

    def _key(self, thread: str) -> str:
        """The name under which a conversation is kept; one that quotes what is hidden now is forgotten."""
        key = self._library.thread_key(thread)
        if key != thread:
            if not self._library.is_open(key):
                self._forget(key)
            self._library.own_thread(key)
        return key

    def _forget_if_removed(self, key: str, quoted: Set[str]) -> None:
        """Forget a conversation whose person, or a recording it quotes, was removed while it was answered.

        The turn is stored at its end, which may be after the removal has looked for conversations. Removals
        look again after they have deleted what is asked for here, so that one of the two finds it.
        """
        if self._remembers and not self._library.keeps_thread(key, quoted):
            self._forget(key)

    def _forget(self, key: str) -> None:
        if isinstance(self._graph.checkpointer, BaseCheckpointSaver):
            self._graph.checkpointer.delete_thread(key)
        self._library.forget_thread(key)

    def _focus(self, question: str, reference: str | None) -> tuple[Recording | None, int]:
        """The recording a question is about, and how many there are."""
        if reference is not None:
            return self._library.resolve(reference), self._library.count()
        recordings = self._library.recordings()
        if len(recordings) == 1:
            return recordings[0], 1
        return named_in(question, recordings), len(recordings)


class _Turn:
    """One turn, as its events come in."""

    def __init__(self, library: Library, thread: str, key: str, focus: Recording | None) -> None:
        self._library = library
        self._thread, self._key = thread, key
        self.noted: set[str] = set()
        self._steps: list[Step] = []
        self._wrote: str | None = None
        self._answer: dict[str, Any] = {}
        if focus:
            self._note({focus.id})

    def events(self, mode: str, payload: Any) -> Iterator[Event]:
        """What one item of the graph's stream means."""
        if mode == "custom":
            if isinstance(payload, StepFinished):
                self._note(payload.result.recording_ids)
            yield payload
        elif message := _written_by("plan", payload) or _written_by("model", payload):
            yield from self._called(message)
        elif "check_citations" in payload:
            self._answer = payload["check_citations"]["answer"]

    def answer(self, model: str, seconds: float) -> Answer:
        """The finished answer."""
        return Answer(
            text=self._answer["text"],
            citations=tuple(Citation(**citation) for citation in self._answer["citations"]),
            steps=tuple(self._steps),
            model=self._wrote or model,
            seconds=seconds,
            thread=self._thread,
            marked_text=self._answer["marked_text"],
        )

    def _called(self, message: AIMessage) -> Iterator[StepStarted]:
        wrote = message.response_metadata.get("model_name")
        self._wrote = str(wrote) if wrote else None
        for call in message.tool_calls:
            self._steps.append(Step(call["name"], call["args"]))
            yield StepStarted(call["name"], call["args"], str(call["id"]))

    def _note(self, recordings: set[str]) -> None:
        """Link the conversation to the recordings it quotes, before anything of them is kept in it."""
        if new := recordings - self.noted:
            self._library.note_thread(self._key, new)
            self.noted |= new


def _written_by(node: str, payload: Any) -> AIMessage | None:
    """What a node that may call tools has written, if it is this one's update and it wrote something."""
    messages = (payload.get(node) or {}).get("messages")
    return messages[-1] if messages else None


def named_in(question: str, recordings: Sequence[Recording]) -> Recording | None:
    """The recording whose title the question names; the longest title wins, two equal ones name none.

    A title of one word counts only where the question points at it (“in Retro”, “summarise Retro”): it may
    be a word like any other.
    """
    asked = f" {_words(question)} "
    found: list[tuple[int, Recording]] = []
    for recording in recordings:
        title = _words(recording.title)
        if not title or f" {title} " not in asked:
            continue
        name = re.escape(title)
        pointed = re.search(rf" (?:{_POINTING}) {name} (?:$|(?:{_AFTER_TITLE}) )", asked)
        alone = re.fullmatch(rf" (?:(?:and|what|how|about|the) )*{name} ", asked)
        if " " in title or pointed or alone:
            found.append((len(title), recording))
    best = max((length for length, _ in found), default=0)
    longest = [recording for length, recording in found if length == best]
    return longest[0] if len(longest) == 1 else None


_POINTING = "in|of|from|on|for|long is|long was|recording|called|named|summarise|summarize|outline|during"
_AFTER_TITLE = "at|about|between|from|after|before|around|on|during|in|and|last|take|long|please|recording"


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", fold(text)))


def model_name(chat_model: BaseChatModel) -> str:
    """The name a chat model goes by: its ``model_name`` or ``model``, else its kind."""
    for attribute in ("model_name", "model"):
        name = getattr(chat_model, attribute, None)
        if isinstance(name, str) and name:
            return name
    return chat_model._llm_type


def _focus_state(recording: Recording) -> dict[str, Any]:
    focus = Focus(recording.id, recording.title, round(recording.duration, 3), recording.speakers)
    return focus.to_state()


def _clean(question: str) -> str:
    question = question.replace("\x00", "").strip()
    if not question:
        raise InvalidInput("The question is empty; ask something about a recording.")
    if len(question) > LONGEST_QUESTION:
        raise InvalidInput(f"The question is longer than {LONGEST_QUESTION} characters; ask a shorter one.")
    return question


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else text[:199] + "…"
