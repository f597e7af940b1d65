"""One request on its way through the engine."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from moss_audio.answer_writer import AnswerWriter
from moss_audio.answers import Event, Options, Reply, Stopped
from moss_audio.engine.hearing import Clips
from moss_audio.engine.sampling import Sampling
from moss_audio.model import AudioFeatures
from moss_audio.thinking_budget import Thought


@dataclass(eq=False)
class Sequence:
    """What the engine knows of a request.

    Attributes:
        ids: Prompt, then what was written.
        prompt_length: Tokens of the prompt.
        audio: Positions of the audio placeholders in the prompt, in order.
        clips: What is to be heard there; None without audio, and once it was heard.
        names: Of the prompt's full pages, for pages that several prompts share.
        options: How to write.
        sampling: How to choose tokens.
        writer: Turns what is written into the answer.
        thought: Keeps a thinking budget; None without one.
        ticket: Where events go.
        features: What was heard; None until then, and once the prompt is in the cache.
        pages: Of the KV cache.
        computed: Tokens whose keys and values are in the cache.
    """

    ids: list[int]
    prompt_length: int
    audio: list[int]
    clips: Clips | None
    names: tuple[bytes, ...]
    options: Options
    sampling: Sampling
    writer: AnswerWriter
    thought: Thought | None
    ticket: Ticket
    features: AudioFeatures | None = None
    pages: tuple[int, ...] = ()
    computed: int = 0

    @property
    def written(self) -> list[int]:
        """Ids written so far."""
        return self.ids[self.prompt_length :]

    @property
    def capacity(self) -> int:
        """Positions it can ever need."""
        return self.prompt_length + self.options.max_new_tokens

    @property
    def in_prefill(self) -> bool:
        """Whether some of its prompt is still to be computed."""
        return self.computed < self.prompt_length

    @property
    def must(self) -> int | None:
        """The id that must come next, whatever the model chooses: its thinking budget is used up."""
        return None if self.thought is None else self.thought.must

    def write(self, token: int) -> list[Event]:
        """One more id; what is certain of the answer with it."""
        self.ids.append(token)
        if self.thought is not None:
            self.thought.add(token)
        return list(self.writer.add(token))


class Ticket:
    """A request from outside: its events, its end, and a way to give it up."""

    def __init__(self) -> None:
        self.submitted = time.monotonic()
        self.cancelled = threading.Event()
        self._events: queue.SimpleQueue[Event | BaseException] = queue.SimpleQueue()

    def cancel(self) -> None:
        """End it at the next token; what was written so far is its answer."""
        self.cancelled.set()

    def put(self, event: Event | BaseException) -> None:
        """For the engine: hand out an event, a final ``Reply``, or what went wrong."""
        self._events.put(event)

    def __iter__(self) -> Iterator[Event]:
        """Deltas as they come, then the ``Reply``.

        Raises:
            MossAudioError: The request cannot be served.
        """
        while True:
            event = self._events.get()
            if isinstance(event, BaseException):
                raise event
            yield event
            if isinstance(event, Reply):
                return

    def result(self) -> Reply:
        """The whole answer.

        Raises:
            MossAudioError: The request cannot be served.
        """
        *_, last = self
        assert isinstance(last, Reply)
        return last


@dataclass(frozen=True)
class Statistics:
    """What an engine has done since it was started."""

    prompt_tokens: int = 0
    reused_tokens: int = 0
    new_tokens: int = 0
    finished: int = 0
    running: int = 0
    waiting: int = 0
    pages_free: int = 0
    pages: int = 0
    windows_encoded: int = 0
    stopped: dict[Stopped, int] = field(default_factory=dict)
