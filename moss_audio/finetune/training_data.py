"""Data to learn from: conversations as ids, labels and features, alone, in batches, and all of a file.

A data file holds one JSON object a line:

    {"conversation": [
        {"role": "user", "message_type": "audio", "content": "clips/one.wav"},
        {"role": "user", "message_type": "text", "content": "Transcribe the audio."},
        {"role": "assistant", "message_type": "text", "content": "Hello there."}]}

This is the format of the published training script. Of a conversation, the first recording, the user's
texts and the assistant's texts are used; texts are joined with newlines and stripped.

The layout is the one of a prompt at inference, time markers included, followed by the answer and the end of
its turn. Only these two are learned. The pieces of text are tokenized each by itself.

How long the examples of a file are is known before any is heard, so that ``check`` can say what is in it
before hours are spent on it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import soundfile
import torch
from torch.utils.data import Dataset, Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices

from moss_audio.audio import load_audio
from moss_audio.errors import AudioError, DataError
from moss_audio.model.chat_template import AFTER_AUDIO, ANSWER_CLOSE, ANSWER_OPEN, SYSTEM_TURN, USER_OPEN
from moss_audio.model.mel import FRAMES_PER_TOKEN, SAMPLE_RATE, frame_count, log_mel, token_count
from moss_audio.model.processor import MossAudioProcessor, audio_span


@dataclass(frozen=True)
class Conversation:
    """One recording, one question, one answer.

    Attributes:
        audio: A media file, or samples as the processor takes them.
        prompt: What the user writes; may be empty.
        answer: What is learned; empty means to learn to say nothing.
        name: Where it comes from, for error messages: file and line.
    """

    audio: Any
    prompt: str
    answer: str
    name: str = "the conversation"


def read_conversations(
    path: str | Path, prompt_default: str = "", on_error: Callable[[DataError], None] | None = None
) -> list[Conversation]:
    """All conversations of a file.

    Recordings are looked for beside the file, then in the working directory.

    Args:
        path: A JSONL file, UTF-8; empty lines are skipped.
        prompt_default: Prompt of a conversation whose user writes nothing.
        on_error: Told of each line that cannot be used, which is then left out; by default the first is
            raised.

    Raises:
        DataError: The file or a line of it cannot be used; names file and line.
    """
    path = Path(path)
    found: list[Conversation] = []
    for number, line in _lines(path):
        name = f"{path}, line {number}"
        try:
            found.append(_resolved(parse(_record(line, name), name, prompt_default), path.parent))
        except DataError as error:
            if on_error is None:
                raise
            on_error(error)
    if not found and on_error is None:
        raise DataError(f"{path} holds no conversation; write one JSON object a line.")
    return found


def parse(record: object, name: str = "the conversation", prompt_default: str = "") -> Conversation:
    """One conversation of its JSON object, or of its list of messages.

    Roles and kinds of messages that are not known (a system message, say) are left out, as in the published
    script.

    Raises:
        DataError: A message is malformed, there is no recording, or no answer.
    """
    messages = record.get("conversation") if isinstance(record, Mapping) else record
    if not isinstance(messages, Sequence) or isinstance(messages, str | bytes):
        raise DataError(f'{name}: there is no list of messages under "conversation".')
    audio: list[Any] = []
    texts: dict[str, list[str]] = {"user": [], "assistant": []}
    for place, message in enumerate(messages, start=1):
        role, kind, content = _message(message, f"{name}, message {place}")
        if kind == "audio" and role == "user":
            audio.append(content)
        elif kind == "text" and role in texts:
            texts[role].append(content)
    if not audio:
        raise DataError(f'{name}: the user gives no recording (a message of "message_type": "audio").')
    if not texts["assistant"]:
        raise DataError(f"{name}: the assistant says nothing, so there is nothing to learn.")
    prompt, answer = ("\n".join(texts[role]).strip() for role in ("user", "assistant"))
    return Conversation(audio[0], prompt or prompt_default.strip(), answer, name)


def _message(message: object, name: str) -> tuple[str, str, Any]:
    if not isinstance(message, Mapping):
        raise DataError(f"{name}: must be an object with role, message_type and content.")
    role, kind, content = (message.get(key) for key in ("role", "message_type", "content"))
    if not isinstance(role, str) or not isinstance(kind, str):
        raise DataError(f"{name}: role and message_type must be texts.")
    if content is None or (kind == "text" and not isinstance(content, str)):
        raise DataError(f"{name}: content must be {'a text' if kind == 'text' else 'given'}.")
    if kind == "audio" and (isinstance(content, int | float | Mapping) or content == ""):
        raise DataError(f"{name}: content must be the path of a recording.")
    return role, kind, content


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8-sig") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield number, line
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason}, byte {error.start}).") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def _record(line: str, name: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name}: not valid JSON: {error}.") from error


def _resolved(conversation: Conversation, folder: Path) -> Conversation:
    """The same, with the path of an existing recording."""
    given = conversation.audio
    if not isinstance(given, str):
        raise DataError(f"{conversation.name}: the recording must be a path.")
    for candidate in (folder / Path(given).expanduser(), Path(given).expanduser()):
        try:
            if candidate.is_file():
                return Conversation(candidate, conversation.prompt, conversation.answer, conversation.name)
        except (OSError, ValueError):  # too long a name, or a zero byte in it
            break
    raise DataError(f"{conversation.name}: there is no recording {given!r}, beside the file or here.")


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
    audio = [False] * len(before) + [number == ids.audio for number in span]
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


class Collator:
    """Fills shorter examples on the right, where the causal mask keeps them from everything before.

    Args:
        processor: Knows the padding id.
        pad_to: Length at least; the published script pads everything to its maximum.
    """

    def __init__(self, processor: MossAudioProcessor, pad_to: int = 0) -> None:
        self.padding = processor.tokens.endoftext
        self.pad_to = pad_to

    def __call__(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        """Input of the model.

        Returns:
            ``input_ids``, ``labels``, ``attention_mask`` (int64) and ``audio_input_mask`` (bool), each
            ``[B, L]``; ``audio_data`` bfloat16 ``[B, 128, most_frames]`` and ``audio_data_seqlens`` int64
            ``[B]``.
        """
        shape = len(examples), max(self.pad_to, *(len(example) for example in examples))
        frames = [example.audio_data_seqlens for example in examples]
        first = examples[0].audio_data
        batch = {
            "input_ids": torch.full(shape, self.padding, dtype=torch.int64),
            "labels": torch.full(shape, IGNORED, dtype=torch.int64),
            "attention_mask": torch.zeros(shape, dtype=torch.int64),
            "audio_input_mask": torch.zeros(shape, dtype=torch.bool),
            "audio_data": first.new_zeros(len(examples), first.shape[0], max(frames)),
            "audio_data_seqlens": torch.tensor(frames),
        }
        for row, example in enumerate(examples):
            for name in ("input_ids", "labels", "attention_mask", "audio_input_mask"):
                batch[name][row, : len(example)] = getattr(example, name)
            batch["audio_data"][row, :, : frames[row]] = example.audio_data
        return batch


HEADER_ERROR = 16
"""Audio tokens (1.3 s) by which a header may be wrong; nearer to the limit than this, a file is decoded."""


@dataclass(frozen=True)
class Reading:
    """How conversations become sequences.

    Attributes:
        processor: The checkpoint's.
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
    seconds = sum(measure.seconds for measure in measures)
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
        return [measure.length for measure in self.measures]

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
    for conversation in conversations:
        found = measure(conversation, reading)
        if found.length <= reading.max_length:
            kept.append((conversation, found))
            continue
        left.append(too_long(conversation.name, found.length, reading.max_length))
        if not skip_too_long:
            raise left[0]
    if not kept:
        raise DataError(f"None of the {len(left)} examples is short enough: {left[0]}" if left else _NOTHING)
    return Examples([talk for talk, _ in kept], reading, [found for _, found in kept]), left


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
        seed: Decides the order.
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


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes:
        measures: Sizes of the examples that can be learned.
        problems: Why others cannot, one for each line.
    """

    measures: list[Measure]
    problems: list[DataError]

    @property
    def text(self) -> str:
        """For a person to read."""
        lines = []
        if self.measures:
            lengths = [measure.length for measure in self.measures]
            longest = max(measure.seconds for measure in self.measures)
            lines += [
                f"{len(lengths)} examples, {total_time(self.measures)} of audio (longest: {longest:.1f} s)",
                f"{sum(lengths):,} tokens: {min(lengths)} to {max(lengths)}, half of the examples up to "
                f"{median(lengths):g}",
                f"{sum(measure.learned for measure in self.measures):,} of them are learned",
            ]
        lines += [str(problem) for problem in self.problems]
        count = len(self.problems)
        lines.append(f"{count} {'line' if count == 1 else 'lines'} cannot be used.")
        return "\n".join(lines)


def check(
    data: Path, model: str | Path, how: tuple[int, bool | None, str] = (8192, None, ""), decode: bool = False
) -> Report:
    """Read a data file as training would.

    Args:
        data: Conversations, JSONL.
        model: Checkpoint whose tokenizer counts.
        how: Longest sequence, whether seconds are written, prompt of conversations without one.
        decode: Decode every recording.

    Raises:
        DataError: The file cannot be read at all.
        CheckpointError: There is no such model.
    """
    max_length, time_markers, prompt_default = how
    reading = Reading(MossAudioProcessor.from_pretrained(model), time_markers, max_length)
    problems: list[DataError] = []
    measures: list[Measure] = []
    for conversation in read_conversations(data, prompt_default, problems.append):
        try:
            found = measure(conversation, reading, decode)
            if found.length > max_length:
                raise too_long(conversation.name, found.length, max_length)
            measures.append(found)
        except DataError as error:
            problems.append(error)
    return Report(measures, problems)
