"""What is learned from a batch: the recorded gradients, whatever the batch, however it is computed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from moss_audio.finetune import Collator, Example, lora_config, sequence
from moss_audio.finetune.adapters import add_adapter
from moss_audio.finetune.training import adapter_numbers, answer_loss, learned_columns
from moss_audio.model.modeling import MossAudioModel
from tests.support.finetuning import ANSWERS, messages, one_thread, small_processor, speech
from tests.support.moss_tokenizer import PARITY
from tests.support.tiny_moss import load, random_checkpoint

__all__ = ["one_thread"]

Gradients = dict[str, torch.Tensor]
CORE = load_file(PARITY / "v1_core" / "io.safetensors")
META = json.loads((PARITY / "v1_core" / "meta.json").read_text())


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_checkpoint(tmp_path_factory.mktemp("gradients"))


@pytest.fixture(scope="module")
def examples() -> dict[str, Example]:
    ours = small_processor()
    return {name: sequence(messages(wave, ANSWERS[name]), ours) for name, wave in speech().items()}


def gradients(
    model: MossAudioModel, examples: Sequence[Example], items: int | None = None, answers_only: bool = False
) -> tuple[float, Gradients]:
    """Loss of one batch, and the gradient of every parameter that has one."""
    model.zero_grad(set_to_none=True)
    batch = Collator(small_processor())(examples)
    if answers_only:
        labels = batch.pop("labels")
        loss = answer_loss(model(**batch, logits_to_keep=learned_columns(labels)), labels, items)
    else:
        loss = model(**batch, num_items_in_batch=items).loss
    loss.backward()
    found = {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    return float(loss.detach()), found


def assert_same(ours: Gradients, theirs: Gradients, tolerance: float = 2e-5) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(
            tensor,
            theirs[name],
            rtol=1e-4,
            atol=tolerance * float(theirs[name].abs().max() + 1e-12),
            msg=name,
        )


@pytest.mark.parametrize("answers_only", [False, True])
@pytest.mark.parametrize("item", ["a", "b"])
def test_loss_and_every_gradient_norm_equal_the_recorded_ones(
    checkpoint: Path, item: str, answers_only: bool
) -> None:
    recorded = META["sft"]["samples"][item]
    example = sequence(
        messages(CORE[f"{item}.wave"], recorded["answer"], recorded["prompt"]),
        small_processor(),
        time_markers=False,
        prompt_default=META["sft"]["prompt_default"],
    )
    loss, found = gradients(load(checkpoint).train(), [example], answers_only=answers_only)
    assert loss == pytest.approx(recorded["loss"], rel=1e-5, abs=1e-5)
    norms = {name: float(tensor.norm()) for name, tensor in found.items()}
    assert norms.keys() == recorded["grad_norms"].keys()
    assert norms == pytest.approx(recorded["grad_norms"], rel=1e-3)


@pytest.mark.parametrize("names", ["da", "abcd", "cb"])
def test_a_batch_of_unequal_lengths_gives_the_token_weighted_mean_of_its_items(
    checkpoint: Path, examples: dict[str, Example], names: str
) -> None:
    model = load(checkpoint).train()
    chosen = [examples[name] for name in names]
    loss, together = gradients(model, chosen, answers_only=True)
    weights = [int((example.labels != -100).sum()) for example in chosen]
    assert len(set(weights)) > 1
    alone = [gradients(model, [item]) for item in chosen]
    total = sum(weights)
    mean = sum(weight * entry for weight, (entry, _) in zip(weights, alone, strict=True)) / total
    assert loss == pytest.approx(mean, rel=1e-6)
    expected = {
        name: sum(weight * found[name] for weight, (_, found) in zip(weights, alone, strict=True)) / total
        for name in together
    }
    assert_same(together, expected)


@pytest.mark.parametrize("adapted", [False, True])
def test_gradient_checkpointing_changes_no_gradient_of_any_parameter(
    checkpoint: Path, examples: dict[str, Example], adapted: bool
) -> None:
    model = load(checkpoint).train()
    if adapted:
        model = add_adapter(model, lora_config(rank=4, on_encoder=True), "tiny").train()
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.05)
    chosen = [examples[name] for name in "ad"]
    loss, plain = gradients(model, chosen, answers_only=True)
    trained = [name for name, item in model.named_parameters() if item.requires_grad]
    assert sorted(plain) == sorted(trained)
    model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    layers = [*model.language_model.layers, *model.audio_encoder.layers]
    assert all(layer.gradient_checkpointing for layer in layers)
    again, saved = gradients(model, chosen, answers_only=True)
    assert again == loss
    assert_same(saved, plain, tolerance=1e-6)


def test_what_stands_behind_the_end_of_an_example_changes_nothing(
    checkpoint: Path, examples: dict[str, Example]
) -> None:
    model = load(checkpoint).train()
    batch = Collator(small_processor(), pad_to=300)([examples["b"]])
    loss = float(model(**batch).loss.detach())
    assert loss == pytest.approx(gradients(model, [examples["b"]])[0], abs=1e-6)


def test_lora_adapts_seven_layers_of_each_decoder_layer_and_three_of_each_encoder_layer(
    checkpoint: Path,
) -> None:
    for on_encoder in (False, True):
        model = load(checkpoint)
        layers, encoder_layers = len(model.language_model.layers), len(model.audio_encoder.layers)
        expected = adapter_numbers(model, 5, on_encoder)
        adapted = add_adapter(model, lora_config(rank=5, on_encoder=on_encoder), "tiny")
        names = [name for name, module in adapted.named_modules() if hasattr(module, "lora_A")]
        decoder = [name for name in names if ".language_model." in name]
        encoder = [name for name in names if ".audio_encoder." in name]
        assert len(decoder) == 7 * layers
        assert len(encoder) == (3 * encoder_layers if on_encoder else 0)
        assert len(names) == len(decoder) + len(encoder)
        trained = {
            name: parameter for name, parameter in adapted.named_parameters() if parameter.requires_grad
        }
        assert all("lora_" in name for name in trained)
        assert sum(tensor.numel() for tensor in trained.values()) == expected


def test_adapter_and_deepstack_projections_are_frozen_under_lora(
    checkpoint: Path, examples: dict[str, Example]
) -> None:
    adapted = add_adapter(load(checkpoint), lora_config(on_encoder=True), "tiny").train()
    _, found = gradients(adapted, [examples["b"]])
    assert found
    assert not [name for name in found if "audio_adapter" in name or "merger" in name or "lora" not in name]


def test_lora_defaults_are_the_published_ones() -> None:
    found = lora_config()
    assert (found.r, found.lora_alpha, found.lora_dropout) == (64, 2, 0.0)


def test_the_encoder_drops_nothing_out_unless_asked_to(
    checkpoint: Path, examples: dict[str, Example]
) -> None:
    model = load(checkpoint).train()

    def losses() -> set[float]:
        torch.manual_seed(0)
        return {gradients(model, [examples["a"]])[0] for _ in range(3)}

    assert len(losses()) == 1
    model.audio_encoder.use_dropout = True
    assert len(losses()) == 3


@pytest.mark.parametrize("full", [False, True])
def test_bfloat16_arithmetic_as_on_a_gpu_stays_near_float32(
    checkpoint: Path, examples: dict[str, Example], full: bool
) -> None:
    """On a GPU the adapter is float32 and its base bfloat16, or all weights float32, under autocast."""
    chosen = [examples[name] for name in "ad"]
    exact = gradients(load(checkpoint).train(), chosen, answers_only=True)[0]
    model = load(checkpoint, torch.float32 if full else torch.bfloat16).train()
    if not full:
        model = add_adapter(model, lora_config(on_encoder=True), "tiny").train()
    model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    with torch.autocast("cpu", torch.bfloat16):
        loss, found = gradients(model, chosen, answers_only=True)
    assert loss == pytest.approx(exact, rel=0.02)
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}
    assert all(torch.isfinite(item).all() for item in found.values())
    assert len(found) == sum(parameter.requires_grad for parameter in model.parameters())
