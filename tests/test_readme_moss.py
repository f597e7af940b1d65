"""The README's commands for the tiny model, run as they stand there."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from agent.citations.check import UNVERIFIED
from moss_audio.timestamps import clock
from tests.conftest import ROOT
from tests.fixture import lessons
from tests.fixture.clips import CLIPS, plain, script
from tests.fixture.shipped import FOLDER
from tests.support.forked_command import install

HEADING = "### All of it on a tiny model"
CLIP = plain(*CLIPS["ferry_talk"])
SENTENCES = [part.text for part in CLIP.parts]
PEOPLE = {entry.speaker for entry in script()[CLIPS["ferry_talk"][0] : CLIPS["ferry_talk"][1] + 1]}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def commands() -> list[str]:
    """The block's commands, those over several lines whole."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition(HEADING)[2]
    (block, *_) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    return re.findall(r"(?m)^\S.*(?:\n .*)*", block)


@pytest.fixture(scope="module")
def said(moss_fixture: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each command printed on stdout, by its first words."""
    if not (shutil.which("curl") and shutil.which("base64")):
        pytest.skip("curl and base64 are needed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = tmp_path_factory.mktemp("readme") / "home"
    programs = tmp_path_factory.mktemp("bin")
    commands_run = install(programs, programs / "log")
    written = commands()
    here = {
        "build/moss-home": str(home),
        ".venv/bin/": f"{programs}/",
        "moss-agent serve &": f"moss-agent serve --port {port} &",
        ":8000/": f":{port}/",
    }
    script = ["set -e", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT"]
    for number, command in enumerate(written):
        for example, true in here.items():
            command = command.replace(example, true)
        script += [f"printf '\\n@@@{number}\\n'", command]
    try:
        done = _run("\n".join([*script, "wait"]))
    finally:
        commands_run.kill()
    parts = re.split(r"\n@@@\d+\n", done.stdout)[1:]
    assert len(parts) == len(written), done.stderr
    return {_name(command): part for command, part in zip(written, parts, strict=True)}


def _run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["timeout", "1000", "bash", "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )


def _name(command: str) -> str:
    """``add``, ``transcript``, …; the path that is asked where it is curl."""
    route = re.search(r"http://127\.0\.0\.1:8000(/\S+)", command)
    return route[1] if route else command.removeprefix(".venv/bin/moss-agent ").split()[0]


def test_the_readme_uses_the_shipped_model_and_only_make_fixture_trains_it():
    assert f"MOSS_AGENT_MODEL={FOLDER.relative_to(ROOT)} " in "\n".join(commands())
    assert not any("make fixture" in command for command in commands())
    rules = (ROOT / "Makefile").read_text()
    assert rules.partition("\nfixture:")[2].splitlines()[1].strip().endswith("python -m tests.fixture")
    assert rules.count("tests.fixture") == 1


def test_a_recording_is_heard_word_for_word_and_found(said: dict[str, str]):
    assert f"{len(SENTENCES)} sentences" in said["add"] and "100 % of detected speech" in said["add"]
    lines = said["transcript"].strip().splitlines()
    assert [line.partition(": ")[2] for line in lines] == SENTENCES
    for line, part in zip(lines, CLIP.parts, strict=True):
        assert line[1:].split("]")[0] in {clock(part.start + off) for off in (-0.15, 0.0, 0.15)}
    assert "one extra crew" in said["search"]


def test_it_listens_again(said: dict[str, str]):
    heard, note = said["listen"].strip().split("\n\n")
    assert heard == lessons.ANSWERS[len(PEOPLE)]
    assert note == f"Heard from 0:00 to {clock(CLIP.duration)}."


def test_the_question_goes_to_the_tiny_model_and_the_answer_says_what_it_is_worth(said: dict[str, str]):
    answer = json.loads(said["ask"])
    if answer["model"] == "extractive":
        assert answer["answer"].startswith("moss-fixture could not answer this (")
        assert "so these are quotes chosen by rule." in answer["answer"]
        assert any("one extra crew" in citation["quote"] for citation in answer["citations"])
    else:
        assert answer["model"] == "moss-fixture"
        if answer["citations"]:
            assert answer["answer"].startswith(UNVERIFIED)
            assert any("one extra crew" in citation["quote"] for citation in answer["citations"])
        else:
            assert not any(sentence in answer["answer"] for sentence in SENTENCES)


def test_it_answers_over_http(said: dict[str, str]):
    assert "moss-fixture answers, moss-fixture transcribes" in said["serve"] + said["/health"]
    assert '"status":"ready"' in said["/health"]
    heard = json.loads(said["/v1/audio/transcriptions"])
    assert heard["text"] == " ".join(SENTENCES)
    assert heard["coverage"] == 1.0
    chat = json.loads(said["/v1/chat/completions"])
    assert chat["model"] == "moss-fixture"
    assert chat["choices"][0]["message"]["content"] == lessons.ANSWERS[len(PEOPLE)]
    assert chat["choices"][0]["finish_reason"] == "stop"
