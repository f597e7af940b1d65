"""The model alone, from the command line."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from huggingface_hub import constants

from moss_audio.checkpoints import memory
from moss_audio.cli import main
from moss_audio.errors import NotEnoughMemory
from moss_audio.generation import generate as generation
from tests.support.hub_server import serving
from tests.support.tiny_moss import THINK, UNTHINK, chain, letters, random_checkpoint, writing_checkpoint


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thinks "abcdefg", then answers "Hi YZ日."."""
    wanted = chain(THINK, *letters("abcdefg"), UNTHINK, *letters("Hi YZ日."))
    return writing_checkpoint(tmp_path_factory.mktemp("cli"), wanted, "tiny-Thinking")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "noise.wav"
    noise = np.random.default_rng(1).normal(0, 0.1, 16_000 * 4).astype(np.float32)
    soundfile.write(path, noise, 16_000)
    return path


Run = Callable[..., "Outcome"]


class Outcome:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["moss_audio", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return Outcome(int(stop.value.code or 0), captured.out, captured.err)

    return call


def test_answer_on_stdout_and_thought_on_stderr(run: Run, model: Path, sound: Path) -> None:
    outcome = run(sound, "--model", model)
    assert (outcome.code, outcome.out, outcome.err.strip()) == (0, "Hi YZ日.\n", "abcdefg")


def test_no_thinking_hides_the_thought(run: Run, model: Path, sound: Path) -> None:
    outcome = run(sound, "--model", model, "--no-thinking", "--prompt", "Describe this audio.", "--seed", 1)
    assert outcome.code == 0
    assert outcome.err == ""


def test_json_is_one_document_with_the_parsed_answer(run: Run, model: Path, sound: Path) -> None:
    outcome = run(sound, "--model", model, "--json", "--start", 1, "--end", 3.5, "--task", "transcribe")
    document = json.loads(outcome.out)
    assert (outcome.code, outcome.err) == (0, "")
    assert document["value"] == {"text": "Hi YZ日."}
    assert document["thinking"] == "abcdefg"
    assert (document["start"], document["duration"], document["stopped"]) == (1.0, 2.5, "end")
    assert (document["task"], document["dropped"]) == ("transcribe", [])


def test_a_budget_and_a_length_are_kept(run: Run, model: Path, sound: Path) -> None:
    document = json.loads(run(sound, "--model", model, "--json", "--thinking-budget", 2).out)
    assert document["thinking"].startswith("ab\n\nI have thought") and document["text"] == "Hi YZ日."
    outcome = run(sound, "--model", model, "--max-new-tokens", 12)
    assert outcome.out == "Hi \n"
    assert "cut off after 12 tokens" in outcome.err


def test_a_thought_without_a_budget_has_room_of_its_own(
    run: Run, model: Path, sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[generation.Options] = []
    original = generation.stream

    def noting(model: object, prompt: str, audios: object, options: generation.Options) -> object:
        asked.append(options)
        return original(model, prompt, audios, options)  # type: ignore[arg-type]

    monkeypatch.setattr(generation, "stream", noting)
    plain = writing_checkpoint(tmp_path, chain(*letters("Hi")), "tiny-Instruct")
    for folder, arguments in (
        (model, []),
        (model, ["--no-thinking"]),
        (model, ["--thinking-budget", 50]),
        (model, ["--max-new-tokens", 200]),
        (plain, []),
    ):
        assert run(sound, "--model", folder, *arguments).code == 0
    assert [item.max_new_tokens for item in asked] == [1024 + 4096, 1024, 1024 + 50, 200, 1024]


def test_choices_are_offered_and_read(run: Run, model: Path, sound: Path) -> None:
    arguments = ["--task", "choice", "--prompt", "What is it?", "--option", "noise", "--option", "Hi YZ日."]
    document = json.loads(run(sound, "--model", model, "--json", *arguments).out)
    assert document["task"] == "choice" and "noise" in document["prompt"]
    assert document["value"] == {"letter": "B", "option": "Hi YZ日."}


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--task", "sing"],
        ["--task", "music", "--prompt", "Which song?"],
        ["--task", "ask"],
        ["--task", "choice", "--prompt", "Which?", "--option", "one"],
        ["--task", "music", "--option", "one"],
        ["--start", "3", "--end", "2"],
        ["--start", "-1"],
        ["--temperature", "-1"],
        ["--max-new-tokens", "10", "--thinking-budget", "10"],
        ["--device", "abacus"],
        ["--dtype", "int8"],
    ],
)
def test_wrong_usage_is_exit_code_2(run: Run, sound: Path, arguments: list[str]) -> None:
    outcome = run(*([sound] if arguments else []), *arguments)
    assert outcome.code == 2
    assert outcome.out == "" and "Traceback" not in outcome.err


def one_line(outcome: Outcome) -> str:
    assert outcome.code == 1 and outcome.out == ""
    assert outcome.err.count("\n") == 1
    return outcome.err


def test_what_is_missing_is_said_in_one_line(run: Run, model: Path, sound: Path, tmp_path: Path) -> None:
    assert "no file" in one_line(run(tmp_path / "no.wav", "--model", model))
    (tmp_path / "text.wav").write_text("no sound " * 50)
    assert "not a media file" in one_line(run(tmp_path / "text.wav", "--model", model))
    assert "config.json" in one_line(run(sound, "--model", tmp_path))
    assert "nothing at second 60" in one_line(run(sound, "--model", model, "--start", 60))


def test_weights_that_are_not_here_are_named_with_their_size(
    run: Run, sound: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(memory, "available", lambda device: 1 << 50)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    said = one_line(run(sound))
    assert "MOSS-Audio-4B-Instruct (10.45 GB) is not on this machine" in said and "HF_HUB_OFFLINE" in said
    with serving({}) as hub:
        closed = hub.url
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", closed)
    said = one_line(run(sound))
    assert "MOSS-Audio-4B-Instruct (10.45 GB) is not on this machine" in said
    assert f"the hub at {closed} could not be reached" in said


def test_too_little_memory_is_known_before_loading_or_downloading(
    run: Run, sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available", lambda device: 4_000_000_000)
    said = one_line(run(sound, "--model", "OpenMOSS-Team/MOSS-Audio-8B-Thinking"))
    assert "needs at least 18.6 GB" in said and "4.0 GB free" in said


def test_a_checkpoint_too_large_for_this_machine_is_refused_by_its_headers(
    run: Run,
    model: Path,
    sound: Path,
    tmp_path: Path,
) -> None:
    numbers = 1 << 40
    header = json.dumps({"a": {"dtype": "BF16", "shape": [numbers], "data_offsets": [0, 2 * numbers]}})
    (tmp_path / "config.json").write_text((model / "config.json").read_text())
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header.encode())
        file.truncate(8 + len(header) + 2 * numbers)  # a hole, not bytes
    said = one_line(run(sound, "--model", tmp_path))
    assert "2199.0 GB of it for weights" in said and "GB free" in said


def test_the_need_grows_with_the_numbers_and_the_audio(model: Path) -> None:
    from safetensors.torch import load_file

    numbers = sum(tensor.numel() for tensor in load_file(model / "model.safetensors").values())
    half, whole = (memory.need_of(model, dtype) for dtype in (torch.bfloat16, torch.float32))
    assert (half.weights, whole.weights) == (2 * numbers, 4 * numbers)
    # Keys and values: 4 layers, 2 heads of 24 numbers each, for each token.
    longer = memory.need_of(model, torch.bfloat16, seconds=600.0, new_tokens=1_000)
    assert longer.cache - half.cache == (600 * 14 + 1_000) * 2 * 4 * 2 * 24 * 2


def test_a_containers_limit_counts_as_the_memory_there_is(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 200000\n")
    assert memory._container(tmp_path) == 500_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._container(tmp_path) > 1 << 60
    assert 0 < memory.available(torch.device("cpu")) < 1 << 60


def test_the_check_names_need_and_stock() -> None:
    with pytest.raises(NotEnoughMemory, match=r"X needs at least .* GB of memory, 9000000\.0 GB of it"):
        memory.check("X", memory.Need(weights=9_000_000 * memory.GB, cache=0), torch.device("cpu"))
    memory.check("X", memory.Need(weights=1, cache=1), torch.device("cpu"))


def test_more_than_ten_minutes_are_answered_with_advice(run: Run, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, np.zeros(8_000 * 601, np.uint8).astype(np.int16), 8_000)
    outcome = run(path, "--model", model, "--max-new-tokens", 12)
    assert outcome.code == 0 and outcome.out == "Hi \n"
    assert "10 minutes" in outcome.err and "--start 0 --end 600" in outcome.err


def test_escape_codes_of_a_model_never_reach_the_terminal(run: Run, sound: Path, tmp_path: Path) -> None:
    folder = writing_checkpoint(tmp_path, chain(*letters("a\x1b[2Jb")))
    assert run(sound, "--model", folder).out == "a[2Jb\n"


def test_it_runs_as_a_module_from_a_hub_and_says_where_it_failed_when_asked(
    sound: Path, tmp_path: Path
) -> None:
    import os

    folder = random_checkpoint(tmp_path, "model")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TRANSFORMERS_"))}
    with serving({"someone/tiny": folder}) as hub:
        environment = kept | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
        done = subprocess.run(
            [sys.executable, "-m", "moss_audio", sound, "--model", "someone/tiny", "--json", "--end", "1"],
            env=environment,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    assert "Downloading someone/tiny" in done.stderr
    document = json.loads(done.stdout)
    assert document["model"] == "someone/tiny" and document["new_tokens"] > 0


def test_debug_shows_the_traceback(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from moss_audio.errors import AudioError

    monkeypatch.setattr(sys, "argv", ["moss_audio", str(tmp_path / "no.wav"), "--debug"])
    with pytest.raises(AudioError):
        main()
