"""A home folder that can be read and not written: on a DVD, a share, or another user's."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.cli import commands as cli
from agent.cli.doctor import examine
from agent.settings import Settings
from agent.workspace import open_workspace
from index.recording_errors import DiskFull, ReadOnly
from tests.support.bystander import bystander, readable_copy, seal
from tests.support.conversing import TITLE


@pytest.fixture(scope="module")
def sealed(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with the sample meeting and a conversation, which cannot be written."""
    home = tmp_path_factory.mktemp("sealed") / "home"
    shutil.copytree(prepared, home)
    workspace = open_workspace(Settings(home=home))
    workspace.assistant.ask("what was said at minute 2?", thread="t")
    workspace.close()
    with readable_copy(home) as copy:
        yield copy


def run(monkeypatch, capsys, home: Path, *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["moss-agent", "--home", str(home), *arguments])
    with bystander(), pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def content(home: Path) -> dict[str, bytes]:
    return {str(path.relative_to(home)): path.read_bytes() for path in home.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["list"], "Harbour"),
        (["transcript", TITLE], "fireworks"),
        (["search", "fireworks in the wind"], "fireworks"),
        (["search", "fireworks", "--recording", TITLE], "fireworks"),
        (["ask", "what did we decide about the sound stage?"], "North Key"),
        (["ask", "and after that?", "--thread", "t"], "[3:0"),
        (["summarize", TITLE], "North Key"),
    ],
)
def test_reading_commands_work_and_change_nothing(monkeypatch, capsys, sealed, arguments, wanted):
    before = content(sealed)
    code, out, err = run(monkeypatch, capsys, sealed, *arguments)
    assert code == 0 and wanted in out, err
    assert err.count("\n") == 1 and str(sealed) in err and "conversation" in err
    assert content(sealed) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["rename-speaker", TITLE, "Speaker 1", "Anna"],
        ["correct", TITLE, "0:00", "Hello."],
        ["undo", TITLE],
        ["relabel-speakers", TITLE],
        ["remove", TITLE],
        ["reindex"],
        ["web", "--port", "7999"],
    ],
)
def test_writing_commands_are_refused_in_one_sentence(monkeypatch, capsys, sealed, arguments):
    before = content(sealed)
    code, out, err = run(monkeypatch, capsys, sealed, *arguments)
    assert (code, out) == (1, "") and err.count("\n") == 1
    assert str(sealed) in err and "cannot be written" in err
    assert content(sealed) == before


def test_adding_is_refused_in_one_sentence(monkeypatch, capsys, sealed, sample):
    code, out, err = run(monkeypatch, capsys, sealed, "add", str(sample))
    assert (code, out) == (1, "") and err.count("\n") == 1 and "cannot be written" in err


def test_the_doctor_says_it(sealed, monkeypatch):
    # The models it loads need files that only this user may be able to read.
    monkeypatch.setattr("agent.workspace.is_writable", lambda _: False)
    workspace = open_workspace(Settings(home=sealed))
    checks = {check.name: check for check in examine(workspace)}
    workspace.close()
    assert not checks["home"].ok and "cannot be written" in checks["home"].detail
    assert checks["library"].ok and checks["search"].ok


def test_what_another_process_has_just_written_is_read_too(monkeypatch, capsys, sealed, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(sealed, home)
    for path in home.rglob("*"):
        path.chmod(0o755)
    with sqlite3.connect(home / "library.sqlite") as writer:
        writer.execute("UPDATE recordings SET title = 'In the log'")
        writer.commit()
        # Copied while it is open: the title is in the log alone.
        with readable_copy(home) as copy:
            assert run(monkeypatch, capsys, copy, "list")[1].count("In the log") == 1
    writer.close()


def test_without_a_library_it_says_that_none_can_be_made(monkeypatch, capsys, tmp_path):
    (tmp_path / "empty").mkdir()
    with readable_copy(tmp_path / "empty") as home:
        code, _, err = run(monkeypatch, capsys, home, "list")
    assert code == 1 and err.count("\n") == 1 and "no library" in err


def test_a_library_of_another_version_is_not_guessed_at(monkeypatch, capsys, sealed, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(sealed, home)
    for path in (home, *home.rglob("*")):
        path.chmod(0o755)
    with sqlite3.connect(home / "library.sqlite") as database:
        database.execute("UPDATE alembic_version SET version_num = '0001'")
    database.close()
    with readable_copy(home) as copy:
        code, _, err = run(monkeypatch, capsys, copy, "list")
    assert code == 1 and err.count("\n") == 1 and "version" in err


def test_a_library_that_a_full_disk_does_not_open_is_read(sealed, tmp_path, monkeypatch):
    home = tmp_path / "home"
    shutil.copytree(sealed, home)
    seal(home)
    for path in (home, *home.rglob("*")):
        path.chmod(0o755)

    def full(_engine, _backend):
        from sqlalchemy.exc import OperationalError

        # What SQLite leaves behind there.
        (home / "library.sqlite-wal").touch()
        (home / "library.sqlite-shm").write_bytes(bytes(3))
        raise OperationalError("PRAGMA", {}, sqlite3.OperationalError("database or disk is full"))

    monkeypatch.setattr("index.store.database.migrate", full)
    workspace = open_workspace(Settings(home=home))
    assert workspace.library.count() == 1
    assert workspace.assistant.ask("what was said at 0:30?").citations
    with pytest.raises(DiskFull):
        workspace.rename_speaker(TITLE, "Speaker 1", "Anna")
    workspace.close()


def test_a_database_elsewhere_that_cannot_be_written_is_read(sealed):
    home = sealed.parent / "another home"
    home.mkdir()
    home.chmod(0o777)
    settings = Settings(home=home, database=f"sqlite:///{sealed / 'library.sqlite'}")
    with bystander():
        workspace = open_workspace(settings)
        assert workspace.library.count() == 1
        with pytest.raises(ReadOnly), workspace.writing():
            pass
        workspace.close()
