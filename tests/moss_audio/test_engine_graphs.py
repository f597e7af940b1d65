"""What a CUDA graph records, run on a CPU without being recorded: the same buffers, the same arithmetic."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from moss_audio.engine import Engine, EngineOptions
from moss_audio.engine import attention as kernel
from moss_audio.engine import model_runner as running
from moss_audio.engine.encoder_cache import EncoderCache
from moss_audio.engine.kv_cache import CacheShape, KVCache
from moss_audio.engine.model_runner import CUDAGraphs, ModelRunner
from moss_audio.engine.sampling import Sampling, sample
from moss_audio.generation.generate import reply
from moss_audio.generation.requests import Options, Request
from moss_audio.model.modeling import MossAudioModel
from tests.support.paged_kernel import as_flash_forward, as_varlen_attn
from tests.support.tiny_moss import (
    THINK,
    UNTHINK,
    chain,
    letters,
    load,
    random_checkpoint,
    waves,
    writing_checkpoint,
)

ONE, TWO, THREE = waves(0.4, 4.0, 6.3)
MIXED = [
    Request("Transcribe the audio.", [THREE]),
    Request("Say hello."),
    Request("Transcribe the audio.", [ONE]),
    Request("Which is louder?", [TWO, ONE]),
    Request("x"),
]


REAL_BLOCK_TABLES, REAL_VARLEN = kernel.BLOCK_TABLES, kernel.varlen_attn
REAL_FORWARD = kernel.flash_attention_forward


class Unrecorded(CUDAGraphs):
    """Each step is computed instead of replayed; sizes are noted in the order of their capture."""

    def __init__(self, *given) -> None:
        self.captured: list[int] = []
        super().__init__(*given)

    def capture(self, size):
        self.captured.append(size)
        return lambda: self.compute(size)


class GraphRunner(ModelRunner):
    """A runner as on a GPU."""

    graphs: Unrecorded

    def capture_graphs(self, max_batch, max_blocks):
        return Unrecorded(self.model, self.cache, max_batch, max_blocks)


@pytest.fixture(autouse=True, params=[True, False], ids=["block tables", "contiguous blocks"])
def spelled_out(request, monkeypatch) -> bool:
    """The kernel spelled out, as torch 2.12 has it and as torch 2.11 does."""
    monkeypatch.setattr(kernel, "BLOCK_TABLES", request.param)
    monkeypatch.setattr(kernel, "varlen_attn", as_varlen_attn)
    monkeypatch.setattr(kernel, "flash_attention_forward", as_flash_forward)
    return request.param


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> MossAudioModel:
    return load(random_checkpoint(tmp_path_factory.mktemp("tiny")))


def begin(model: MossAudioModel, runner: type[ModelRunner] = GraphRunner, **sizes) -> Engine:
    options = {"block_size": 16, "cache_bytes": 3_000_000, "max_batch": 6, "max_length": 400, **sizes}
    return Engine(model, EngineOptions(**options), runner=runner)


@pytest.fixture
def engine(model) -> Iterator[Engine]:
    engine = begin(model)
    yield engine
    engine.close()


def test_graphs_write_what_the_plain_path_writes_token_for_token(model, engine):
    options = Options(max_new_tokens=12)
    plain = [reply(model, request.prompt, request.audios, options).text for request in MIXED]
    for _ in range(2):
        handles = [engine.submit(request, options) for request in MIXED]
        assert [handle.result().text for handle in handles] == plain
    # The second time prompts began in shared blocks, behind which the others need not be contiguous.
    assert engine.statistics().reused_tokens > 0


def test_all_sizes_are_captured_before_anything_is_served_the_largest_first(engine):
    assert engine.runner.graphs.captured == [6, 4, 2, 1]


def test_rows_that_pad_a_batch_write_nothing_but_the_start_of_the_spare_block(engine):
    # Three run in the graph of four, later fewer in smaller ones.
    handles = [engine.submit(request, Options(max_new_tokens=30)) for request in MIXED[:3]]
    for handle in handles:
        handle.result()
    for stored in (*engine.cache.keys, *engine.cache.values):
        assert stored[-1, 0].any() and not stored[-1, 1:].any()


def test_one_thinking_budget_keeps_nobody_from_overlapping(tmp_path):
    thought = letters("abcdefghij")
    model = load(writing_checkpoint(tmp_path, chain(THINK, *thought, UNTHINK, *letters("klm")), "Thinking"))
    steps = []

    class Counting(GraphRunner):
        def decode(self, sequences, unread):
            steps.append((list(sequences), unread is not None))
            return super().decode(sequences, unread)

    engine = begin(model, Counting, cache_bytes=2_000_000, max_batch=4)
    budgets = (None, 3, 0, 7)
    wanted = [Options(max_new_tokens=100, thinking_budget=budget) for budget in budgets]
    try:
        handles = [engine.submit(Request("q"), options) for options in wanted]
        found = [handle.result() for handle in handles]
    finally:
        engine.close()
    for options, answer in zip(wanted, found, strict=True):
        plain = reply(model, "q", (), options)
        assert (answer.thinking, answer.text, answer.new_tokens) == (
            plain.thinking,
            plain.text,
            plain.new_tokens,
        )
    # Only a step after a change of the batch is launched with all tokens read.
    again = [overlaps for (before, _), (batch, overlaps) in pairwise(steps) if batch == before]
    assert again and all(again)


def test_where_graphs_cannot_be_captured_or_are_not_wanted_decoding_is_eager(model, monkeypatch, caplog):
    def refused(self, size):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(CUDAGraphs, "capture", refused)
    monkeypatch.setattr(running, "kernel_runs_on", lambda *given: True)
    for wanted in (True, False):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            engine = begin(model, ModelRunner, cuda_graphs=wanted)
        assert ("not permitted" in caplog.text) is wanted
        assert not engine.runner.overlaps_host
        answer = engine.submit(MIXED[1], Options(max_new_tokens=5)).result()
        assert answer.text == reply(model, MIXED[1].prompt, (), Options(max_new_tokens=5)).text
        engine.close()


# --- nothing waits for the device ------------------------------------------------------------------------


def test_a_step_never_looks_at_the_device_and_torchs_operator_takes_it(model, monkeypatch, spelled_out):
    if spelled_out and not REAL_BLOCK_TABLES:
        pytest.skip("this torch has no block tables")
    monkeypatch.setattr(kernel, "varlen_attn", REAL_VARLEN)
    monkeypatch.setattr(kernel, "flash_attention_forward", REAL_FORWARD)
    shape = CacheShape.of(model.config.language_config, 8, 256)
    # A fake tensor has no numbers: whatever must look at one fails, as it would in a recording.
    with FakeTensorMode(allow_non_fake_inputs=True):
        cache = KVCache(shape, torch.float32, torch.device("cpu"))
        runner = GraphRunner(model, cache, EncoderCache(model, 0), max_batch=4, max_blocks=3)
        for size in runner.graphs.captured:
            assert runner.graphs.compute(size).shape == (size, model.config.vocab_size)


def test_sampling_tokens_never_looks_at_the_device():
    settings = [Sampling(), Sampling(1.0), Sampling(0.7, top_p=0.9), Sampling(1.2, top_p=0.5, top_k=0)]
    with FakeTensorMode():
        assert sample(torch.empty(4, 100), settings).shape == (4,)


def test_the_smallest_set_that_holds_top_p_is_sampled_from():
    logits = torch.log(torch.tensor([0.05, 0.5, 0.15, 0.3]))
    for top_p, kept in ((0.4, {1}), (0.7, {1, 3}), (0.9, {1, 2, 3}), (1.0, {0, 1, 2, 3})):
        rows = logits.expand(400, 4)
        generator = torch.Generator().manual_seed(2)
        settings = [Sampling(1.0, top_p=top_p, top_k=0, generator=generator)] * 400
        assert set(sample(rows, settings).tolist()) == kept
