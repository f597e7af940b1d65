"""One message of MOSS-Audio in a conversation: asked for, read, asked for again where it cannot be used."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage

from agent.call_reader import CallReader
from agent.chunks import calls_chunk, last_chunk, notice_chunk, thinking_chunk
from agent.moss_messages import last_turn, openai_messages, tokens
from agent.stopping import Stop
from agent.tool_calls import Call, read_arguments
from index.errors import Cancelled, MossAgentError
from moss_audio.answers import Options, Reply, TextDelta, ThinkingDelta
from moss_audio.errors import MossAudioError

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


class Unusable(MossAudioError):
    """What the model wrote is no answer; the message goes on after “could not answer this”."""


@dataclass(frozen=True)
class Asked:
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
        return {str(one["function"]["name"]): one["function"].get("parameters") or {} for one in self.tools}


@dataclass
class _Written:
    """One answer of the model, read to its end."""

    words: str = ""
    calls: list[Call] = field(default_factory=list)
    broken: bool = False
    reply: Reply | None = None
    limit: int = 0


class Asking:
    """Asks for one message."""

    def __init__(self, asked: Asked) -> None:
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
            raise Unusable(f"{type(error).__name__}: {first}" if first else type(error).__name__) from error

    def _tries(self) -> Iterator[AIMessageChunk]:
        corrections: list[dict[str, Any]] = []
        for attempt in range(1, TRIES + 1):
            written = _Written()
            yield from self._write(corrections, written)
            problem = self._settle(written)
            if written.calls:
                yield calls_chunk(written.calls, written.reply)
                return
            if problem is None:
                if not self.forced and written.reply and written.reply.stopped == "length":
                    yield notice_chunk(f"\n\n{self._cut_short(written.limit)}")
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
        written.limit = options.max_new_tokens
        # In the last round a model is offered no tools, and may call those it had.
        known = {**{name: {} for name, _ in self._made}, **self.schemas}
        reader, thought, stop = CallReader(known), CallReader(known), Stop(self.asked.stop)
        with closing(self._events(corrections, options)) as events:
            for event in events:
                if isinstance(event, ThinkingDelta):
                    if words := thought.feed(event.text):
                        yield thinking_chunk(words)
                elif isinstance(event, TextDelta):
                    yield from self._said(reader.feed(stop.feed(event.text)), written)
                else:
                    written.reply = event
                if stop.met:
                    written.reply = Reply(stop.text, "", "end", 0, 0, 0.0)
                    break
        if self.cancel is not None and self.cancel.is_set():
            raise Cancelled("The answer was stopped.")
        if written.reply is None or written.reply.stopped == "cancelled":
            raise Unusable("it broke off")
        complete = written.reply.stopped == "end"
        rest = reader.feed(stop.finish()) + reader.finish(complete)
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

    def _events(self, corrections: list[dict[str, Any]], options: Options) -> Generator[Any, None, None]:
        """The backend's events; once more with half the evidence where the first was too much for it."""
        room = self._room(options)
        for size in (room, room // 2):
            prompt = [*openai_messages(self.asked.messages, size), *corrections]
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

    def _room(self, options: Options) -> int:
        """Tokens the conversation may take."""
        definitions = tokens(json.dumps(list(self.asked.tools))) if self.asked.tools else 0
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
            written.calls = [one for one in written.calls if one.name in self.schemas]
        repeated = [one for one in written.calls if _key(one) in self._made]
        written.calls = [one for one in written.calls if one not in repeated]
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
