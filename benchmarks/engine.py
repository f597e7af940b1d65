"""The engine, beside transformers' ``generate`` on the same weights, and beside what memory allows.

For batches of 1, 8 and 64 prompts of equal length: time until all have their first token, time per output
token, tokens a second, and the share of the limit that reading all weights and the sequences' keys and
values once a step sets, with the bandwidth measured first. Then windows of a minute, as a transcription
asks for them, an hour of audio of them on a GPU. Weights are random. ``equal_to_plain``: a mixed batch gave
what ``generate`` gives each prompt alone (in bfloat16, on a GPU, near ties may fall either way).

    python -m benchmarks.engine [--quick] [--device cpu|cuda] [--config 8b|4b|mid]
"""

from __future__ import annotations

import argparse
import random
import statistics
import string
import time

from agent.privacy import switch_off_telemetry

switch_off_telemetry()

import torch  # noqa: E402
from transformers import StoppingCriteria, StoppingCriteriaList  # noqa: E402

from benchmarks.common import show  # noqa: E402
from benchmarks.random_models import build, with_processor  # noqa: E402
from moss_audio.answers import Options, Reply, Request  # noqa: E402
from moss_audio.engine import Engine, EngineOptions  # noqa: E402
from moss_audio.engine.cache import bytes_per_token  # noqa: E402
from moss_audio.generation import reply  # noqa: E402
from moss_audio.mel import SAMPLE_RATE  # noqa: E402
from moss_audio.model import MossAudioModel  # noqa: E402
from moss_audio.prompt import Prompt  # noqa: E402
from moss_audio.tasks import TASKS  # noqa: E402

BATCHES = (1, 8, 64)

TOKENS_A_MINUTE = 230
"""New tokens for a minute of speech with sentence times: 150 words, 14 sentences."""


def bandwidth(device: str, megabytes: int) -> float:
    """Bytes a second that can be read: a large sum, the best of several."""
    block = torch.ones(megabytes * 250_000, dtype=torch.float32, device=device)
    best = float("inf")
    for _ in range(5):
        synchronize(device)
        began = time.perf_counter()
        block.sum()
        synchronize(device)
        best = min(best, time.perf_counter() - began)
    return block.numel() * 4 / best


def synchronize(device: str) -> None:
    """Wait for a GPU."""
    if device == "cuda":
        torch.cuda.synchronize()


def prompts(count: int, context: int, chance: random.Random) -> list[Request]:
    """Prompts of ``context`` letters, a token each, no two alike, so that nothing is reused."""
    letters = string.ascii_letters
    return [Request(Prompt("".join(chance.choices(letters, k=context)))) for _ in range(count)]


def by_engine(engine: Engine, requests: list[Request], new: int) -> tuple[float, float]:
    """Seconds until all have their first token, and seconds a step after that."""
    before = engine.statistics().new_tokens
    began = time.perf_counter()
    tickets = [engine.submit(one, Options(max_new_tokens=new)) for one in requests]
    while engine.statistics().new_tokens - before < len(requests):
        time.sleep(0.0005)
    first = time.perf_counter()
    for one in tickets:
        one.result()
    return first - began, (time.perf_counter() - first) / (new - 1)


class Times(StoppingCriteria):
    """Notes when each token of ``generate`` was there; ends nothing."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def __call__(self, input_ids: torch.Tensor, scores: object, **_: object) -> torch.Tensor:
        """Called after each token."""
        if input_ids.is_cuda:
            torch.cuda.synchronize()
        self.seen.append(time.perf_counter())
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def by_generate(model: MossAudioModel, requests: list[Request], new: int) -> float:
    """Seconds a step of plain ``generate`` on the same kind of batch."""
    inputs = model.processor([one.prompt for one in requests], device=model.device)
    times = Times()
    model.generate(
        **inputs, do_sample=False, max_new_tokens=new, eos_token_id=None, pad_token_id=256,
        stopping_criteria=StoppingCriteriaList([times]),
    )  # fmt: skip
    return (times.seen[-1] - times.seen[0]) / (new - 1)


def measure(
    model: MossAudioModel, engine: Engine, size: int, context: int, new: int, turns: int, speed: float
) -> dict[str, float | int]:
    """One row: the engine and ``generate`` in turns."""
    chance = random.Random(size)
    firsts, rates, others = [], [], []
    for _ in range(turns):
        first, rate = by_engine(engine, prompts(size, context, chance), new)
        firsts.append(first)
        rates.append(rate)
        others.append(by_generate(model, prompts(size, context, chance), new))
    step = statistics.median(rates)
    weights = sum(one.numel() * one.element_size() for one in model.language_model.layers.parameters())
    weights += model.lm_head.weight.numel() * model.lm_head.weight.element_size()
    cached = size * (context + new // 2) * bytes_per_token(model.config.language_config, model.dtype)
    return {
        "size": size,
        "context": context,
        "ttft_ms": round(1000 * statistics.median(firsts), 1),
        "tpot_ms": round(1000 * step, 2),
        "tokens_per_s": round(size / step, 1),
        "share_of_limit": round((weights + cached) / speed / step, 3),
        "generate_tokens_per_s": round(size / statistics.median(others), 1),
    }


def transcribe(engine: Engine, seconds: int, window: int) -> float:
    """× realtime of windows asked for with the prompt of a transcription, all at once."""
    chance = torch.Generator().manual_seed(0)
    count = max(1, seconds // window)
    waves = [0.1 * torch.randn(window * SAMPLE_RATE, generator=chance) for _ in range(count)]
    options = Options(max_new_tokens=max(8, TOKENS_A_MINUTE * window // 60))
    began = time.perf_counter()
    tickets = [engine.submit(Request(TASKS["timestamps"].prompt, [one]), options) for one in waves]
    for one in tickets:
        one.result()
    return count * window / (time.perf_counter() - began)


def equal(model: MossAudioModel, engine: Engine) -> bool:
    """Whether a mixed batch gives what each request gets alone from plain ``generate``."""
    chance = torch.Generator().manual_seed(1)
    waves = [0.1 * torch.randn(round(one * SAMPLE_RATE), generator=chance) for one in (0.5, 4.3, 2.0)]
    requests = [Request("One?", [waves[0]]), Request("Two?"), Request("Three?", [waves[1]])]
    requests.append(Request("Which?", [waves[0], waves[2]]))
    options = Options(max_new_tokens=8)
    tickets = [engine.submit(one, options) for one in requests]
    found: list[Reply] = [one.result() for one in tickets]
    plain = [reply(model, one.prompt, one.audios, options) for one in requests]
    return [(one.text, one.new_tokens) for one in found] == [(one.text, one.new_tokens) for one in plain]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short prompts and answers")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--config", choices=["8b", "4b", "mid"], default="mid")
    options = parser.parse_args()
    on_gpu = options.device == "cuda"
    speed = bandwidth(options.device, 4000 if on_gpu else 400)
    model = with_processor(build(options.config, options.device))
    engine = Engine(model, EngineOptions(cache_bytes=None if on_gpu else 2_000_000_000, encoder_bytes=0))
    context, new, turns = (16, 8, 1) if options.quick else (500, 64 if on_gpu else 16, 3)
    by_engine(engine, prompts(1, context, random.Random(9)), 2)
    batches = [measure(model, engine, size, context, new, turns, speed) for size in BATCHES]
    audio, window = (3600, 60) if on_gpu else (30, 15) if options.quick else (300, 60)
    result = {
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "config": options.config,
        "batches": batches,
        "hour_x_realtime": round(transcribe(engine, audio, window), 2),
        "hour_measured_s": audio,
        "equal_to_plain": equal(model, engine),
        "bandwidth_gb_per_s": round(speed / 1e9, 1),
    }
    engine.close()
    show(f"The engine, {options.config} on {options.device}", batches, result)


if __name__ == "__main__":
    main()
