"""One request on its way through the engine, and the handle by which its caller follows it.

A request becomes a ``Sequence`` when its turn has come: tokenized, its audio cut into windows, its blocks
hashed. Nothing is encoded for that.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from moss_audio.engine.encoder_cache import Clips
from moss_audio.engine.kv_cache import Key, block_hashes
from moss_audio.engine.sampling import Sampling
from moss_audio.errors import NotEnoughMemory
from moss_audio.generation.generate import complete_prompt, stop_ids, thinking_budget, thinks
from moss_audio.generation.requests import Event, Options, Reply, Request, Stopped
from moss_audio.generation.streaming import AnswerWriter
from moss_audio.generation.thinking import Thought, prompt_opens_thought
from moss_audio.model.modeling import AudioFeatures, MossAudioModel


class RequestHandle:
    """What ``Engine.submit`` returns: the answer as it is written, its end, and a way to cancel it."""

    def __init__(self) -> None:
        self.submitted = time.monotonic()
        self.cancelled = threading.Event()
        self._events: queue.SimpleQueue[Event | BaseException] = queue.SimpleQueue()

    def cancel(self) -> None:
        """End it at the next token; what was written so far is its answer."""
        self.cancelled.set()

    def put(self, event: Event | BaseException) -> None:
        """For the engine: hand out a delta, the final ``Reply``, or what went wrong."""
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
        """Wait for the whole answer.

        Raises:
            MossAudioError: The request cannot be served.
        """
        *_, last = self
        assert isinstance(last, Reply)
        return last


@dataclass(eq=False)
class Sequence:
    """A request, tokenized, with its blocks and what was written so far.

    Attributes:
        ids: Prompt, then what was written.
        prompt_length: Tokens of the prompt.
        audio: Positions of the audio placeholders in the prompt, in order.
        clips: What is to be encoded for them; None without audio, and once it was encoded.
        block_hashes: Of the prompt's full blocks, by which prompts share them.
        options: How to write.
        sampling: How to choose tokens.
        writer: Turns ids into the answer.
        thought: Keeps a thinking budget; None without one.
        handle: Where events go.
        features: Encoder output; None until then, and once the prompt is in the cache.
        blocks: Its blocks of the KV cache: the block table's row.
        computed: Tokens whose keys and values are in the cache.
    """

    ids: list[int]
    prompt_length: int
    audio: list[int]
    clips: Clips | None
    block_hashes: tuple[bytes, ...]
    options: Options
    sampling: Sampling
    writer: AnswerWriter
    thought: Thought | None
    handle: RequestHandle
    features: AudioFeatures | None = None
    blocks: tuple[int, ...] = ()
    computed: int = 0

    @property
    def written(self) -> list[int]:
        """Ids written so far."""
        return self.ids[self.prompt_length :]

    @property
    def capacity(self) -> int:
        """Tokens that prompt and answer can take together."""
        return self.prompt_length + self.options.max_new_tokens

    @property
    def in_prefill(self) -> bool:
        """Whether some of its prompt is still to be computed."""
        return self.computed < self.prompt_length

    @property
    def uncomputed(self) -> int:
        """Tokens of its prompt that are still to be computed."""
        return max(0, self.prompt_length - self.computed)

    @property
    def forced(self) -> int | None:
        """The id that must come next whatever the model chooses, because the thinking budget is used up."""
        return None if self.thought is None else self.thought.forced

    def write(self, token: int) -> list[Event]:
        """Add one id; returns what is certain of the answer with it."""
        self.ids.append(token)
        if self.thought is not None:
            self.thought.add(token)
        return list(self.writer.add(token))

    def finish(self, stopped: Stopped) -> None:
        """Hand out the rest of the answer and its ``Reply``."""
        for event in self.writer.finish():
            self.handle.put(event)
        self.handle.put(self.writer.reply(stopped, self.prompt_length))


class InputProcessor:
    """Makes sequences for one engine; nothing is encoded here.

    Args:
        model: With its processor.
        block_size: Tokens in a block of the KV cache.
        max_tokens: Tokens that one sequence, prompt and answer together, may take.
    """

    def __init__(self, model: MossAudioModel, block_size: int, max_tokens: int) -> None:
        self.model = model
        self.processor = model.processor
        self.block_size = block_size
        self.max_tokens = max_tokens
        self.stops = frozenset(stop_ids(model))
        self.thinks = thinks(model)

    def sequence(self, request: Request, options: Options, handle: RequestHandle) -> Sequence:
        """The sequence of a request.

        Raises:
            PromptError, AudioError: The request cannot be used.
            NotEnoughMemory: It could never fit.
        """
        prompt = complete_prompt(request, options.thinking is False and self.thinks)
        inputs = self.processor(prompt, list(request.audios) or None, device=self.model.device)
        ids = inputs["input_ids"][0].tolist()
        options = options.within(self.max_tokens - len(ids))
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
            block_hashes=block_hashes(_keys(ids, audio, clips), self.block_size),
            options=options,
            sampling=self._sampling(options),
            writer=AnswerWriter(self.processor, self.stops, opened, handle.submitted),
            thought=None if budget is None else budget.follow(opened),
            handle=handle,
        )

    def _check(self, prompt_tokens: int, options: Options) -> None:
        capacity = prompt_tokens + options.max_new_tokens
        if capacity > self.max_tokens:
            raise NotEnoughMemory(
                f"This request can take {capacity:,} tokens ({prompt_tokens:,} of them the prompt), and the "
                f"engine holds {self.max_tokens:,}; choose shorter audio, or a smaller max_new_tokens."
            )

    def _sampling(self, options: Options) -> Sampling:
        generator = None
        if options.seed is not None:
            generator = torch.Generator(self.model.device).manual_seed(options.seed)
        return Sampling(options.temperature, options.top_p, options.top_k, generator)


def _keys(ids: list[int], audio: list[int], clips: Clips | None) -> list[Key]:
    """What stands at each position: a token, or for audio the clips' name and the number of their token."""
    keys: list[Key] = list(ids)
    if clips is not None:
        for number, position in enumerate(audio):
            keys[position] = clips.name + number.to_bytes(4, "big")
    return keys
