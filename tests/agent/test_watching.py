"""What appears in a watched folder is taken in once it has stopped growing, and only once."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from pathlib import Path

import pytest

from agent.settings import Settings
from agent.watching import Taken, Watch
from agent.workspace import open_workspace
from index.recording_errors import MossAgentError
from index.transcription.moss_transcriber import MossTranscriber
from tests.support.scripted_backend import ScriptedBackend, excerpt
from tests.support.waiting import wait_until

SRT = "1\n00:00:01,000 --> 00:00:04,000\nWe take the ferry to the harbour.\n"


@pytest.fixture
def workspace(home: Path):
    opened = open_workspace(Settings(home=home))
    backend = ScriptedBackend(home, 0.0)
    backend.rule = lambda asked: f"[0.00]Something that lasts as long as it should[{asked.seconds:.2f}]"
    opened.__dict__["transcriber"] = MossTranscriber(backend)
    yield opened
    opened.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "watched"
    made.mkdir()
    return made


@pytest.fixture(scope="module")
def media(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return excerpt(sample, tmp_path_factory.mktemp("media") / "a.wav", 100, 106).read_bytes()


def watch(workspace, folder: Path, **options) -> Watch:
    return Watch(
        workspace, folder, lambda name: lambda progress: None, **{"settle": 0.0, "look": 0.02, **options}
    )


def once(workspace, folder: Path) -> dict[str, Taken]:
    return {taken.path.name: taken for taken in watch(workspace, folder).run(once=True)}


def test_media_and_transcripts_are_taken_in_and_remembered_over_a_restart(workspace, folder, media):
    (folder / "below").mkdir()
    (folder / "below" / "talk.wav").write_bytes(media)
    (folder / "plan.srt").write_text(SRT)
    (folder / ".hidden.srt").write_text(SRT)
    (folder / "photo.jpg").write_bytes(b"x")
    (folder / "empty.wav").touch()
    taken = once(workspace, folder)
    assert set(taken) == {"talk.wav", "plan.srt"} and not any(one.problem for one in taken.values())
    assert {one.title for one in workspace.library.recordings()} == {"talk", "plan"}
    assert once(workspace, folder) == {}
    # One that was removed from the library does not come back by itself.
    workspace.remove("plan")
    assert once(workspace, folder) == {}


def test_a_file_that_still_grows_is_left_until_it_has_stopped(workspace, folder):
    path = folder / "talk.srt"
    lines = [SRT.replace("1\n", f"{n}\n", 1).replace("00:00:0", f"00:0{n}:0") for n in range(1, 6)]
    stop = threading.Event()

    def write() -> None:
        with path.open("w") as file:
            for line in lines:
                file.write(line + "\n")
                file.flush()
                time.sleep(0.15)

    writer = threading.Thread(target=write)
    writer.start()
    found = next(iter(watch(workspace, folder, settle=2.0, stop=stop).run()))
    writer.join()
    assert found.recording is not None and workspace.library.segment_count(found.recording.id) == len(lines)


def test_bad_files_are_told_once_and_stop_nothing(workspace, folder):
    (folder / "a.json").write_text('{"no": "transcript"}')
    (folder / "b.wav").write_text("no sound")
    (folder / "c.txt").write_text("Nothing with a time.\n")
    (folder / "d.srt").write_text(SRT)
    taken = once(workspace, folder)
    assert [name for name, one in taken.items() if one.problem] == ["a.json", "b.wav", "c.txt"]
    assert taken["d.srt"].recording is not None
    assert once(workspace, folder) == {}
    (folder / "c.txt").write_text("[0:01] Anna: Now it has.\n")
    assert once(workspace, folder)["c.txt"].recording is not None


def test_a_transcript_and_its_media_are_one_recording_in_any_order(workspace, folder, media):
    (folder / "both.en.srt").write_text(SRT)
    (folder / "both.wav").write_bytes(media)
    (folder / "later.vtt").write_text("WEBVTT\n\n00:01.000 --> 00:04.000\nThe bus.\n")
    once(workspace, folder)
    (folder / "later.wav").write_bytes(media + b"\0\0")
    (folder / "later.srt").write_text(SRT + "\n")
    taken = once(workspace, folder)
    recordings = {one.title: one for one in workspace.library.recordings()}
    assert set(recordings) == {"both", "later"}
    assert all(one.has_media and one.imported for one in recordings.values())
    assert taken["later.srt"].problem and taken["later.wav"].recording.imported == "vtt"


def test_media_whose_transcript_does_not_fit_is_heard(workspace, folder, media):
    (folder / "talk.srt").write_text(SRT.replace("00:00:0", "00:09:0"))
    (folder / "talk.wav").write_bytes(media)
    taken = once(workspace, folder)
    assert taken["talk.srt"].problem and taken["talk.wav"].recording.imported is None


def test_it_ends_in_order_and_waits_while_another_program_uses_the_home(workspace, folder):
    (folder / "talk.srt").write_text(SRT)
    told: list[str] = []
    stop = threading.Event()
    with (workspace.home / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        watching = watch(workspace, folder, stop=stop, told=told.append).run()
        found: list[Taken] = []
        thread = threading.Thread(target=lambda: found.extend(watching))
        thread.start()
        wait_until(lambda: told)
        time.sleep(0.2)
        assert len(told) == 1 and found == []
    wait_until(lambda: found)
    stop.set()
    thread.join(30)
    assert not thread.is_alive() and [one.path.name for one in found] == ["talk.srt"]


def test_a_folder_that_is_none_is_refused(workspace, folder):
    with pytest.raises(MossAgentError):
        watch(workspace, folder / "missing")
    watching = watch(workspace, folder)
    os.rmdir(folder)
    with pytest.raises(MossAgentError):
        list(watching.run())


def test_while_a_companion_grows_the_folder_is_looked_at_now_and_then(workspace, folder, monkeypatch):
    (folder / "talk.srt").write_text(SRT)
    (folder / "talk.mp4").write_bytes(b"x")
    stop, looks = threading.Event(), []
    watched = watch(workspace, folder, settle=0.2, look=0.05, stop=stop)
    look = watched._look

    def counted():
        looks.append(1)
        with (folder / "talk.mp4").open("ab") as file:
            file.write(b"x")
        return look()

    monkeypatch.setattr(watched, "_look", counted)
    threading.Timer(1.0, stop.set).start()
    assert list(watched.run()) == []
    assert 3 <= len(looks) <= 25


def test_a_folder_that_is_taken_away_meanwhile_ends_nothing(workspace, folder):
    below = folder / "below"
    below.mkdir()
    for name in ("a.srt", "b.srt"):
        (below / name).write_text(SRT.replace("harbour", name))
    taken = []
    for one in watch(workspace, folder).run(once=True):
        taken.append(one.path.name)
        if below.exists():
            below.rename(folder.parent / "away")
    assert taken == ["a.srt"] and not any(one.status != "ready" for one in workspace.library.recordings())
