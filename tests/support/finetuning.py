"""Data to fine-tune the tiny model on: real speech, from the recorded parity set."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
import torch
from safetensors.torch import load_file

from moss_audio.model.processor import MossAudioProcessor
from tests.support.moss_tokenizer import PARITY, SMALL, tokenizer

Wave = torch.Tensor


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """So small a model gains nothing by a second thread, and loses much where others want the processor."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small_processor(time_markers: bool = True) -> MossAudioProcessor:
    """Of the tiny model."""
    return MossAudioProcessor(tokenizer("v1_core/tokenizer_small.json"), time_markers, SMALL)


def speech() -> dict[str, Wave]:
    """Spoken clips, int16 at 16 kHz: a 6.3 s, b 1.2 s, c 2.0 s, d 0.3 s."""
    first = load_file(PARITY / "v1_core" / "io.safetensors")
    second = load_file(PARITY / "v2_processor" / "io.safetensors")
    return {
        "a": first["a.wave"],
        "b": first["b.wave"],
        "c": second["speech_a.wave"],
        "d": second["speech_b.wave"],
    }


def messages(audio: object, answer: str, prompt: str = "Transcribe the audio.") -> list[dict]:
    """One conversation in the format of the data files."""
    return [
        {"role": "user", "message_type": "audio", "content": audio},
        {"role": "user", "message_type": "text", "content": prompt},
        {"role": "assistant", "message_type": "text", "content": answer},
    ]


ANSWERS = {"a": "It is a speech.", "b": "Hello there, you.", "c": "Two seconds of it.", "d": "Oh."}


def write_data(folder: Path, names: str = "abcd") -> Path:
    """A data file with its recordings beside it."""
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    lines = []
    for name in names:
        soundfile.write(folder / "clips" / f"{name}.wav", speech()[name].numpy(), 16_000)
        lines.append(json.dumps({"conversation": messages(f"clips/{name}.wav", ANSWERS[name])}))
    data = folder / "data.jsonl"
    data.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return data
