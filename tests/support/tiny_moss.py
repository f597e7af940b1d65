"""Complete small checkpoints for tests: of random weights, or of weights that write a given text."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from moss_audio.model.modeling import MossAudioModel
from moss_audio.model.processor import MossAudioProcessor
from tests.support.moss_tokenizer import PARITY, SMALL, tokenizer

V1 = PARITY / "v1_core"
THINK, UNTHINK = 259, 260
"""Ids of ``<think>`` and ``</think>``, one token each as in Qwen's vocabulary."""


def random_checkpoint(folder: Path, name: str = "tiny-moss", think_tokens: bool = True) -> Path:
    """The recorded random model of the parity set as a folder like the released ones."""
    target = folder / name
    target.mkdir(parents=True)
    shutil.copyfile(V1 / "model.safetensors", target / "model.safetensors")
    config = json.loads((V1 / "config.json").read_text()) | {"audio_token_id": SMALL.audio}
    (target / "config.json").write_text(json.dumps(config))
    generation = {"bos_token_id": SMALL.endoftext, "eos_token_id": SMALL.im_end}
    (target / "generation_config.json").write_text(json.dumps(generation))
    small = tokenizer("v1_core/tokenizer_small.json")
    MossAudioProcessor(small, tokens=SMALL).save_pretrained(target)
    if think_tokens:
        _add_think_tokens(target / "tokenizer.json")
    return target


def writing_checkpoint(
    folder: Path, successors: dict[int, int], name: str = "tiny-moss", think_tokens: bool = True
) -> Path:
    """A checkpoint whose greedy answer is known: after token ``t`` it always writes ``successors[t]``.

    Layers add nothing and the head of each successor is the embedding of what stands before it. The last
    token of a default prompt is a newline, ``NEWLINE``.
    """
    target = random_checkpoint(folder, name, think_tokens)
    model = MossAudioModel.from_pretrained(target, dtype=torch.float32)
    with torch.no_grad():
        embedding = torch.nn.functional.normalize(
            torch.randn(model.config.vocab_size, 64, generator=torch.Generator().manual_seed(5)), dim=1
        )
        model.language_model.embed_tokens.weight.copy_(embedding)
        for layer in model.language_model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        for merger in model.deepstack_audio_merger_list:
            merger.down_proj.weight.zero_()
        model.language_model.norm.weight.fill_(1.0)
        head = torch.zeros_like(model.lm_head.weight)
        for token, following in successors.items():
            head[following] += embedding[token]
        model.lm_head.weight.copy_(head)
    model.save_pretrained(target)
    return target


NEWLINE = 198


def chain(*tokens: int) -> dict[int, int]:
    """Successors that write these tokens, the first of them after a newline, each at most once."""
    path = [NEWLINE, *tokens, SMALL.im_end]
    return dict(itertools.pairwise(path))


def letters(text: str) -> list[int]:
    """Ids of a text in the tokenizer without merges: one for each byte."""
    return tokenizer("v1_core/tokenizer_small.json")(text, add_special_tokens=False)["input_ids"]


def load(folder: Path, dtype: torch.dtype = torch.float32) -> MossAudioModel:
    """The model of a folder, ready to answer."""
    return MossAudioModel.from_pretrained(folder, dtype=dtype).eval()


def _add_think_tokens(file: Path) -> None:
    content = json.loads(file.read_text())
    template = content["added_tokens"][0]
    for token, number in (("<think>", THINK), ("</think>", UNTHINK)):
        content["added_tokens"].append({**template, "content": token, "id": number, "special": False})
    file.write_text(json.dumps(content))


def waves(*seconds: float) -> Sequence[torch.Tensor]:
    """Noise, the same each time."""
    generator = torch.Generator().manual_seed(11)
    return [0.1 * torch.randn(int(length * 16_000), generator=generator) for length in seconds]
