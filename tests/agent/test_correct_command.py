"""Correcting from the command line, and what asks before it loses a correction."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.cli import commands as cli
from tests.support.conversing import TITLE

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(prepared: Path, tmp_path: Path, monkeypatch, capsys) -> Run:
    """Run a command over a home of the test's own: exit code, stdout, stderr."""
    home = shutil.copytree(prepared, tmp_path / "home")

    def go(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["moss-agent", "--home", str(home), *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return go


def document(run: Run, *arguments: str):
    code, out, err = run(*arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def lines(run: Run) -> list[str]:
    return run("transcript", TITLE)[1].splitlines()


def test_a_sentence_is_corrected_found_exported_undone_and_made_again(run: Run) -> None:
    before = lines(run)
    changed = document(run, "correct", TITLE, "0:00", "Welcome aboard the zeppelin, everybody.")
    (sentence,) = changed["segments"]
    assert sentence["text"] == "Welcome aboard the zeppelin, everybody." and sentence["start"] < 5
    assert "zeppelin" in document(run, "search", "zeppelin")[0]["text"]
    assert "zeppelin" in run("transcript", TITLE, "--format", "srt")[1]
    assert "zeppelin" in run("ask", "What was said in the first 10 seconds?")[1]
    (entry,) = document(run, "history", TITLE, f"#{sentence['id']}")
    assert entry["kind"] == "text" and entry["by"] == "command line" and entry["undone_at"] is None
    assert entry["before"][0]["text"] in " ".join(before)
    assert run("undo", TITLE)[0] == 0 and lines(run) == before
    assert run("undo", TITLE, "--redo")[0] == 0 and "zeppelin" in lines(run)[0]


def test_a_paragraph_changes_hands_and_sentences_are_split_and_merged(run: Run) -> None:
    moved = document(run, "correct", TITLE, "0:00", "--speaker", "Zora", "--paragraph")["segments"]
    assert {item["speaker"] for item in moved} == {"Zora"}
    first = moved[0]
    word = first["text"].split()[-2]
    code, out, err = run("correct", TITLE, f"#{first['id']}", "--split", word)
    assert code == 0 and len(out.splitlines()) == 2 and word in out.splitlines()[1], err
    (merged,) = document(run, "correct", TITLE, f"#{first['id']}", "--merge")["segments"]
    assert merged["text"] == first["text"]
    assert "Zora" in run("history", TITLE)[1]


@pytest.mark.parametrize(
    "arguments,code,expected",
    [
        (["correct", TITLE, "0:00"], 2, "--split"),
        (["correct", TITLE, "0:00", "Text.", "--merge"], 2, "--merge"),
        (["correct", TITLE, "0:00", "--merge", "--paragraph"], 2, "--paragraph"),
        (["correct", TITLE, "noon", "Text."], 2, "noon"),
        (["correct", TITLE, "#x", "Text."], 2, "#x"),
        (["correct", TITLE, "2:00:00", "Text."], 1, "2:00:00"),
        (["correct", TITLE, "#999999", "Text."], 1, "999999"),
        (["correct", TITLE, "0:00", "  "], 1, "word"),
        (["correct", TITLE, "0:00", "x " * 1500], 1, "2000"),
        (["correct", TITLE, "0:00", "--speaker", "x" * 200], 1, "80"),
        (["correct", TITLE, "0:00", "--split", "zeppelin"], 1, "zeppelin"),
        (["correct", "nope", "0:00", "Text."], 1, "nope"),
        (["undo", TITLE], 1, "undo"),
        (["undo", TITLE, "--redo"], 1, "redo"),
        (["rename-speaker", TITLE, "Speaker 1", "speaker 2"], 1, "--merge"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_changes_nothing(
    run: Run, arguments: list[str], code: int, expected: str
) -> None:
    before = lines(run)
    ended, out, err = run(*arguments)
    assert (ended, out) == (code, "") and expected in err and "Traceback" not in err
    assert code == 2 or err.count("\n") == 1
    assert lines(run) == before


def test_two_speakers_become_one_when_that_is_said(run: Run) -> None:
    assert (
        document(run, "rename-speaker", TITLE, "Speaker 1", "speaker 2", "--merge")["speaker"] == "Speaker 2"
    )
    assert "Speaker 1" not in run("transcript", TITLE)[1]
    run("undo", TITLE)
    assert "Speaker 1" in run("transcript", TITLE)[1]


def test_a_correction_is_lost_only_when_that_is_said(run: Run) -> None:
    run("correct", TITLE, "0:00", "--speaker", "Zora")
    for command in (["relabel-speakers", TITLE], ["remove", TITLE]):
        code, out, err = run(*command)
        assert (code, out) == (1, "") and "1 correction" in err and "--drop-corrections" in err
    assert "Zora" in lines(run)[0]
    assert run("remove", TITLE, "--drop-corrections")[0] == 0
