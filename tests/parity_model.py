"""Parity of the model: from the wave up, and each stage alone from what the case stores before it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from moss_audio.finetune import sequence
from moss_audio.model.mel import log_mel, token_count
from moss_audio.model.modeling import AudioFeatures, MossAudioModel, insert
from moss_audio.model.processor import AudioTokens, MossAudioProcessor
from tests.parity_report import ABOUT_THE_RECORDING, FEATURES, GRADIENT, LOGITS, LOSS, Case, Report


def check_model(folder: Path, report: Report) -> None:
    """Run a case with weights."""
    case = Case(folder)
    tokens = _tokens(case.meta)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer_small.json"))
    processor = MossAudioProcessor(tokenizer, tokens=tokens)
    model = MossAudioModel.from_pretrained(folder, dtype=torch.float32)
    for item, about in case.meta["items"].items():
        check_item(case, processor, model, item, about, report)
    if "sft" in case.meta:
        for name in case.meta["sft"].keys() - {"samples", "prompt_default"}:
            report.error(f"sft {name}", "an entry this runner does not know")
        for item, about in case.meta["sft"]["samples"].items():
            check_training(case, processor, model, item, about, report)
    whole = whole_audio(model)
    for item, about in case.meta["items"].items():
        check_full(case, processor, whole, item, about, report)
    for name in case.unknown():
        report.error(name, "a tensor this runner does not know")
    known = {"items", "sft", "audio_token_ids"} | ABOUT_THE_RECORDING
    for name in case.meta.keys() - known:
        report.error(f"meta {name}", "an entry this runner does not know")


def check_item(
    case: Case,
    processor: MossAudioProcessor,
    model: MossAudioModel,
    item: str,
    about: dict[str, Any],
    report: Report,
) -> None:
    """One prompt with its audio, from the wave up, and each stage alone."""
    waves = list(_waves(case, item))
    inputs = processor(about["text"], waves or None)
    check_inputs(case, inputs, waves, item, about, report)
    features = check_features(case, inputs, model, item, report) if waves else None
    prompt = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"]}
    if waves:
        names = ("audio_data", "audio_data_seqlens", "audio_input_mask")
        prompt |= {name: inputs[name] for name in names}
    with torch.no_grad():
        logits = model(**prompt).logits[0]
        if (wanted := case.take(f"{item}.inputs_embeds")) is not None:
            embeds = model.get_input_embeddings()(inputs["input_ids"])
            if features is not None:
                embeds = insert(embeds, inputs["audio_input_mask"], features.embeds)
            report.close(f"{item}.inputs_embeds", embeds[0], wanted, FEATURES)
        if (wanted := case.take(f"{item}.logits")) is not None:
            report.close(f"{item}.logits", logits, wanted, LOGITS)
            alone = _logits_of_stored(case, model, item)
            report.close(f"{item}.logits from the stored stages", alone, wanted, LOGITS)
    known = {"text", "n_audio", "mel_frames", "audio_tokens", "samples", "prompt_len"}
    generation = {"generated_ids", "min_top2_gap"}
    check_generation(case, model, prompt, item, about, report)
    full = {f"full_{name}" for name in generation}
    for name in about.keys() - known - generation - full:
        report.error(f"{item} {name}", "an entry this runner does not know")


def check_inputs(
    case: Case, inputs: Any, waves: Sequence[torch.Tensor], item: str, about: dict[str, Any], report: Report
) -> None:
    """Ids, masks, features and counts."""
    if (wanted := case.take(f"{item}.input_ids")) is not None:
        report.same(f"{item}.input_ids", inputs["input_ids"][0], wanted)
    if (wanted := case.take(f"{item}.audio_input_mask")) is not None:
        report.same(f"{item}.audio_input_mask", inputs["audio_input_mask"][0], wanted)
    if (wanted := case.take(f"{item}.audio_data")) is not None:
        data = inputs["audio_data"][0] if wanted.ndim == 2 else inputs["audio_data"]
        report.bfloat16(f"{item}.audio_data", data, wanted)
    frames = inputs["audio_data_seqlens"].tolist() if waves else []
    counts = {
        "n_audio": len(waves),
        "mel_frames": frames[0] if len(frames) == 1 else frames,
        "audio_tokens": sum(token_count(count) for count in frames),
        "samples": sum(wave.shape[0] for wave in waves),
        "prompt_len": inputs["input_ids"].shape[1],
    }
    for name, found in counts.items():
        if name in about:
            report.same(f"{item} {name}", found, about[name])


def check_features(
    case: Case, inputs: Any, model: MossAudioModel, item: str, report: Report
) -> AudioFeatures:
    """Encoder, taps, adapter and projections: from the wave, and from the stored stage before."""
    stored = case.take(f"{item}.audio_data")
    with torch.no_grad():
        for source, mel, frames in _mels(inputs, stored):
            stages = _stages(model, {"audio_data": mel, "audio_data_seqlens": frames})
            for name, found in stages.items():
                if (wanted := case.take(f"{item}.{name}")) is not None:
                    report.close(f"{item}.{name} from {source}", found, wanted, FEATURES)
        hidden = case.take(f"{item}.enc.last_hidden_state")
        if hidden is not None and (wanted := case.take(f"{item}.adapter")) is not None:
            report.close(f"{item}.adapter alone", model.audio_adapter(hidden), wanted, FEATURES)
        for i, merger in enumerate(model.deepstack_audio_merger_list):
            tap = case.take(f"{item}.enc.deepstack.{i}")
            if tap is not None and (wanted := case.take(f"{item}.merger.{i}")) is not None:
                report.close(f"{item}.merger.{i} alone", merger(tap), wanted, FEATURES)
        return model.encode_audio(inputs["audio_data"], inputs["audio_data_seqlens"])


def check_generation(
    case: Case, model: MossAudioModel, prompt: dict[str, torch.Tensor], item: str, about: dict[str, Any],
    report: Report, prefix: str = "",
) -> None:  # fmt: skip
    """Greedy ids, and how far the best token was ahead of the second."""
    stored = case.take(f"full.{item}.generated_ids" if prefix else f"{item}.generated_ids")
    wanted = stored.tolist() if stored is not None else about.get(f"{prefix}generated_ids")
    if wanted is None:
        if f"{prefix}min_top2_gap" in about:
            report.error(f"{prefix}{item} min_top2_gap", "a gap without ids")
        return
    out = model.generate(
        **prompt, max_new_tokens=len(wanted), do_sample=False, eos_token_id=None, pad_token_id=0,
        output_logits=True, return_dict_in_generate=True,
    )  # fmt: skip
    found = out.sequences[0, prompt["input_ids"].shape[1] :]
    report.same(f"{prefix}{item} generated_ids", found, wanted)
    if f"{prefix}generated_ids" in about:
        report.same(f"{prefix}{item} generated_ids in meta", found, about[f"{prefix}generated_ids"])
    if f"{prefix}min_top2_gap" in about:
        best = torch.cat(out.logits).topk(2).values
        gap = float((best[:, 0] - best[:, 1]).min())
        report.close(f"{prefix}{item} min_top2_gap", gap, about[f"{prefix}min_top2_gap"], LOGITS)


def check_full(
    case: Case,
    processor: MossAudioProcessor,
    whole: MossAudioModel,
    item: str,
    about: dict[str, Any],
    report: Report,
) -> None:
    """The same with one window over the whole audio, where the case stores it."""
    stored = [name for name in case.tensors if name.startswith(f"full.{item}.")]
    if not stored and not any(name.startswith("full_") for name in about):
        return
    inputs = processor(about["text"], list(_waves(case, item)) or None)
    prompt = {name: inputs[name] for name in inputs}
    with torch.no_grad():
        stages = _stages(whole, inputs) if "audio_data" in inputs else {}
        logits = whole(**prompt).logits[0]
    for name, found in stages.items():
        if (wanted := case.take(f"full.{item}.{name}")) is not None:
            report.close(f"full.{item}.{name}", found, wanted, FEATURES)
    if (wanted := case.take(f"full.{item}.logits")) is not None:
        report.close(f"full.{item}.logits", logits, wanted, LOGITS)
    if (wanted := case.take(f"full.{item}.last_logits")) is not None:
        report.close(f"full.{item}.last_logits", logits[-len(wanted) :], wanted, LOGITS)
    check_generation(case, whole, prompt, item, about, report, prefix="full_")


def check_training(
    case: Case,
    processor: MossAudioProcessor,
    model: MossAudioModel,
    item: str,
    about: dict[str, Any],
    report: Report,
) -> None:
    """One fine-tuning sequence: ids, labels, loss, the norm of every gradient."""
    waves = list(_waves(case, item))
    conversation = [
        {"role": "user", "message_type": "audio", "content": waves[0]},
        {"role": "user", "message_type": "text", "content": about["prompt"] or ""},
        {"role": "assistant", "message_type": "text", "content": about["answer"]},
    ]
    default = case.meta["sft"].get("prompt_default", "")
    example = sequence(conversation, processor, time_markers=False, prompt_default=default)
    ids, labels = example.input_ids, example.labels
    for name, found in (("input_ids", ids), ("labels", labels)):
        if (wanted := case.take(f"sft.{item}.{name}")) is not None:
            report.same(f"sft.{item}.{name}", found, wanted)
    mel, frames = log_mel(waves)
    model.zero_grad()
    loss = model(
        input_ids=ids[None], labels=labels[None], audio_data=mel, audio_data_seqlens=frames,
        audio_input_mask=example.audio_input_mask[None],
    ).loss  # fmt: skip
    loss.backward()
    norms = {
        name: parameter.grad.norm()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    report.close(f"sft.{item} loss", loss, about["loss"], LOSS)
    report.same(f"sft.{item} supervised_tokens", int((labels != -100).sum()), about["supervised_tokens"])
    report.same(f"sft.{item} length", len(ids), about["length"])
    total = torch.stack(list(norms.values())).norm()
    report.close(f"sft.{item} grad_norm_total", total, about["grad_norm_total"], GRADIENT)
    report.same(f"sft.{item} parameters with a gradient", sorted(norms), sorted(about["grad_norms"]))
    for name, wanted in about["grad_norms"].items():
        report.close(
            f"sft.{item} gradient of {name}", norms.get(name, torch.tensor(float("nan"))), wanted, GRADIENT
        )
    without = [name for name, entry in model.named_parameters() if entry.grad is None]
    report.same(
        f"sft.{item} params_without_grad", sorted(without), sorted(about.get("params_without_grad", []))
    )
    known = {"prompt", "answer", "loss", "supervised_tokens", "length", "grad_norm_total", "grad_norms"}
    for name in about.keys() - known - {"params_without_grad"}:
        report.error(f"sft.{item} {name}", "an entry this runner does not know")
    model.zero_grad()


def whole_audio(model: MossAudioModel) -> MossAudioModel:
    """The same weights with one window over the whole audio, through a configuration that was saved."""
    with tempfile.TemporaryDirectory() as folder:
        model.config.save_pretrained(folder)
        config = type(model.config).from_pretrained(folder)
    config.audio_config.n_window = None
    whole = MossAudioModel(config).eval()
    whole.load_state_dict(model.state_dict())
    return whole


def _stages(model: MossAudioModel, inputs: Any) -> dict[str, torch.Tensor]:
    """What the encoder, its taps, the adapter and the projections give, by the names of the recording."""
    mel, frames = inputs["audio_data"], inputs["audio_data_seqlens"]
    encoded, features = model.audio_encoder(mel, frames), model.encode_audio(mel, frames)
    stages = {"enc.last_hidden_state": encoded.tokens, "adapter": features.embeds}
    stages |= {f"enc.deepstack.{i}": item for i, item in enumerate(encoded.taps)}
    return stages | {f"merger.{i}": entry for i, entry in enumerate(features.deepstack)}


def _logits_of_stored(case: Case, model: MossAudioModel, item: str) -> torch.Tensor | None:
    """Logits from the recorded embeddings and projections, so that only the decoder is at work."""
    embeds, mask = case.take(f"{item}.inputs_embeds"), case.take(f"{item}.audio_input_mask")
    if embeds is None:
        return torch.empty(0)
    if mask is None:
        return model(inputs_embeds=embeds[None]).logits[0]
    rows = [case.take(f"{item}.merger.{i}") for i in range(len(model.deepstack_audio_merger_list))]
    features = AudioFeatures(embeds=embeds[mask], deepstack=tuple(row for row in rows if row is not None))
    return model(inputs_embeds=embeds[None], audio_features=features, audio_input_mask=mask[None]).logits[0]


def _mels(inputs: Any, stored: torch.Tensor | None) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    if stored is not None:
        data = stored if stored.ndim == 3 else stored[None]
        frames = inputs["audio_data_seqlens"]
        yield (
            "the stored features",
            data,
            frames if len(frames) == len(data) else torch.tensor([data.shape[-1]]),
        )
    yield "the wave", inputs["audio_data"], inputs["audio_data_seqlens"]


def _waves(case: Case, item: str) -> Iterator[torch.Tensor]:
    """The item's clips: ``<item>.wave``, or ``<item>.wave.0``, ``<item>.wave.1``, …"""
    if (wave := case.take(f"{item}.wave")) is not None:
        yield wave
    number = 0
    while (wave := case.take(f"{item}.wave.{number}")) is not None:
        yield wave
        number += 1


def _tokens(meta: dict[str, Any]) -> AudioTokens:
    """Ids of the small vocabulary: the three text controls follow the 256 bytes."""
    ids = meta["audio_token_ids"]
    return AudioTokens(
        audio=ids["audio"], start=ids["start"], end=ids["end"], endoftext=256, im_start=257, im_end=258
    )
