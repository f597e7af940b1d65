"""What the command line prints, on outputs as they are: any encoding, closed, full, or read by nobody."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent.cli import commands as cli
from agent.settings import Settings
from agent.workspace import open_workspace
from tests.support.conversing import TITLE
from tests.support.indexed import sentences, store

LONG = 400


@pytest.fixture(scope="module")
def home(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the sample meeting, and a recording in many scripts and of many sentences."""
    home = tmp_path_factory.mktemp("streams") / "home"
    shutil.copytree(prepared, home)
    workspace = open_workspace(Settings(home=home))
    texts = ["“Königstraße” – музей 音楽 🚢…", *(f"And number {number}." for number in range(LONG))]
    store(workspace.library, sentences(*texts), "Ärger über 音楽")
    workspace.close()
    return home


def run_in(encoding: str, monkeypatch, home: Path, *arguments: str) -> tuple[int, bytes, bytes]:
    """Run a command in this process, with outputs of an encoding that take nothing else."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict") for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setattr(sys, "argv", ["moss-agent", "--home", str(home), *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    for stream in (out, err):
        stream.flush()
    return int(ended.value.code or 0), out.buffer.getvalue(), err.buffer.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("encoding", ["latin-1", "gb2312", "ascii"])
def test_no_encoding_ends_a_command(monkeypatch, home, encoding):
    title = "Ärger über 音楽"
    commands = {
        "list": ["list"],
        "list as JSON": ["list", "--json"],
        "transcript": ["transcript", title],
        "transcript as JSON": ["transcript", title, "--json"],
        "search": ["search", "Königstraße"],
        "search as JSON": ["search", "Königstraße", "--json"],
        "ask": ["ask", "what was said at 0:01?", "--recording", title],
        "ask as JSON": ["ask", "what was said at 0:01?", "--recording", title, "--json"],
        "summarize": ["summarize", TITLE],
        "help": ["--help"],
    }
    if encoding == "ascii":
        commands["doctor"] = ["doctor"]
    for name, arguments in commands.items():
        code, out, err = run_in(encoding, monkeypatch, home, *arguments)
        assert code == 0, (name, err)
        assert out.decode(encoding), name
        if "--json" in arguments:
            assert out.isascii()
            json.loads(out)
    code, _, err = run_in(encoding, monkeypatch, home, "transcript", "音楽 “nope”")
    assert code == 1 and err.count(b"\n") == 1 and b"moss-agent list" in err


def test_json_of_any_encoding_is_the_same_document(monkeypatch, home):
    arguments = ("transcript", "Ärger über 音楽", "--json")
    documents = [json.loads(run_in(name, monkeypatch, home, *arguments)[1]) for name in ("utf-8", "gb2312")]
    assert documents[0] == documents[1]
    assert "музей 音楽 🚢" in documents[0]["segments"][0]["text"]


def test_what_an_encoding_has_is_written_in_it_and_the_rest_stays_legible(monkeypatch, home):
    _, out, _ = run_in("latin-1", monkeypatch, home, "transcript", "Ärger über 音楽")
    first = out.decode("latin-1").splitlines()[0]
    assert '"Königstraße" - ' in first and "..." in first and "\\U0001f6a2" in first


def command(home: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "agent.cli", "--home", str(home), *arguments]


def test_a_posix_locale_without_utf8_is_enough(home):
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(command(home, "list"), env=environment, capture_output=True, timeout=120)
    assert done.returncode == 0 and done.stderr == b"" and done.stdout.isascii()


@pytest.mark.parametrize("arguments", [["list"], ["transcript", "Ärger über 音楽"], ["list", "--json"]])
def test_a_full_disk_behind_the_output_is_one_sentence(home, arguments):
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command(home, *arguments), stdout=full, stderr=subprocess.PIPE, timeout=120)
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1 and b"No space left" in done.stderr


def test_a_closed_output_is_one_sentence_and_nothing_is_done(home, tmp_path):
    shell = ["sh", "-c", '"$@" >&-', "sh"]
    done = subprocess.run([*shell, *command(tmp_path / "new", "list")], stderr=subprocess.PIPE, timeout=120)
    assert done.returncode == 1 and done.stderr.count(b"\n") == 1 and b"closed" in done.stderr
    assert not (tmp_path / "new").exists()


def test_an_output_that_nobody_reads_ends_the_command_in_silence(home):
    read, write = os.pipe()
    os.close(read)
    asked = command(home, "transcript", "Ärger über 音楽")
    done = subprocess.run(asked, stdout=write, stderr=subprocess.PIPE, timeout=120)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


def test_an_error_without_a_standard_error_is_an_exit_code(home):
    shell = ["sh", "-c", '"$@" 2>&-', "sh"]
    done = subprocess.run([*shell, *command(home, "transcript", "nope")], stdout=subprocess.PIPE, timeout=120)
    assert (done.returncode, done.stdout) == (1, b"")
