"""The model alone: how fast it hears, and how fast it writes beside plain transformers.

Weights are random: speed does not depend on them. The encoder hears noise. Writing is greedy, batch 1, and
measured in turns with transformers' own Qwen3 on the same decoder weights and the same prompt; both must
write the same ids. On a GPU the 8B configuration is measured in bfloat16 as well: hearing 60 s and 600 s,
the time to the first token for ten minutes of audio, and memory.

    python -m benchmarks.model [--turns N] [--device cpu|cuda] [--configs tiny,mid,8b]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from benchmarks.common import show, switch_off_telemetry

switch_off_telemetry()

import torch
from transformers import Qwen3ForCausalLM

from benchmarks.random_models import build
from moss_audio.model.mel import SAMPLE_RATE, log_mel, token_count
from moss_audio.model.modeling import MossAudioModel
from moss_audio.model.processor import AudioTokens, audio_span

PROMPT_TOKENS = 128
NEW_TOKENS = 48
NO_GPU = "no GPU on this machine"


def seconds(work: Callable[[], object], device: str) -> float:
    """Wall time of some work, the GPU's queue emptied."""
    if device == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def hear(model: MossAudioModel, audio_seconds: int, turns: int, device: str) -> float:
    """× realtime from the waveform to the decoder's input: features, encoder, adapter, projections."""
    wave = 0.1 * torch.randn(audio_seconds * SAMPLE_RATE, device=device)

    def work() -> None:
        mel, frames = log_mel([wave])
        with torch.inference_mode():
            model.encode_audio(mel, frames)

    seconds(work, device)
    return audio_seconds / statistics.median(seconds(work, device) for _ in range(turns))


def plain_decoder(model: MossAudioModel) -> Qwen3ForCausalLM:
    """transformers' own Qwen3 over the same tensors, not a copy."""
    with torch.device("meta"):
        plain = Qwen3ForCausalLM(model.config.language_config)
    state = {f"model.{name}": tensor for name, tensor in model.language_model.state_dict().items()}
    plain.load_state_dict({**state, "lm_head.weight": model.lm_head.weight}, assign=True)
    plain.model.rotary_emb = type(plain.model.rotary_emb)(model.config.language_config).to(model.device)
    return plain.eval()


def write(model: MossAudioModel, turns: int, device: str) -> tuple[float, float, bool]:
    """Tokens a second of ours and of plain transformers, in turns, and whether both wrote the same."""
    plain = plain_decoder(model)
    ids = torch.randint(0, model.config.vocab_size - 1, (1, PROMPT_TOKENS), device=device)
    options = {
        "do_sample": False,
        "min_new_tokens": NEW_TOKENS,
        "max_new_tokens": NEW_TOKENS,
        "pad_token_id": 0,
    }
    written: dict[str, list[int]] = {}

    def run(name: str, decoder: MossAudioModel | Qwen3ForCausalLM, new: int) -> float:
        def work() -> None:
            out = decoder.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids),
                **{**options, "min_new_tokens": new, "max_new_tokens": new},
            )  # fmt: skip
            written[f"{name}{new}"] = out[0].tolist()

        return seconds(work, device)

    def tokens_per_second(name: str, decoder: MossAudioModel | Qwen3ForCausalLM) -> float:
        # The prompt's share is taken off, so that only decoding is left.
        return (NEW_TOKENS - 1) / (run(name, decoder, NEW_TOKENS) - run(name, decoder, 1))

    run("ours", model, 2)
    run("plain", plain, 2)
    pairs = [(tokens_per_second("ours", model), tokens_per_second("plain", plain)) for _ in range(turns)]
    same = written[f"ours{NEW_TOKENS}"] == written[f"plain{NEW_TOKENS}"]
    ours, others = zip(*pairs, strict=True)
    return statistics.median(ours), statistics.median(others), same


def first_token(model: MossAudioModel, audio_seconds: int, device: str) -> tuple[float, float]:
    """Seconds from the waveform to the first token, and the GPU's peak memory in GB."""
    wave = 0.1 * torch.randn(audio_seconds * SAMPLE_RATE, device=device)
    audio = model.config.audio_token_id
    tokens = AudioTokens(audio=audio)
    span = audio_span(token_count(audio_seconds * 100), tokens)
    ids = torch.tensor([[1, 2, 3, *span, 4, 5, 6]], device=device)

    def work() -> None:
        mel, frames = log_mel([wave])
        with torch.inference_mode():
            model(
                input_ids=ids, audio_data=mel, audio_data_seqlens=frames, audio_input_mask=ids == audio,
                logits_to_keep=1,
            )  # fmt: skip

    work()
    torch.cuda.reset_peak_memory_stats()
    return seconds(work, device), torch.cuda.max_memory_allocated() / 1e9


def measure(name: str, turns: int, device: str) -> dict[str, object]:
    """One row of the table."""
    row: dict[str, object] = {"configuration": name, "device": device}
    if name == "8b" and device != "cuda":
        return row | {"note": NO_GPU}
    model = build(name, device)
    row["million parameters"] = round(sum(weight.numel() for weight in model.parameters()) / 1e6, 1)
    row["hearing 60 s, × realtime"] = round(hear(model, 60, turns, device), 1)
    if device == "cuda":
        row["hearing 600 s, × realtime"] = round(hear(model, 600, turns, device), 1)
    ours, plain, same = write(model, turns, device)
    row |= {"tokens/s": round(ours, 1), "plain tokens/s": round(plain, 1), "ratio": round(ours / plain, 2)}
    row["same ids"] = same
    if device == "cuda":
        taken, memory = first_token(model, 600, device)
        row |= {"first token of 600 s, s": round(taken, 3), "peak GB": round(memory, 1)}
    return row


COLUMNS = (
    "configuration", "device", "million parameters", "hearing 60 s, × realtime", "hearing 600 s, × realtime",
    "tokens/s", "plain tokens/s", "ratio", "same ids", "first token of 600 s, s", "peak GB", "note",
)  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--configs", default="tiny,mid,8b")
    options = parser.parse_args()
    found = [measure(name, options.turns, options.device) for name in options.configs.split(",")]
    rows = [{column: row.get(column, "") for column in COLUMNS} for row in found]
    show("The model alone", rows, {"rows": found})


if __name__ == "__main__":
    main()
