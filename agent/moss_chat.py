"""MOSS-Audio as the reasoning core: a LangChain chat model over any backend that writes Qwen3's chat form.

Thoughts come apart from words, calls of tools are read in whatever form they were written, and where the
model fails the extractive model takes over for the rest of the question, and says so.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.runnables.config import ensure_config
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from agent.chunks import calls_chunk, last_chunk, thinking_chunk
from agent.citations import Marker, split_markers
from agent.intents import understand
from agent.moss_messages import last_turn, openai_messages, tokens
from agent.situation import read_situation
from agent.taking_over import extractive, taken_over
from agent.tool_calls import Call, CallReader, read_arguments
from index.errors import Cancelled, MossAgentError
from moss_audio.answers import Options, Reply, TextDelta, ThinkingDelta
from moss_audio.errors import MossAudioError
from tools.cancelling import cancel_of

CONTEXT_TOKENS = 32_768
"""Tokens a backend is taken to hold when it does not say."""

ANSWER_TOKENS = 2048
THINKING_TOKENS = 4096
"""Tokens of an answer, and of a thought with its answer; never more than a third of the context."""

TRIES = 2
"""How often a model is asked before another takes over."""

UNREADABLE = (
    "The tool call you wrote could not be read. Write it once more: one JSON object with the fields name and "
    "arguments, between <tool_call> and </tool_call>, and nothing else."
)
REPEATED = "You have called this already, and its result is above. Answer from it, or call something else."
UNCITED = "This cites nothing, so it could not be checked against the recordings."
FORM = "Answer by calling {names}, and write nothing else."

_LENGTH = re.compile(r"context|token|too long|length|memory|positions", re.IGNORECASE)


class Unusable(MossAudioError):
    """What the model wrote is no answer; the message goes on after “could not answer this”."""


@dataclass
class _Written:
    """One answer of the model, read to its end."""

    words: str = ""
    calls: list[Call] = field(default_factory=list)
    broken: bool = False
    reply: Reply | None = None


class ChatMossAudio(BaseChatModel):
    """A chat model over a ``moss_audio.backend.Backend``.

    ``with_structured_output`` tells the model to call the schema as a function, and takes bare JSON as well.

    Attributes:
        backend: What writes.
        context: Tokens that it holds; by default as it says, else ``CONTEXT_TOKENS``.
        takes_over: Whether the extractive model answers where this one fails; else that is an error.
    """

    backend: Any
    context: int | None = None
    takes_over: bool = True

    @property
    def model_name(self) -> str:
        """What people are shown."""
        return str(self.backend.name)

    @property
    def _llm_type(self) -> str:
        return "moss-audio"

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | dict[str, Any] | bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind tools.

        Args:
            tools: What may be called.
            tool_choice: A tool's name, or ``any``: then the answer is a call and nothing else.
        """
        known = ("ls_structured_output_format", "strict", "parallel_tool_calls")
        rest = {key: value for key, value in kwargs.items() if key not in known}
        formatted = [convert_to_openai_tool(tool) for tool in tools]
        return self.bind(tools=formatted, tool_choice=_choice(tool_choice, formatted), **rest)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return generate_from_stream(self._stream(messages, stop, run_manager, **kwargs))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        cancel = cancel_of(ensure_config())
        forced: list[str] = kwargs.get("tool_choice") or []
        ask = _Asking(self, messages, kwargs.get("tools") or [], forced, cancel)
        if note := taken_over(messages):
            yield from extractive(messages, ask.schemas, note)
            return
        try:
            for message in ask.run():
                yield ChatGenerationChunk(message=message)
        except MossAudioError as error:
            if cancel is not None and cancel.is_set():
                raise Cancelled("The answer was stopped.") from error
            if forced or not self.takes_over:
                raise MossAgentError(f"{self.model_name} could not answer: {self._reason(error)}.") from error
            note = f"{_plain(self.model_name)} could not answer this ({self._reason(error)})"
            yield from extractive(messages, ask.schemas, note, ask.shown)

    def _reason(self, error: MossAudioError) -> str:
        """Why, as a part of a sentence: no text of others in it can quote, cite or end the line."""
        text = _plain(str(error)).removeprefix(f"{_plain(self.model_name)} ")
        # “MOSS-Audio could not answer this (it is still being loaded)”
        subject = "" if text == _plain(str(error)) else "it "
        return (subject + text)[:240].rstrip(" .!") or "it failed"


class _Asking:
    """One message of the model: asked for, read, and asked for again where it cannot be used."""

    def __init__(
        self,
        model: ChatMossAudio,
        messages: Sequence[BaseMessage],
        tools: Sequence[Mapping[str, Any]],
        forced: Sequence[str],
        cancel: threading.Event | None,
    ) -> None:
        self.model, self.backend = model, model.backend
        self.messages, self.tools, self.forced, self.cancel = messages, tools, forced, cancel
        self.schemas: dict[str, Mapping[str, Any]] = {
            str(one["function"]["name"]): one["function"].get("parameters") or {} for one in tools
        }
        self.shown = False
        """Whether any words have come out."""
        self.context = model.context or getattr(model.backend, "context_tokens", None) or CONTEXT_TOKENS

    def run(self) -> Iterator[AIMessageChunk]:
        """The message in chunks.

        Raises:
            MossAudioError: The backend failed, or what it wrote cannot be used.
            Cancelled: The run was stopped.
        """
        corrections: list[dict[str, Any]] = []
        for attempt in range(1, TRIES + 1):
            written = _Written()
            yield from self._write(corrections, written)
            problem = self._settle(written)
            if written.calls:
                yield calls_chunk(written.calls, written.reply)
                return
            if problem is None:
                if uncited(self.messages, written.words) and not self.forced:
                    yield AIMessageChunk(content=f"\n\n{UNCITED}")
                yield last_chunk(written.reply)
                return
            correction, failure = problem
            if attempt == TRIES or correction is None:
                raise Unusable(failure)
            said = written.reply.text if written.reply else ""
            corrections = [
                {"role": "assistant", "content": said[:2000]},
                {"role": "user", "content": correction},
            ]

    def _write(self, corrections: list[dict[str, Any]], written: _Written) -> Iterator[AIMessageChunk]:
        """Ask once; words and thoughts come out as they are written."""
        options = self._options()
        reader = CallReader(self.schemas)
        thought = CallReader(self.schemas)
        for event in self._events(corrections, options):
            if isinstance(event, ThinkingDelta):
                if words := thought.feed(event.text):
                    yield thinking_chunk(words)
            elif isinstance(event, TextDelta):
                yield from self._said(reader.feed(event.text), written)
            else:
                written.reply = event
        if self.cancel is not None and self.cancel.is_set():
            raise Cancelled("The answer was stopped.")
        if written.reply is None or written.reply.stopped == "cancelled":
            raise Unusable("it broke off")
        complete = written.reply.stopped == "end"
        rest = reader.finish(complete)
        yield from self._said(rest if rest.strip() else "", written)
        if words := thought.finish(complete):
            yield thinking_chunk(words)
        # A server may leave a call inside the thought.
        inside = thought.calls if not written.words.strip() and not reader.calls else []
        written.calls = _once([*reader.calls, *inside])
        written.broken = bool(reader.broken)

    def _said(self, words: str, written: _Written) -> Iterator[AIMessageChunk]:
        if not words or self.forced:
            return
        # What a second try says begins a paragraph of its own.
        gap = "\n\n" if self.shown and not written.words else ""
        written.words += words
        self.shown = True
        yield AIMessageChunk(content=gap + words)

    def _events(self, corrections: list[dict[str, Any]], options: Options) -> Iterator[Any]:
        """The backend's events; once more with half the evidence where the first was too much for it."""
        room = self._room(options)
        for size in (room, room // 2):
            prompt = [*openai_messages(self.messages, size), *corrections]
            if self.forced:
                names = " or ".join(self.forced)
                prompt.append({"role": "user", "content": FORM.format(names=names)})
            began = False
            try:
                for event in self.backend.chat(prompt, list(self.tools) or None, options, self.cancel):
                    began = True
                    yield event
                return
            except MossAudioError as error:
                if began or size != room or not _LENGTH.search(str(error)):
                    raise

    def _options(self) -> Options:
        thinks = bool(self.backend.thinks)
        most = max(16, min(THINKING_TOKENS if thinks else ANSWER_TOKENS, self.context // 3))
        if not thinks:
            return Options(max_new_tokens=most, stop_loops=True)
        # Qwen's own settings for thinking: greedy thoughts run into loops.
        return Options(
            max_new_tokens=most,
            temperature=0.6,
            top_p=0.95,
            top_k=20,
            thinking_budget=most // 2,
            stop_loops=True,
        )

    def _room(self, options: Options) -> int:
        """Tokens the conversation may take."""
        definitions = tokens(json.dumps(list(self.tools))) if self.tools else 0
        return self.context - options.max_new_tokens - definitions - 256

    def _settle(self, written: _Written) -> tuple[str | None, str] | None:
        """Decide what an answer is: its calls stay in ``calls``.

        Returns:
            None for a usable answer; else what to tell the model (None where asking again is of no use), and
            what to tell the user.
        """
        reply = written.reply
        assert reply is not None
        if self.forced:
            return self._settle_forced(written)
        asked = bool(written.calls or written.broken)
        if not self.tools:
            written.calls = []
        elif self._was_told():
            # A tool that does not exist is answered by the graph, once.
            written.calls = [one for one in written.calls if one.name in self.schemas]
        made = _made(self.messages)
        repeated = [one for one in written.calls if _key(one) in made]
        written.calls = [one for one in written.calls if one not in repeated]
        words = written.words.strip()
        if written.calls:
            return None
        if repeated:
            return REPEATED, "it kept asking for what it had been given"
        if reply.stopped == "loop":
            return None, "it ran into a loop"
        if asked and (self.tools or not words):
            correction = UNREADABLE if self.tools else None
            return correction, "it called tools in a way that cannot be followed"
        if not words:
            return None, "it used up its tokens" if reply.stopped == "length" else "its answer was empty"
        return None

    def _settle_forced(self, written: _Written) -> tuple[str | None, str] | None:
        reply = written.reply
        assert reply is not None
        written.calls = [one for one in written.calls if one.name in self.forced and self._whole(one)][:1]
        if not written.calls and len(self.forced) == 1:
            name = self.forced[0]
            found = read_arguments(reply.text, self.schemas[name], reply.stopped == "end")
            call = Call(name, found or {})
            written.calls = [call] if found is not None and self._whole(call) else []
        names = " or ".join(self.forced)
        return None if written.calls else (FORM.format(names=names), f"it did not call {names}")

    def _whole(self, call: Call) -> bool:
        """Whether all arguments are there that the tool needs."""
        return set(self.schemas[call.name].get("required") or ()) <= set(call.arguments)

    def _was_told(self) -> bool:
        """Whether a tool that does not exist was called in this turn already."""
        return any(name not in self.schemas for name, _ in _made(self.messages))


def uncited(messages: Sequence[BaseMessage], words: str) -> bool:
    """Whether an answer claims something about a recording and cites nothing, though it could have.

    Where tools were called and returned no evidence, saying so is all there is to say.
    """
    if any(isinstance(part, Marker) for part in split_markers(words)):
        return False
    turn = last_turn(messages)
    if not isinstance(turn[0], HumanMessage):
        return False
    situation = read_situation(messages)
    if situation.results and not any(one.evidence for one in situation.results):
        return False
    return understand(situation).kind not in ("empty", "help", "thanks", "list", "which", "facts")


def _made(messages: Sequence[BaseMessage]) -> set[tuple[str, str]]:
    """The calls of this turn."""
    return {
        _key(Call(call["name"], call["args"]))
        for one in last_turn(messages)
        if isinstance(one, AIMessage)
        for call in one.tool_calls
    }


def _key(call: Call) -> tuple[str, str]:
    return call.name, json.dumps(dict(call.arguments), sort_keys=True, default=str)


def _once(calls: Sequence[Call]) -> list[Call]:
    return list({_key(one): one for one in calls}.values())


def _choice(choice: Any, tools: Sequence[Mapping[str, Any]]) -> list[str]:
    """The tools of which one must be called; none where that is left to the model."""
    names = [str(one["function"]["name"]) for one in tools]
    if isinstance(choice, Mapping):
        choice = (choice.get("function") or {}).get("name")
    if choice in (None, False, "auto", "none"):
        return []
    return [choice] if choice in names else names


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[“”„\"«»「」\[\]#()]", " ", text).split())
