"""The engine on a GPU: the paged kernel and CUDA graphs give what the plain path gives."""

from __future__ import annotations

import pytest
import torch

from moss_audio.engine import Engine, EngineOptions
from moss_audio.generation.generate import reply
from moss_audio.generation.requests import Options, Request
from moss_audio.model.modeling import MossAudioModel
from tests.support.tiny_moss import load, random_checkpoint, waves

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

CLIPS = waves(0.4, 4.0, 6.3)
MIXED = [Request("Transcribe the audio.", [one]) for one in CLIPS] + [Request("Say hello.")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return random_checkpoint(tmp_path_factory.mktemp("tiny"))


def test_in_float32_a_mixed_batch_writes_the_plain_paths_tokens(folder):
    model = load(folder).to("cuda")
    check(model, EngineOptions(page_size=16, cache_bytes=20_000_000))


def test_in_bfloat16_graphs_and_pages_write_what_the_plain_path_writes(folder):
    # Random weights have near ties, which bfloat16 may settle either way: the first tokens must agree.
    model = load(folder, torch.bfloat16).to("cuda")
    check(model, EngineOptions(cache_bytes=200_000_000), tokens=4)


def check(model: MossAudioModel, sizes: EngineOptions, tokens: int = 24) -> None:
    options = Options(max_new_tokens=tokens)
    plain = [reply(model, one.prompt, one.audios, options).text for one in MIXED]
    engine = Engine(model, sizes)
    try:
        for _ in range(2):
            tickets = [engine.submit(one, options) for one in MIXED]
            assert [one.result().text for one in tickets] == plain
    finally:
        engine.close()
