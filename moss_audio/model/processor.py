"""From text and waveforms to what the model takes: ids, masks and features, for one prompt or many.

The token ids that carry audio are numbers, never looked up through a tokenizer: the released tokenizers do
not know the audio tokens. The audio id there is a leftover of vision models (``<|vision_pad|>``), and the ids
around the audio have other names or none.

``processor_config.json`` of a checkpoint says which ids these are and whether there are time markers. The
features are not configurable: a checkpoint that asks for others is refused, since it would hear something
else than it was trained on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from transformers import (
    AutoProcessor,
    BatchFeature,
    PreTrainedTokenizerBase,
    ProcessorMixin,
    SequenceFeatureExtractor,
)

from moss_audio.checkpoints.hub import HUB_OPTIONS
from moss_audio.errors import AudioError, CheckpointError, PromptError
from moss_audio.model.chat_template import (
    ANSWER_CLOSE,
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

    def to_dict(self) -> dict[str, Any]:
        """The content of a ``processor_config.json`` from which ``read`` gives the same again."""
        content: dict[str, Any] = {"processor_class": "MossAudioProcessor", "mel_config": _FEATURES}
        content[_MARKERS] = self.time_markers
        content |= {names[0]: getattr(self.tokens, meaning) for meaning, names in _ID_NAMES.items()}
        content[_DIGITS] = list(self.tokens.digits)
        return content


def _check_features(given: dict[str, Any], path: Path) -> None:
    for name, ours in _FEATURES.items():
        theirs = given.get(name, ours)
        if isinstance(theirs, str):
            theirs = theirs.removeprefix("torch.")
        if theirs != ours:
            raise CheckpointError(f"{path}: {name} is {theirs!r}; only {ours!r} can be computed here.")


def _read_ids(config: dict[str, Any], path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for meaning, names in _ID_NAMES.items():
        for name in names:
            if config.get(name) is not None:
                found[meaning] = _as_id(config[name], name, path)
                break
    if config.get(_DIGITS) is not None:
        digits = config[_DIGITS]
        if not isinstance(digits, list) or len(digits) != 10:
            raise CheckpointError(f"{path}: {_DIGITS} must be a list of ten ids.")
        found["digits"] = tuple(_as_id(digit, _DIGITS, path) for digit in digits)
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


class MossAudioFeatureExtractor(SequenceFeatureExtractor):
    """Log-mel features in the form of transformers' feature extractors; see ``moss_audio.model.mel``."""

    model_input_names = ["audio_data", "audio_data_seqlens"]  # noqa: RUF012

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(feature_size=N_MELS, sampling_rate=SAMPLE_RATE, padding_value=0.0, **kwargs)

    def __call__(
        self,
        raw_speech: Wave | Sequence[Wave],
        sampling_rate: int | None = None,
        device: torch.device | str | None = None,
        return_tensors: str | None = None,
    ) -> BatchFeature:
        """Features of recordings, each as if alone.

        Args:
            raw_speech: One recording, or several.
            sampling_rate: The recordings', in Hz; where given it must be 16,000.
            device: Where to compute; by default where the first recording is.
            return_tensors: "pt" or None; both give torch tensors.

        Returns:
            ``audio_data`` bfloat16 ``[n, 128, most_frames]`` and ``audio_data_seqlens`` int64 ``[n]``, in
            frames.

        Raises:
            AudioError: A recording cannot be used, or has another sampling rate.
            PromptError: Tensors of another library are asked for.
        """
        _check_tensors(return_tensors)
        if sampling_rate not in (None, SAMPLE_RATE):
            raise AudioError(
                f"The audio has {sampling_rate} samples a second; the model needs {SAMPLE_RATE}: resample it."
            )
        waves = [raw_speech] if isinstance(raw_speech, np.ndarray | torch.Tensor) else raw_speech
        data, frames = log_mel(waves, device)
        return BatchFeature({"audio_data": data, "audio_data_seqlens": frames})


Conversation = Sequence[Message]
"""Messages in order, see ``MossAudioProcessor.chat``."""


class MossAudioProcessor(ProcessorMixin):
    """Builds the model's input, from questions, complete prompts or conversations, and their recordings.

    Args:
        tokenizer: The text tokenizer.
        time_markers: Whether seconds are written between the audio tokens.
        tokens: Ids with a meaning of their own.
        feature_extractor: Computes the features of recordings; by default the one that all checkpoints use.
        chat_template: Jinja template of conversations; by default the tokenizer's, and where that has none
            Qwen3's format is written.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        time_markers: bool = True,
        tokens: AudioTokens = RELEASED,
        feature_extractor: MossAudioFeatureExtractor | None = None,
        chat_template: str | dict[str, str] | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.time_markers = time_markers
        self.tokens = tokens
        super().__init__(
            tokenizer,
            feature_extractor or MossAudioFeatureExtractor(),
            chat_template=chat_template or getattr(tokenizer, "chat_template", None),
        )

    @property
    def chat_template(self) -> str | dict[str, str] | None:
        """The tokenizer's template; None where Qwen3's format is written without one."""
        return getattr(self.tokenizer, "chat_template", None)

    @chat_template.setter
    def chat_template(self, template: str | dict[str, str] | None) -> None:
        self.tokenizer.chat_template = template

    @property
    def model_input_names(self) -> list[str]:
        """What ``__call__`` returns, the features only with audio."""
        return ["input_ids", "attention_mask", "audio_input_mask", *self.feature_extractor.model_input_names]

    @property
    def audio_token_id(self) -> int:
        """The id that stands for 80 ms of audio."""
        return self.tokens.audio

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

    def to_dict(self) -> dict[str, Any]:
        """The content of ``processor_config.json``, which ``save_pretrained`` writes beside the tokenizer."""
        return ProcessorConfig(self.tokens, self.time_markers).to_dict()

    def __call__(
        self,
        text: str | Sequence[str],
        audios: Sequence[Wave] | Sequence[Sequence[Wave] | None] | None = None,
        time_markers: bool | None = None,
        padding_side: str = "left",
        device: torch.device | str | None = None,
        *,
        audio: Wave | Sequence[Wave] | Sequence[Sequence[Wave] | None] | None = None,
        sampling_rate: int | None = None,
        padding: bool | str = True,
        return_tensors: str | None = None,
    ) -> BatchFeature:
        """Input of the model for one prompt or several.

        A text that holds audio spans, or that ``apply_chat_template`` made, is taken as it is; any other is a
        question and is put into the default prompt, behind its recording if it has one. Control strings
        within a text act as such: see ``escape``.

        Args:
            text: A prompt, or several.
            audios: For one prompt the list of its recordings, in the order of its spans; for several a list
                of such lists, with an empty list or None for a prompt without audio.
            time_markers: Whether to write the seconds; by default as the checkpoint says.
            padding_side: Where shorter prompts are filled, "left" (as generation needs) or "right".
            device: Where the features are computed and all tensors lie; by default where the audio lies.
            audio: The recordings in the form of transformers' processors, instead of ``audios``: one, or
                those of all prompts in one list, in order; a question without a span takes one of them.
            sampling_rate: The recordings', in Hz; where given it must be 16,000.
            padding: True or "longest": prompts are filled to the longest, which is all that is done here.
            return_tensors: "pt" or None; both give torch tensors.

        Returns:
            ``input_ids``, ``attention_mask`` (int64) and ``audio_input_mask`` (bool), each ``[B, L]``; with
            audio also ``audio_data`` bfloat16 ``[n_audio, 128, most_frames]`` and ``audio_data_seqlens``
            int64 ``[n_audio]``, in frames, the recordings of all prompts in row order.

        Raises:
            PromptError: The texts and their audio do not fit together, or another form is asked for.
            AudioError: A recording cannot be used.
        """
        _check_tensors(return_tensors)
        if padding_side not in ("left", "right"):
            raise PromptError(f"padding_side must be 'left' or 'right', not {padding_side!r}.")
        if padding not in (True, False, "longest"):
            raise PromptError(
                f"Prompts are filled to the longest of a batch; padding={padding!r} is not offered."
            )
        if audio is not None:
            if audios is not None:
                raise PromptError("Give the recordings as audio or as audios, not as both.")
            audios = _by_prompt(text, audio)
        requests = [(_as_prompt(asked, waves), waves) for asked, waves in _requests(text, audios)]
        for prompt, recordings in requests:
            _check_spans(prompt, len(recordings))
        features: dict[str, torch.Tensor] = {}
        frames: list[int] = []
        if waves := _waveforms([recordings for _, recordings in requests]):
            features = dict(self.feature_extractor(waves, sampling_rate, device))
            frames = features["audio_data_seqlens"].tolist()
        encoded = []
        for prompt, recordings in requests:
            lengths, frames = frames[: len(recordings)], frames[len(recordings) :]
            encoded.append(self.encode(prompt, [token_count(length) for length in lengths], time_markers))
        batch = _pad(encoded, self.tokens.endoftext, padding_side == "left")
        place = features["audio_data"].device if features else torch.device(device or "cpu")
        return BatchFeature({name: tensor.to(place) for name, tensor in (batch | features).items()})

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
            audio += [False, *(number == self.tokens.audio for number in span), False, *[False] * len(text)]
        return EncodedPrompt(ids, audio)

    def text_ids(self, text: str) -> list[int]:
        """Ids of a piece of text, its control strings as their own tokens, nothing added."""
        return self.tokenizer.encode(text, add_special_tokens=False, verbose=False) if text else []

    def chat(
        self,
        messages: Conversation,
        tools: Sequence[Mapping[str, Any]] | None = None,
        thinking: bool | None = None,
    ) -> Prompt:
        """A conversation as a complete prompt, with the assistant's next turn opened.

        The short form of ``apply_chat_template``.

        Args:
            messages: ``{"role": "system" | "user" | "assistant" | "tool", "content": …}`` in order. A user's
                content may be a list of parts, ``{"type": "text", "text": …}`` and ``{"type": "audio"}``; an
                assistant's message may hold ``tool_calls`` and ``reasoning_content``.
            tools: Function definitions in OpenAI's form.
            thinking: False tells the model to answer without thinking; None leaves it to the model.

        Raises:
            PromptError: A message cannot be used.
        """
        return self._written(messages, tools, thinking, _Template(add_generation_prompt=True))

    def apply_chat_template(
        self,
        conversation: Conversation | Sequence[Conversation],
        chat_template: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        tokenize: bool = False,
        return_dict: bool = False,
        return_tensors: str | None = None,
        enable_thinking: bool | None = None,
        processor_kwargs: Mapping[str, Any] | None = None,
        **variables: Any,
    ) -> Any:
        """Conversations as prompts, or as the model's input.

        Written by the checkpoint's own chat template where it has one, else in Qwen3's format. Unlike in
        transformers, control strings within the messages are broken (see ``escape``): no text can end its
        turn or ask for audio.

        Args:
            conversation: Messages as for ``chat``, or a list of conversations. An audio part may hold its
                recording, as samples or as the path of a file: ``{"type": "audio", "audio": …}`` (or
                ``"path"``), which is read only with ``tokenize``.
            chat_template: A Jinja template, or the name of one of the checkpoint's, instead of its default.
            tools: Function definitions in OpenAI's form.
            add_generation_prompt: Open the assistant's next turn.
            continue_final_message: Leave the last message's turn open, so that the model goes on with it.
            tokenize: Return the model's input instead of text.
            return_dict: With ``tokenize``, all of the input, see ``__call__``; else ``input_ids`` alone.
            return_tensors: "pt" or None; both give torch tensors.
            enable_thinking: False tells the model to answer without thinking; None leaves it to the model.
            processor_kwargs: More for ``__call__``: ``time_markers``, ``padding_side``, ``device``, ….
            **variables: More for the template; names that ``__call__`` knows go there instead.

        Returns:
            A ``Prompt`` for each conversation, or the input of all of them.

        Raises:
            PromptError: A message cannot be used.
            AudioError: A recording cannot be used.
        """
        call = {name: variables.pop(name) for name in _CALL_OPTIONS if name in variables}
        template = _Template(chat_template, add_generation_prompt, continue_final_message, variables)
        several = bool(conversation) and not isinstance(conversation[0], Mapping)
        conversations: Any = conversation if several else [conversation]
        prompts = [self._written(messages, tools, enable_thinking, template) for messages in conversations]
        if not tokenize:
            return prompts if several else prompts[0]
        batch = self(
            prompts,
            [list(_recordings(messages)) for messages in conversations],
            return_tensors=return_tensors,
            **{**call, **(processor_kwargs or {})},
        )
        return batch if return_dict else batch["input_ids"]

    def _written(
        self,
        messages: Conversation,
        tools: Sequence[Mapping[str, Any]] | None,
        thinking: bool | None,
        template: _Template,
    ) -> Prompt:
        """One conversation as text."""
        if template.add_generation_prompt and template.continue_final_message:
            raise PromptError(
                "The last message is continued or a new turn is opened; give continue_final_message or "
                "add_generation_prompt, not both."
            )
        cleaned = clean_messages(messages, self.escape)
        definitions = defused_json(list(tools), self.escape) if tools else None
        if not (template.template or self.chat_template):
            text = render_chat(cleaned, definitions, thinking, template.add_generation_prompt)
            if not template.continue_final_message:
                return Prompt(text)
            return Prompt(text.rstrip("\n").removesuffix(ANSWER_CLOSE))
        switch = {} if thinking is None else {"enable_thinking": thinking}
        try:
            text = self.tokenizer.apply_chat_template(
                cleaned,
                chat_template=template.template,
                tools=definitions,
                tokenize=False,
                add_generation_prompt=template.add_generation_prompt,
                continue_final_message=template.continue_final_message,
                **switch,
                **template.variables,
            )
        except Exception as error:  # a template may raise whatever it likes
            raise PromptError(f"The checkpoint's chat template refused the conversation: {error}") from error
        return Prompt(text)

    def escape(self, text: str) -> str:
        """Text of others made harmless: its control strings (``<|im_end|>``, an audio span) are broken.

        ``chat`` and ``apply_chat_template`` do this by themselves. Use it before text that was heard, read or
        typed is put into a prompt by hand.
        """
        return defuse(text, self._control)

    def decode(
        self,
        token_ids: Sequence[int] | torch.Tensor,
        skip_special_tokens: bool = True,
        clean_up_tokenization_spaces: bool = False,
    ) -> str:
        """Text of generated ids.

        Args:
            token_ids: int64 ``[L]``.
            skip_special_tokens: Leave out control tokens and audio; ``<think>`` stays. This is the default
                here, unlike in transformers.
            clean_up_tokenization_spaces: See transformers.
        """
        numbers = token_ids.tolist() if isinstance(token_ids, torch.Tensor) else list(token_ids)
        if skip_special_tokens:
            own = {self.tokens.audio, self.tokens.start, self.tokens.end}
            numbers = [number for number in numbers if number not in own]
        return self.tokenizer.decode(
            numbers,
            skip_special_tokens=skip_special_tokens,
            clean_up_tokenization_spaces=clean_up_tokenization_spaces,
        )

    def batch_decode(
        self,
        sequences: Sequence[Sequence[int]] | torch.Tensor,
        skip_special_tokens: bool = True,
        **options: Any,
    ) -> list[str]:
        """Text of each row of ids ``[B, L]``; see ``decode``."""
        return [self.decode(row, skip_special_tokens, **options) for row in sequences]

    @cached_property
    def _control(self) -> tuple[str, ...]:
        """Strings with a meaning in a prompt: the tokenizer's control tokens and the parts of a span."""
        added = self.tokenizer.added_tokens_decoder.values()
        named = [token.content for token in added if token.special or token.content.startswith("<|")]
        return (AUDIO_START, AUDIO, AUDIO_END, *named)


_CALL_OPTIONS = ("time_markers", "padding_side", "device", "sampling_rate", "padding")
"""Options of ``__call__`` that are usually given to ``apply_chat_template`` as they are."""


@dataclass(frozen=True)
class _Template:
    """How conversations are written, see ``apply_chat_template``."""

    template: str | None = None
    add_generation_prompt: bool = False
    continue_final_message: bool = False
    variables: Mapping[str, Any] = field(default_factory=dict)


def _recordings(messages: Conversation) -> Iterator[Wave]:
    """The recordings that the audio parts of a conversation hold, in order."""
    for index, message in enumerate(messages):
        content = message.get("content")
        for part in content if isinstance(content, list | tuple) else ():
            if part.get("type") == "audio":
                yield _recording(part, index)


def _recording(part: Mapping[str, Any], index: int) -> Wave:
    given = next((part[name] for name in ("audio", "path", "url") if part.get(name) is not None), None)
    if isinstance(given, np.ndarray | torch.Tensor):
        return given
    if not isinstance(given, str | Path):
        raise PromptError(
            f"An audio part of message {index + 1} holds no recording; give its samples or its file's path "
            'as "audio", or leave out tokenize and give the recordings to the processor.'
        )
    if "://" in str(given):
        raise PromptError(f"Message {index + 1} names {given}; nothing is downloaded here, give a file.")
    from moss_audio.audio import load_audio  # needs a decoder, which samples do not

    return load_audio(given)


def _check_tensors(return_tensors: str | None) -> None:
    if return_tensors not in (None, "pt"):
        raise PromptError(f'Only torch tensors are returned ("pt"), not {return_tensors!r}.')


def _by_prompt(text: str | Sequence[str], audio: Any) -> Any:
    """Recordings in one list, or one alone, as a list for each prompt."""
    if isinstance(audio, np.ndarray | torch.Tensor):
        audio = [audio]
    if isinstance(text, str):
        return audio
    if not isinstance(audio, list | tuple) or not all(
        isinstance(wave, np.ndarray | torch.Tensor) for wave in audio
    ):
        return audio
    places = [len(split_at_spans(prompt)) - 1 for prompt in text]
    places = [n or int(not isinstance(prompt, Prompt)) for n, prompt in zip(places, text, strict=True)]
    if sum(places) != len(audio):
        raise PromptError(
            f"The prompts have places for {sum(places)} recordings, but {len(audio)} were given."
        )
    waves = iter(audio)
    return [list(islice(waves, n)) for n in places]


def _requests(text: str | Sequence[str], audios: Any) -> list[tuple[str, list[Wave]]]:
    """Each prompt with its recordings."""
    if isinstance(text, str):
        return [(text, _audio_list(audios))]
    if not isinstance(text, list | tuple) or not all(isinstance(prompt, str) for prompt in text):
        raise PromptError("The prompt must be a text, or a list of texts.")
    if not text:
        raise PromptError("There is no prompt; give at least one text.")
    if audios is None:
        return [(prompt, []) for prompt in text]
    if not isinstance(audios, list | tuple) or any(
        isinstance(waves, np.ndarray | torch.Tensor) for waves in audios
    ):
        raise PromptError("For a list of prompts, give the audio as one list of recordings for each prompt.")
    if len(audios) != len(text):
        raise PromptError(f"There are {len(text)} prompts, but audio for {len(audios)}.")
    return [(prompt, _audio_list(waves)) for prompt, waves in zip(text, audios, strict=True)]


def _audio_list(audios: Any) -> list[Wave]:
    if audios is None:
        return []
    if not isinstance(audios, list | tuple):
        raise PromptError("The audio of a prompt must be a list of recordings; for one, write [recording].")
    if not all(isinstance(wave, np.ndarray | torch.Tensor) for wave in audios):
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
    shape = len(prompts), max(len(prompt.ids) for prompt in prompts)
    ids = torch.full(shape, padding, dtype=torch.int64)
    attention = torch.zeros(shape, dtype=torch.int64)
    audio = torch.zeros(shape, dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        first = shape[1] - len(prompt.ids) if left else 0
        place = slice(first, first + len(prompt.ids))
        ids[row, place] = torch.tensor(prompt.ids, dtype=torch.int64)
        attention[row, place] = 1
        audio[row, place] = torch.tensor(prompt.audio, dtype=torch.bool)
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
