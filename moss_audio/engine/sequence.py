"""A request becomes a sequence: its ids, what stands at each position, and how it will be written.

One request on its way through the engine.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from moss_audio.engine.block_pool import Key, page_names
from moss_audio.engine.encoder_cache import Clips
from moss_audio.engine.sampling import Sampling
from moss_audio.errors import NotEnoughMemory
from moss_audio.generation.generate import complete_prompt, stop_ids, thinking_budget, thinks
from moss_audio.generation.requests import Event, Options, Reply, Request, Stopped
from moss_audio.generation.streaming import AnswerWriter
from moss_audio.generation.thinking import Thought, prompt_opens_thought
from moss_audio.model.modeling import AudioFeatures, MossAudioModel


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


class Preparer:
    """Prepares requests for one engine; nothing is encoded here.

    Args:
        model: With its processor.
        page_size: Of the KV cache.
        most_tokens: Positions that one sequence may take.
    """

    def __init__(self, model: MossAudioModel, page_size: int, most_tokens: int) -> None:
        self.model = model
        self.processor = model.processor
        self.page_size = page_size
        self.most_tokens = most_tokens
        self.stops = frozenset(stop_ids(model))
        self.thinks = thinks(model)

    def sequence(self, request: Request, options: Options, ticket: Ticket) -> Sequence:
        """The sequence of a request.

        Raises:
            PromptError, AudioError: The request cannot be used.
            NotEnoughMemory: It could never fit.
        """
        prompt = complete_prompt(request, options.thinking is False and self.thinks)
        inputs = self.processor(prompt, list(request.audios) or None, device=self.model.device)
        ids = inputs["input_ids"][0].tolist()
        options = options.within(self.most_tokens - len(ids))
        self._check(len(ids), options)
        audio = inputs["audio_input_mask"][0].nonzero().flatten().tolist()
        clips = None
        if request.audios:
            window = self.model.config.audio_config.window_frames
            clips = Clips.cut(inputs["audio_data"], inputs["audio_data_seqlens"], window)
        opened = prompt_opens_thought(prompt)
        budget = thinking_budget(self.processor.tokenizer, options, 0, [opened])
        return Sequence(
            ids=ids,
            prompt_length=len(ids),
            audio=audio,
            clips=clips,
            names=page_names(_keys(ids, audio, clips), self.page_size),
            options=options,
            sampling=self._sampling(options),
            writer=AnswerWriter(self.processor, self.stops, opened, ticket.submitted),
            thought=None if budget is None else budget.follow(opened),
            ticket=ticket,
        )

    def _check(self, prompt_tokens: int, options: Options) -> None:
        capacity = prompt_tokens + options.max_new_tokens
        if capacity > self.most_tokens:
            raise NotEnoughMemory(
                f"This request can take {capacity:,} tokens ({prompt_tokens:,} of them the prompt), and the "
                f"engine holds {self.most_tokens:,}; choose shorter audio, or a smaller max_new_tokens."
            )

    def _sampling(self, options: Options) -> Sampling:
        generator = None
        if options.seed is not None:
            generator = torch.Generator(self.model.device).manual_seed(options.seed)
        return Sampling(options.temperature, options.top_p, options.top_k, generator)


def _keys(ids: list[int], audio: list[int], clips: Clips | None) -> list[Key]:
    """What stands at each position: a token, or where audio does, the clips and which of their tokens."""
    keys: list[Key] = list(ids)
    if clips is not None:
        for number, position in enumerate(audio):
            keys[position] = clips.name + number.to_bytes(4, "big")
    return keys
