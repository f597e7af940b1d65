"""The recorded results of the official implementation hold, and the runner that says so can fail."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.parity import main
from tests.support.preloaded import Program

CASES = Path(__file__).parents[1] / "data" / "parity"


def copied(case: str, tmp_path: Path) -> Path:
    folder = tmp_path / case
    shutil.copytree(CASES / case, folder)
    return folder


@pytest.mark.parametrize("case", ["v1_core", "v2_processor"])
def test_every_recorded_number_holds(case, capsys):
    assert main([str(CASES / case)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].endswith("values compared, all hold")
    assert not [line for line in lines if line.startswith("FAIL")]


def test_the_runner_is_a_script_that_counts_what_it_compared():
    script = "import runpy; runpy.run_path('tests/parity.py', run_name='__main__')"
    running = Program(script, ["--quiet", str(CASES / "v1_core"), str(CASES / "v2_processor")])
    printed = running.stdout.read()
    running.wait(60)
    assert running.poll() == 0
    counted = printed.splitlines()[-1].split()
    assert int(counted[0]) > 500_000 and counted[1:] == ["values", "compared,", "all", "hold"]


def test_a_tensor_nobody_knows_fails(tmp_path, capsys):
    folder = copied("v2_processor", tmp_path)
    tensors = load_file(folder / "io.safetensors")
    save_file({**tensors, "speech_a.extra": tensors["tone.mel"].clone()}, folder / "io.safetensors")
    assert main(["--quiet", str(folder)]) == 1
    assert "FAIL speech_a.extra: a tensor this runner does not know" in capsys.readouterr().out


def test_an_entry_nobody_knows_fails(tmp_path, capsys):
    folder = copied("v1_core", tmp_path)
    meta = json.loads((folder / "meta.json").read_text())
    meta["items"]["a"]["extra_number"] = 3
    (folder / "meta.json").write_text(json.dumps(meta))
    assert main(["--quiet", str(folder)]) == 1
    assert "FAIL a extra_number" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "found"),
    [
        # Numbers about the whole audio in one window, of an item that stores no tensors of it.
        ({"items": {"b": {"full_generated_ids": [0] * 16}}}, "FAIL full_b generated_ids"),
        ({"items": {"b": {"full_min_top2_gap": 0.5}}}, "FAIL full_b min_top2_gap: a gap without ids"),
        ({"items": {"text": {"generated_ids": None}}}, "FAIL text min_top2_gap: a gap without ids"),
        ({"items": {"a": {"full_extra": 1}}}, "FAIL a full_extra"),
        ({"sft": {"steps": [1, 2, 3]}}, "FAIL sft steps: an entry this runner does not know"),
    ],
)
def test_a_changed_entry_fails_whatever_is_stored_beside_it(tmp_path, capsys, change, found):
    folder = copied("v1_core", tmp_path)
    meta = json.loads((folder / "meta.json").read_text())
    merge(meta, change)
    (folder / "meta.json").write_text(json.dumps(meta))
    if change.get("items", {}).get("text"):
        tensors = load_file(folder / "io.safetensors")
        tensors.pop("text.generated_ids")
        save_file(tensors, folder / "io.safetensors")
    assert main(["--quiet", str(folder)]) == 1
    assert found in capsys.readouterr().out


def merge(into: dict, change: dict) -> None:
    """Change entries of a nested dictionary; None takes one away."""
    for name, value in change.items():
        if isinstance(value, dict):
            merge(into[name], value)
        elif value is None:
            into.pop(name)
        else:
            into[name] = value


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("audio_encoder.layers.3.fc2.weight", "FAIL a.enc.last_hidden_state from the stored features"),
        ("audio_adapter.up_proj.weight", "FAIL a.adapter alone"),
        ("deepstack_audio_merger_list.2.down_proj.weight", "FAIL b.merger.2 alone"),
        ("language_model.layers.2.mlp.up_proj.weight", "FAIL text.logits"),
        ("lm_head.weight", "FAIL a.logits from the stored stages"),
    ],
)
def test_a_weight_that_is_a_little_off_fails_where_it_is_used(tmp_path, capsys, name, found):
    folder = copied("v1_core", tmp_path)
    tensors = load_file(folder / "model.safetensors")
    tensors[name].view(-1)[5] += 0.1
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert main([str(folder)]) == 1
    assert found in capsys.readouterr().out


def test_a_case_that_is_not_there_fails(tmp_path, capsys):
    assert main([str(tmp_path / "nothing")]) == 1
    assert "0 values compared, 1 do not hold" in capsys.readouterr().out
