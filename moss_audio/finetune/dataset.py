"""All examples of a file: how long they are, before any is heard; in which order they are learned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import soundfile
import torch
from torch.utils.data import Dataset, Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices

from moss_audio.errors import AudioError, DataError
from moss_audio.finetune.conversations import Conversation
from moss_audio.finetune.sequences import IGNORED, MAX_LENGTH, Example, layout, load, sequence, too_long
from moss_audio.mel import SAMPLE_RATE, frame_count, token_count
from moss_audio.processor import MossAudioProcessor

HEADER_ERROR = 16
"""Audio tokens (1.3 s) by which a header may be wrong; nearer to the limit than this, a file is decoded."""


@dataclass(frozen=True)
class Reading:
    """How conversations become sequences.

    Attributes:
        processor: Of the checkpoint.
        time_markers: Whether seconds are written; None as at inference.
        max_length: Tokens allowed.
    """

    processor: MossAudioProcessor
    time_markers: bool | None = None
    max_length: int = MAX_LENGTH


@dataclass(frozen=True)
class Measure:
    """Size of one example.

    Attributes:
        length: Tokens.
        learned: Tokens with a label.
        seconds: Audio.
    """

    length: int
    learned: int
    seconds: float


def total_time(measures: Sequence[Measure]) -> str:
    """Audio in all, for a person to read."""
    seconds = sum(one.seconds for one in measures)
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 3600:.2f} hours"


class Examples(Dataset):
    """Examples made when they are asked for; audio is decoded and its features computed each time.

    Args:
        conversations: What they are made of.
        reading: How.
        measures: Sizes, in the same order.
    """

    def __init__(
        self, conversations: Sequence[Conversation], reading: Reading, measures: Sequence[Measure]
    ) -> None:
        self.conversations = list(conversations)
        self.reading = reading
        self.measures = list(measures)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each."""
        return [one.length for one in self.measures]

    def __len__(self) -> int:
        return len(self.conversations)

    def __getitem__(self, index: int) -> Example:
        how = self.reading
        return sequence(self.conversations[index], how.processor, how.time_markers, how.max_length)


def prepare(
    conversations: Sequence[Conversation], reading: Reading, skip_too_long: bool = False
) -> tuple[Examples, list[DataError]]:
    """Measure conversations, so that what cannot be learned is known before anything is.

    Args:
        conversations: As read.
        reading: How they become sequences.
        skip_too_long: Leave out what is too long, instead of refusing it.

    Returns:
        The examples, and why some were left out.

    Raises:
        DataError: A recording cannot be used, or is too long; names file and line.
    """
    kept: list[tuple[Conversation, Measure]] = []
    left: list[DataError] = []
    for one in conversations:
        found = measure(one, reading)
        if found.length <= reading.max_length:
            kept.append((one, found))
            continue
        left.append(too_long(one.name, found.length, reading.max_length))
        if not skip_too_long:
            raise left[0]
    if not kept:
        raise DataError(f"None of the {len(left)} examples is short enough: {left[0]}" if left else _NOTHING)
    return Examples([one for one, _ in kept], reading, [found for _, found in kept]), left


_NOTHING = "There are no examples to learn from."


def measure(conversation: Conversation, reading: Reading, decode: bool = False) -> Measure:
    """Size of one example; from its file's header where that is exact enough, else by decoding it.

    Args:
        conversation: Its recording is a path or samples.
        reading: How it becomes a sequence.
        decode: Decode in any case.

    Raises:
        DataError: The recording cannot be used.
    """
    samples = None if decode else _samples_in_header(conversation)
    exact = samples is None
    if samples is None:
        samples = _samples(conversation)
    found = _measure(conversation, reading, samples)
    if not exact and abs(found.length - reading.max_length) <= HEADER_ERROR:
        return measure(conversation, reading, decode=True)
    return found


def _measure(conversation: Conversation, reading: Reading, samples: int) -> Measure:
    frames = frame_count(samples)
    if frames == 0:
        raise DataError(f"{conversation.name}: the recording has {samples} samples; 160 (10 ms) are needed.")
    made = layout(conversation, reading.processor, token_count(frames), reading.time_markers)
    learned = len(made.labels) - made.labels.count(IGNORED)
    return Measure(len(made.ids), learned, samples / SAMPLE_RATE)


def _samples(conversation: Conversation) -> int:
    try:
        return int(load(conversation).shape[-1])
    except AudioError as error:
        raise DataError(f"{conversation.name}: {error}") from error


def _samples_in_header(conversation: Conversation) -> int | None:
    """Samples at 16 kHz, if the file is of a kind that says how long it is."""
    if hasattr(conversation.audio, "shape"):
        return None
    try:
        header = soundfile.info(str(conversation.audio))
    except (soundfile.SoundFileError, OSError):
        return None
    return round(header.frames / header.samplerate * SAMPLE_RATE) or None


class Order(Sampler[int]):
    """A new order every epoch, made of the seed and the epoch alone, so that a resumed run goes on in it.

    Args:
        lengths: Tokens of each example.
        batch: Examples of one optimiser step.
        seed: Of the order.
        grouped: Put examples of like length into one step, the longest first of all, so that memory that does
            not suffice shows at once.
    """

    def __init__(self, lengths: Sequence[int], batch: int, seed: int, grouped: bool = True) -> None:
        self.lengths = list(lengths)
        self.batch = batch
        self.seed = seed
        self.grouped = grouped
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        if not self.grouped:
            return iter(torch.randperm(len(self.lengths), generator=generator).tolist())
        return iter(get_length_grouped_indices(self.lengths, self.batch, generator=generator))
