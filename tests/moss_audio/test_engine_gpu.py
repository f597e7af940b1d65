"""The engine on a GPU against the plain path: paged attention, CUDA graphs on and off, and what runs between.

It imports nothing but torch, transformers and this project's model, since machines with a GPU often have no
more. What does not need a GPU runs on the CPU as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from moss_audio.engine import Engine, EngineOptions
from moss_audio.engine.attention import (
    BLOCK_TABLES,
    BlockTable,
    kernel_runs_on,
    pack,
    paged_attention,
    sdpa_attention,
)
from moss_audio.engine.kv_cache import CacheShape, KVCache
from moss_audio.engine.model_runner import ModelRunner
from moss_audio.engine.sequence import Sequence
from moss_audio.generation.generate import complete_prompt, reply
from moss_audio.generation.requests import Options, Request
from moss_audio.model.modeling import MossAudioModel
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

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
pytestmark = pytest.mark.gpu
DEVICES = ["cpu", pytest.param("cuda", marks=needs_gpu)]
GRAPHS = pytest.mark.parametrize("cuda_graphs", [True, False], ids=["graphs", "eager"])

CLIPS = waves(0.4, 4.0, 6.3)
MIXED = [
    Request("Transcribe the audio.", [CLIPS[2]]),
    Request("Say hello."),
    Request("Transcribe the audio.", [CLIPS[0]]),
    Request("Which is louder?", [CLIPS[1], CLIPS[0]]),
    Request("x"),
]

NEAR_TIE = 0.15
"""Standard deviations of the logits by which half precision may take the second best token for the best; a
token chosen at random lies some three below the best."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return random_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def start() -> Iterator[Callable[..., Engine]]:
    engines = []

    def begin(model: MossAudioModel, runner: type[ModelRunner] = ModelRunner, **sizes) -> Engine:
        options = EngineOptions(**{"cache_bytes": 200_000_000, "max_length": 4096, **sizes})
        engines.append(Engine(model, options, runner=runner))
        return engines[-1]

    yield begin
    for engine in engines:
        engine.close()


# --- attention ---------------------------------------------------------------------------------------------

HEADS, KEY_HEADS, WIDTH, BLOCK = 32, 8, 128, 256
"""The released models' sizes."""

PASSES = {
    "prompts end to end": [(0, 300, (0, 1)), (0, 7, (2,)), (0, 513, (3, 4, 5))],
    "a prompt read in parts, and one begun in shared blocks": [(256, 300, (0, 1, 2)), (512, 5, (3, 4, 5))],
    "one new token of each": [(299, 1, (0, 1)), (0, 1, (2,)), (700, 1, (3, 4, 5)), (255, 1, (6,))],
    "one new token of one": [(1500, 1, (1, 2, 3, 4, 5, 6))],
    "both": [(299, 1, (0, 1)), (0, 40, (2,)), (700, 1, (3, 4, 5))],
}
SCATTERED = {
    "prompts on scattered blocks": [(0, 300, (6, 1)), (256, 270, (5, 0, 3))],
    "one new token of each on scattered blocks": [(299, 1, (6, 1)), (700, 1, (5, 0, 3)), (20, 1, (2,))],
}


@needs_gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("heads", [HEADS, KEY_HEADS], ids=["grouped", "ungrouped"])
@pytest.mark.parametrize("name", [*PASSES, *SCATTERED])
def test_the_paged_kernel_gives_what_sdpa_gives(name, heads, dtype):
    if name in SCATTERED and not BLOCK_TABLES:
        pytest.skip("this torch has no block tables; scattered blocks are read by SDPA there")
    device = torch.device("cuda")
    spans = (PASSES | SCATTERED)[name]
    cache = KVCache(CacheShape(1, KEY_HEADS, WIDTH, 8, BLOCK), dtype, device)
    chance = torch.Generator(device).manual_seed(3)
    for stored in (*cache.keys, *cache.values):
        stored.normal_(generator=chance)
    packed = pack(spans, BLOCK, device)
    query = torch.randn(len(packed.positions), heads, WIDTH, dtype=dtype, device=device, generator=chance)
    table = BlockTable.of(packed.queries, packed.lengths, packed.blocks, BLOCK, device)
    with torch.inference_mode():
        found = paged_attention(query, cache, 0, table, WIDTH**-0.5)
        expected = sdpa_attention(packed, cache)(query, 0, WIDTH**-0.5)
    torch.testing.assert_close(found, expected, atol=2e-2, rtol=2e-2)


# --- the engine --------------------------------------------------------------------------------------------


class Recording(ModelRunner):
    """A runner that remembers the sequences it has read."""

    def __init__(self, *given) -> None:
        self.seen: list[Sequence] = []
        super().__init__(*given)

    def prefill(self, chunks):
        self.seen += [chunk.sequence for chunk in chunks if chunk.sequence not in self.seen]
        return super().prefill(chunks)


def plain_logits(model: MossAudioModel, request: Request, ids: list[int]) -> torch.Tensor:
    """Logits ``[tokens, vocab]`` of prompt and answer in one pass, without a cache."""
    prompt = complete_prompt(request, unthought=False)
    inputs = dict(model.processor(prompt, list(request.audios) or None, device=model.device).items())
    audio = inputs["audio_input_mask"][0].tolist()
    inputs["input_ids"] = torch.tensor([ids], device=model.device)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    mask = audio + [False] * (len(ids) - len(audio))
    inputs["audio_input_mask"] = torch.tensor([mask], device=model.device)
    with torch.inference_mode():
        return model(**inputs).logits[0].float()


def check_each_token_is_the_plain_paths_best(model, runner: Recording, requests: list[Request]) -> None:
    for request, sequence in zip(requests, runner.seen, strict=True):
        logits = plain_logits(model, request, sequence.ids)[sequence.prompt_length - 1 : -1]
        written = torch.tensor(sequence.written, device=logits.device)
        assert len(written) == len(logits) > 1
        behind = logits.max(-1).values - logits.gather(1, written[:, None])[:, 0]
        assert (behind / logits.std(-1)).max() < NEAR_TIE


@pytest.mark.parametrize("device", DEVICES)
def test_in_float32_a_mixed_batch_writes_what_generate_writes_token_for_token(folder, start, device):
    model = load(folder).to(device)
    options = Options(max_new_tokens=24)
    plain = [reply(model, request.prompt, request.audios, options).text for request in MIXED]
    engine = start(model, block_size=16, cache_bytes=20_000_000)
    for _ in range(2):
        handles = [engine.submit(request, options) for request in MIXED]
        assert [handle.result().text for handle in handles] == plain
    assert engine.statistics().blocks_free == engine.statistics().blocks


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("max_batch", [64, 3])
@GRAPHS
def test_in_bfloat16_every_token_is_the_plain_paths_or_a_near_tie(
    folder, start, device, max_batch, cuda_graphs
):
    model = load(folder, torch.bfloat16).to(device)
    engine = start(model, Recording, max_batch=max_batch, cuda_graphs=cuda_graphs)
    kernel = kernel_runs_on(model.device, model.dtype, engine.options.block_size)
    assert engine.runner.overlaps_host is (kernel and cuda_graphs)
    handles = [engine.submit(request, Options(max_new_tokens=24)) for request in MIXED]
    assert all(handle.result().new_tokens > 0 for handle in handles)
    check_each_token_is_the_plain_paths_best(model, engine.runner, MIXED)


@pytest.mark.parametrize("device", DEVICES)
@GRAPHS
def test_in_bfloat16_a_prompt_begun_in_shared_blocks_is_answered_as_alone(folder, start, device, cuda_graphs):
    model = load(folder, torch.bfloat16).to(device)
    (long,) = waves(28.0)
    requests = [Request("One?", [long]), Request("x", [CLIPS[1]]), Request("Another?", [long])]
    engine = start(model, Recording, cuda_graphs=cuda_graphs)
    options = Options(max_new_tokens=24)
    engine.submit(requests[0], options).result()
    for handle in [engine.submit(request, options) for request in requests[1:]]:
        handle.result()
    assert engine.statistics().reused_tokens >= engine.options.block_size
    check_each_token_is_the_plain_paths_best(model, engine.runner, requests)


@pytest.mark.parametrize("device", DEVICES)
@GRAPHS
def test_in_bfloat16_thinking_budgets_and_sampling_are_kept_token_for_token(
    tmp_path, start, device, cuda_graphs
):
    # This model's tokens are certain, so that half precision cannot settle them either way.
    thought = letters("abcdefghij")
    folder = writing_checkpoint(tmp_path, chain(THINK, *thought, UNTHINK, *letters("klm")), "Thinking")
    model = load(folder, torch.bfloat16).to(device)
    wanted = [Options(max_new_tokens=100, thinking_budget=budget) for budget in (None, 3, 0, 7)]
    wanted.append(Options(max_new_tokens=100, temperature=1.0, top_k=1))
    engine = start(model, cuda_graphs=cuda_graphs)
    handles = [engine.submit(Request("q"), options) for options in wanted]
    for options, handle in zip(wanted, handles, strict=True):
        found, plain = handle.result(), reply(model, "q", (), options)
        assert (found.thinking, found.text, found.new_tokens) == (
            plain.thinking,
            plain.text,
            plain.new_tokens,
        )
