"""From a file to a ready recording, with the real recogniser; nothing is lost to a kill or a cancel."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from agent.settings import Settings
from agent.workspace import Workspace, open_workspace
from index.audio.decode import SAMPLE_RATE
from index.pipeline.ingest import Progress
from index.recording_errors import Cancelled, MediaError, MossAgentError
from index.records import NoteKind
from index.transcription.whisper import WhisperTranscriber
from tests.support.indexed import kinds
from tests.support.media import cut
from tests.support.preloaded import Program
from tests.support.scripted_backend import excerpt


@pytest.fixture
def workspace(home: Path, models: Path):
    home.mkdir()
    (home / "models").symlink_to(models)
    opened = open_workspace(Settings(home=home, transcriber="tiny.en"))
    yield opened
    opened.close()


SHORT_WINDOWS = 10.0
"""Seconds of speech in a window where several are to be heard of a short talk; usually it is a minute."""

TOPICS = (72.9, 204.8)
"""Where two topics of the sample begin and end, seconds; all of it is measured by benchmarks/hearing.py."""


def texts(workspace: Workspace, recording: str) -> str:
    return " ".join(one.text for one in workspace.library.segments(recording)).lower()


def test_an_excerpt_becomes_a_ready_recording_with_words_in_their_places(workspace, sample, tmp_path):
    seen: list[Progress] = []
    path = excerpt(sample, tmp_path / "crew talk.wav", 27, 64)
    recording = workspace.add(path, progress=seen.append)
    assert recording.status == "ready" and recording.title == "crew talk"
    assert recording.coverage is not None and recording.coverage > 0.97
    assert "we pay for the extra" in texts(workspace, recording.id)
    # "Does anyone object" begins at 51.86 s of the sample.
    asked = next(one for one in workspace.library.segments(recording.id) if "object to paying" in one.text)
    word = next(one for one in asked.words if "object" in one.text)
    assert word.start == pytest.approx(52.5 - 27, abs=0.6)
    assert [one.stage for one in seen][-1] == "ready"
    transcribing = [one for one in seen if one.stage == "transcribing" and one.speed]
    assert transcribing and transcribing[-1].seconds_left == pytest.approx(0, abs=5)
    assert workspace.search.search("extra crew", recording.id)


def test_adding_the_same_bytes_again_changes_nothing(workspace, sample, tmp_path):
    path = excerpt(sample, tmp_path / "a.wav", 27, 45)
    first = workspace.add(path)
    again = tmp_path / "another name.wav"
    again.write_bytes(path.read_bytes())
    began = time.monotonic()
    assert workspace.add(again) == first
    assert time.monotonic() - began < 10
    assert len(workspace.library.recordings()) == 1


def test_silence_is_ready_with_no_sentence_and_says_so(workspace, tmp_path):
    rng = np.random.default_rng(1)
    soundfile.write(tmp_path / "quiet.wav", 0.0005 * rng.standard_normal(40 * SAMPLE_RATE), SAMPLE_RATE)
    recording = workspace.add(tmp_path / "quiet.wav")
    assert recording.status == "ready" and recording.coverage is None
    assert workspace.library.segments(recording.id) == []
    assert kinds(recording) == [NoteKind.NO_SPEECH]


def test_a_blip_of_a_fifth_of_a_second_ends_well(workspace, sample, tmp_path):
    path = excerpt(sample, tmp_path / "blip.wav", 3.0, 3.2)
    recording = workspace.add(path)
    assert recording.status == "ready" and recording.duration == pytest.approx(0.2, abs=0.01)
    assert all(0 <= one.start <= one.end <= 0.2 for one in workspace.library.segments(recording.id))


def test_speech_in_one_stereo_channel_at_telephone_quality_is_transcribed(workspace, sample, tmp_path):
    audio, rate = cut(sample, 27.4, 45)
    narrow = audio[: len(audio) // 2 * 2].reshape(-1, 2).mean(axis=1) if rate == 16_000 else audio
    rate = rate // 2 if rate == 16_000 else rate
    soundfile.write(tmp_path / "t.wav", np.stack([narrow, np.zeros_like(narrow)], 1), rate, subtype="ULAW")
    recording = workspace.add(tmp_path / "t.wav")
    assert "extra crew" in texts(workspace, recording.id)


def test_a_broken_file_leaves_nothing_in_the_library(workspace, tmp_path):
    (tmp_path / "broken.mp3").write_text("this is no sound")
    with pytest.raises(MediaError):
        workspace.add(tmp_path / "broken.mp3")
    assert workspace.library.recordings() == []
    assert not any((workspace.home / "audio").iterdir())


def test_cancel_keeps_what_was_heard_and_adding_again_goes_on(workspace, sample, tmp_path, monkeypatch):
    monkeypatch.setattr(WhisperTranscriber, "window_speech_seconds", SHORT_WINDOWS)
    # More windows than two runs hear before they notice that they are to stop.
    talk = excerpt(sample, tmp_path / "talk.wav", 0, 76)
    cancel = threading.Event()

    def stop_after_first_window(progress: Progress) -> None:
        if progress.speed is not None:
            cancel.set()

    with pytest.raises(Cancelled):
        workspace.add(talk, progress=stop_after_first_window, cancel=cancel)
    recording = workspace.library.recordings()[0]
    kept = workspace.library.segments(recording.id)
    assert recording.status == "cancelled" and kept

    starts: list[float] = []
    second = threading.Event()

    def note_and_stop(progress: Progress) -> None:
        if progress.stage == "transcribing":
            starts.append(progress.done)
            if progress.speed is not None:
                second.set()

    with pytest.raises(Cancelled):
        workspace.add(talk, progress=note_and_stop, cancel=second)
    assert not any(one.start <= starts[0] < one.end for one in kept), "a window that is done was heard anew"
    after = workspace.library.segments(recording.id)
    assert all(one in after for one in kept) and len(after) > len(kept)


@pytest.mark.slow
def test_after_kill_9_adding_again_goes_on_at_the_first_missing_window(
    home, models, sample, tmp_path, monkeypatch
):
    monkeypatch.setattr(WhisperTranscriber, "window_speech_seconds", SHORT_WINDOWS)
    home.mkdir()
    (home / "models").symlink_to(models)
    talk = excerpt(sample, tmp_path / "talk.wav", 0, 76)
    command = (
        "from index.transcription.whisper import WhisperTranscriber; from agent.cli import main; "
        f"WhisperTranscriber.window_speech_seconds = {SHORT_WINDOWS}; main()"
    )
    settings = {"MOSS_AGENT_TRANSCRIBER": "tiny.en"}
    process = Program(command, ["--home", str(home), "add", str(talk)], settings, tmp_path / "log")
    watching = open_workspace(Settings(home=home, transcriber="tiny.en"))
    kept: list = []
    for _ in range(600):
        recordings = watching.library.recordings()
        kept = watching.library.segments(recordings[0].id) if recordings else []
        if kept or process.poll() is not None:
            break
        time.sleep(0.1)
    process.kill()
    assert kept, "it must have stored the first window before the whole was done"
    kept = watching.library.segments(recordings[0].id)

    first_seen: list[float] = []
    recording = watching.add(
        talk,
        progress=lambda one: first_seen.append(one.done) if one.stage == "transcribing" else None,
    )
    watching.close()
    # Two windows are heard side by side, so the second may be the one that is done.
    assert not any(one.start <= first_seen[0] < one.end for one in kept)
    assert recording.status == "ready" and recording.coverage > 0.97
    final = watching.library.segments(recording.id)
    assert {(one.start, one.text) for one in kept} <= {(one.start, one.text) for one in final}
    assert final[-1].end > 73


def test_two_processes_cannot_write_to_one_home(workspace, home, sample, tmp_path):
    path = excerpt(sample, tmp_path / "a.wav", 27, 30)
    with workspace.writing():
        command = [sys.executable, "-m", "agent.cli", "--home", str(home), "add", str(path)]
        result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert "Another moss-agent" in result.stderr and "Traceback" not in result.stderr


def test_a_wrong_number_of_speakers_is_refused(workspace, sample):
    with pytest.raises(MossAgentError, match="between 1 and 50"):
        workspace.add(sample, speakers=0)


@pytest.mark.slow
def test_two_topics_of_the_sample_are_heard_whole_with_its_three_speakers(
    home, models, sample, script, tmp_path
):
    import re

    import jiwer

    home.mkdir()
    (home / "models").symlink_to(models)
    workspace = open_workspace(Settings(home=home))
    recording = workspace.add(excerpt(sample, tmp_path / "topics.wav", *TOPICS))
    segments = workspace.library.segments(recording.id)
    workspace.close()
    assert recording.language == "en"
    assert recording.coverage >= 0.99 and recording.gaps == ()

    def plain(text: str) -> str:
        return " ".join(re.sub(r"[^a-z0-9' ]", " ", text.lower()).split())

    begin, end = TOPICS
    said = " ".join(one["text"] for one in script if begin <= one["start"] < end)
    heard = " ".join(one.text for one in segments)
    wer = jiwer.wer(plain(said), plain(heard))
    assert wer < 0.16
    assert len(recording.speakers) == 3
    # Nine seconds of silence before "I did." and the chime at 180.7 s: nobody speaks there.
    assert not [one for one in segments if one.start < 85 - begin and one.end > 78.5 - begin]


def test_what_was_wrong_with_a_file_is_still_said_after_going_on(workspace, sample, tmp_path):
    from tests.support.media import encode

    audio, rate = cut(sample, 12, 72)
    whole = encode(tmp_path / "w.mp4", audio, rate, "aac", container_options={"movflags": "faststart"})
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.7)])
    cancel = threading.Event()
    with pytest.raises(Cancelled):
        workspace.add(
            path, progress=lambda one: cancel.set() if one.stage == "transcribing" else None, cancel=cancel
        )
    recording = workspace.add(path)
    assert recording.status == "ready" and recording.duration < 55
    (note,) = recording.notes
    assert note.kind == NoteKind.CUT_SHORT and note.spans[0].start == pytest.approx(recording.duration)
