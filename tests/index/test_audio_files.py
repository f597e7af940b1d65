"""Audio copies that are kept elsewhere: whole or not at all, fetched when wanted, gone when removed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fsspec.implementations.memory import MemoryFileSystem

from agent.settings import Settings
from agent.workspace import Workspace, open_workspace
from index.audio.peaks import peaks_of
from index.recording_errors import DiskFull, MossAgentError
from index.records import Status
from index.store.audio_files import IN_USE, KeptElsewhere
from index.store.database import RecordingRow
from tests.conftest import ROOT
from tests.support.indexed import sentences, store
from web.server import sweep_daily

ONE, TWO, THREE = ("1" * 64, "2" * 64, "3" * 64)


@pytest.fixture(params=["memory", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty place to keep copies in, on two of fsspec's file systems."""
    yield f"memory://{tmp_path.name}/audio" if request.param == "memory" else f"file://{tmp_path}/kept"
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


class Everything(dict):
    """Every recording is there, and idle."""

    def __contains__(self, _: object) -> bool:
        return True

    def get(self, *_: object) -> bool:
        return True


def elsewhere(folder: Path, url: str, most: int = 2**30) -> KeptElsewhere:
    return KeptElsewhere(folder, url, most, lambda _: Everything())


def make(files: KeptElsewhere, recording: str, seed: int = 0, seconds: float = 0.2) -> bytes:
    """An audio copy as a decoder leaves it in the folder."""
    files.folder.mkdir(exist_ok=True)
    noise = np.random.default_rng(seed).normal(scale=0.1, size=int(16_000 * seconds))
    soundfile.write(files.local(recording), noise, 16_000, subtype="PCM_16")
    peaks_of(files.local(recording))
    return files.local(recording).read_bytes()


def names(files: KeptElsewhere) -> list[str]:
    system, place = files._open()
    return sorted(str(name).rpartition("/")[2] for name in system.find(place))


def again_soon(files: KeptElsewhere) -> None:
    """As if half a minute had passed."""
    files._seen.clear()
    files._swept = -1e9


def test_another_machine_reads_what_one_has_made(tmp_path: Path, url: str) -> None:
    maker, reader = elsewhere(tmp_path / "a", url), elsewhere(tmp_path / "b", url)
    made = make(maker, ONE)
    maker.put(ONE)
    assert names(maker) == [f"{ONE}.flac", f"{ONE}.peaks"]
    assert reader.exists(ONE) and not reader.local(ONE).exists()
    copy = reader.path(ONE)
    assert copy.read_bytes() == made and copy.parent == tmp_path / "b"
    assert copy.with_suffix(".peaks").stat().st_mtime_ns >= copy.stat().st_mtime_ns
    assert not reader.exists(TWO) and not reader.path(TWO).exists()


def test_a_copy_is_sent_once_and_one_that_was_made_anew_is_sent_and_fetched_again(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker, reader = elsewhere(tmp_path / "a", url), elsewhere(tmp_path / "b", url)
    make(maker, ONE)
    maker.put(ONE)
    reader.path(ONE)
    system, _ = maker._open()
    sent: list[str] = []
    whole = type(system).put_file
    monkeypatch.setattr(
        type(system),
        "put_file",
        lambda self, *given, **named: (sent.append(given[1]), whole(self, *given, **named))[1],
    )
    maker.put(ONE)
    assert sent == []
    made = make(maker, ONE, seed=1, seconds=0.3)
    again_soon(maker)
    assert maker.path(ONE).read_bytes() == made  # what was not sent yet is the newest
    maker.put(ONE)
    assert len(sent) == 2
    again_soon(reader)
    assert reader.path(ONE).read_bytes() == made


@pytest.mark.parametrize("fault", [OSError("the line broke"), KeyboardInterrupt()])
def test_a_copy_that_breaks_off_on_its_way_there_leaves_nothing_and_is_sent_again(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> None:
    files = elsewhere(tmp_path / "a", url)
    made = make(files, ONE)
    files._open()[0].makedirs(files._open()[1], exist_ok=True)

    def half(self, source: str, name: str, **_: object) -> None:
        self.pipe_file(name, Path(source).read_bytes()[:100])
        raise fault

    with monkeypatch.context() as broken:
        broken.setattr(type(files._open()[0]), "put_file", half)
        with pytest.raises(MossAgentError if isinstance(fault, OSError) else KeyboardInterrupt):
            files.put(ONE)
        assert names(files) == []
    assert files.path(ONE).read_bytes() == made
    # A process that was killed could not clear away.
    system, place = files._open()
    system.pipe_file(f"{place}/{ONE}.flac.sending-0", b"half")
    files.put(ONE)
    assert names(files) == [f"{ONE}.flac", f"{ONE}.peaks"]


def test_a_copy_that_breaks_off_on_its_way_here_leaves_nothing(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker, reader = elsewhere(tmp_path / "a", url), elsewhere(tmp_path / "b", url)
    made = make(maker, ONE)
    maker.put(ONE)
    system = type(reader._open()[0])

    def cut_short(self, name: str, target: str, **_: object) -> None:
        Path(target).write_bytes(self.cat_file(name)[:100])

    def broken(self, name: str, target: str, **_: object) -> None:
        cut_short(self, name, target)
        raise ConnectionError("the line broke")

    for fault in (cut_short, broken):
        with monkeypatch.context() as faulty:
            faulty.setattr(system, "get_file", fault)
            with pytest.raises(MossAgentError, match="MOSS_AGENT_AUDIO"):
                reader.path(ONE)
        assert list((tmp_path / "b").iterdir()) == []
    assert reader.path(ONE).read_bytes() == made


def test_the_cache_drops_what_was_not_used_for_longest_and_never_what_was_not_sent(
    tmp_path: Path, url: str
) -> None:
    files = elsewhere(tmp_path / "a", url)
    for number, recording in enumerate((ONE, TWO)):
        make(files, recording, number)
        files.put(recording)
    make(files, THREE)
    long_ago = time.time() - 3 * IN_USE
    os.utime(files.local(ONE).with_suffix(".origin"), (long_ago, long_ago))
    os.utime(files.local(TWO).with_suffix(".origin"), (long_ago - 1, long_ago - 1))
    files._most_bytes = 2 * files.local(THREE).stat().st_size + 2000
    files.path(ONE)
    files._make_room(ONE)
    assert files.local(ONE).exists() and files.local(THREE).exists() and not files.local(TWO).exists()
    files._most_bytes = 1
    files._make_room(TWO)
    # The one was asked for just now, the other is nowhere else.
    assert files.local(ONE).exists() and files.local(THREE).exists()
    assert files.path(TWO).exists()


def test_without_the_other_place_the_cache_is_read_and_the_rest_is_one_sentence(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = elsewhere(tmp_path / "a", url)
    make(files, ONE)
    files.put(ONE)
    again_soon(files)

    def away(*_: object, **__: object) -> None:
        raise TimeoutError("no answer")

    monkeypatch.setattr(type(files._open()[0]), "info", away)
    assert files.path(ONE).exists()
    assert not files.exists(TWO)
    with pytest.raises(MossAgentError, match="TimeoutError"):
        files.path(TWO)


def test_what_cannot_be_is_one_sentence_without_passwords(tmp_path: Path) -> None:
    for url, word in (
        ("s3://bucket/x", "s3fs"),
        ("nothing://x", "nothing"),
        ("sftp://me:secret@host/x", "param"),
    ):
        with pytest.raises(MossAgentError, match=word) as raised:
            elsewhere(tmp_path, url).check()
        assert "secret" not in str(raised.value)
    with pytest.raises(MossAgentError, match="MOSS_AGENT_AUDIO"):
        open_workspace(Settings(home=tmp_path / "home", audio="some/folder"))
    with pytest.raises(MossAgentError, match="id"):
        elsewhere(tmp_path, "memory://x").remove("../../etc")


def test_a_place_is_checked_by_writing_to_it(tmp_path: Path, url: str) -> None:
    files = elsewhere(tmp_path / "a", url)
    assert url in files.check()
    assert names(files) == []


def quiet(tmp_path: Path, seed: int = 1) -> Path:
    """Three seconds in which nobody speaks."""
    path = tmp_path / f"quiet {seed}.wav"
    noise = 0.0005 * np.random.default_rng(seed).standard_normal(3 * 16_000)
    soundfile.write(path, noise, 16_000)
    return path


def open_at(home: Path, url: str) -> Workspace:
    database = f"sqlite:///{home.parent}/shared.sqlite"
    return open_workspace(Settings(home=home, database=database, audio=url))


def test_a_recording_is_kept_elsewhere_played_on_another_machine_and_removed_from_both(
    tmp_path: Path, url: str
) -> None:
    one, other = open_at(tmp_path / "one", url), open_at(tmp_path / "other", url)
    recording = one.add(quiet(tmp_path))
    assert recording.status == Status.READY
    files = one.library.audio
    assert isinstance(files, KeptElsewhere) and isinstance(other.library.audio, KeptElsewhere)
    assert names(files) == [f"{recording.id}.flac", f"{recording.id}.peaks"]
    assert len(other.peaks("quiet 1", 0, 3, 10)) == 10
    assert other.library.audio.local(recording.id).exists()
    assert other.add(quiet(tmp_path)) == recording

    one.remove("quiet 1")
    assert names(files) == []
    again_soon(other.library.audio)
    other.library.audio_path(ONE)
    for workspace in (one, other):
        assert list((workspace.home / "audio").iterdir()) == []
        workspace.close()


def test_a_recording_whose_copy_cannot_be_sent_goes_on_when_it_is_added_again(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = open_at(tmp_path / "home", url)
    files = workspace.library.audio
    assert isinstance(files, KeptElsewhere)

    def full(*_: object, **__: object) -> None:
        raise ConnectionError("broken off")

    with monkeypatch.context() as broken:
        broken.setattr(type(files._open()[0]), "put_file", full)
        with pytest.raises(MossAgentError, match="MOSS_AGENT_AUDIO"):
            workspace.add(quiet(tmp_path))
    (failed,) = workspace.library.recordings()
    assert failed.status == Status.FAILED
    assert workspace.add(quiet(tmp_path)).status == Status.READY
    assert names(files) == [f"{failed.id}.flac", f"{failed.id}.peaks"]
    workspace.close()


def removed(fails: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove a recording whose audio copy is kept where something does not work."""
    files = workspace.library.audio
    assert isinstance(files, KeptElsewhere)
    with monkeypatch.context() as broken:
        broken.setattr(type(files._open()[0]), fails, lambda *_: (_ for _ in ()).throw(OSError("away")))
        workspace.remove("Boat")


@pytest.mark.parametrize("is_added_again", [False, True])
def test_a_copy_that_cannot_be_removed_there_goes_later_unless_it_is_wanted_again(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch, is_added_again: bool
) -> None:
    workspace = open_at(tmp_path / "home", url)
    recording = store(workspace.library, sentences("The boat leaves at ten."), "Boat")
    files = workspace.library.audio
    make(files, recording)
    files.put(recording)
    removed("rm_file", workspace, monkeypatch)
    assert workspace.library.recordings() == [] and f"{recording}.flac" in names(files)
    if is_added_again:
        with workspace.library.database.transaction() as session:
            session.add(RecordingRow(id=recording, title="Boat", source_name="", added_at=""))
    ended = threading.Event()
    sweep_daily(workspace, ended)
    if is_added_again:
        workspace.library.finish_removals()
        assert f"{recording}.flac" in names(files)
        workspace.remove("Boat")
    until = time.monotonic() + 20
    while names(files):
        assert time.monotonic() < until
        time.sleep(0.01)
    ended.set()
    workspace.close()


def test_a_removal_that_breaks_off_leaves_a_recording_with_its_audio(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = open_at(tmp_path / "home", url)
    recording = store(workspace.library, sentences("The boat leaves at ten."), "Boat")
    make(workspace.library.audio, recording)
    workspace.library.audio.put(recording)
    workspace.library.audio.drop_local(recording)
    with monkeypatch.context() as broken:
        broken.setattr(type(workspace.library.database.backend), "forget_words", full)
        with pytest.raises(DiskFull):
            workspace.remove("Boat")
    workspace.library.finish_removals()
    assert workspace.library.audio_path(workspace.library.resolve("Boat").id).exists()
    workspace.remove("Boat")
    assert names(workspace.library.audio) == []
    workspace.close()


def full(*_: object) -> None:
    raise DiskFull("The disk is full.")


def test_what_cannot_be_reached_there_stays_in_the_library(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = open_at(tmp_path / "home", url)
    recording = store(workspace.library, sentences("The boat leaves at ten."), "Boat")
    files = workspace.library.audio
    assert isinstance(files, KeptElsewhere)
    make(files, recording)
    files.put(recording)
    with monkeypatch.context() as broken:
        broken.setattr(type(files._open()[0]), "pipe_file", lambda *_: (_ for _ in ()).throw(OSError("away")))
        with pytest.raises(MossAgentError):
            workspace.remove("Boat")
    assert workspace.library.recording(recording)
    workspace.remove("Boat")
    assert names(files) == [] and workspace.library.recordings() == []
    workspace.close()


def test_another_folder_takes_the_place_of_that_in_the_home(tmp_path: Path) -> None:
    workspace = open_workspace(Settings(home=tmp_path / "home", audio=str(tmp_path / "big disk")))
    recording = workspace.add(quiet(tmp_path))
    assert (tmp_path / "big disk" / f"{recording.id}.flac").exists()
    assert not (tmp_path / "home" / "audio").exists()
    workspace.remove("quiet 1")
    assert list((tmp_path / "big disk").iterdir()) == []
    workspace.close()


def test_fsspec_is_not_imported_without_the_setting(tmp_path: Path) -> None:
    asked = (
        "import sys; from agent.settings import Settings; from agent.workspace import open_workspace;"
        f"w = open_workspace(Settings(home={str(tmp_path / 'home')!r})); w.library.audio_path('1');"
        "w.library.has_audio('1'); w.library.audio.put('1'); w.library.delete('1');"
        "sys.exit('fsspec' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", asked], cwd=ROOT).returncode == 0
