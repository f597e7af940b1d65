"""What a CUDA graph records, run on a CPU without being recorded: the same buffers, the same arithmetic."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention.varlen import varlen_attn

from moss_audio.engine import Engine, EngineOptions
from moss_audio.engine import attention as kernel
from moss_audio.engine import model_runner as decoding
from moss_audio.engine.kv_cache import CacheShape, KVCache
from moss_audio.engine.model_runner import Eager, Graphs, stepping
from moss_audio.engine.sampling import Sampling, choose
from moss_audio.generation.generate import reply
from moss_audio.generation.requests import Options, Request
from moss_audio.model.modeling import MossAudioModel
from tests.support.paged_kernel import as_the_kernel
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


class Unrecorded(Graphs):
    """Each step is taken instead of replayed."""

    order: tuple[int, ...] = ()

    def _capture(self, size):
        self.order += (size,)

        @torch.inference_mode()
        def replay() -> None:
            self._logits[size] = self._step(size)

        return replay


class Stepped(Engine):
    """An engine as on a GPU."""

    def _stepping(self):
        longest = self.pool.pages_for(self.options.max_length)
        return Unrecorded(self.model, self.cache, self.options.max_batch, min(longest, self.pool.n_pages))


@pytest.fixture(autouse=True)
def spelled_out(monkeypatch) -> None:
    monkeypatch.setattr(kernel, "varlen_attn", as_the_kernel)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> MossAudioModel:
    return load(random_checkpoint(tmp_path_factory.mktemp("tiny")))


@pytest.fixture
def engine(model) -> Iterator[Stepped]:
    one = Stepped(model, EngineOptions(page_size=16, cache_bytes=3_000_000, max_batch=6, max_length=400))
    yield one
    one.close()


def test_graphs_write_what_the_plain_path_writes_token_for_token(model, engine):
    options = Options(max_new_tokens=12)
    plain = [reply(model, one.prompt, one.audios, options).text for one in MIXED]
    for _ in range(2):
        tickets = [engine.submit(one, options) for one in MIXED]
        assert [one.result().text for one in tickets] == plain


def test_all_sizes_are_recorded_before_anything_is_served_the_largest_first(engine):
    assert engine._steps.order == (6, 4, 2, 1)


def test_rows_that_fill_a_batch_up_stay_at_the_start_of_the_spare_page(engine):
    tickets = [engine.submit(one, Options(max_new_tokens=30)) for one in MIXED[:3]]
    for one in tickets:
        one.result()
    # Three ran in the graph of four, later fewer in smaller ones.
    steps = engine._steps
    assert steps._table[3, 0] == steps._spare and steps._positions[3] == 0
    assert max(steps._positions.tolist()) > 20


def test_one_thinking_budget_keeps_nobody_from_being_looked_at_late(tmp_path):
    thought = letters("abcdefghij")
    model = load(writing_checkpoint(tmp_path, chain(THINK, *thought, UNTHINK, *letters("klm")), "Thinking"))
    engine = Stepped(model, EngineOptions(page_size=16, cache_bytes=2_000_000, max_batch=4, max_length=400))
    steps = engine._steps
    late = []
    launch = steps.launch

    def counting(sequences, before, forced):
        late.append(before is not None)
        return launch(sequences, before, forced)

    steps.launch = counting
    budgets = (None, 3, 0, 7)
    wanted = [Options(max_new_tokens=100, thinking_budget=budget) for budget in budgets]
    try:
        tickets = [engine.submit(Request("q"), options) for options in wanted]
        found = [one.result() for one in tickets]
    finally:
        engine.close()
    for options, answer in zip(wanted, found, strict=True):
        plain = reply(model, "q", (), options)
        assert (answer.thinking, answer.text, answer.new_tokens) == (
            plain.thinking,
            plain.text,
            plain.new_tokens,
        )
    # Only a step after a change of the batch is launched with all tokens seen.
    assert late.count(False) <= len(budgets)


def test_where_graphs_cannot_be_recorded_steps_are_taken_layer_by_layer(model, engine, monkeypatch, caplog):
    from moss_audio.engine import model_runner as graphs

    def refused(self, size):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(graphs.Graphs, "_capture", refused)
    monkeypatch.setattr(decoding, "reads_pages", lambda *given: True)
    with caplog.at_level(logging.WARNING):
        assert isinstance(stepping(model, engine.cache, 4, 8), Eager)
    assert "not permitted" in caplog.text


# --- nothing waits for the device ------------------------------------------------------------------------


def test_a_step_never_looks_at_the_device_and_torchs_operator_takes_it(model, monkeypatch):
    monkeypatch.setattr(kernel, "varlen_attn", varlen_attn)
    shape = CacheShape.of(model.config.language_config, 8, 256)
    # A fake tensor has no numbers: whatever must look at one fails, as it would in a recording.
    with FakeTensorMode(allow_non_fake_inputs=True):
        cache = KVCache(shape, torch.float32, torch.device("cpu"))
        graphs = Unrecorded(model, cache, max_batch=4, max_pages=3)
        for size in graphs.order:
            graphs._replays[size]()
            assert graphs._logits[size].shape == (size, model.config.vocab_size)


def test_choosing_tokens_never_looks_at_the_device():
    settings = [Sampling(), Sampling(1.0), Sampling(0.7, top_p=0.9), Sampling(1.2, top_p=0.5, top_k=0)]
    with FakeTensorMode():
        assert choose(torch.empty(4, 100), settings).shape == (4,)


def test_the_smallest_set_that_holds_top_p_is_sampled_from():
    logits = torch.log(torch.tensor([0.05, 0.5, 0.15, 0.3]))
    for top_p, kept in ((0.4, {1}), (0.7, {1, 3}), (0.9, {1, 2, 3}), (1.0, {0, 1, 2, 3})):
        rows = logits.expand(400, 4)
        generator = torch.Generator().manual_seed(2)
        settings = [Sampling(1.0, top_p=top_p, top_k=0, generator=generator)] * 400
        assert set(choose(rows, settings).tolist()) == kept
