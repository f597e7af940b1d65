"""Sounds and music: found everywhere, kept beside what is said, never taken for it, never at its cost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from index.audio.decode import SAMPLE_RATE
from index.export.formats import export
from index.pipeline.ingest import Ingest, Progress
from index.recording_errors import Cancelled
from index.records import NoteKind, Recording, Segment, Span
from index.search.searching import Search
from index.search.vectors import Vectors
from index.sounds import (
    MossSounds,
    alike,
    cut_sound_windows,
    is_complete,
    is_music,
    is_quiet,
    is_talk,
    merged,
    sound_window,
    sounds_of,
)
from index.store.library import Library
from index.transcription.moss_transcriber import MossTranscriber
from moss_audio.errors import NotEnoughMemory
from moss_audio.tasks import Event, TimedText
from tests.conftest import ROOT
from tests.support.indexed import embedder, kinds, open_library
from tests.support.preloaded import Program
from tests.support.scripted_backend import Asked, Broken, Rule, ScriptedBackend, ended, excerpt
from tools import Toolbox
from tools.search_recordings import search_recordings
from tools.summarize_recording import summarize_recording

BEGINS, ENDS = 150.0, 210.0
"""A minute of the sample with its door chime."""

CHIME = (180.73 - BEGINS, 182.33 - BEGINS)

LONG = (90.0, 270.0)
"""Three minutes of the sample around it, which are listened to in three windows."""

Listen = Callable[..., tuple[Recording, ScriptedBackend]]


@pytest.fixture
def listen(library: Library, vectors: Vectors, sample: Path, tmp_path: Path) -> Listen:
    """Add a stretch of the sample, transcribed and listened to for sounds."""

    def add(
        rule: Rule | None = None,
        begins: float = BEGINS,
        ends: float = ENDS,
        sounds: tuple[TimedText, ...] = (),
        without: bool = False,
        **more,
    ) -> tuple[Recording, ScriptedBackend]:
        backend = ScriptedBackend(library.home, begins, rule, sounds=sounds)
        ear = None if without else MossSounds(backend)
        ingest = Ingest(library, MossTranscriber(backend), embedder(), vectors, None, ear)
        return ingest.add(excerpt(sample, tmp_path / "talk.wav", begins, ends), **more), backend

    return add


def heard(library: Library, recording: Recording) -> list[Segment]:
    return [segment for segment in library.segments(recording.id) if segment.kind != "speech"]


# --- beside what is said -----------------------------------------------------------------------------------


def test_a_door_chime_stands_in_its_place_and_changes_nothing_of_what_is_said(listen, library):
    recording, _ = listen()
    (chime,) = heard(library, recording)
    assert chime.kind == "sound" and "door chime" in chime.text and chime.speaker is None
    assert (chime.start, chime.end) == pytest.approx(CHIME, abs=0.05)
    spoken = [segment for segment in library.segments(recording.id) if segment.kind == "speech"]
    assert spoken and all(segment.speaker for segment in spoken)
    assert recording.status == "ready" and recording.coverage > 0.98


def test_sounds_and_music_are_found_by_a_search_like_words(listen, library, vectors):
    music = TimedText(2.0, 9.0, "soft piano plays in the background")
    dog = TimedText(50.0, 51.0, "a dog barks twice")
    recording, _ = listen(sounds=(music, dog))
    assert [segment.kind for segment in heard(library, recording)] == ["music", "sound", "sound"]
    toolbox = Toolbox(library, Search(library, embedder(), vectors), listener=None)
    for question, text in (
        ("is there a dog?", dog.text),
        ("what music plays?", music.text),
        ("the piano", music.text),
        ("door chime", "a two-tone door chime"),
    ):
        found = search_recordings(toolbox, question, recording.id).evidence
        assert found and found[0].text == text, question
        assert found[0].kind != "speech"


def test_a_sound_between_a_question_and_its_reply_parts_them_not(listen, library, vectors):
    asked = "How do we make sure it doesn't happen again?"
    cough = TimedText(186.4 - BEGINS, 187.0 - BEGINS, "someone coughs")
    recording, _ = listen(sounds=(cough,))
    order = [segment.text for segment in library.segments(recording.id)]
    assert order[order.index(asked) + 1] == cough.text
    toolbox = Toolbox(library, Search(library, embedder(), vectors), listener=None)
    found = search_recordings(toolbox, asked, recording.id).evidence
    question = next(item for item in found if item.text == asked)
    (reply,) = (item for item in found if item.reply_to == question.id)
    assert reply.text.startswith("I've already moved the renewal")


def test_a_summary_has_no_sound_in_it(listen, library):
    decision = TimedText(40.0, 42.0, "we decided to close the door, Ben will do it by Friday")
    recording, _ = listen(sounds=(decision,))
    assert decision.text in [segment.text for segment in heard(library, recording)]
    summary = str(summarize_recording(library, embedder(), recording).to_json())
    assert "close the door" not in summary and "chime" not in summary


@pytest.mark.parametrize("format", ["txt", "srt", "vtt", "md"])
def test_exports_show_what_is_heard_in_parentheses(listen, library, format):
    recording, _ = listen()
    written = export(recording, library.segments(recording.id), format).decode()
    assert "(a two-tone door chime)" in written.replace("\\", "").replace("⁠", "")


def test_sounds_cover_no_speech(listen, library):
    noise = TimedText(0.0, 60.0, "a machine hums")

    def silent(asked: Asked) -> str | None:
        return "" if asked.task == "timestamps" else None

    recording, _ = listen(silent, sounds=(noise,))
    assert noise.text in [segment.text for segment in heard(library, recording)]
    assert recording.coverage == 0.0 and recording.gaps
    assert recording.speakers == () and NoteKind.NO_SPEECH not in kinds(recording)


def test_where_nobody_speaks_sounds_are_heard_all_the_same(library, vectors, tmp_path):
    rng = np.random.default_rng(1)
    soundfile.write(tmp_path / "rain.wav", 0.01 * rng.standard_normal(40 * SAMPLE_RATE), SAMPLE_RATE)
    backend = ScriptedBackend(library.home, -1000, sounds=(TimedText(3, 37, "steady rain"),))
    ingest = Ingest(library, MossTranscriber(backend), embedder(), vectors, None, MossSounds(backend))
    recording = ingest.add(tmp_path / "rain.wav")
    assert [segment.text for segment in library.segments(recording.id)] == ["steady rain"]
    assert kinds(recording) == [NoteKind.NO_SPEECH]
    search = Search(library, embedder(), vectors)
    assert search.search("rain", recording.id)[0].segments[0].text == "steady rain"


def test_digital_silence_is_not_asked_about(library, vectors, tmp_path):
    soundfile.write(tmp_path / "nothing.wav", np.zeros(130 * SAMPLE_RATE), SAMPLE_RATE)
    backend = ScriptedBackend(library.home)
    ingest = Ingest(library, MossTranscriber(backend), embedder(), vectors, None, MossSounds(backend))
    recording = ingest.add(tmp_path / "nothing.wav")
    assert recording.status == "ready" and backend.asked == []


# --- windows -----------------------------------------------------------------------------------------------


@given(st.floats(0.05, 40_000))
def test_windows_cover_the_whole_recording_in_about_a_minute_each(duration: float):
    windows = cut_sound_windows(duration)
    assert windows[0].start == 0 and windows[-1].end == pytest.approx(duration)
    assert all(a.end == b.start for a, b in pairwise(windows))
    assert all(window.duration <= 91 for window in windows)
    assert len(windows) == 1 or all(window.duration > 40 for window in windows)


@given(st.lists(st.tuples(st.floats(0, 240), st.floats(0.0, 1.9)), max_size=12))
def test_a_short_sound_is_stored_once_wherever_it_lies(times):
    """Each window is told of every sound that it hears all of, as a perfect ear would tell it."""
    duration = 240.0
    sounds = [Span(start, min(duration, start + length)) for start, length in times]
    stored = []
    for own in cut_sound_windows(duration):
        window = sound_window(own, duration)
        told = [
            Event(sound.start - window.heard.start, sound.end - window.heard.start, f"knock number {number}x")
            for number, sound in enumerate(sounds)
            if sound.start >= window.heard.start and sound.end <= window.heard.end
        ]
        stored += [found for event in told for found in sounds_of([event], window, (), "test")]
    assert sorted(segment.text for segment in stored) == sorted(
        f"knock number {at}x" for at in range(len(sounds))
    )
    assert all(0 <= segment.start < segment.end <= duration for segment in stored)


def test_a_sound_that_goes_on_into_the_next_window_is_one(listen, library):
    rain = TimedText(30.0, 110.0, "heavy rain falls")
    recording, backend = listen(begins=100.0, ends=220.0, sounds=(rain,))
    assert len(backend.of("events")) == 2
    found = [segment for segment in heard(library, recording) if "rain" in segment.text]
    assert [(segment.start, segment.end) for segment in found] == [
        (pytest.approx(30, abs=0.1), pytest.approx(110, abs=0.1))
    ]


def test_what_a_model_lists_twice_is_one_sound_and_two_knocks_stay_two():
    told = [
        Segment(1.0, 5.0, "a dog barks", kind="sound", id=1),
        Segment(2.0, 6.0, "dog barking", kind="sound", id=2),
        Segment(9.0, 9.5, "a knock", kind="sound", id=3),
        Segment(10.0, 10.5, "a knock", kind="sound", id=4),
        Segment(2.0, 6.0, "soft music", kind="music", id=5),
    ]
    assert [(segment.id, segment.start, segment.end) for segment in merged(told, ())] == [
        (1, 1.0, 6.0),
        (5, 2.0, 6.0),
        (3, 9.0, 9.5),
        (4, 10.0, 10.5),
    ]


# --- words -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["soft piano music", "A woman sings", "people singing a song", "a melody on the violin", "轻快的音乐"],
)
def test_music_is_told_by_its_words(text):
    assert is_music(text)


@pytest.mark.parametrize(
    "text", ["a door slams", "birds singing", "a cricket's song", "applause", "鸟在唱歌"]
)
def test_other_sounds_are_no_music(text):
    assert not is_music(text)


@pytest.mark.parametrize(
    "text",
    [
        "a man speaks",
        "Male speaker talking calmly about the ferry",
        "conversation between two people",
        "speech",
        "two women in conversation",
        "一名男子在说话",
    ],
)
def test_that_somebody_speaks_is_no_sound_where_speech_was_detected(text):
    assert is_talk(text)
    window = sound_window(Span(0, 60), 60)
    assert sounds_of([Event(1, 9, text)], window, [Span(0, 10)], "test") == []
    assert len(sounds_of([Event(1, 9, text)], window, [], "test")) == 1


@pytest.mark.parametrize(
    "text", ["a man laughs", "people talking and a dog barking", "applause", "a crowd cheers", "狗叫"]
)
def test_what_is_more_than_talk_is_kept(text):
    window = sound_window(Span(0, 60), 60)
    segments = sounds_of([Event(1, 9, text)], window, [Span(0, 60)], "test")
    assert [segment.text for segment in segments] == [text]


QUIET = [
    "silence",
    "Complete silence.",
    "no audible sounds",
    "There are no audible sounds.",
    "Nothing.",
    "静音",
]


def test_silence_is_no_sound():
    assert all(is_quiet(text) for text in QUIET)
    assert not any(is_quiet(text) for text in ("quiet music", "silencer fires", "a quiet knock"))


def test_descriptions_alike():
    assert alike("a dog barks", "dog barking loudly") and alike("rain", "heavy rain falls on a roof")
    assert not alike("a dog barks", "a door slams")


def test_a_library_from_before_sounds_opens_and_keeps_everything(home):
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import create_engine, text

    home.mkdir()
    engine = create_engine(f"sqlite:///{home / 'library.sqlite'}")
    config = Config()
    config.set_main_option("script_location", str(ROOT / "index" / "store" / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(
            text(
                "INSERT INTO recordings (id, title, source_name, duration, status, added_at, gaps, engine,"
                " seconds_taken) VALUES ('a', 'Old', 'old.mp3', 9, 'ready', '2026', '[]', 'whisper-base', 1)"
            )
        )
    engine.dispose()
    library = open_library(home)
    assert [recording.title for recording in library.recordings()] == ["Old"]
    assert not is_complete(library, "a")
    library.delete("a")
    library.database.close()


# --- nothing is lost ---------------------------------------------------------------------------------------


def test_a_failing_sound_pass_costs_no_word_and_is_made_up_for_when_added_again(listen, library):
    def no_sounds(asked: Asked) -> Exception | None:
        return Broken("The server broke down.") if asked.task == "events" and asked.start > 50 else None

    recording, _ = listen(no_sounds, begins=100.0, ends=220.0)
    assert recording.status == "ready" and recording.coverage > 0.98
    (note,) = recording.notes
    assert note.kind == NoteKind.SOUNDS_FAILED and note.detail == "The server broke down."
    assert [span.start > 50 for span in note.spans] == [True]
    words = [segment for segment in library.segments(recording.id) if segment.kind == "speech"]
    library.rename_speaker(recording.id, "Speaker 1", "Anna")

    recording, backend = listen(begins=100.0, ends=220.0)
    assert recording.problems == () and not backend.of("timestamps")
    assert [request.start > 50 for request in backend.of("events")] == [True]
    assert ["chime" in segment.text for segment in heard(library, recording)] == [True]
    again = [segment for segment in library.segments(recording.id) if segment.kind == "speech"]
    assert [segment.id for segment in again] == [segment.id for segment in words]
    assert "Anna" in recording.speakers


PROSE = "A meeting in which several people talk about the ferry and then about the ferry and then"


def written(text: str, stopped: str, until: Callable[[Asked], bool]) -> Rule:
    """Answers about sounds with a text, unless ``until`` says otherwise."""
    return lambda asked: (
        None if asked.task != "events" or until(asked) else ended(text, stopped)  # type: ignore[arg-type]
    )


CHIME_AND_ON = "30.73 - 32.33: a two-tone door chime\n40.0 - 41.0: a"


@pytest.mark.parametrize(
    ("text", "stopped"), [(PROSE, "loop"), (PROSE, "end"), (CHIME_AND_ON, "length"), (CHIME_AND_ON, "loop")]
)
def test_what_is_no_list_of_sounds_is_asked_for_again_sampled_and_then_for_the_halves(
    listen, library, text, stopped
):
    recording, backend = listen(written(text, stopped, lambda asked: asked.careful))
    assert [request.careful for request in backend.of("events")] == [False, True] and recording.problems == ()
    assert ["chime" in segment.text for segment in heard(library, recording)] == [True]
    library.delete(recording.id)

    recording, backend = listen(written(text, stopped, lambda asked: asked.seconds < 40))
    _, again, first, second = backend.of("events")
    assert again.careful and not first.careful and not second.careful and recording.problems == ()
    (chime,) = heard(library, recording)
    assert (chime.start, chime.end) == pytest.approx(CHIME, abs=0.05), "it lies at the seam of the halves"


def test_a_window_without_a_list_of_sounds_is_not_done_and_a_note_says_so(listen, library):
    recording, backend = listen(written(PROSE, "loop", lambda _: False))
    assert recording.status == "ready" and recording.coverage > 0.98
    assert kinds(recording) == [NoteKind.SOUNDS_FAILED] and "list of sounds" in recording.notes[0].detail
    assert not is_complete(library, recording.id) and len(backend.of("events")) <= 6
    recording, _ = listen()
    assert recording.problems == () and len(heard(library, recording)) == 1


def test_a_stretch_that_is_too_long_for_the_engine_is_listened_to_in_halves(listen, library):
    def small(asked: Asked) -> Exception | None:
        fits = asked.task != "events" or asked.seconds < 20
        return None if fits else NotEnoughMemory("It takes too many tokens.")

    recording, backend = listen(small)
    assert recording.problems == () and not any(request.careful for request in backend.of("events"))
    (chime,) = heard(library, recording)
    assert (chime.start, chime.end) == pytest.approx(CHIME, abs=0.05)


@pytest.mark.parametrize("cut_short", ["cancelled", "killed"])
def test_a_sound_over_a_seam_is_one_also_when_the_work_ends_right_after_the_last_window(
    listen, library, monkeypatch, cut_short
):
    rain = TimedText(30.0, 110.0, "heavy rain falls")
    cancel = threading.Event()

    def end(progress: Progress) -> None:
        if progress.stage == "listening for sounds" and progress.done > 119:
            cancel.set()

    with monkeypatch.context() as patched:
        if cut_short == "killed":  # nothing after the last transaction of a window happens
            patched.setattr("index.sounds.join_sounds", lambda _: None)
        with pytest.raises(Cancelled):
            listen(begins=100.0, ends=220.0, sounds=(rain,), progress=end, cancel=cancel)
    (recording,) = library.recordings()
    assert is_complete(library, recording.id)
    told = len([segment for segment in heard(library, recording) if "rain" in segment.text])
    assert told == (2 if cut_short == "killed" else 1)
    recording, backend = listen(begins=100.0, ends=220.0, sounds=(rain,))
    (found,) = [segment for segment in heard(library, recording) if "rain" in segment.text]
    assert (found.start, found.end) == (pytest.approx(30, abs=0.1), pytest.approx(110, abs=0.1))
    assert recording.status == "ready" and not backend.asked


def test_a_recording_made_without_sounds_gets_them_when_added_again(listen, library):
    recording, backend = listen(without=True)
    assert heard(library, recording) == [] and not backend.of("events")
    recording, backend = listen()
    assert len(heard(library, recording)) == 1 and not backend.of("timestamps")
    recording, backend = listen()
    assert backend.asked == [], "there is nothing left to be heard"


def test_the_transcript_can_be_searched_while_sounds_are_listened_for(listen, library, vectors):
    found: list[int] = []

    def look(progress: Progress) -> None:
        if progress.stage == "listening for sounds":
            found.append(len(Search(library, embedder(), vectors).search("backup server")))

    listen(progress=look)
    assert found and found[0] > 0


def test_cancelled_in_the_sound_pass_it_goes_on_there(listen, library):
    cancel = threading.Event()
    stages: list[str] = []

    def stop(progress: Progress) -> None:
        if progress.stage == "listening for sounds" and progress.speed is not None:
            cancel.set()

    with pytest.raises(Cancelled):
        listen(None, *LONG, progress=stop, cancel=cancel)
    recording, backend = listen(None, *LONG, progress=lambda progress: stages.append(progress.stage))
    assert recording.status == "ready" and not backend.of("timestamps")
    assert 1 <= len(backend.of("events")) < 3 and "transcribing" not in stages
    assert len(heard(library, recording)) == 1


PROGRAM = """
import sys, time
from pathlib import Path
from index.pipeline.ingest import Ingest
from index.sounds import MossSounds
from index.search.vectors import Vectors
from index.transcription.moss_transcriber import MossTranscriber
from tests.support.indexed import embedder, open_library
from tests.support.scripted_backend import ScriptedBackend

home, talk, begins = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
library = open_library(home)

def slowly(asked):
    if asked.task == "events" and asked.start > 40:
        time.sleep(60)

backend = ScriptedBackend(home, begins, slowly, at_once=1)
vectors = Vectors(home / "vectors", embedder())
Ingest(library, MossTranscriber(backend), embedder(), vectors, None, MossSounds(backend)).add(talk)
"""


@pytest.mark.slow
def test_after_kill_9_in_the_sound_pass_only_what_is_missing_is_heard(home, sample, tmp_path):
    from sqlalchemy import func, select

    from index.store.database import SoundWindowRow

    talk = excerpt(sample, tmp_path / "talk.wav", *LONG)
    process = Program(PROGRAM, [str(home), str(talk), str(LONG[0])])
    library = open_library(home)
    done = 0
    for _ in range(1200):
        with library.database.transaction() as session:
            done = session.scalar(select(func.count()).where(SoundWindowRow.done)) or 0
        if done or process.poll() is not None:
            break
        time.sleep(0.1)
    process.kill()
    assert done, "it must store each window as it comes"
    (before,) = library.recordings()
    kept = library.segments(before.id)
    with library.database.transaction() as session:
        done = session.scalar(select(func.count()).where(SoundWindowRow.done)) or 0

    backend = ScriptedBackend(home, LONG[0])
    vectors = Vectors(home / "vectors", embedder())
    ingest = Ingest(library, MossTranscriber(backend), embedder(), vectors, None, MossSounds(backend))
    recording = ingest.add(talk)
    library_segments = library.segments(recording.id)
    assert recording.status == "ready" and not backend.of("timestamps")
    assert len(backend.of("events")) == 3 - done
    assert {segment.id for segment in kept} <= {segment.id for segment in library_segments}
    assert [segment.text for segment in heard(library, recording)] == ["a two-tone door chime"]
    library.database.close()
