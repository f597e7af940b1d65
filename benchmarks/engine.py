"""The engine, beside transformers' ``generate`` on the same weights, and beside what memory allows.

For batches of 1, 8 and 64 prompts of equal length: time until all have their first token, time per output
token, tokens a second, and the share of the limit that reading all weights and the sequences' keys and
values once a step sets, with the bandwidth measured first. Then windows of a minute, as a transcription
asks for them, an hour of audio of them on a GPU, 3.5 new tokens for each second. Weights are random.
``equal_to_plain``: a mixed batch gave what ``generate`` gives each prompt alone (in bfloat16, on a GPU, near
ties may fall either way).

Rows that could not be run are empty, with the reason; ``--quick`` gives up what it has no time left for.

    python -m benchmarks.engine [--quick] [--device cpu|cuda] [--config 8b|4b|mid]
"""

from __future__ import annotations

import time

BEGAN = time.monotonic()
"""Loading the libraries counts as well."""

import argparse
import random
import statistics
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from benchmarks.common import show, switch_off_telemetry

switch_off_telemetry()

import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from benchmarks.random_models import CONFIGS, build, with_processor
from moss_audio.engine import Engine, EngineOptions, RequestHandle
from moss_audio.engine.kv_cache import bytes_per_token
from moss_audio.generation.generate import reply
from moss_audio.generation.requests import Options, Reply, Request
from moss_audio.model.chat_template import Prompt
from moss_audio.model.mel import SAMPLE_RATE
from moss_audio.model.modeling import MossAudioModel
from moss_audio.tasks import TASKS

BATCHES = (1, 8, 64)

TOKENS_A_SECOND = 3.5
"""New tokens for a second of audio: 150 words a minute with the times of 14 sentences are about that many."""

QUICK_SECONDS = 36.0
"""What ``--quick`` takes until it ends; what is going on by then is given up at its next token."""

IDLE_SECONDS = 1.0
"""An engine that has been idle so long has refused what it was asked."""

MEASURED = ("ttft_ms", "tpot_ms", "tokens_per_s", "share_of_limit", "generate_tokens_per_s")

Result = TypeVar("Result")


class OutOfTime(Exception):
    """There was no time left for it."""


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        batches: Sizes of batches.
        context: Tokens of a prompt.
        new: Tokens of an answer.
        turns: Times that each is measured.
        audio: Seconds of audio that are transcribed.
        window: Seconds of one window of it.
        megabytes: Read to measure the bandwidth.
        cache: Bytes of the KV cache; None is what there is.
        deadline: When to stop, on the clock of ``time.monotonic``.
    """

    batches: tuple[int, ...] = BATCHES
    context: int = 500
    new: int = 16
    turns: int = 3
    audio: int = 300
    window: int = 60
    megabytes: int = 400
    cache: int | None = 2_000_000_000
    deadline: float = float("inf")

    @classmethod
    def of(cls, quick: bool, on_gpu: bool, seconds: float = QUICK_SECONDS) -> Plan:
        """The plan of the command line."""
        if quick:
            cache = None if on_gpu else 1_000_000_000
            return cls(
                context=16,
                new=5,
                turns=1,
                audio=8,
                window=4,
                megabytes=100,
                cache=cache,
                deadline=BEGAN + seconds,
            )
        return cls(new=64, audio=3600, megabytes=4000, cache=None) if on_gpu else cls()

    def check(self) -> None:
        """Raise ``OutOfTime`` once it is time to stop."""
        if time.monotonic() > self.deadline:
            raise OutOfTime("There was no time left for it within what --quick may take.")


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


def by_engine(engine: Engine, requests: list[Request], new: int, plan: Plan) -> tuple[float, float]:
    """Seconds until all have their first token, and seconds a step after that."""
    before = engine.statistics().new_tokens
    began = time.perf_counter()
    handles = [engine.submit(request, Options(max_new_tokens=new)) for request in requests]
    try:
        first = first_tokens(engine, handles, before + len(requests), new, plan)
        answers(handles, new, plan)
    finally:
        for handle in handles:
            handle.cancel()
    return first - began, (time.perf_counter() - first) / max(1, new - 1)


def first_tokens(
    engine: Engine, handles: Sequence[RequestHandle], tokens: int, new: int, plan: Plan
) -> float:
    """When the engine had written so many tokens in all, on the clock of ``time.perf_counter``.

    Raises:
        MossAudioError: A request was refused.
        RuntimeError: The engine has nothing to do, and has not written them.
    """
    idle = time.monotonic()
    while (now := engine.statistics()).new_tokens < tokens:
        plan.check()
        if now.running + now.waiting:
            idle = time.monotonic()
        elif time.monotonic() - idle > IDLE_SECONDS:
            answers(handles, new, plan)
            raise RuntimeError("The engine was done before its tokens were seen.")
        time.sleep(0.0005)
    return time.perf_counter()


def answers(handles: Sequence[RequestHandle], new: int, plan: Plan) -> None:
    """Wait for answers, each of so many tokens.

    Raises:
        OutOfTime: There was no time left.
        ValueError: One has another length, so that the time it took means something else.
    """
    for handle in handles:
        for event in handle:
            if not isinstance(event, Reply):
                plan.check()
            elif event.new_tokens != new:
                raise ValueError(f"An answer has {event.new_tokens} tokens instead of {new}.")


class Times(StoppingCriteria):
    """Notes when each token of ``generate`` was there; ends nothing before its time."""

    def __init__(self, plan: Plan) -> None:
        self.seen: list[float] = []
        self.plan = plan

    def __call__(self, input_ids: torch.Tensor, scores: object, **_: object) -> torch.Tensor:
        """Called after each token."""
        if input_ids.is_cuda:
            torch.cuda.synchronize()
        self.seen.append(time.perf_counter())
        self.plan.check()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def by_generate(model: MossAudioModel, requests: list[Request], new: int, plan: Plan) -> float:
    """Seconds a step of plain ``generate`` on the same kind of batch."""
    inputs = model.processor([request.prompt for request in requests], device=model.device)
    times = Times(plan)
    model.generate(
        **inputs, do_sample=False, max_new_tokens=new, eos_token_id=None, pad_token_id=256,
        stopping_criteria=StoppingCriteriaList([times]),
    )  # fmt: skip
    if len(times.seen) != new:
        raise ValueError(f"generate wrote {len(times.seen)} tokens instead of {new}.")
    return (times.seen[-1] - times.seen[0]) / max(1, new - 1)


def measure(model: MossAudioModel, engine: Engine, size: int, plan: Plan, speed: float) -> dict[str, object]:
    """One row: the engine and ``generate`` in turns."""
    plan.check()
    chance = random.Random(size)
    firsts, rates, others = [], [], []
    for _ in range(plan.turns):
        first, rate = by_engine(engine, prompts(size, plan.context, chance), plan.new, plan)
        firsts.append(first)
        rates.append(rate)
        others.append(by_generate(model, prompts(size, plan.context, chance), plan.new, plan))
    step = statistics.median(rates)
    weights = sum(
        weight.numel() * weight.element_size() for weight in model.language_model.layers.parameters()
    )
    weights += model.lm_head.weight.numel() * model.lm_head.weight.element_size()
    cached = (
        size * (plan.context + plan.new // 2) * bytes_per_token(model.config.language_config, model.dtype)
    )
    return row(size, plan) | {
        "ttft_ms": round(1000 * statistics.median(firsts), 1),
        "tpot_ms": round(1000 * step, 2),
        "tokens_per_s": round(size / step, 1),
        "share_of_limit": round((weights + cached) / speed / step, 3),
        "generate_tokens_per_s": round(size / statistics.median(others), 1),
    }


def row(size: int, plan: Plan, reason: str | None = None) -> dict[str, object]:
    """A row in which nothing is measured yet."""
    empty: dict[str, object] = {"size": size, "context": plan.context, **dict.fromkeys(MEASURED)}
    return empty | ({"reason": reason} if reason else {})


def transcribe(engine: Engine, plan: Plan) -> float:
    """× realtime of windows asked for with the prompt of a transcription, all at once."""
    plan.check()
    chance = torch.Generator().manual_seed(0)
    count = max(1, plan.audio // plan.window)
    waves = [0.1 * torch.randn(plan.window * SAMPLE_RATE, generator=chance) for _ in range(count)]
    new = max(8, round(TOKENS_A_SECOND * plan.window))
    began = time.perf_counter()
    handles = [
        engine.submit(Request(TASKS["timestamps"].prompt, [wave]), Options(max_new_tokens=new))
        for wave in waves
    ]
    try:
        answers(handles, new, plan)
    finally:
        for handle in handles:
            handle.cancel()
    return round(count * plan.window / (time.perf_counter() - began), 2)


def equal(model: MossAudioModel, engine: Engine, plan: Plan) -> bool:
    """Whether a mixed batch gives what each request gets alone from plain ``generate``."""
    plan.check()
    chance = torch.Generator().manual_seed(1)
    waves = [0.1 * torch.randn(round(length * SAMPLE_RATE), generator=chance) for length in (0.5, 4.3, 2.0)]
    requests = [Request("One?", [waves[0]]), Request("Two?"), Request("Three?", [waves[1]])]
    requests.append(Request("Which?", [waves[0], waves[2]]))
    options = Options(max_new_tokens=min(8, plan.new))
    handles = [engine.submit(request, options) for request in requests]
    found: list[Reply] = []
    plain: list[Reply] = []
    for request, handle in zip(requests, handles, strict=True):
        plan.check()
        found.append(handle.result())
        plan.check()
        plain.append(reply(model, request.prompt, request.audios, options))
    return [(answer.text, answer.new_tokens) for answer in found] == [
        (answer.text, answer.new_tokens) for answer in plain
    ]


def run(config: str, device: str, plan: Plan) -> dict[str, object]:
    """All of it; what cannot be run is empty, with the reason.

    Args:
        config: One of ``CONFIGS``.
        device: ``cpu`` or ``cuda``.
        plan: How much is measured.
    """
    empty: dict[str, object] = {
        "device": device,
        "config": config,
        "batches": [],
        "hour_x_realtime": None,
        "hour_measured_s": plan.audio,
        "equal_to_plain": None,
        "bandwidth_gb_per_s": None,
    }
    try:
        if device == "cuda" and not torch.cuda.is_available():
            raise RuntimeError("There is no GPU on this machine.")
        speed = bandwidth(device, plan.megabytes)
        model = with_processor(build(config, device))
        engine = Engine(model, EngineOptions(cache_bytes=plan.cache, encoder_bytes=0))
    except Exception as error:
        reason = said(error)
        return empty | {"batches": [row(size, plan, reason) for size in plan.batches], "reason": reason}
    try:
        name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
        return (
            empty
            | {"device": name, "bandwidth_gb_per_s": round(speed / 1e9, 1)}
            | fill(model, engine, plan, speed)
        )
    finally:
        engine.close()


def fill(model: MossAudioModel, engine: Engine, plan: Plan, speed: float) -> dict[str, object]:
    """What is measured with a model that is there."""
    reasons: dict[str, str] = {}

    def tried(name: str, work: Callable[[], Result]) -> Result | None:
        try:
            return work()
        except Exception as error:
            reasons[name] = said(error)
            return None

    tried("warming", lambda: by_engine(engine, prompts(1, plan.context, random.Random(9)), 2, plan))
    found: dict[str, object] = {"equal_to_plain": tried("equal_to_plain", lambda: equal(model, engine, plan))}
    batches = []
    for size in plan.batches:
        measured = tried("row", lambda size=size: measure(model, engine, size, plan, speed))
        batches.append(measured or row(size, plan, reasons.pop("row")))
    found["batches"] = batches
    found["hour_x_realtime"] = tried("hour_x_realtime", lambda: transcribe(engine, plan))
    return found | ({"reasons": reasons} if reasons else {})


def said(error: Exception) -> str:
    """Why something could not be run, on one line."""
    words = " ".join(str(error).split())[:300]
    return (
        words if isinstance(error, OutOfTime) or words.endswith(".") else f"{type(error).__name__}: {words}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short prompts and answers, at most 50 s")
    parser.add_argument(
        "--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu"
    )
    parser.add_argument("--config", choices=list(CONFIGS), default="mid")
    options = parser.parse_args(arguments)
    plan = Plan.of(options.quick, options.device == "cuda" and torch.cuda.is_available())
    result = run(options.config, options.device, plan)
    rows = result["batches"]
    assert isinstance(rows, list)
    columns = ["size", "context", *MEASURED, *(["reason"] if any("reason" in row for row in rows) else [])]
    table = [{name: "" if row.get(name) is None else row[name] for name in columns} for row in rows]
    show(f"The engine, {options.config} on {options.device}", table, result)


if __name__ == "__main__":
    main()
