"""Prompts in, answers out: whole, streamed word by word, or several at once.

Decoding is transformers' ``generate``. Added here: the thought kept apart from the answer while both are
being written, a budget for the thought, and an end to the work when nobody listens any more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from moss_audio.errors import NotEnoughMemory, PromptError
from moss_audio.processor import Wave
from moss_audio.prompt import AFTER_AUDIO, NO_THOUGHT, SPAN, Prompt, default_prompt, split_at_spans
from moss_audio.thinking import Piece, ThoughtSplitter, name_says_thinking, prompt_opens_thought
from moss_audio.thinking_budget import ThinkingBudget, ThinkTags, transition_ids
from moss_audio.token_stream import Cancelled, Streamer, TextDecoder

Stopped = Literal["end", "length", "cancelled"]


@dataclass(frozen=True)
class Options:
    """How an answer is written.

    Attributes:
        max_new_tokens: Tokens of thought and answer together.
        temperature: 0 takes the likeliest token each time, as suits whatever is parsed.
        top_p: Share of probability that is sampled from.
        top_k: Tokens that are sampled from; 0 is all.
        thinking: False has a Thinking model answer at once; None and True leave a model its way.
        thinking_budget: Tokens a thought may have before it is closed; None is no limit.
        seed: Makes sampling repeatable.
    """

    max_new_tokens: int = 1024
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 50
    thinking: bool | None = None
    thinking_budget: int | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        wrong = {
            "max_new_tokens must be at least 1": self.max_new_tokens < 1,
            "temperature must not be negative": not self.temperature >= 0.0,
            "top_p must be above 0 and at most 1": not 0.0 < self.top_p <= 1.0,
            "top_k must not be negative": self.top_k < 0,
            "thinking_budget must not be negative": (self.thinking_budget or 0) < 0,
            "thinking_budget leaves no token for the answer; raise max_new_tokens": (
                self.thinking_budget is not None and self.thinking_budget >= self.max_new_tokens
            ),
        }
        for sentence, holds in wrong.items():
            if holds:
                raise PromptError(f"{sentence} ({self}).")


FREE = Options(temperature=1.0)
"""The official sampling, for free questions: temperature 1, top_p 1, top_k 50."""


@dataclass(frozen=True)
class Request:
    """A prompt and its recordings, in the order of its spans."""

    prompt: str
    audios: Sequence[Wave] = ()


@dataclass(frozen=True)
class Reply:
    """A finished answer.

    Attributes:
        text: The answer.
        thinking: The thought before it; empty where there was none.
        stopped: "end" when the model ended it, "length" at ``max_new_tokens``, or "cancelled".
        prompt_tokens: Tokens read, those of the audio among them.
        new_tokens: Tokens written, without the one that ends the answer.
        seconds: From the request to the last token.
    """

    text: str
    thinking: str
    stopped: Stopped
    prompt_tokens: int
    new_tokens: int
    seconds: float


@dataclass(frozen=True)
class ThinkingDelta:
    """More of the thought."""

    text: str


@dataclass(frozen=True)
class TextDelta:
    """More of the answer."""

    text: str


Event = ThinkingDelta | TextDelta | Reply


def thinks(model: Any) -> bool:
    """Whether a model's checkpoint is one that thinks.

    ``thinking`` in its ``generation_config.json`` says so, as this program writes it; the released ones say
    it in their names alone.
    """
    said = getattr(model.generation_config, "thinking", None)
    return said if isinstance(said, bool) else name_says_thinking(str(model.config._name_or_path or ""))


def stop_ids(model: Any) -> list[int]:
    """Ids that end an answer: the checkpoint's own, the end of a turn, and the end of a text."""
    own = model.generation_config.eos_token_id
    given = own if isinstance(own, list | tuple) else [] if own is None else [own]
    tokens = model.processor.tokens
    return sorted({*given, tokens.im_end, tokens.endoftext})


def stream(
    model: Any,
    prompt: str,
    audios: Sequence[Wave] = (),
    options: Options = FREE,
    cancel: threading.Event | None = None,
) -> Iterator[Event]:
    """Answer a prompt, and give out what is written as soon as it is certain.

    Args:
        model: A ``MossAudioModel`` with its processor.
        prompt: A question, put behind its recordings into the default prompt; or a complete prompt.
        audios: Recordings.
        options: How to write.
        cancel: Setting it ends the answer at the next token. Closing the iterator does so too.

    Yields:
        Deltas of thought and answer in order, then one ``Reply`` with their whole.

    Raises:
        PromptError, AudioError: Prompt or recordings cannot be used.
        NotEnoughMemory: The device's memory was used up.
    """
    started = time.monotonic()
    run = _Run(model, [Request(prompt, audios)], options, cancel or threading.Event())
    writer = _Writer(run)
    streamer = Streamer()
    thread = threading.Thread(
        target=run.generate_into, args=(streamer,), name="moss-audio-answer", daemon=True
    )
    thread.start()
    try:
        for token in streamer:
            yield from _events(writer.add(token))
        yield from _events(writer.finish())
        yield writer.reply(run, time.monotonic() - started)
    finally:
        run.cancel.set()
        thread.join()


def reply(model: Any, prompt: str, audios: Sequence[Wave] = (), options: Options = FREE) -> Reply:
    """Answer a prompt; see ``stream``."""
    return replies(model, [Request(prompt, audios)], options)[0]


def replies(model: Any, requests: Sequence[Request], options: Options = FREE) -> list[Reply]:
    """Answer several prompts in one batch.

    Without sampling each answer is the one its prompt gets alone. ``seconds`` is the time of the batch.

    Raises:
        PromptError, AudioError: A prompt or a recording cannot be used.
        NotEnoughMemory: The device's memory was used up.
    """
    if not requests:
        return []
    started = time.monotonic()
    run = _Run(model, requests, options, threading.Event())
    rows = run.generate()
    seconds = time.monotonic() - started
    answers = []
    for row, ids in enumerate(rows):
        writer = _Writer(run, row)
        for token in ids:
            writer.add(token)
        writer.finish()
        answers.append(writer.reply(run, seconds))
    return answers


class _Run:
    """One call of ``generate``: its inputs, and what ends it."""

    def __init__(
        self, model: Any, requests: Sequence[Request], options: Options, cancel: threading.Event
    ) -> None:
        self.model, self.options, self.cancel = model, options, cancel
        self.processor = model.processor
        self.stops = stop_ids(model)
        prompts = [_complete(one, options.thinking is False and thinks(model)) for one in requests]
        self.opened = [prompt_opens_thought(one) for one in prompts]
        inputs = self.processor(prompts, [list(one.audios) for one in requests], padding_side="left")
        self.inputs = inputs.to(model.device)
        self.prompt_tokens = inputs["attention_mask"].sum(dim=1).tolist()

    def generate(self, streamer: BaseStreamer | None = None) -> list[list[int]]:
        """New ids of each prompt, padding and all that follows the end included."""
        try:
            with torch.inference_mode(), _seeded(self.options.seed, self.model.device):
                ids = self.model.generate(
                    **self.inputs,
                    generation_config=self._config(),
                    logits_processor=self._budget(),
                    stopping_criteria=StoppingCriteriaList([Cancelled(self.cancel)]),
                    streamer=streamer,
                )
        except torch.cuda.OutOfMemoryError as error:
            raise NotEnoughMemory(
                f"The memory of {self.model.device} was used up ({sum(self.prompt_tokens):,} prompt tokens); "
                "choose a shorter part of the audio, fewer prompts at once, or a smaller model."
            ) from error
        return ids[:, self.inputs["input_ids"].shape[1] :].tolist()

    def generate_into(self, streamer: Streamer) -> None:
        """``generate`` in a thread of its own; whatever goes wrong reaches the one who reads."""
        try:
            self.generate(streamer)
        except BaseException as error:
            streamer.fail(error)

    def _config(self) -> GenerationConfig:
        options = self.options
        chosen: dict[str, Any] = {"do_sample": False}
        if options.temperature > 0.0:
            chosen = {"do_sample": True, "temperature": options.temperature, "top_p": options.top_p}
            chosen["top_k"] = options.top_k
        return GenerationConfig(
            max_new_tokens=options.max_new_tokens,
            eos_token_id=self.stops,
            pad_token_id=self.processor.tokens.endoftext,
            **chosen,
        )

    def _budget(self) -> LogitsProcessorList:
        if self.options.thinking_budget is None:
            return LogitsProcessorList()
        tokenizer = self.processor.tokenizer
        length = self.inputs["input_ids"].shape[1]
        return LogitsProcessorList(
            [
                ThinkingBudget(
                    self.options.thinking_budget,
                    ThinkTags.of(tokenizer),
                    transition_ids(tokenizer),
                    length,
                    self.opened,
                )
            ]
        )


class _Writer:
    """New ids of one prompt, turned into text as they come, and the text into thought and answer."""

    def __init__(self, run: _Run, row: int = 0) -> None:
        tokenizer = run.processor.tokenizer
        tags = ThinkTags.of(tokenizer)
        own = run.processor.tokens
        self._hidden = {*tokenizer.all_special_ids, *run.stops, own.audio, own.start, own.end}
        self._hidden -= {*tags.opening, *tags.closing}
        self._decoder = TextDecoder(tokenizer)
        self._splitter = ThoughtSplitter(run.opened[row])
        self._stops = run.stops
        self._row = row
        self._count = 0
        self._ended = False
        self._parts: dict[str, list[str]] = {"thinking": [], "text": []}

    def add(self, token: int) -> list[Piece]:
        if self._ended:
            return []
        if token in self._stops:
            self._ended = True
            return []
        self._count += 1
        if token in self._hidden:
            return []
        return self._keep(self._splitter.feed(self._decoder.add(token)))

    def finish(self) -> list[Piece]:
        rest = self._splitter.feed(self._decoder.flush())
        return self._keep(rest + self._splitter.flush())

    def reply(self, run: _Run, seconds: float) -> Reply:
        stopped: Stopped = "end" if self._ended else "length"
        if not self._ended and run.cancel.is_set() and self._count < run.options.max_new_tokens:
            stopped = "cancelled"
        return Reply(
            text="".join(self._parts["text"]),
            thinking="".join(self._parts["thinking"]),
            stopped=stopped,
            prompt_tokens=run.prompt_tokens[self._row],
            new_tokens=self._count,
            seconds=seconds,
        )

    def _keep(self, pieces: list[Piece]) -> list[Piece]:
        for piece in pieces:
            self._parts[piece.kind].append(piece.text)
        return pieces


def _complete(request: Request, unthought: bool) -> Prompt:
    """The whole prompt; ``unthought`` adds the empty thought with which a Thinking model answers at once."""
    text = request.prompt
    if not isinstance(text, Prompt):
        if len(split_at_spans(text)) > 1:
            text = Prompt(text)
        else:
            # Further recordings stand before the first, each on a line of its own.
            text = default_prompt(text, audio=bool(request.audios))
            more = (SPAN + AFTER_AUDIO) * (len(request.audios) - 1)
            text = Prompt(text.replace(SPAN, more + SPAN, 1))
    if unthought and text.endswith("<|im_start|>assistant\n"):
        text = Prompt(text + NO_THOUGHT)
    return text


def _events(pieces: list[Piece]) -> Iterator[ThinkingDelta | TextDelta]:
    for piece in pieces:
        yield ThinkingDelta(piece.text) if piece.kind == "thinking" else TextDelta(piece.text)


@contextmanager
def _seeded(seed: int | None, device: torch.device) -> Iterator[None]:
    """Random numbers from ``seed`` on, and afterwards on from where they were."""
    if seed is None:
        yield
        return
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
