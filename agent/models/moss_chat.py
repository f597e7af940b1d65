"""MOSS-Audio as the reasoning core: a LangChain chat model over any backend that writes Qwen3's chat form.

Thoughts come apart from words, and calls of tools are read in whatever form they were written. A message that
cannot be used is asked for once more; where the model fails, the extractive model takes over for the rest of
the question, and says so.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.runnables.config import ensure_config
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from agent.extractive.extractive_chat import BY_RULE, respond
from agent.models.moss_messages import REASONING, TAKEN_OVER, Counter, estimate_tokens, openai_messages
from agent.turns import GATHERED, last_turn
from index.recording_errors import Cancelled, MossAgentError
from moss_audio.errors import MossAudioError
from moss_audio.generation.requests import Options, Reply, TextDelta, ThinkingDelta
from moss_audio.generation.streaming import StopSequences
from moss_audio.generation.tool_calls import Call, CallReader, read_arguments, words_in
from tools.toolbox import cancel_of

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
FORM = "Answer by calling {names}, and write nothing else."

_LENGTH = re.compile(r"context|token|too long|length|memory|positions", re.IGNORECASE)

_log = logging.getLogger(__name__)


# --- the chat model -------------------------------------------------------------------------------


class ChatMossAudio(BaseChatModel):
    """A chat model over a ``moss_audio.backend.Backend``.

    ``with_structured_output`` tells the model to call the schema as a function, and takes bare JSON as well.

    Attributes:
        backend: What writes.
        context: Tokens that it holds; by default as it says, else ``CONTEXT_TOKENS``.
        answer_tokens: Tokens an answer may have, its thought included; at most a third of ``context``.
        takes_over: Whether the extractive model answers where this one fails; else that is an error.
    """

    backend: Any
    context: int | None = None
    answer_tokens: int | None = None
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
        # ``ls_structured_output_format`` stays: LangChain takes it out again, and tells it to callbacks.
        unused = ("strict", "parallel_tool_calls")
        rest = {key: value for key, value in kwargs.items() if key not in unused}
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
        ask = _Asking(
            _Asked(
                self.backend,
                messages,
                kwargs.get("tools") or [],
                forced,
                stop or [],
                self.context,
                self.answer_tokens,
                cancel,
            )
        )
        if note := _taken_over(messages):
            yield from _extractive(messages, ask.schemas, note)
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
            yield from _extractive(messages, ask.schemas, note, ask.shown)

    def _reason(self, error: MossAudioError) -> str:
        """Why, as a part of a sentence: no text of others in it can quote, cite or end the line."""
        text = _plain(str(error)).removeprefix(f"{_plain(self.model_name)} ")
        # “MOSS-Audio could not answer this (it is still being loaded)”
        subject = "" if text == _plain(str(error)) else "it "
        return (subject + text)[:240].rstrip(" .!") or "it failed"


def _choice(choice: Any, tools: Sequence[Mapping[str, Any]]) -> list[str]:
    """The tools of which one must be called; none where that is left to the model."""
    names = [str(tool["function"]["name"]) for tool in tools]
    if isinstance(choice, Mapping):
        choice = (choice.get("function") or {}).get("name")
    if choice in (None, False, "auto", "none"):
        return []
    return [choice] if choice in names else names


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[“”„\"«»「」\[\]#()]", " ", text).split())


# --- one message: asked for, read, asked for again where it cannot be used --------------------------


class _Unusable(MossAudioError):
    """What the model wrote is no answer; the message goes on after “could not answer this”."""


@dataclass(frozen=True)
class _Asked:
    """What a message is asked for with.

    Attributes:
        backend: A ``moss_audio.backend.Backend``.
        messages: The conversation.
        tools: What may be called, in OpenAI's form.
        forced: Tools of which one must be called.
        stop: What ends the answer where it comes.
        context: Tokens that the model holds; None for what it says itself.
        answer_tokens: Tokens of an answer, its thought included; None for the default.
        cancel: Set when nobody waits any more.
    """

    backend: Any
    messages: Sequence[BaseMessage]
    tools: Sequence[Mapping[str, Any]] = ()
    forced: Sequence[str] = ()
    stop: Sequence[str] = ()
    context: int | None = None
    answer_tokens: int | None = None
    cancel: threading.Event | None = None

    @property
    def schemas(self) -> dict[str, Mapping[str, Any]]:
        """The schema of each tool's arguments."""
        functions = [tool["function"] for tool in self.tools]
        return {str(function["name"]): function.get("parameters") or {} for function in functions}


@dataclass
class _Written:
    """One answer of the model, read to its end."""

    words: str = ""
    calls: list[Call] = field(default_factory=list)
    broken: bool = False
    reply: Reply | None = None
    limit: int = 0


class _Asking:
    """Asks for one message: streams it, reads it, and asks once more where it cannot be used."""

    def __init__(self, asked: _Asked) -> None:
        self.asked, self.backend, self.schemas = asked, asked.backend, asked.schemas
        self.forced, self.cancel = asked.forced, asked.cancel
        self.shown = False
        """Whether any words have come out."""
        self.context = CONTEXT_TOKENS
        self._made = _made(asked.messages)

    def run(self) -> Iterator[AIMessageChunk]:
        """The message in chunks.

        Raises:
            MossAudioError: The backend failed, in whatever way, or what it wrote cannot be used.
            Cancelled: The run was stopped.
        """
        try:
            self.context = (
                self.asked.context or getattr(self.backend, "context_tokens", None) or CONTEXT_TOKENS
            )
            yield from self._tries()
        except (MossAudioError, MossAgentError):
            raise
        except Exception as error:
            # Libraries behind a backend raise what they like; a question is not lost for that.
            _log.exception("the model failed")
            first = next(iter(str(error).splitlines()), "")
            raise _Unusable(f"{type(error).__name__}: {first}" if first else type(error).__name__) from error

    def _tries(self) -> Iterator[AIMessageChunk]:
        corrections: list[dict[str, Any]] = []
        for attempt in range(1, TRIES + 1):
            written = _Written()
            yield from self._write(corrections, written)
            problem = self._settle(written)
            if written.calls:
                yield self._signed(_calls_chunk(written.calls, written.reply))
                return
            if problem is None:
                if not self.forced and written.reply and written.reply.stopped == "length":
                    yield _notice_chunk(f"\n\n{self._cut_short(written.limit)}")
                yield self._signed(_last_chunk(written.reply))
                return
            correction, failure = problem
            if attempt == TRIES or correction is None:
                raise _Unusable(failure)
            said = written.reply.text if written.reply else ""
            corrections = [
                {"role": "assistant", "content": said[:2000]},
                {"role": "user", "content": correction},
            ]

    def _signed(self, message: AIMessageChunk) -> AIMessageChunk:
        """The last chunk of a message, which says who wrote it."""
        message.response_metadata = {"model_name": str(self.backend.name)}
        return message

    def _write(self, corrections: list[dict[str, Any]], written: _Written) -> Iterator[AIMessageChunk]:
        """Ask once; words and thoughts come out as they are written."""
        options = self._options()
        written.limit = options.max_new_tokens
        # In the last round a model is offered no tools, and may call those it had.
        known = {**{name: {} for name, _ in self._made}, **self.schemas}
        reader, thought, stop = CallReader(known), CallReader(known), StopSequences(self.asked.stop)
        with closing(self._events(corrections, options)) as events:
            for event in events:
                if isinstance(event, ThinkingDelta):
                    if words := words_in(thought.feed(event.text)):
                        yield _thinking_chunk(words)
                elif isinstance(event, TextDelta):
                    yield from self._said(words_in(reader.feed(stop.feed(event.text))), written)
                else:
                    written.reply = event
                if stop.met:
                    written.reply = Reply(stop.text, "", "end", 0, 0, 0.0)
                    break
        if self.cancel is not None and self.cancel.is_set():
            raise Cancelled("The answer was stopped.")
        if written.reply is None or written.reply.stopped == "cancelled":
            raise _Unusable("it broke off")
        complete = written.reply.stopped == "end"
        rest = words_in(reader.feed(stop.finish()) + reader.finish(complete))
        yield from self._said(rest if rest.strip() else "", written)
        if words := words_in(thought.finish(complete)):
            yield _thinking_chunk(words)
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

    def _events(self, corrections: list[dict[str, Any]], options: Options) -> Generator[Any, None, None]:
        """The backend's events; once more with half the evidence where the first was too much for it."""
        room = self._room(options)
        for size in (room, room // 2):
            prompt = [*openai_messages(self.asked.messages, size, self._count), *corrections]
            if self.forced:
                names = " or ".join(self.forced)
                prompt.append({"role": "user", "content": FORM.format(names=names)})
            began = False
            try:
                events = self.backend.chat(prompt, list(self.asked.tools) or None, options, self.cancel)
                for event in events:
                    began = True
                    yield event
                return
            except GeneratorExit:
                # Nobody reads on: what still writes ends now, not when it is collected.
                getattr(events, "close", lambda: None)()
                raise
            except Exception as error:
                if began or size != room or not _LENGTH.search(str(error)):
                    raise

    def _options(self) -> Options:
        thinks = bool(self.backend.thinks)
        wanted = self.asked.answer_tokens or (THINKING_TOKENS if thinks else ANSWER_TOKENS)
        most = max(16, min(wanted, self.context // 3))
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

    def _cut_short(self, limit: int) -> str:
        """That the answer reached its limit, and what sets it."""
        if limit < self.context // 3:
            return f"The answer was cut short at {limit:,} tokens; MOSS_AGENT_ANSWER_TOKENS allows it more."
        return (
            f"The answer was cut short at {limit:,} tokens, a third of the {self.context:,} that the model "
            "holds; it needs a larger context for more."
        )

    @property
    def _count(self) -> Counter:
        """The model's own tokenizer, where it is loaded here; else an estimate."""
        return getattr(self.backend, "count_tokens", None) or estimate_tokens

    def _room(self, options: Options) -> int:
        """Tokens the conversation may take."""
        definitions = self._count(json.dumps(list(self.asked.tools))) if self.asked.tools else 0
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
            return self._settle_forced(written, reply)
        asked = bool(written.calls or written.broken)
        if not self.schemas:
            written.calls = []
        elif any(name not in self.schemas for name, _ in self._made):
            # A tool that does not exist is answered by the graph, once.
            written.calls = [call for call in written.calls if call.name in self.schemas]
        repeated = [call for call in written.calls if _key(call) in self._made]
        written.calls = [call for call in written.calls if call not in repeated]
        words = written.words.strip()
        if written.calls:
            return None
        if repeated:
            return REPEATED, "it kept asking for what it had been given"
        if reply.stopped == "loop":
            return None, "it ran into a loop"
        if asked and (self.schemas or not words):
            correction = UNREADABLE if self.schemas else None
            return correction, "it called tools in a way that cannot be followed"
        if not words:
            return None, "it used up its tokens" if reply.stopped == "length" else "its answer was empty"
        return None

    def _settle_forced(self, written: _Written, reply: Reply) -> tuple[str | None, str] | None:
        written.calls = [call for call in written.calls if call.name in self.forced and self._whole(call)][:1]
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


def _made(messages: Sequence[BaseMessage]) -> set[tuple[str, str]]:
    """The calls of this turn."""
    return {
        _key(Call(call["name"], call["args"]))
        for message in last_turn(messages)
        if isinstance(message, AIMessage)
        for call in message.tool_calls
    }


def _key(call: Call) -> tuple[str, str]:
    return call.name, json.dumps(dict(call.arguments), sort_keys=True, default=str)


def _once(calls: Sequence[Call]) -> list[Call]:
    return list({_key(call): call for call in calls}.values())


# --- pieces of a message, in LangChain's form ------------------------------------------------------


def _thinking_chunk(words: str) -> AIMessageChunk:
    """More of a thought."""
    return AIMessageChunk(content="", additional_kwargs={REASONING: words})


def _notice_chunk(words: str) -> AIMessageChunk:
    """What is said about an answer, by rule; nothing of the model's comes behind it."""
    return AIMessageChunk(content=words, additional_kwargs={BY_RULE: len(words)})


def _calls_chunk(calls: Sequence[Call], reply: Reply | None) -> AIMessageChunk:
    """Calls of tools, each with an id of its own; ``reply`` says what they took."""
    chunks = [
        tool_call_chunk(
            name=call.name,
            args=json.dumps(dict(call.arguments), ensure_ascii=False),
            id=f"call_{uuid.uuid4().hex[:12]}",
            index=at,
        )
        for at, call in enumerate(calls)
    ]
    return AIMessageChunk(content="", tool_call_chunks=chunks, usage_metadata=_usage(reply))


def _last_chunk(reply: Reply | None) -> AIMessageChunk:
    """The end of an answer in words."""
    return AIMessageChunk(content="", usage_metadata=_usage(reply))


def _usage(reply: Reply | None) -> UsageMetadata | None:
    if reply is None or not reply.prompt_tokens:
        # What was stopped by a sequence was not counted to its end.
        return None
    return UsageMetadata(
        input_tokens=reply.prompt_tokens,
        output_tokens=reply.new_tokens,
        total_tokens=reply.prompt_tokens + reply.new_tokens,
    )


# --- the extractive model in the place of one that failed ---------------------------------------------


def _taken_over(messages: Sequence[BaseMessage]) -> str:
    """Why the extractive model has taken over in this turn; empty where it has not."""
    for message in last_turn(messages):
        if isinstance(message, AIMessage) and TAKEN_OVER in message.additional_kwargs:
            return str(message.additional_kwargs[TAKEN_OVER])
    return ""


def _extractive(
    messages: Sequence[BaseMessage], tools: Mapping[str, Any], note: str, behind: bool = False
) -> Iterator[ChatGenerationChunk]:
    """What the extractive model says to the same conversation, marked; its answer begins with the note.

    Args:
        messages: The conversation.
        tools: What may be called.
        note: Who could not answer, and why.
        behind: Whether other words stand before it in the same message.
    """
    mark = {TAKEN_OVER: note}
    about = {"model_name": "extractive"}
    calls, text = respond(_as_if_alone(messages, bool(tools)), frozenset(tools))
    if calls:
        message = _calls_chunk([Call(call.tool, call.arguments) for call in calls], None)
        message.additional_kwargs, message.response_metadata = mark, about
    else:
        content = ("\n\n" if behind else "") + f"{note}, so these are quotes chosen by rule.\n\n{text}"
        message = AIMessageChunk(
            content=content,
            additional_kwargs={**mark, BY_RULE: len(content)},
            response_metadata=about,
        )
    yield ChatGenerationChunk(message=message)


def _as_if_alone(messages: Sequence[BaseMessage], may_call: bool) -> list[BaseMessage]:
    """The conversation without what the failing model did in this turn: it was done for reasons of its own.

    What was gathered by rule stays. Where nothing more may be called, what it found is all there is.
    """
    turn = last_turn(messages)
    before = list(messages[: len(messages) - len(turn)])
    own = [
        at
        for at, message in enumerate(turn)
        if isinstance(message, AIMessage) and GATHERED not in message.additional_kwargs
    ]
    kept = own[0] if own else len(turn)
    marks = [
        at
        for at, message in enumerate(turn)
        if isinstance(message, AIMessage) and TAKEN_OVER in message.additional_kwargs
    ]
    if not marks and not may_call:
        return list(messages)
    return [*before, *turn[:kept], *(turn[marks[0] :] if marks else [])]
