"""From a conversation to what is learned of it: ids, labels, features.

The layout is the one of a prompt at inference, time markers included, followed by the answer and the end of
its turn. Only these two are learned. The pieces of text are tokenized each by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from moss_audio.audio import load_audio
from moss_audio.errors import AudioError, DataError
from moss_audio.finetune.conversations import Conversation, parse
from moss_audio.mel import FRAMES_PER_TOKEN, log_mel, token_count
from moss_audio.processor import MossAudioProcessor
from moss_audio.prompt import AFTER_AUDIO, ANSWER_CLOSE, ANSWER_OPEN, SYSTEM_TURN, USER_OPEN
from moss_audio.tokens import audio_span

IGNORED = -100
"""Label of what is not learned."""

MAX_LENGTH = 8192
"""Tokens of the longest sequence, as in the published script: a little less than ten minutes of audio."""


@dataclass(frozen=True)
class Example:
    """One conversation, ready for a batch. L tokens, T mel frames.

    Attributes:
        input_ids: int64 ``[L]``.
        labels: int64 ``[L]``, -100 where nothing is learned.
        audio_input_mask: bool ``[L]``, where the audio stands.
        audio_data: Log-mel features, bfloat16 ``[128, T]``.
        name: Where it comes from.
    """

    input_ids: torch.Tensor
    labels: torch.Tensor
    audio_input_mask: torch.Tensor
    audio_data: torch.Tensor
    name: str = "the conversation"

    def __len__(self) -> int:
        return self.input_ids.shape[0]

    @property
    def attention_mask(self) -> torch.Tensor:
        """int64 ``[L]``, all ones."""
        return torch.ones_like(self.input_ids)

    @property
    def audio_data_seqlens(self) -> int:
        """Mel frames."""
        return self.audio_data.shape[1]


@dataclass(frozen=True)
class Layout:
    """Ids of one conversation as lists, see ``Example``."""

    ids: list[int]
    labels: list[int]
    audio: list[bool]


def sequence(
    conversation: Conversation | Sequence[Mapping[str, Any]] | Mapping[str, Any],
    processor: MossAudioProcessor,
    time_markers: bool | None = None,
    max_length: int | None = MAX_LENGTH,
    prompt_default: str = "",
) -> Example:
    """Ids, labels and features of one conversation.

    Args:
        conversation: As ``read_conversations`` gives it, or its messages, or the JSON object with them; its
            recording is a path or samples at 16 kHz.
        processor: Tokenizer and ids of the checkpoint.
        time_markers: Whether seconds are written between the audio tokens; by default as at inference. The
            published training script writes none.
        max_length: Tokens that are allowed; None for any number.
        prompt_default: Prompt where messages hold none.

    Raises:
        DataError: The recording cannot be used, or the sequence is longer than ``max_length``.
    """
    if not isinstance(conversation, Conversation):
        conversation = parse(conversation, prompt_default=prompt_default)
    try:
        features, frames = log_mel([load(conversation)])
    except AudioError as error:
        raise DataError(f"{conversation.name}: {error}") from error
    made = layout(conversation, processor, token_count(int(frames[0])), time_markers)
    if max_length is not None and len(made.ids) > max_length:
        raise too_long(conversation.name, len(made.ids), max_length)
    return Example(
        input_ids=torch.tensor(made.ids),
        labels=torch.tensor(made.labels),
        audio_input_mask=torch.tensor(made.audio),
        audio_data=features[0],
        name=conversation.name,
    )


def layout(
    conversation: Conversation,
    processor: MossAudioProcessor,
    audio_tokens: int,
    time_markers: bool | None = None,
) -> Layout:
    """Ids and labels of a conversation whose recording has so many audio tokens."""
    ids = processor.tokens
    markers = processor.time_markers if time_markers is None else time_markers
    before = [*processor.text_ids(SYSTEM_TURN), *processor.text_ids(USER_OPEN), ids.start]
    span = audio_span(audio_tokens, ids, markers)
    after = [ids.end, *processor.text_ids(AFTER_AUDIO), *processor.text_ids(conversation.prompt)]
    after += processor.text_ids(ANSWER_OPEN)
    answer = [*processor.text_ids(conversation.answer), *processor.text_ids(ANSWER_CLOSE)]
    context = before + span + after
    audio = [False] * len(before) + [one == ids.audio for one in span]
    return Layout(
        ids=context + answer,
        labels=[IGNORED] * len(context) + answer,
        audio=audio + [False] * (len(after) + len(answer)),
    )


def load(conversation: Conversation) -> np.ndarray | torch.Tensor:
    """The samples of a conversation's recording.

    Raises:
        AudioError: It cannot be decoded.
    """
    if isinstance(conversation.audio, str | Path):
        return load_audio(conversation.audio)
    return conversation.audio


def too_long(name: str, length: int, max_length: int) -> DataError:
    """What is said of a sequence that would have to be cut; cutting could take its answer, or all labels."""
    return DataError(
        f"{name}: {length} tokens are more than the {max_length} allowed; shorten the recording, "
        "raise --max-length, or leave such examples out with --skip-too-long."
    )


def cut(example: Example, max_length: int) -> Example:
    """The first tokens of an example, as the published script cuts: for comparison with it only.

    A cut may take the end of the answer or all of it; features are cut to the audio tokens that are left.
    """
    mask = example.audio_input_mask[:max_length]
    kept = int(mask.sum())
    features = example.audio_data
    if kept < int(example.audio_input_mask.sum()):
        features = features[:, : kept * FRAMES_PER_TOKEN]
    return replace(
        example,
        input_ids=example.input_ids[:max_length],
        labels=example.labels[:max_length],
        audio_input_mask=mask,
        audio_data=features,
    )
