"""A disk that is full at any step: one sentence, nothing lost, and adding the file again goes on."""

from __future__ import annotations

import shutil
import sqlite3
from collections import namedtuple
from pathlib import Path

import pytest
import soundfile
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from agent.adding import add_files
from agent.settings import Settings
from agent.workspace import Workspace, open_workspace
from index.recording_errors import DiskFull, MossAgentError
from index.records import Recording
from index.store.database import migrate
from index.transcription.moss_transcriber import MossTranscriber
from tests.support.scripted_backend import ScriptedBackend, excerpt

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def workspace(home: Path):
    opened = open_workspace(Settings(home=home))
    opened.__dict__["transcriber"] = MossTranscriber(ScriptedBackend(home, 0.0))
    yield opened
    opened.close()


def add(workspace: Workspace, *files: Path) -> list[Recording | MossAgentError]:
    return [result for _, result in add_files(workspace, files, lambda _: lambda _: None)]


class FullDatabase:
    """Keeps the database from growing; it is SQLite itself that says that there is no room."""

    def __init__(self, workspace: Workspace) -> None:
        self.engine = workspace.library.database.engine

    def fill(self) -> None:
        event.listen(self.engine, "begin", self._limit)

    def free(self) -> None:
        event.remove(self.engine, "begin", self._limit)
        with self.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count=1000000")

    @staticmethod
    def _limit(connection) -> None:
        # SQLite makes the limit what the file has already where it has more.
        connection.exec_driver_sql("PRAGMA max_page_count=1")


def test_a_disk_that_fills_while_windows_are_stored_costs_nothing_that_was_stored(
    workspace, sample, tmp_path
):
    file = excerpt(sample, tmp_path / "talk.wav", 0, 100)
    disk = FullDatabase(workspace)
    reserves: list[list[Path]] = []

    def rule(asked):
        reserves.append(list((workspace.home / "audio").glob("*.reserve")))
        if len(reserves) == 1:
            disk.fill()
        return None

    workspace.library.database.rewrite()  # no page of it is free
    workspace.transcriber.backend.rule = rule
    (failed,) = add(workspace, file)
    assert isinstance(failed, DiskFull) and str(workspace.home) in str(failed)
    assert all(reserves), "nothing was kept back"
    (recording,) = workspace.library.recordings()
    assert recording.status == "failed" and str(failed) in recording.problems[0].detail
    assert not [left for left in (workspace.home / "audio").glob("*.[!f]*") if left.suffix != ".peaks"], (
        "what was kept back was not given back"
    )
    disk.free()
    workspace.transcriber.backend.rule = lambda _: None
    (added,) = add(workspace, file)
    assert isinstance(added, Recording) and added.status == "ready"


def test_no_room_for_the_copy_is_one_sentence_and_nothing_is_stored(workspace, sample, tmp_path, monkeypatch):
    file = excerpt(sample, tmp_path / "talk.wav", 0, 10)
    write = soundfile.SoundFile.write

    def failing(self, data):
        raise soundfile.LibsndfileError(2)  # “System error.” is all it says

    monkeypatch.setattr(soundfile.SoundFile, "write", failing)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 0))
    (failed,) = add(workspace, file)
    assert isinstance(failed, DiskFull) and workspace.library.recordings() == []
    assert not list((workspace.home / "audio").iterdir())
    monkeypatch.setattr(soundfile.SoundFile, "write", write)
    assert isinstance(add(workspace, file)[0], Recording)


def test_a_copy_that_is_cut_short_when_it_is_closed_is_noticed(workspace, sample, tmp_path, monkeypatch):
    file = excerpt(sample, tmp_path / "talk.wav", 0, 10)
    write = soundfile.SoundFile.write
    with monkeypatch.context() as patched:
        patched.setattr(soundfile.SoundFile, "write", lambda self, data: write(self, data[:-100]))
        (failed,) = add(workspace, file)
    assert isinstance(failed, DiskFull) and workspace.library.recordings() == []
    assert isinstance(add(workspace, file)[0], Recording)


def test_no_room_to_begin_is_said_before_anything_is_done(workspace, sample, tmp_path, monkeypatch):
    file = excerpt(sample, tmp_path / "talk.wav", 0, 10)

    def no_room(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("index.disk_space.os.fsync", no_room)
    (failed,) = add(workspace, file)
    assert isinstance(failed, DiskFull) and workspace.library.recordings() == []


def test_a_question_whose_conversation_has_no_room_says_it_too(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "home")
    workspace = open_workspace(Settings(home=tmp_path / "home"))
    assistant = workspace.assistant
    disk = FullDatabase(workspace)
    disk.fill()
    with pytest.raises(DiskFull):
        for number in range(500):
            assistant.ask("what was said at 0:30?", thread=f"{number}".zfill(500))
    disk.free()
    assert assistant.ask("what was said at 0:30?").citations
    workspace.close()


def test_a_recording_can_be_removed_from_a_full_disk(prepared, tmp_path, monkeypatch):
    home = tmp_path / "home"
    shutil.copytree(prepared, home)
    workspace = open_workspace(Settings(home=home))
    (recording,) = workspace.library.recordings()
    copy = workspace.library.audio_path(recording.id)
    workspace.close()
    copy.parent.mkdir(exist_ok=True)
    copy.touch()

    def needs_the_room_of_the_copy(engine, backend):
        if copy.exists():
            raise OperationalError("BEGIN", {}, sqlite3.OperationalError("database or disk is full"))
        migrate(engine, backend)

    monkeypatch.setattr("index.store.database.migrate", needs_the_room_of_the_copy)
    workspace = open_workspace(Settings(home=home))
    assert isinstance(workspace.read_only, DiskFull)
    workspace.assistant.ask("what was said at 0:30?")
    assert workspace.remove(recording.id).id == recording.id
    assert workspace.read_only is None and workspace.library.recordings() == []
    assert "no recording" in workspace.assistant.ask("what was said at 0:30?").text.lower()
    workspace.close()


def test_an_error_that_nobody_foresaw_costs_one_file(workspace, sample, tmp_path):
    class Panic(BaseException):
        """As those of libraries written in Rust."""

    files = [excerpt(sample, tmp_path / f"{at}.wav", at, at + 10) for at in (0, 100, 204)]
    seconds = iter([AssertionError("not finite"), Panic("in Rust"), None])
    add_one = workspace.ingest.add

    def sometimes(path, *rest):
        error = next(seconds)
        if error is not None:
            raise error
        return add_one(path, *rest)

    workspace.ingest.add = sometimes
    first, second, third = add(workspace, *files)
    for failed, name, said in ((first, "0.wav", "not finite"), (second, "100.wav", "in Rust")):
        assert isinstance(failed, MossAgentError) and name in str(failed) and said in str(failed)
        assert "\n" not in str(failed)
    assert isinstance(third, Recording) and third.status == "ready"
