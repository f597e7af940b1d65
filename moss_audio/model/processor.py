"""From text and waveforms to what the model takes: ids, masks and features, for one prompt or many.

Which token ids carry audio, and how one recording is laid out in them.

The ids are numbers and are never looked up through a tokenizer: the released tokenizers do not know the
audio tokens. The audio id there is a leftover of vision models (``<|vision_pad|>``), and the ids around the
audio have other names or none.

What ``processor_config.json`` of a checkpoint says: audio ids, time markers, features.

The features are not configurable here. A checkpoint that asks for others is refused, since it would hear
something else than it was trained on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from transformers import AutoProcessor, BatchFeature, PreTrainedTokenizerBase

from moss_audio.checkpoints.files import HUB_OPTIONS
from moss_audio.errors import AudioError, CheckpointError, PromptError
from moss_audio.model.chat_template import (
    AUDIO,
    AUDIO_END,
    AUDIO_START,
    Message,
    Prompt,
    clean_messages,
    default_prompt,
    defuse,
    defused_json,
    render_chat,
    split_at_spans,
)
from moss_audio.model.config import MossAudioConfig
from moss_audio.model.mel import HOP_LENGTH, N_FFT, N_MELS, SAMPLE_RATE, as_waveform, log_mel, token_count
from moss_audio.model.tokenizer import checkpoint_folder, load_tokenizer, read_json

TOKENS_PER_MARKER = 25
"""Audio tokens from one time marker to the next: two seconds at 12.5 tokens a second."""

SECONDS_PER_MARKER = 2


@dataclass(frozen=True)
class AudioTokens:
    """Token ids with a meaning of their own; the defaults are those of the released checkpoints.

    Attributes:
        audio: Stands for 80 ms of audio; its embedding is replaced by what the encoder heard.
        start, end: Around the audio of one recording.
        digits: Ids of "0" to "9", of which time markers are made.
        im_start, im_end: Around one turn of a conversation; ``im_end`` ends the answer.
        endoftext: Fills the shorter prompts of a batch; also ends an answer.
    """

    audio: int = 151654
    start: int = 151669
    end: int = 151670
    digits: tuple[int, ...] = (15, 16, 17, 18, 19, 20, 21, 22, 23, 24)
    im_start: int = 151644
    im_end: int = 151645
    endoftext: int = 151643

    def __post_init__(self) -> None:
        if len(self.digits) != 10:
            raise ValueError(f"Ten digit ids are needed, got {len(self.digits)}.")


RELEASED = AudioTokens()
"""The ids of the released checkpoints."""


def audio_span(n_tokens: int, ids: AudioTokens = RELEASED, time_markers: bool = True) -> list[int]:
    """Ids of one recording, between its start and its end id.

    After every 25 audio tokens the second they end at (2, 4, …) is written, one id per decimal digit. So the
    layout depends on the number of audio tokens alone.

    Args:
        n_tokens: Audio tokens of the recording (12.5 a second).
        ids: Which ids to write.
        time_markers: Whether to write the seconds.

    Returns:
        ``n_tokens`` times the audio id, with the digits between them.
    """
    if n_tokens < 0:
        raise ValueError(f"A recording cannot have {n_tokens} audio tokens.")
    if not time_markers:
        return [ids.audio] * n_tokens
    span: list[int] = []
    for marker in range(1, n_tokens // TOKENS_PER_MARKER + 1):
        span += [ids.audio] * TOKENS_PER_MARKER
        span += [ids.digits[int(digit)] for digit in str(marker * SECONDS_PER_MARKER)]
    return span + [ids.audio] * (n_tokens % TOKENS_PER_MARKER)


FILE = "processor_config.json"

_FEATURES = {
    "mel_sr": SAMPLE_RATE,
    "mel_dim": N_MELS,
    "mel_n_fft": N_FFT,
    "mel_hop_length": HOP_LENGTH,
    "mel_dtype": "bfloat16",
    "use_whisper_feature_extractor": True,
}

_ID_NAMES = {
    "audio": ("audio_token_id", "audio_id", "audio_pad_token_id"),
    "start": ("audio_start_id", "audio_start_token_id", "audio_bos_token_id", "audio_bos_id"),
    "end": ("audio_end_id", "audio_end_token_id", "audio_eos_token_id", "audio_eos_id"),
    "im_start": ("im_start_token_id", "im_start_id"),
    "im_end": ("im_end_token_id", "im_end_id"),
    "endoftext": ("endoftext_token_id", "endoftext_id"),
}
"""Each id under the names that are understood; the first is the one that is written."""

_DIGITS = "digit_token_ids"
_MARKERS = "enable_time_marker"


@dataclass(frozen=True)
class ProcessorConfig:
    """What a checkpoint sets of the processor.

    Attributes:
        tokens: Ids with a meaning of their own.
        time_markers: Whether prompts carry the seconds; released models were trained on them.
    """

    tokens: AudioTokens = RELEASED
    time_markers: bool = True

    @classmethod
    def read(cls, folder: Path) -> ProcessorConfig:
        """From a checkpoint's folder. What its files do not say is as in the released checkpoints.

        Ids are looked for in ``processor_config.json``, then in the model's ``config.json``.

        Raises:
            CheckpointError: A file cannot be read, an id is no number, or the features are others.
        """
        path = folder / FILE
        config = read_json(path)
        _check_features(config.get("mel_config") or {}, path)
        ids = _read_ids(read_json(folder / "config.json"), folder / "config.json") | _read_ids(config, path)
        markers = config.get(_MARKERS, True)
        if not isinstance(markers, bool):
            raise CheckpointError(f"{path}: {_MARKERS} must be true or false, not {markers!r}.")
        return cls(AudioTokens(**ids), markers)

    def write(self, folder: Path) -> None:
        """Write ``processor_config.json`` so that ``read`` gives the same again."""
        content: dict[str, Any] = {"processor_class": "MossAudioProcessor", "mel_config": _FEATURES}
        content[_MARKERS] = self.time_markers
        content |= {names[0]: getattr(self.tokens, field) for field, names in _ID_NAMES.items()}
        content[_DIGITS] = list(self.tokens.digits)
        (folder / FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _check_features(given: dict[str, Any], path: Path) -> None:
    for name, ours in _FEATURES.items():
        theirs = given.get(name, ours)
        if isinstance(theirs, str):
            theirs = theirs.removeprefix("torch.")
        if theirs != ours:
            raise CheckpointError(f"{path}: {name} is {theirs!r}; only {ours!r} can be computed here.")


def _read_ids(config: dict[str, Any], path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field, names in _ID_NAMES.items():
        for name in names:
            if config.get(name) is not None:
                found[field] = _as_id(config[name], name, path)
                break
    if config.get(_DIGITS) is not None:
        digits = config[_DIGITS]
        if not isinstance(digits, list) or len(digits) != 10:
            raise CheckpointError(f"{path}: {_DIGITS} must be a list of ten ids.")
        found["digits"] = tuple(_as_id(one, _DIGITS, path) for one in digits)
    return found


def _as_id(value: Any, name: str, path: Path) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise CheckpointError(f"{path}: {name} must be a token id, not {value!r}.")
    return value


Wave = np.ndarray | torch.Tensor
"""Mono ``[samples]`` or ``[channels, samples]`` at 16 kHz; floats in [-1, 1] or 16-bit integers."""


@dataclass(frozen=True)
class EncodedPrompt:
    """One prompt as ids.

    Attributes:
        ids: Token ids ``[L]``.
        audio: True where an id stands for audio ``[L]``; known from where it was put, not from its number.
    """

    ids: list[int]
    audio: list[bool]


class MossAudioProcessor:
    """Builds the model's input.

    Attributes:
        tokenizer: The text tokenizer.
        time_markers: Whether seconds are written between the audio tokens.
        tokens: Ids with a meaning of their own.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        time_markers: bool = True,
        tokens: AudioTokens = RELEASED,
    ) -> None:
        self.tokenizer = tokenizer
        self.time_markers = time_markers
        self.tokens = tokens

    @classmethod
    def from_pretrained(cls, name_or_folder: str | Path, **hub: Any) -> Self:
        """The processor of a checkpoint.

        Args:
            name_or_folder: A local folder, or a model's name on the Hugging Face Hub.
            **hub: ``revision``, ``cache_dir``, ``token``, ``local_files_only``; others are ignored.

        Raises:
            CheckpointError: There is no such checkpoint, it has no tokenizer, or it needs other features.
        """
        used = {name: hub[name] for name in HUB_OPTIONS if name in hub}
        folder = checkpoint_folder(name_or_folder, **used)
        tokenizer = load_tokenizer(folder)
        config = ProcessorConfig.read(folder)
        _check_ids(tokenizer, config.tokens, folder)
        return cls(tokenizer, config.time_markers, config.tokens)

    def save_pretrained(self, folder: str | Path, **_: Any) -> None:
        """Write tokenizer files and ``processor_config.json``; ``from_pretrained`` reads the same back."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save_pretrained(str(folder))
        ProcessorConfig(self.tokens, self.time_markers).write(folder)

    def __call__(
        self,
        text: str | Sequence[str],
        audios: Sequence[Wave] | Sequence[Sequence[Wave] | None] | None = None,
        time_markers: bool | None = None,
        padding_side: str = "left",
        device: torch.device | str | None = None,
    ) -> BatchFeature:
        """Input of the model for one prompt or several.

        A text that holds audio spans, or that ``chat`` made, is taken as it is; any other is a question and
        is put into the default prompt, behind its recording if it has one. Control strings within a text act
        as such: see ``escape``.

        Args:
            text: A prompt, or several.
            audios: For one prompt the list of its recordings, in the order of its spans; for several a list
                of such lists, with an empty list or None for a prompt without audio.
            time_markers: Whether to write the seconds; by default as the checkpoint says.
            padding_side: Where shorter prompts are filled, "left" (as generation needs) or "right".
            device: Where the features are computed and all tensors lie; by default where the audio lies.

        Returns:
            ``input_ids``, ``attention_mask`` (int64) and ``audio_input_mask`` (bool), each ``[B, L]``; with
            audio also ``audio_data`` bfloat16 ``[n_audio, 128, most_frames]`` and ``audio_data_seqlens``
            int64 ``[n_audio]``, in frames, the recordings of all prompts in row order.

        Raises:
            PromptError: The texts and their audio do not fit together.
            AudioError: A recording cannot be used.
        """
        if padding_side not in ("left", "right"):
            raise PromptError(f"padding_side must be 'left' or 'right', not {padding_side!r}.")
        requests = [(_as_prompt(one, audio), audio) for one, audio in _requests(text, audios)]
        for prompt, audio in requests:
            _check_spans(prompt, len(audio))
        features: dict[str, torch.Tensor] = {}
        frames: list[int] = []
        if waves := _waveforms([audio for _, audio in requests]):
            data, seqlens = log_mel(waves, device)
            features = {"audio_data": data, "audio_data_seqlens": seqlens}
            frames = seqlens.tolist()
        encoded = []
        for prompt, audio in requests:
            lengths, frames = frames[: len(audio)], frames[len(audio) :]
            encoded.append(self.encode(prompt, [token_count(one) for one in lengths], time_markers))
        batch = _pad(encoded, self.tokens.endoftext, padding_side == "left")
        place = features["audio_data"].device if features else torch.device(device or "cpu")
        return BatchFeature({name: one.to(place) for name, one in (batch | features).items()})

    def encode(
        self, prompt: str, audio_tokens: Sequence[int] = (), time_markers: bool | None = None
    ) -> EncodedPrompt:
        """Ids of one complete prompt, with each of its spans filled.

        The text between two spans is tokenized by itself, without added special tokens.

        Args:
            prompt: Taken as it is.
            audio_tokens: Audio tokens of the recording at each span.
            time_markers: Whether to write the seconds; by default as the checkpoint says.

        Raises:
            PromptError: There are more or fewer spans than recordings.
        """
        _check_spans(prompt, len(audio_tokens))
        markers = self.time_markers if time_markers is None else time_markers
        first, *others = split_at_spans(prompt)
        ids = self.text_ids(first)
        audio = [False] * len(ids)
        for n_tokens, piece in zip(audio_tokens, others, strict=True):
            span = audio_span(n_tokens, self.tokens, markers)
            text = self.text_ids(piece)
            ids += [self.tokens.start, *span, self.tokens.end, *text]
            audio += [False, *(one == self.tokens.audio for one in span), False, *[False] * len(text)]
        return EncodedPrompt(ids, audio)

    def text_ids(self, text: str) -> list[int]:
        """Ids of a piece of text, its control strings as their own tokens, nothing added."""
        return self.tokenizer.encode(text, add_special_tokens=False, verbose=False) if text else []

    def chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] | None = None,
        thinking: bool | None = None,
    ) -> Prompt:
        """A conversation as a complete prompt, with the assistant's next turn opened.

        Written by the checkpoint's own chat template where it has one, else in Qwen3's format. Control
        strings within the messages are broken (see ``escape``): no text can end its turn or ask for audio.

        Args:
            messages: ``{"role": "system" | "user" | "assistant" | "tool", "content": …}`` in order. A user's
                content may be a list of parts, ``{"type": "text", "text": …}`` and ``{"type": "audio"}``; an
                assistant's message may hold ``tool_calls`` and ``reasoning_content``.
            tools: Function definitions in OpenAI's form.
            thinking: False tells the model to answer without thinking; None leaves it to the model.

        Raises:
            PromptError: A message cannot be used.
        """
        cleaned = clean_messages(messages, self.escape)
        definitions = defused_json(list(tools), self.escape) if tools else None
        if not getattr(self.tokenizer, "chat_template", None):
            return Prompt(render_chat(cleaned, definitions, thinking))
        switch = {} if thinking is None else {"enable_thinking": thinking}
        try:
            text = self.tokenizer.apply_chat_template(
                cleaned, tools=definitions, tokenize=False, add_generation_prompt=True, **switch
            )
        except Exception as error:  # a template may raise whatever it likes
            raise PromptError(f"The checkpoint's chat template refused the conversation: {error}") from error
        return Prompt(text)

    def escape(self, text: str) -> str:
        """Text of others made harmless: its control strings (``<|im_end|>``, an audio span) are broken.

        ``chat`` does this by itself. Use it before text that was heard, read or typed is put into a prompt
        by hand.
        """
        return defuse(text, self._control)

    def decode(self, ids: Sequence[int] | torch.Tensor) -> str:
        """Text of generated ids, without control tokens; ``<think>`` stays."""
        numbers = ids.tolist() if isinstance(ids, torch.Tensor) else list(ids)
        own = {self.tokens.audio, self.tokens.start, self.tokens.end}
        text = [one for one in numbers if one not in own]
        return self.tokenizer.decode(text, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    @cached_property
    def _control(self) -> tuple[str, ...]:
        """Strings with a meaning in a prompt: the tokenizer's control tokens and the parts of a span."""
        added = self.tokenizer.added_tokens_decoder.values()
        named = [one.content for one in added if one.special or one.content.startswith("<|")]
        return (AUDIO_START, AUDIO, AUDIO_END, *named)


def _requests(text: str | Sequence[str], audios: Any) -> list[tuple[str, list[Wave]]]:
    """Each prompt with its recordings."""
    if isinstance(text, str):
        return [(text, _audio_list(audios))]
    if not isinstance(text, list | tuple) or not all(isinstance(one, str) for one in text):
        raise PromptError("The prompt must be a text, or a list of texts.")
    if not text:
        raise PromptError("There is no prompt; give at least one text.")
    if audios is None:
        return [(one, []) for one in text]
    if not isinstance(audios, list | tuple) or any(
        isinstance(one, np.ndarray | torch.Tensor) for one in audios
    ):
        raise PromptError("For a list of prompts, give the audio as one list of recordings for each prompt.")
    if len(audios) != len(text):
        raise PromptError(f"There are {len(text)} prompts, but audio for {len(audios)}.")
    return [(one, _audio_list(audio)) for one, audio in zip(text, audios, strict=True)]


def _audio_list(audios: Any) -> list[Wave]:
    if audios is None:
        return []
    if not isinstance(audios, list | tuple):
        raise PromptError("The audio of a prompt must be a list of recordings; for one, write [recording].")
    if not all(isinstance(one, np.ndarray | torch.Tensor) for one in audios):
        raise PromptError("A recording must be a NumPy array or a torch tensor of samples at 16 kHz.")
    return list(audios)


def _as_prompt(text: str, audio: Sequence[Wave]) -> Prompt:
    if isinstance(text, Prompt):
        return text
    return Prompt(text) if len(split_at_spans(text)) > 1 else default_prompt(text, audio=bool(audio))


def _check_spans(prompt: str, recordings: int) -> None:
    spans = len(split_at_spans(prompt)) - 1
    if spans != recordings:
        raise PromptError(
            f"The prompt has places for {spans} recordings, but {recordings} were given; write "
            f"{AUDIO_START}{AUDIO}{AUDIO_END} once for each, where it is to be heard."
        )


def _waveforms(audios: Sequence[Sequence[Wave]]) -> list[torch.Tensor]:
    """All recordings in row order; an error says which one it is when there are several."""
    waves = []
    alone = sum(map(len, audios)) == 1
    for row, recordings in enumerate(audios):
        for place, wave in enumerate(recordings):
            try:
                waves.append(as_waveform(wave))
            except AudioError as error:
                if alone:
                    raise
                raise AudioError(f"Recording {place + 1} of prompt {row + 1}: {error}") from error
    return waves


def _pad(prompts: Sequence[EncodedPrompt], padding: int, left: bool) -> dict[str, torch.Tensor]:
    """Prompts as one batch ``[B, L]``, the shorter ones filled and masked."""
    shape = len(prompts), max(len(one.ids) for one in prompts)
    ids = torch.full(shape, padding, dtype=torch.int64)
    attention = torch.zeros(shape, dtype=torch.int64)
    audio = torch.zeros(shape, dtype=torch.bool)
    for row, one in enumerate(prompts):
        first = shape[1] - len(one.ids) if left else 0
        place = slice(first, first + len(one.ids))
        ids[row, place] = torch.tensor(one.ids, dtype=torch.int64)
        attention[row, place] = 1
        audio[row, place] = torch.tensor(one.audio, dtype=torch.bool)
    return {"input_ids": ids, "attention_mask": attention, "audio_input_mask": audio}


def _check_ids(tokenizer: PreTrainedTokenizerBase, tokens: AudioTokens, folder: Path) -> None:
    """Refuse a tokenizer whose text does not become the ids the model knows."""
    expected = {
        "<|im_start|>": tokens.im_start,
        "<|im_end|>": tokens.im_end,
        "<|endoftext|>": tokens.endoftext,
    }
    expected |= {str(digit): number for digit, number in enumerate(tokens.digits)}
    for text, number in expected.items():
        ids = tokenizer.encode(text, add_special_tokens=False)
        if ids != [number]:
            raise CheckpointError(
                f"The tokenizer in {folder} writes {text!r} as {ids}, but the model knows it as {number}; "
                "give the ids in processor_config.json, or use the checkpoint's own tokenizer files."
            )


AutoProcessor.register(MossAudioConfig, MossAudioProcessor, exist_ok=True)
