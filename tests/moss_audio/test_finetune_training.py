"""Whole training runs of the tiny model: equal to a loop written by hand, taken up again, merged."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.func import functional_call

from moss_audio.errors import DataError, MossAudioError, NotEnoughMemory
from moss_audio.finetune import (
    Collator,
    TrainOptions,
    load_adapter,
    lora_config,
    merge,
    train,
    training,
)
from moss_audio.finetune.__main__ import main
from moss_audio.finetune.adapters import add_adapter
from moss_audio.finetune.training import Stopped
from moss_audio.finetune.training_data import Examples, Order, Reading, prepare, read_conversations
from moss_audio.model.processor import MossAudioProcessor
from tests.support.finetuning import one_thread, small_processor, speech, write_data
from tests.support.preloaded import Program
from tests.support.tiny_moss import load, random_checkpoint
from tests.support.waiting import wait_until

__all__ = ["one_thread"]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model and four spoken clips with their texts."""
    place = tmp_path_factory.mktemp("finetune")
    random_checkpoint(place)
    write_data(place)
    return place


@pytest.fixture
def options(folder: Path, tmp_path: Path) -> TrainOptions:
    return TrainOptions(
        data=folder / "data.jsonl", model=str(folder / "tiny-moss"), output=tmp_path / "out",
        lora_rank=8, lora_alpha=16, lr=1e-2,
    )  # fmt: skip


@pytest.fixture(scope="module")
def adapter(folder: Path) -> Path:
    """An adapter that has learned something."""
    return train(
        TrainOptions(
            data=folder / "data.jsonl", model=str(folder / "tiny-moss"), output=folder / "adapter",
            lora_rank=8, lora_alpha=16, lora_on_encoder=True, lr=1e-2, epochs=6, batch=2,
        )
    )  # fmt: skip


def history(output: Path) -> list[dict]:
    """Every optimiser step that was logged."""
    state = json.loads((output / "trainer_state.json").read_text())
    return [entry for entry in state["log_history"] if "grad_norm" in entry]


def weights(output: Path) -> dict[str, torch.Tensor]:
    found = [*output.glob("adapter_model.safetensors"), *output.glob("model.safetensors")]
    return load_file(found[0])


def assert_same_weights(ours: Path, theirs: Path) -> None:
    first, second = weights(ours), weights(theirs)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], rtol=1e-6, atol=1e-7, msg=name)


def batches(options: TrainOptions, steps: int) -> Iterator[dict[str, torch.Tensor]]:
    """The batches of a run, in its order, made without the trainer."""
    examples, _ = prepare(read_conversations(options.data), Reading(small_processor()))
    order = Order(examples.lengths, options.batch, options.seed)
    for epoch in range(steps):
        order.set_epoch(epoch)
        indices = list(order)
        for at in range(0, len(indices), options.batch):
            yield Collator(small_processor())([examples[index] for index in indices[at : at + options.batch]])


def by_hand(
    parameters: list[torch.Tensor], loss_of: object, options: TrainOptions, steps: int
) -> list[tuple[float, float]]:
    """AdamW on a falling learning rate with clipped gradients, spelled out: losses and gradient norms."""
    first = [torch.zeros_like(parameter) for parameter in parameters]
    second = [torch.zeros_like(item) for item in parameters]
    found = []
    for step, batch in zip(range(steps), batches(options, steps), strict=False):
        loss = loss_of(batch)  # type: ignore[operator]
        slopes = torch.autograd.grad(loss, parameters)
        norm = torch.stack([entry.norm() for entry in slopes]).norm()
        found.append((float(loss.detach()), float(norm)))
        scale = min(1.0, options.clip / (float(norm) + 1e-6))
        rate = options.learning_rate * (1 - step / steps)
        with torch.no_grad():
            for entry, slope, m, v in zip(parameters, slopes, first, second, strict=True):
                m.mul_(0.9).add_(0.1 * scale * slope)
                v.mul_(0.999).add_(0.001 * (scale * slope) ** 2)
                mean, spread = m / (1 - 0.9 ** (step + 1)), v / (1 - 0.999 ** (step + 1))
                entry -= rate * mean / (spread.sqrt() + 1e-8)
    return found


def assert_same_steps(output: Path, expected: list[tuple[float, float]]) -> None:
    steps = history(output)
    assert len(steps) == len(expected) == 6
    assert [step["loss"] for step in steps] == pytest.approx([loss for loss, _ in expected], rel=2e-5)
    assert [item["grad_norm"] for item in steps] == pytest.approx([norm for _, norm in expected], rel=1e-4)


def test_six_steps_of_all_weights_equal_a_loop_written_by_hand(options: TrainOptions) -> None:
    chosen = replace(options, full=True, lr=1e-3, max_steps=6, batch=2)
    output = train(chosen)
    model = load(Path(options.model)).train()
    named = dict(model.named_parameters())
    assert_same_steps(
        output, by_hand(list(named.values()), lambda batch: model(**batch).loss, chosen, steps=6)
    )
    for name, tensor in weights(output).items():
        torch.testing.assert_close(tensor, named[name].detach(), rtol=1e-4, atol=3e-5, msg=name)


def test_six_steps_of_lora_equal_a_loop_written_by_hand(options: TrainOptions) -> None:
    chosen = replace(options, max_steps=6, batch=2, lora_on_encoder=True)
    output = train(chosen)
    torch.manual_seed(chosen.seed)
    fresh = add_adapter(load(Path(options.model)), lora_config(8, 16, on_encoder=True), "tiny")
    pairs = {
        name.removeprefix("base_model.model."): (
            module.lora_A["default"].weight.detach().clone().requires_grad_(),
            module.lora_B["default"].weight.detach().clone().requires_grad_(),
        )
        for name, module in fresh.named_modules()
        if hasattr(module, "lora_A")
    }
    model = load(Path(options.model)).train().requires_grad_(False)

    def loss(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        changed = {
            f"{name}.weight": model.get_submodule(name).weight + 16 / 8 * b @ a
            for name, (a, b) in pairs.items()
        }
        return functional_call(model, changed, kwargs=batch).loss

    parameters = [item for pair in pairs.values() for item in pair]
    assert_same_steps(output, by_hand(parameters, loss, chosen, steps=6))


def test_four_accumulated_batches_weigh_as_one_of_four(options: TrainOptions, tmp_path: Path) -> None:
    once = train(replace(options, batch=4, max_steps=1, output=tmp_path / "once"))
    four = train(replace(options, batch=1, accumulate=4, max_steps=1, output=tmp_path / "four"))
    (one,), (other,) = history(once), history(four)
    assert other["loss"] == pytest.approx(one["loss"], rel=1e-5)
    assert other["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-4)


def test_lora_lowers_the_loss_and_leaves_the_base_alone(adapter: Path, folder: Path, tmp_path: Path) -> None:
    losses = [step["loss"] for step in history(adapter)]
    assert len(losses) == 12
    assert sum(losses[-2:]) < 0.5 * sum(losses[:2])
    names = {path.name for path in adapter.iterdir() if path.is_file()}
    assert "adapter_model.safetensors" in names
    assert not names & {"model.safetensors", "training_args.bin", "README.md"}
    before, after = weights(folder / "tiny-moss"), weights(merge(adapter, tmp_path / "merged"))
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert len(changed) == 7 * 4 + 3 * 6
    assert all(".self_attn." in name or ".mlp." in name for name in changed)


def test_the_merged_model_writes_the_same_tokens_as_adapter_and_base(
    adapter: Path, folder: Path, tmp_path: Path
) -> None:
    merge(adapter, tmp_path / "merged")
    apart = load_adapter(adapter, dtype=torch.float32)
    merged, base = load(tmp_path / "merged"), load(folder / "tiny-moss")
    inputs = apart.processor(["Transcribe the audio."] * 2, [[speech()["a"]], [speech()["b"]]])
    written = [
        model.generate(**inputs, max_new_tokens=24, do_sample=False).tolist()
        for model in (apart, merged, base)
    ]
    assert written[0] == written[1]
    assert written[0] != written[2]
    with torch.no_grad():
        torch.testing.assert_close(merged(**inputs).logits, apart(**inputs).logits, rtol=1e-4, atol=1e-4)


def test_a_merged_model_is_an_ordinary_checkpoint(adapter: Path, folder: Path, tmp_path: Path) -> None:
    merged = merge(adapter, tmp_path / "merged", model=folder / "tiny-moss")
    ours, theirs = weights(merged), weights(folder / "tiny-moss")
    assert {name: tensor.shape for name, tensor in ours.items()} == {
        name: item.shape for name, item in theirs.items()
    }
    assert {entry.dtype for entry in ours.values()} == {torch.float32}
    assert (merged / "generation_config.json").read_bytes()
    assert MossAudioProcessor.from_pretrained(merged).tokens == small_processor().tokens
    with pytest.raises(MossAudioError, match="is not empty"):
        merge(adapter, merged)
    with pytest.raises(MossAudioError, match="holds no adapter"):
        merge(folder, tmp_path / "other")


def test_a_bfloat16_base_is_merged_with_one_rounding(folder: Path, adapter: Path, tmp_path: Path) -> None:
    load(folder / "tiny-moss", torch.bfloat16).save_pretrained(tmp_path / "half")
    exact = weights(merge(adapter, tmp_path / "exact", tmp_path / "half"))
    base, wide = weights(tmp_path / "half"), weights(merge(adapter, tmp_path / "wide"))
    name = "language_model.layers.0.mlp.up_proj.weight"
    added = wide[name] - weights(folder / "tiny-moss")[name]
    assert exact[name].dtype == torch.bfloat16
    torch.testing.assert_close(exact[name], (base[name].float() + added).bfloat16(), rtol=2**-7, atol=1e-5)
    assert (exact[name] == (base[name].float() + added).bfloat16()).float().mean() > 0.999


class Crash(Exception):
    """Stands for whatever ends a run."""


def interrupt(monkeypatch: pytest.MonkeyPatch, after: int, how: str) -> None:
    """End a run in the middle of a step, when it asks for its next example after so many."""
    made = Examples.__getitem__
    count = iter(range(10**6))

    def counted(self: Examples, index: int) -> object:
        if next(count) == after:
            if how == "crash":
                raise Crash
            signal.raise_signal(signal.SIGINT)  # to this thread, and at once
        return made(self, index)

    monkeypatch.setattr(Examples, "__getitem__", counted)


# Each way to end, and each kind of training: what is taken up does not depend on how the run ended.
@pytest.mark.parametrize(("full", "how"), [(True, "crash"), (False, "ctrl-c")])
def test_a_run_that_was_ended_goes_on_to_the_same_weights(
    options: TrainOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, full: bool
) -> None:
    # Dropout draws random numbers at every step, so the generators' states must be taken up as well.
    chosen = replace(
        options, full=full, lr=1e-3 if full else 1e-2, epochs=3, accumulate=2, save_steps=1,
        lora_dropout=0.2, encoder_dropout=True,
    )  # fmt: skip
    whole = train(replace(chosen, output=tmp_path / "whole"))
    with monkeypatch.context() as patched:
        interrupt(patched, after=7, how=how)  # within the fourth of six steps, in the second epoch
        with pytest.raises(Crash if how == "crash" else Stopped) as caught:
            train(chosen)
    if how == "ctrl-c":
        assert "checkpoint-4." in str(caught.value) and "--resume" in str(caught.value)
    assert not (chosen.output / "trainer_state.json").exists()
    resumed = train(replace(chosen, resume=True))
    assert_same_weights(resumed, whole)
    assert [step["loss"] for step in history(resumed)] == pytest.approx(
        [item["loss"] for item in history(whole)], rel=1e-6
    )


@pytest.mark.slow
def test_a_killed_process_goes_on_to_the_same_weights(
    options: TrainOptions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = replace(options, epochs=4, save_steps=1)
    whole = train(replace(chosen, output=tmp_path / "whole"))
    # With more threads it rounds otherwise.
    program = (
        "import runpy, torch; torch.set_num_threads(1)\n"
        "runpy.run_module('moss_audio.finetune', run_name='__main__')"
    )
    arguments = [
        str(options.data), "--model", options.model, "--output", str(options.output), "--epochs", "4",
        "--save-steps", "1", "--lora-rank", "8", "--lora-alpha", "16", "--lr", "1e-2",
    ]  # fmt: skip
    running = Program(program, arguments, log=tmp_path / "log")
    saved = "checkpoint-*/trainer_state.json"
    wait_until(lambda: list(options.output.glob(saved)) or running.poll() is not None, 200)
    assert running.poll() is None
    running.kill()
    assert not (options.output / "adapter_model.safetensors").exists()
    assert main([*arguments, "--resume"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"The adapter is in {options.output}.")
    assert_same_weights(options.output, whole)


def test_a_checkpoint_whose_writing_was_cut_short_is_not_taken_up(
    options: TrainOptions, tmp_path: Path
) -> None:
    chosen = replace(options, max_steps=4, save_steps=2)
    whole = train(chosen)
    (chosen.output / "checkpoint-4" / "trainer_state.json").write_text('{"log_hist')
    before = weights(whole)
    again = weights(train(replace(chosen, resume=True)))
    assert all(torch.equal(tensor, again[name]) for name, tensor in before.items())


def test_one_run_is_not_written_over_another(options: TrainOptions) -> None:
    chosen = replace(options, max_steps=1)
    with pytest.raises(MossAudioError, match="holds no checkpoint"):
        train(replace(chosen, resume=True))
    train(chosen)
    with pytest.raises(MossAudioError, match="already holds checkpoint-1 of a run; give --resume"):
        train(chosen)
    with pytest.raises(MossAudioError, match=r"\(lora_rank was 8; lr was 0.01\)"):
        train(replace(chosen, resume=True, lora_rank=4, lr=3e-4))


def test_all_weights_make_a_checkpoint_like_its_base(options: TrainOptions) -> None:
    output = train(replace(options, full=True, lr=1e-3, max_steps=1, batch=4, time_markers=False))
    base = weights(Path(options.model))
    found = weights(output)
    assert found.keys() == base.keys()
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}
    assert all(not torch.equal(item, base[name]) for name, item in found.items() if "bias" not in name)
    model = load(output)
    assert model.processor.time_markers is False
    assert model.generation_config.eos_token_id == load(Path(options.model)).generation_config.eos_token_id


def test_the_loss_on_evaluation_data_weighs_every_token_alike(options: TrainOptions) -> None:
    chosen = replace(options, max_steps=1, batch=3, eval_data=options.data, lr=1e-12)
    output = train(chosen)
    state = json.loads((output / "trainer_state.json").read_text())
    (found,) = [entry["eval_loss"] for entry in state["log_history"] if "eval_loss" in entry]
    examples, _ = prepare(read_conversations(options.data), Reading(small_processor()))
    with torch.no_grad():
        batch = Collator(small_processor())([examples[index] for index in range(4)])
        assert found == pytest.approx(float(load(Path(options.model))(**batch).loss), rel=1e-5)


def test_too_little_memory_is_said_before_anything_is_loaded(
    options: TrainOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moss_audio.finetune.training.available", lambda device: 1_000_000)
    with pytest.raises(NotEnoughMemory, match="train an adapter instead"):
        train(replace(options, full=True))
    assert not options.output.exists()


def test_what_training_needs_is_counted_from_the_sizes(options: TrainOptions) -> None:
    model = load(Path(options.model))
    need = training.training_need(model.config, options, torch.bfloat16)
    adapted = add_adapter(model, lora_config(8), "tiny")
    trained, total = adapted.get_nb_trainable_parameters()
    assert need.weights_trained == trained
    assert need.weights == 2 * (total - trained)
    full = training.training_need(model.config, replace(options, full=True), torch.float32)
    assert full.total == 16 * (total - trained)


def test_the_command_says_where_the_result_is_and_what_was_wrong(
    options: TrainOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    common = [str(options.data), "--model", options.model, "--output", str(options.output)]
    assert main([*common, "--max-steps", "1", "--batch", "2", "--gradient-checkpointing"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == (
        f"The adapter is in {options.output}. Make a model of it: "
        f"python -m moss_audio.finetune merge {options.output} {options.output}-merged"
    )
    assert "step 1 of 1: loss " in err
    assert main([*common, "--max-steps", "1"]) == 1
    assert "Error: " in capsys.readouterr().err
    assert main(["merge", str(options.output), f"{options.output}-merged"]) == 0
    assert "python -m moss_audio FILE" in capsys.readouterr().out
    assert main(["--output", "x"]) == 2


def test_check_says_what_is_in_a_file_and_which_lines_cannot_be_used(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_data(tmp_path, "bcd")
    assert main(["check", str(data), "--model", str(folder / "tiny-moss")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("3 examples, 3.6 s of audio (longest: 2.0 s)")
    assert "0 lines cannot be used." in out
    data.write_text(data.read_text() + '{"conversation": []}\n')
    assert main(["check", str(data), "--model", str(folder / "tiny-moss"), "--max-length", "100"]) == 1
    out = capsys.readouterr().out
    assert f"{data}, line 4: the user gives no recording" in out
    assert f"{data}, line 2: " in out
    assert "are more than the 100 allowed" in out
    with pytest.raises(DataError):
        read_conversations(data)


def test_a_loss_that_is_no_number_ends_the_run(options: TrainOptions) -> None:
    with pytest.raises(MossAudioError, match=r"At step \d+ the (loss|gradient)"):
        train(replace(options, full=True, lr=1e30, clip=0.0, epochs=5))
    assert not (options.output / "model.safetensors").exists()


def test_weights_in_bfloat16_keep_their_adapter_in_float32(options: TrainOptions) -> None:
    output = train(replace(options, precision="bfloat16", max_steps=2, gradient_checkpointing=True))
    assert {tensor.dtype for tensor in weights(output).values()} == {torch.float32}
    assert all(
        torch.isfinite(torch.tensor([step["loss"], step["grad_norm"]])).all() for step in history(output)
    )


def test_the_page_names_only_options_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "finetuning.md").read_text(encoding="utf-8")
    known = set()
    for command in ("train", "merge", "check"):
        assert main([command, "--help"]) == 0
        known |= set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    assert set(re.findall(r"--[a-z][a-z-]+", page)) <= known
