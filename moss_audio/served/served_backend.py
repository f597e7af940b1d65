"""A served model as a ``Backend``, which model a server serves, and how to tell whether it hears."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import queue
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any

import numpy as np
import openai

from moss_audio.errors import MossAudioError, ServerError
from moss_audio.generation.requests import Event, Options, Reply, Request
from moss_audio.generation.thinking import name_says_thinking
from moss_audio.served.answers import AnswerReader, Delta
from moss_audio.served.connection import LINGER_SECONDS, Address, Connection, Faults, said
from moss_audio.served.dialect import Dialect, conversation, definitions, has_audio, question, room_left

log = logging.getLogger(__name__)

PROBE_SECONDS = 4
"""Length of the silence with which hearing is tried."""

PROBE_TOKENS = 16
"""A prompt with that silence is longer by at least so many tokens, if the model hears: audio models write 6
to 25 of them a second, MOSS-Audio 12.5. Servers of models that do not hear may drop audio without a word."""


@dataclass(frozen=True)
class Served:
    """What a server serves.

    Attributes:
        model: The name that requests carry.
        software: Who serves: ``vllm``, ``sglang``, ``moss-agent``, or what else its list of models says.
        context: Tokens of the longest conversation, or None where the server does not say.
        others: Other models that it serves.
    """

    model: str
    software: str = ""
    context: int | None = None
    others: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What people are shown: of a folder on the server only the last part."""
        return PurePath(self.model.rstrip("/")).name or self.model


def choose(document: Any, wanted: str | None, host: str) -> Served:
    """Find a model in an answer of ``/v1/models``.

    Args:
        document: The answer.
        wanted: A name, or None where the server serves one model.
        host: How the server is named.

    Raises:
        ServerError: The model is not there, or none was named and it is not clear which is meant.
    """
    listed = document.get("data") if isinstance(document, dict) else None
    entries = listed if isinstance(listed, list) else ()
    found = [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)]
    names = tuple(entry["id"] for entry in found)
    if not names:
        raise ServerError(f"The server at {host} lists no model; is it still loading?", "unknown-model")
    chosen = _match(names, wanted) if wanted else _obvious(found)
    if chosen is None:
        few = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        problem = f"does not serve {wanted!r}" if wanted else "serves several models; name one of them"
        raise ServerError(f"The server at {host} {problem}: {few}.", "unknown-model")
    entry = found[names.index(chosen)]
    context, owner = entry.get("max_model_len"), entry.get("owned_by")
    if context is None and isinstance(entry.get("meta"), dict):
        context = entry["meta"].get("n_ctx")  # llama.cpp's
    return Served(
        chosen,
        owner if isinstance(owner, str) else "",
        context if isinstance(context, int) else None,
        tuple(name for name in names if name != chosen),
    )


def _obvious(found: list[dict[str, Any]]) -> str | None:
    """The only model; the only MOSS-Audio; the first of this program's server, whose next is a recogniser."""
    names = [entry["id"] for entry in found]
    likely = [name for name in names if "moss-audio" in name.lower()]
    ours = all(entry.get("owned_by") == "moss-agent" for entry in found)
    return names[0] if len(names) == 1 or ours else likely[0] if len(likely) == 1 else None


def _match(names: tuple[str, ...], wanted: str) -> str | None:
    """The name itself, or the only one that ends in it: servers name a model after its folder."""
    if wanted in names:
        return wanted
    last = [name for name in names if PurePath(name.rstrip("/")).name == PurePath(wanted.rstrip("/")).name]
    return last[0] if len(last) == 1 else None


POLL_SECONDS = 0.05
"""How often a wish to stop is looked for."""

BACKOFF_SECONDS = 0.5
"""Before an answer that broke off is asked for again; doubled each time."""

AWAY = ("unreachable", "unauthorised", "address", "unknown-model", "slow", "failed", "broken")
"""Troubles after which it is not to be expected that the next question is answered."""

MOST_LESSONS = 12
"""Refused fields that one request may teach; there are not more."""


@dataclass
class _Job:
    """One request on its way: what to send, who reads, who is told."""

    messages: Callable[[], list[dict[str, Any]]]
    options: Options
    tools: list[Any] | None = None
    tell: Callable[[Event], None] | None = None
    told: bool = False
    begun: bool = False
    reader: AnswerReader = field(init=False)

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.begun = False
        self.reader = AnswerReader(self.options.stop_loops, self.options.thinking is False)

    def hand_out(self, deltas: list[Delta]) -> None:
        for delta in deltas if self.tell is not None else ():
            self.told = True
            assert self.tell is not None
            self.tell(delta)


class ServedBackend:
    """A model behind an OpenAI-compatible server; see ``Backend``.

    Recordings and conversations go to this address and nowhere else. Nothing is sent before the first
    question or ``check``.

    Args:
        url: Its address, such as ``http://gpu-box:8000/v1``.
        model: Which of its models; needed only where it serves several.
        api_key: What the server asks for.
        timeout: Seconds that it may say nothing, before and within an answer.
        at_once: Questions of ``ask`` that are put side by side, by however many threads; servers batch them.
            What a person waits for (``stream``, ``chat``) does not queue behind them.
        retries: Further tries where a failure may pass.
        thinking_processor: For SGLang started with ``--enable-custom-logit-processor``: its serialised
            processor, with which a thinking budget is kept (docs/serving.md).

    Raises:
        ServerError: The address is none.
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        api_key: str | None = None,
        timeout: float = 600.0,
        at_once: int = 8,
        retries: int = 3,
        thinking_processor: str | None = None,
    ) -> None:
        self.address = Address.parse(url)
        self.at_once = max(1, at_once)
        self._wanted = model
        self._retries = retries
        self._dialect = Dialect(thinking_processor)
        self._faults = Faults(self.address.host, self.address.base, api_key)
        self._line = Connection(self.address, api_key, timeout, retries)
        self._served: Served | None = None
        self._last: Served | None = None
        """What was served when it was last asked for, also while it is asked for again."""
        self._deaf = False
        self._reached: bool | None = None
        self._places = asyncio.Semaphore(self.at_once)
        self._asking_models = asyncio.Lock()

    @property
    def name(self) -> str:
        """The model's name once it is known, before that the name asked for, or the host."""
        known = self._last or (Served(self._wanted) if self._wanted else None)
        return known.name if known else self.address.host

    @property
    def host(self) -> str:
        """How people are shown where it is, e.g. ``gpu-box:8000``."""
        return self.address.host

    @property
    def thinks(self) -> bool:
        """Whether the model's name says so, or it has been seen to."""
        known = self._last.model if self._last else self._wanted
        return self._dialect.thinks or (known is not None and name_says_thinking(known))

    @property
    def hears(self) -> bool:
        """False once audio was refused, or was found by ``check`` to be dropped without a word."""
        return not self._deaf

    @property
    def reached(self) -> bool | None:
        """Whether the server could be used when it was last asked for something; None before that."""
        return self._reached

    def check(self, listen: bool = False) -> Served:
        """Ask which model is served.

        Args:
            listen: Also try whether it hears, with four seconds of silence; sets ``hears``.

        Raises:
            ServerError: The server cannot be reached, refuses the key, or does not serve the model.
        """
        self._served = None
        served = self._wait(self._line.submit(self._resolve()))
        if listen:
            self._deaf = False
            self._try_hearing()
        return served

    def ask(
        self, requests: Sequence[Request], options: Options, cancel: threading.Event | None = None
    ) -> list[Reply | MossAudioError]:
        """See ``Backend``."""
        jobs = [_Job(_asking(self._dialect, request), options) for request in requests]
        return self._wait(self._line.submit(self._ask(jobs, cancel)))

    def stream(
        self, request: Request, options: Options, cancel: threading.Event | None = None
    ) -> Iterator[Event]:
        """See ``Backend``."""
        return self._follow(_Job(_asking(self._dialect, request), options), cancel)

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        options: Options,
        cancel: threading.Event | None = None,
    ) -> Iterator[Event]:
        """See ``Backend``."""
        ready = conversation(messages)
        return self._follow(_Job(lambda: ready, options, definitions(tools)), cancel)

    def close(self) -> None:
        """See ``Backend``."""
        self._line.close()

    def _wait(self, future: concurrent.futures.Future[Any]) -> Any:
        try:
            return future.result()
        except concurrent.futures.CancelledError as error:
            raise ServerError(f"The connection to {self.address.host} was closed.", "closed") from error
        finally:
            future.cancel()  # left by Ctrl-C, the requests end as well

    def _follow(self, job: _Job, cancel: threading.Event | None) -> Iterator[Event]:
        """Events of one answer as they come."""
        events: queue.SimpleQueue[Event | BaseException] = queue.SimpleQueue()
        job.tell = events.put

        async def work() -> None:
            try:
                events.put(await self._answered(job, cancel))
            except asyncio.CancelledError:
                events.put(ServerError(f"The connection to {self.address.host} was closed.", "closed"))
                raise
            except BaseException as error:
                events.put(error)

        future = self._line.submit(work())
        try:
            while True:
                event = events.get()
                if isinstance(event, BaseException):
                    raise event
                yield event
                if isinstance(event, Reply):
                    return
        finally:
            future.cancel()

    async def _ask(
        self, jobs: Sequence[_Job], cancel: threading.Event | None
    ) -> list[Reply | MossAudioError]:
        async def answer_to(job: _Job) -> Reply | MossAudioError:
            try:
                return await self._answered(job, cancel, self._places)
            except MossAudioError as error:
                return error

        return await asyncio.gather(*map(answer_to, jobs))

    async def _answered(
        self, job: _Job, cancel: threading.Event | None, places: asyncio.Semaphore | None = None
    ) -> Reply:
        """The answer to a job, or as much of it as there is when it is cancelled."""
        task = asyncio.ensure_future(self._in_place(job, places))
        try:
            while not task.done():
                if cancel is not None and cancel.is_set():
                    task.cancel()
                    await asyncio.wait({task})
                    job.hand_out(job.reader.finish())
                    return job.reader.reply("cancelled")
                await asyncio.wait({task}, timeout=None if cancel is None else POLL_SECONDS)
            return task.result()
        finally:
            task.cancel()

    async def _in_place(self, job: _Job, places: asyncio.Semaphore | None) -> Reply:
        if places is None:
            return await self._persist(job)
        async with places:
            return await self._persist(job)

    async def _persist(self, job: _Job) -> Reply:
        """Ask until there is an answer: again without what was refused, again if it broke off unheard."""
        lessons = breaks = 0
        options = job.options
        while True:
            served = await self._resolve()
            messages = await asyncio.to_thread(job.messages)  # encodes minutes of audio
            body = self._dialect.body(served.model, messages, options, job.tools)
            heard = has_audio(body)
            try:
                return await self._once(job, body)
            except Exception as error:
                if lessons < MOST_LESSONS and self._learn(error, body):
                    lessons += 1
                    continue
                fewer = options.within(room_left(error))
                if fewer is not options:
                    options = replace(fewer, fit=False)
                    continue
                fault = self._faults.error_for(error, heard)
                if isinstance(fault, ServerError):
                    self._reached = fault.trouble not in AWAY
                    self._deaf = self._deaf or fault.trouble == "deaf"
                    if fault.trouble == "unknown-model":
                        self._served = None  # another one may be served by now
                    # What fails before an answer begins, the client itself has tried again.
                    passing = job.begun and fault.trouble in ("broken", "failed")
                    if passing and not job.told and breaks < self._retries:
                        await asyncio.sleep(BACKOFF_SECONDS * 2**breaks * random.uniform(0.75, 1.0))
                        breaks += 1
                        job.begin()
                        continue
                raise fault from error

    async def _once(self, job: _Job, body: dict[str, Any]) -> Reply:
        reader = job.reader
        async with self._line.chat(body) as documents:
            job.begun = self._reached = True
            while True:
                try:
                    async with asyncio.timeout(LINGER_SECONDS if reader.ended else None):
                        document = await anext(documents)
                except StopAsyncIteration:
                    break
                except Exception:
                    if reader.ended:
                        break  # only the count of tokens is missing
                    raise
                self._refuse_error(document)
                job.hand_out(reader.take(document))
                if reader.looping:
                    break
        if reader.gave_up:
            raise self._faults.broken("gave up on an answer")
        if not reader.complete and not reader.looping:
            raise self._faults.broken("stopped in the middle of an answer")
        job.hand_out(reader.finish())
        self._dialect.thinks = self._dialect.thinks or reader.thought
        return reader.reply("loop" if reader.looping else None)

    def _refuse_error(self, document: Any) -> None:
        """SGLang's older form of an error, which the client does not look for within a stream."""
        if isinstance(document, dict) and document.get("object") == "error":
            words = self._faults.shown(str(document.get("message", "")))
            raise ServerError(f"The server at {self.address.host} failed: {words}.", "failed")

    def _learn(self, error: Exception, body: dict[str, Any]) -> bool:
        return isinstance(error, openai.APIStatusError) and self._dialect.learn(
            body, error.status_code, said(error)
        )

    async def _resolve(self) -> Served:
        """Which model is served; asked once."""
        async with self._asking_models:
            if self._served is not None:
                return self._served
            try:
                document = await self._line.get("/models")
            except Exception as error:
                fault = self._faults.error_for(error)
                self._reached = False
                unlisted = isinstance(error, openai.APIStatusError) and error.status_code in (404, 405, 501)
                if not (unlisted and self._wanted):
                    raise fault from error
                served = Served(self._wanted)
            else:
                try:
                    served = choose(document, self._wanted, self.address.host)
                except ServerError:
                    self._reached = False
                    raise
            self._reached = True
            self._dialect.software = served.software
            self._served = self._last = served
            return served

    def _try_hearing(self) -> None:
        """Compare a prompt with audio and one without: a server may drop what its model cannot take."""
        silence = np.zeros(PROBE_SECONDS * 16_000, dtype=np.float32)
        words, options = "Answer with one word.", Options(max_new_tokens=1)
        bare, heard = self.ask([Request(words), Request(words, [silence])], options)
        for reply in (bare, heard):
            if isinstance(reply, ServerError) and reply.trouble == "deaf":
                return
            if isinstance(reply, MossAudioError):
                raise reply
        assert isinstance(bare, Reply) and isinstance(heard, Reply)
        counted = bare.prompt_tokens > 0 and heard.prompt_tokens > 0
        self._deaf = counted and heard.prompt_tokens - bare.prompt_tokens < PROBE_TOKENS


def _asking(dialect: Dialect, request: Request) -> Callable[[], list[dict[str, Any]]]:
    """The messages of a question, made when they are sent: a batch of recordings is not held encoded."""
    return lambda: question(request, dialect.audio_part)
