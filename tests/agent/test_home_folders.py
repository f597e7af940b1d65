"""Home folders and files with names and places that people really have."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile

from agent import cli
from agent.settings import Settings
from agent.workspace import open_workspace
from index.audio.decode import decode_to_flac
from index.recording_errors import HomeInUse, MossAgentError
from index.search.indexing import index_recording
from moss_audio.audio import SAMPLE_RATE
from tests.support.indexed import sentences, store
from tests.support.media import cut

NAMES = ["a b", "a%20b", "what?now", "x#y", "Größe 音", "file:x"]


def fill(home: Path, text: str) -> str:
    """Make a library with one recording in a home; returns the recording's id."""
    workspace = open_workspace(Settings(home=home))
    recording = store(workspace.library, sentences(text, "and more"), f"talk of {home.name}")
    index_recording(workspace.library, workspace.embedder, workspace.vectors, recording)
    workspace.assistant.ask("what was said at 0:01?")
    workspace.close()
    return recording


def test_a_homes_name_is_a_name_and_no_url(tmp_path):
    for name in NAMES:
        fill(tmp_path / name, f"The word of {name}.")
        inside = {path.name for path in (tmp_path / name).iterdir()}
        assert {"library.sqlite", "conversations.sqlite", "vectors"} <= inside
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o700
    assert {path.name for path in tmp_path.iterdir()} == set(NAMES), "something lies beside the homes"
    for name in NAMES:
        workspace = open_workspace(Settings(home=tmp_path / name))
        assert [recording.title for recording in workspace.library.recordings()] == [f"talk of {name}"]
        workspace.close()


@pytest.mark.parametrize("encoding", ["iso8859-1", "ascii", "gb2312"])
def test_a_home_that_the_locale_would_misname_is_refused_and_nothing_is_made(tmp_path, monkeypatch, encoding):
    monkeypatch.setattr("sys.getfilesystemencoding", lambda: encoding)
    with pytest.raises(MossAgentError, match="PYTHONUTF8=1"):
        open_workspace(Settings(home=tmp_path / "Größe"))
    assert not list(tmp_path.iterdir())
    open_workspace(Settings(home=tmp_path / "plain")).close()


def test_removing_deletes_in_this_home_and_in_no_other(tmp_path):
    for name in ("a b", "a%20b"):
        fill(tmp_path / name, "The ferry leaves at noon.")
    workspace = open_workspace(Settings(home=tmp_path / "a%20b"))
    workspace.remove("talk of a%20b")
    workspace.close()
    other = open_workspace(Settings(home=tmp_path / "a b"))
    assert other.library.count() == 1
    other.close()


def test_a_home_is_the_same_folder_after_the_program_went_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    workspace = open_workspace(Settings(home=Path("what?now")))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    store(workspace.library, sentences("here"), "talk")
    assert workspace.library.count() == 1 and not list((tmp_path / "elsewhere").iterdir())
    workspace.close()


@pytest.mark.parametrize("name", ["14:30 call.wav", "Re:budget.wav", "file:x.wav", "-x.wav", "a%20b#c?d.wav"])
def test_a_files_name_is_a_name_and_no_url(sample, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    audio, rate = cut(sample, 2, 4)
    soundfile.write(tmp_path / name, audio, rate)
    # What a URL would name instead.
    soundfile.write(tmp_path / "x.wav", audio[: rate // 2], rate)
    decoded = decode_to_flac(Path(name), tmp_path / "copy.flac")
    assert decoded.duration == pytest.approx(len(audio) / rate, abs=1 / SAMPLE_RATE)


def test_who_may_not_write_is_told_where_the_page_is(home: Path):
    page, other = (open_workspace(Settings(home=home)) for _ in range(2))
    with page.writing():
        page.opened_at("http://127.0.0.1:7861")
        for _ in range(2):
            with pytest.raises(HomeInUse, match=r"http://127\.0\.0\.1:7861"), other.writing():
                pass
    with other.writing():
        pass
    for workspace in (page, other):
        workspace.close()


@pytest.mark.parametrize("name", ["", "  ", "a-file"])
def test_what_cannot_be_a_home_is_said_and_nothing_is_made(tmp_path, monkeypatch, capsys, name):
    (tmp_path / "a-file").write_text("x")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["moss-agent", "--home", name, "list"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2 and "folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a-file"]
