"""Parity of the processor: features, placeholders, prompts, fine-tuning sequences, refusals."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from moss_audio.errors import MossAudioError
from moss_audio.finetune import cut, sequence
from moss_audio.finetune.training_data import IGNORED
from moss_audio.model.chat_template import default_prompt
from moss_audio.model.mel import log_mel_float32, token_count
from moss_audio.model.processor import MossAudioProcessor, audio_span
from tests.parity_report import ABOUT_THE_RECORDING, MEL, Case, Report


def check_processor(folder: Path, report: Report) -> None:
    """Run a case without weights."""
    case = Case(folder)
    processor = MossAudioProcessor(PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json")))
    meta = case.meta
    check_scaffold(meta, processor, report)
    for wave, about in meta.get("mel", {}).items():
        check_mel(case, wave, about, report)
    for count, about in meta.get("placeholders", {}).items():
        check_placeholders(int(count), about, report)
    for number, about in enumerate(meta.get("prompts", [])):
        check_prompt(case, processor, number, about, report)
    for number, about in enumerate(meta.get("sft", [])):
        check_sequence(case, processor, number, about, report)
    for about in meta.get("errors", []):
        check_refusal(processor, about["input"], report)
    for name in case.unknown():
        report.error(name, "a tensor this runner does not know")
    known = {
        "special_ids",
        "default_prompt_with_audio",
        "default_prompt_without_audio",
        "mel",
        "placeholders",
    }
    for name in meta.keys() - known - {"prompts", "sft", "errors"} - ABOUT_THE_RECORDING:
        report.error(f"meta {name}", "an entry this runner does not know")


def check_scaffold(meta: dict[str, Any], processor: MossAudioProcessor, report: Report) -> None:
    """Special ids and the default prompts."""
    ids, tokens = meta.get("special_ids", {}), processor.tokens
    found = {
        "<|endoftext|>": tokens.endoftext,
        "<|im_start|>": tokens.im_start,
        "<|im_end|>": tokens.im_end,
        "audio": tokens.audio,
        "audio_start": tokens.start,
        "audio_end": tokens.end,
        "digits 0-9": list(tokens.digits),
        "newline": processor.text_ids("\n")[0],
    }
    for name, wanted in ids.items():
        report.same(f"id of {name}", found.get(name), wanted)
    for name, audio in (("default_prompt_with_audio", True), ("default_prompt_without_audio", False)):
        if name in meta:
            report.same(name, str(default_prompt("{TEXT}", audio=audio)), meta[name])


def check_mel(case: Case, wave: str, about: dict[str, Any], report: Report) -> None:
    """Features before and after rounding."""
    clip = case.take(f"{wave}.wave")
    if clip is None:
        report.error(f"{wave}.wave", "is missing")
        return
    features, frames = log_mel_float32([clip])
    mel = features[0]
    counts = {
        "samples": clip.shape[0],
        "frames": int(frames),
        "audio_tokens": token_count(int(frames)),
        "mel_bfloat16_sha256": _hash(mel.to(torch.bfloat16)),
    }
    for name, wanted in about.items():
        if name in counts:
            report.same(f"{wave} {name}", counts[name], wanted)
        elif name in ("min", "max"):
            report.close(f"{wave} {name}", getattr(mel, name)(), wanted, MEL)
        else:
            report.error(f"{wave} {name}", "an entry this runner does not know")
    if (stored := case.take(f"{wave}.mel")) is not None:
        report.close(f"{wave}.mel", mel, stored, MEL)
    if (stored := case.take(f"{wave}.mel_cols")) is not None:
        report.close(f"{wave}.mel_cols", mel[:, ::7], stored, MEL)
    if (stored := case.take(f"{wave}.mel_frame_mean")) is not None:
        mean = mel.mean(0) if stored.shape[0] == mel.shape[1] else mel.mean(1)
        report.close(f"{wave}.mel_frame_mean", mean, stored, MEL)


def check_placeholders(count: int, about: dict[str, Any], report: Report) -> None:
    """The ids between start and end."""
    kinds = {"with_markers": True, "without_markers": False}
    for name, wanted in about.items():
        if name in kinds:
            report.same(
                f"{count} audio tokens {name}", audio_span(count, time_markers=kinds[name]), _spread(wanted)
            )
        elif name == "total":
            report.same(f"{count} audio tokens, total", len(audio_span(count)), wanted)
        else:
            report.error(f"{count} audio tokens {name}", "an entry this runner does not know")


def check_prompt(
    case: Case, processor: MossAudioProcessor, number: int, about: dict[str, Any], report: Report
) -> None:
    """A whole prompt with its recordings."""
    waves = [case.tensors[f"{name}.wave"] for name in about["waves"]]
    found = processor(about["text"], waves or None, time_markers=about["time_markers"])
    name = f"prompt {number}"
    report.same(f"{name} input_ids", found["input_ids"][0], _spread(about["input_ids"]))
    report.same(f"{name} length", found["input_ids"].shape[1], about["length"])
    seqlens = found["audio_data_seqlens"].tolist() if waves else None
    report.same(f"{name} seqlens", seqlens, about["seqlens"])
    for key in about.keys() - {"text", "waves", "time_markers", "input_ids", "length", "seqlens"}:
        report.error(f"{name} {key}", "an entry this runner does not know")


def check_sequence(
    case: Case, processor: MossAudioProcessor, number: int, about: dict[str, Any], report: Report
) -> None:
    """A fine-tuning sequence in the official form: no markers, cut and filled to its length."""
    clip = case.tensors[f"{about['wave']}.wave"]
    conversation = [
        message | ({"content": clip} if message["message_type"] == "audio" else {})
        for message in about["conversation"]
    ]
    whole = sequence(conversation, processor, time_markers=False, prompt_default=about["prompt_default"])
    example, name = cut(whole, about["max_len"]), f"sft {number}"
    fill = {
        "input_ids": processor.tokens.endoftext,
        "labels": IGNORED,
        "attention_mask": 0,
        "audio_input_mask": 0,
    }
    for key, value in fill.items():
        found = getattr(example, key).long()
        padded = F.pad(found, (0, about["max_len"] - len(found)), value=value)
        report.same(f"{name} {key}", padded, _spread(about[key]))
    report.same(f"{name} mel_frames", example.audio_data_seqlens, about["mel_frames"])
    report.same(f"{name} audio_data_dtype", str(example.audio_data.dtype), about["audio_data_dtype"])
    known = {"wave", "conversation", "max_len", "prompt_default", "mel_frames", "audio_data_dtype", *fill}
    for key in about.keys() - known:
        report.error(f"{name} {key}", "an entry this runner does not know")


def check_refusal(processor: MossAudioProcessor, what: str, report: Report) -> None:
    """What the official processor refuses is refused here as well, with a sentence; or does more."""
    clip = 0.1 * np.ones(1600, dtype=np.float32)
    span = "<|audio_bos|><|AUDIO|><|audio_eos|>"
    attempts: dict[str, tuple[Any, Any]] = {
        "fewer than 160 samples": ("Describe.", [clip[:159]]),
        "two audios with a prompt that contains no span": ("Describe.", [clip, clip]),
        "span in the text but no audio": (span, None),
        "no text and no template": (None, None),
    }
    if "list of two texts" in what:
        ids = processor(["one", "two longer"])["input_ids"]
        report.same(f"refusal lifted: {what}", ids.shape[0], 2)
        return
    attempt = next((value for name, value in attempts.items() if name in what), None)
    if attempt is None:
        report.error(f"refusal of {what}", "an input this runner does not know")
        return
    try:
        processor(*attempt)
    except MossAudioError as error:
        report.same(f"refusal of {what} ({error})", True, True)
    else:
        report.error(f"refusal of {what}", "it was taken")


def _spread(runs: Iterable[Sequence[int]]) -> list[int]:
    """Run-length encoded ids in full."""
    return [value for value, count in runs for _ in range(count)]


def _hash(rounded: torch.Tensor) -> str:
    return hashlib.sha256(rounded.contiguous().view(torch.int16).numpy().tobytes()).hexdigest()
