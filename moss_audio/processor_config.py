"""What ``processor_config.json`` of a checkpoint says: audio ids, time markers, features.

The features are not configurable here. A checkpoint that asks for others is refused, since it would hear
something else than it was trained on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moss_audio.errors import CheckpointError
from moss_audio.mel import HOP_LENGTH, N_FFT, N_MELS, SAMPLE_RATE
from moss_audio.tokenizer import read_json
from moss_audio.tokens import RELEASED, AudioTokens

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
