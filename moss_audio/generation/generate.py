"""Prompts in, answers out: whole, streamed word by word, or several at once.

Decoding is transformers' ``generate``. Added here: thought and answer are kept apart while they are written,
a thought may have a budget, and the work ends when nobody wants the answer any more.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.generation.streamers import BaseStreamer

from moss_audio.checkpoints.memory import ran_out
from moss_audio.errors import NotEnoughMemory, PromptError
from moss_audio.generation.loops import is_loop
from moss_audio.generation.requests import (
    FREE,
    Event,
    Options,
    Reply,
    Request,
    Stopped,
    TextDelta,
    ThinkingDelta,
)
from moss_audio.generation.streaming import AnswerWriter
from moss_audio.generation.thinking import (
    ThinkTags,
    Thought,
    name_says_thinking,
    prompt_opens_thought,
    transition_ids,
)
from moss_audio.model.chat_template import (
    AFTER_AUDIO,
    NO_THOUGHT,
    SPAN,
    Prompt,
    default_prompt,
    split_at_spans,
)
from moss_audio.model.processor import Wave

__all__ = [
    "FREE",
    "Event",
    "Options",
    "Reply",
    "Request",
    "TextDelta",
    "ThinkingDelta",
    "complete_prompt",
    "replies",
    "reply",
    "stop_ids",
    "stream",
    "thinks",
]


def thinks(model: Any) -> bool:
    """Whether a model's checkpoint is a Thinking one.

    ``thinking`` in its ``generation_config.json`` says so where this program wrote it; the released
    checkpoints say it only in their names.
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
    """Answer a prompt and hand the text out as soon as it is certain.

    Args:
        model: A ``MossAudioModel`` with its processor.
        prompt: A question, which is put behind its recordings into the default prompt; or a complete prompt.
        audios: Recordings, each float32 ``[n_samples]``, mono, 16 kHz.
        options: How to write.
        cancel: Setting it ends the answer at the next token. Closing the iterator does so too.

    Yields:
        Deltas of thought and answer in order, then one ``Reply`` with all of both.

    Raises:
        PromptError, AudioError: Prompt or recordings cannot be used.
        NotEnoughMemory: The device ran out of memory.
    """
    run = _Run(model, [Request(prompt, audios)], options, cancel or threading.Event())
    writer = run.writer(0)
    written: list[int] = []
    streamer = Streamer()
    thread = threading.Thread(
        target=run.generate_into, args=(streamer,), name="moss-audio-answer", daemon=True
    )
    thread.start()
    try:
        for token in streamer:
            written.append(token)
            yield from writer.add(token)
        yield from writer.finish()
        yield writer.reply(run.stopped(writer, written), run.prompt_tokens[0])
    finally:
        run.cancel.set()
        thread.join()


def reply(model: Any, prompt: str, audios: Sequence[Wave] = (), options: Options = FREE) -> Reply:
    """Answer a prompt; see ``stream``."""
    return replies(model, [Request(prompt, audios)], options)[0]


def replies(model: Any, requests: Sequence[Request], options: Options = FREE) -> list[Reply]:
    """Answer several prompts in one batch.

    Without sampling each answer is the one that its prompt gets alone. ``seconds`` is the time of the batch.

    Raises:
        PromptError, AudioError: A prompt or a recording cannot be used.
        NotEnoughMemory: The device ran out of memory.
    """
    if not requests:
        return []
    run = _Run(model, requests, options, threading.Event())
    writers = [run.writer(row) for row in range(len(requests))]
    answers = []
    for writer, ids, length in zip(writers, run.generate(), run.prompt_tokens, strict=True):
        for token in ids:
            writer.add(token)
        writer.finish()
        answers.append(writer.reply(run.stopped(writer, ids), length))
    return answers


class _Run:
    """One call of ``generate``: its inputs, and what ends it."""

    def __init__(
        self, model: Any, requests: Sequence[Request], options: Options, cancel: threading.Event
    ) -> None:
        self.model, self.options, self.cancel = model, options, cancel
        self.processor = model.processor
        self.stops = stop_ids(model)
        unthought = options.thinking is False and thinks(model)
        prompts = [complete_prompt(request, unthought) for request in requests]
        self.opened = [prompt_opens_thought(prompt) for prompt in prompts]
        self.device = input_device(model)
        audios = [list(request.audios) for request in requests]
        # Apple's GPUs know no float64, which the features are computed in.
        features_on = torch.device("cpu") if self.device.type == "mps" else self.device
        inputs = self.processor(prompts, audios, padding_side="left", device=features_on)
        self.inputs = inputs.to(self.device)
        self.prompt_tokens = inputs["attention_mask"].sum(dim=1).tolist()

    def writer(self, row: int) -> AnswerWriter:
        """What turns a row's ids into its answer."""
        return AnswerWriter(self.processor, self.stops, self.opened[row])

    def stopped(self, writer: AnswerWriter, ids: list[int]) -> Stopped:
        """Why an answer of these ids ended."""
        if self.options.stop_loops and is_loop(ids[: writer.count]):
            return "loop"
        if writer.ended:
            return "end"
        cut = self.cancel.is_set() and writer.count < self.options.max_new_tokens
        return "cancelled" if cut else "length"

    def generate(self, streamer: BaseStreamer | None = None) -> list[list[int]]:
        """The new ids of each prompt, including padding and whatever follows the end of the answer."""
        try:
            with torch.inference_mode(), _seeded(self.options.seed, self.device):
                ids = self.model.generate(
                    **self.inputs,
                    generation_config=self._config(),
                    logits_processor=self._budget(),
                    stopping_criteria=self._ends(),
                    streamer=streamer,
                )
        except (RuntimeError, MemoryError) as error:
            if not ran_out(error):
                raise
            raise NotEnoughMemory(
                f"{self.device} ran out of memory ({sum(self.prompt_tokens):,} prompt tokens); "
                "choose a shorter part of the audio, fewer prompts at once, or a smaller model."
            ) from error
        return ids[:, self.inputs["input_ids"].shape[1] :].tolist()

    def generate_into(self, streamer: Streamer) -> None:
        """``generate`` in a thread of its own; an error is raised where the tokens are read."""
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

    def _ends(self) -> StoppingCriteriaList:
        criteria = StoppingCriteriaList([Cancelled(self.cancel)])
        if self.options.stop_loops:
            criteria.append(Looping(self.inputs["input_ids"].shape[1]))
        return criteria

    def _budget(self) -> LogitsProcessorList:
        length = self.inputs["input_ids"].shape[1]
        budget = thinking_budget(self.processor.tokenizer, self.options, length, self.opened)
        return LogitsProcessorList([] if budget is None else [budget])


class Streamer(BaseStreamer):
    """Hands tokens from the thread of ``generate`` to whoever iterates over it, without the prompt."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[int | BaseException | None] = queue.SimpleQueue()
        self._prompt_seen = False

    def put(self, value: torch.Tensor) -> None:
        """Called by ``generate``: first with the prompt ``[B, L]``, then with each new token ``[B]``."""
        if not self._prompt_seen:
            self._prompt_seen = True
            return
        for token in value.reshape(-1).tolist():
            self._queue.put(token)

    def end(self) -> None:
        """Called by ``generate`` after the last token."""
        self._queue.put(None)

    def fail(self, error: BaseException) -> None:
        """Raise an error where the tokens are read."""
        self._queue.put(error)

    def __iter__(self) -> Iterator[int]:
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item


class Cancelled(StoppingCriteria):
    """Ends every row once the event is set."""

    def __init__(self, cancel: threading.Event) -> None:
        self.cancel = cancel

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        """``input_ids`` [B, L]: whether each row ends here, bool ``[B]``."""
        return torch.full((len(input_ids),), self.cancel.is_set(), dtype=torch.bool, device=input_ids.device)


class Looping(StoppingCriteria):
    """Ends a row that says one phrase over and over."""

    def __init__(self, prompt_length: int) -> None:
        self.prompt_length = prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        """``input_ids`` [B, L]: whether each row ends here, bool ``[B]``."""
        rows = input_ids[:, self.prompt_length :].tolist()
        return torch.tensor([is_loop(row) for row in rows], device=input_ids.device)


class ThinkingBudget(LogitsProcessor):
    """Lets a thought have ``budget`` tokens, then forces the transition sentence and ``</think>``.

    Args:
        budget: Tokens all thoughts of an answer may have together, tags not counted, at least 0.
        tags: The tags' ids.
        transition: Ids of the sentence forced before ``</think>``; it comes on top of the budget.
        prompt_length: Tokens before the generated ones, padding included.
        opened: For each prompt, whether it ends inside a thought.

    A thought opened anew after the budget is used up is closed at once.
    """

    def __init__(
        self,
        budget: int,
        tags: ThinkTags,
        transition: Sequence[int],
        prompt_length: int,
        opened: Sequence[bool] = (False,),
    ) -> None:
        self.budget = budget
        self.tags = tags
        self.transition = tuple(transition)
        self.prompt_length = prompt_length
        self.opened = tuple(opened)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """``input_ids`` [B, L], ``scores`` [B, vocabulary]: scores with the forced id alone possible."""
        # Beams and several answers to one prompt stand next to each other.
        share = max(1, len(input_ids) // len(self.opened))
        forced = {}
        for row, ids in enumerate(input_ids[:, self.prompt_length :].tolist()):
            opened = self.opened[min(row // share, len(self.opened) - 1)]
            if (token := self.forced(ids, opened)) is not None:
                forced[row] = token
        if not forced:
            return scores
        changed = scores.clone()
        for row, token in forced.items():
            changed[row] = float("-inf")
            changed[row, token] = 0.0
        return changed

    def forced(self, ids: list[int], inside: bool) -> int | None:
        """The id that must come next after these generated ones, or None."""
        thought = self.follow(inside)
        for token in ids:
            thought.add(token)
        return thought.forced

    def follow(self, inside: bool) -> Thought:
        """One answer that begins, inside a thought or not."""
        return Thought(self.budget, self.tags, self.transition, inside)


def thinking_budget(
    tokenizer: Any, options: Options, prompt_length: int, opened: Sequence[bool]
) -> ThinkingBudget | None:
    """The logits processor that closes a thought when its budget is used up; None without a budget.

    Raises:
        PromptError: Tags, budget and the sentence that closes the thought leave no token for the answer.
            Where the length was left open (``fit``), the budget is reduced instead.
    """
    budget = options.thinking_budget
    if budget is None:
        return None
    tags, transition = ThinkTags.of(tokenizer), transition_ids(tokenizer)
    forced = len(transition) + len(tags.closing) + (0 if all(opened) else len(tags.opening))
    if budget > (most := options.max_new_tokens - forced - 1):
        if not options.fit:
            raise PromptError(
                f"A thinking_budget of {budget} and the {forced} tokens that open and close a thought leave "
                f"no token for the answer; raise max_new_tokens above {budget + forced}."
            )
        budget = max(0, most)
    return ThinkingBudget(budget, tags, transition, prompt_length, opened)


def input_device(model: Any) -> torch.device:
    """The device that a model takes its inputs on: that of its weights, or the one they are offloaded from.

    Offloaded weights (accelerate's ``device_map``) say they are on "meta"; they are moved to a device when
    they are needed.
    """
    if model.device.type != "meta":
        return model.device
    place = getattr(getattr(model, "_hf_hook", None), "execution_device", None)
    return torch.device("cpu" if place is None else place)


def complete_prompt(request: Request, unthought: bool) -> Prompt:
    """The whole prompt.

    Args:
        request: With a question or a complete prompt.
        unthought: Add the empty thought with which a Thinking model answers at once.
    """
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


@contextmanager
def _seeded(seed: int | None, device: torch.device) -> Iterator[None]:
    """Inside, random numbers start from ``seed``; afterwards they go on from where they were."""
    if seed is None:
        yield
        return
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
