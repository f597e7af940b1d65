"""Who speaks, as a model tells it: asked window by window, laid on what is written, never at its cost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import func, select

from index.diarization.diarize_stage import stored_labels
from index.diarization.moss_speakers import MossSpeakers
from index.pipeline.ingest import Ingest, Progress
from index.recording_errors import Cancelled
from index.records import NoteKind, Recording
from index.search.searching import Search
from index.search.vectors import Vectors
from index.store.database import WindowRow
from index.store.library import Library
from index.transcription.moss_transcriber import MossTranscriber
from moss_audio.errors import NotEnoughMemory
from moss_audio.tasks import TimedText, official
from tests.support.indexed import embedder
from tests.support.scripted_backend import Asked, Broken, Rule, ScriptedBackend, ended, excerpt, shifted

BEGINS, ENDS = 97.0, 181.0
"""A stretch of the sample in which all three speak in each half minute."""

Listen = Callable[..., tuple[Recording, ScriptedBackend]]


class ShortWindows(MossTranscriber):
    """A transcriber whose windows let a short recording have several."""

    window_speech_seconds = 24.0
    max_window_seconds = 36.0


@pytest.fixture
def listen(library: Library, vectors: Vectors, sample: Path, tmp_path: Path) -> Listen:
    """Add a stretch of the sample, written down and labelled by a backend that follows a rule."""

    def add(
        rule: Rule | None = None,
        without: bool = False,
        relabel: bool = False,
        begins: float = BEGINS,
        ends: float = ENDS,
        **more,
    ) -> tuple[Recording, ScriptedBackend]:
        backend = ScriptedBackend(library.home, begins, rule)
        labels = None if without else MossSpeakers(backend)
        ingest = Ingest(library, ShortWindows(backend), embedder(), vectors, speakers=labels)
        if relabel:
            (recording,) = library.recordings()
            ingest.relabel_speakers(recording.id, None, **more)
            return library.recording(recording.id), backend
        return ingest.add(excerpt(sample, tmp_path / "talk.wav", begins, ends), **more), backend

    return add


def only(task: str, rule: Rule) -> Rule:
    """A rule for one task; the others are answered right."""
    return lambda asked: rule(asked) if asked.task == task else None


def said_by(library: Library, recording: Recording) -> list[tuple[str, str | None]]:
    return [(segment.text, segment.speaker) for segment in library.segments(recording.id)]


def true_names(library: Library, recording: Recording, script: list[dict]) -> set[tuple[str, str | None]]:
    """Which name goes with which speaker of the script."""
    names = {row["text"]: row["speaker"] for row in script}
    return {(names[text], speaker) for text, speaker in said_by(library, recording)}


THREE = {("Callum", "Speaker 1"), ("Ben", "Speaker 2"), ("Anna", "Speaker 3")}


# --- when all goes well ------------------------------------------------------------------------------------


def test_each_window_is_asked_about_once_and_its_labels_become_one_name_a_voice(listen, library, script):
    recording, backend = listen()
    assert true_names(library, recording, script) == THREE
    asked = backend.of("speakers")
    assert len(asked) == len(backend.of("timestamps")) >= 3
    assert len({question.start for question in asked}) == len(asked)
    # In each window the labels begin at S01 again, whoever speaks first.
    assert {question.parts[0].speaker for question in asked} == {"S01"} and len(recording.speakers) == 3
    assert not any(question.careful for question in asked)
    assert all(question.options.max_new_tokens > 8 * question.seconds for question in asked)
    assert recording.problems == ()


def test_labels_are_laid_on_what_is_written_and_change_no_word(listen, library):
    recording, _ = listen(only("speakers", lambda asked: official(shifted(asked.parts, 0.2)).upper()))
    spoken = library.segments(recording.id)
    labels = stored_labels(library, recording.id)
    assert set(labels) == {segment.id for segment in spoken}
    assert not any(segment.text.isupper() for segment in spoken)


def test_the_number_of_speakers_that_the_user_gave_goes_first(listen, library):
    recording, _ = listen(speakers=2)
    assert recording.speakers == ("Speaker 1", "Speaker 2")


def test_progress_names_the_window(listen):
    told: list[Progress] = []
    listen(progress=told.append)
    asking = [event for event in told if event.stage == "identifying speakers" and event.detail]
    total = len(asking) - 1
    assert total >= 3
    assert [event.detail for event in asking[:-1]] == [
        f"window {at} of {total}" for at in range(1, total + 1)
    ]
    assert asking[-1].fraction == pytest.approx(1.0, abs=0.05)
    assert all(event.speed and event.seconds_left is not None for event in asking[1:])


def test_what_was_said_can_be_searched_while_the_model_is_asked_who_said_it(listen, library):
    found: list[int] = []

    def look(progress: Progress) -> None:
        if progress.detail and not found:
            vectors = Vectors(library.home / "vectors", embedder())
            found.append(len(Search(library, embedder(), vectors).search("second technician")))

    listen(progress=look)
    assert found[0] > 0


def test_a_recording_that_is_labelled_is_not_asked_about_again(listen, library):
    listen()
    recording, backend = listen()
    assert backend.asked == []
    library.rename_speaker(recording.id, "Speaker 1", "Callum")
    recording, backend = listen(relabel=True)
    # What the model said of it is stored; telling the speakers apart anew needs nothing more.
    assert backend.asked == [] and set(recording.speakers) == {"Speaker 1", "Speaker 2", "Speaker 3"}


def test_a_recording_made_without_labels_keeps_its_names_until_told_apart_anew(listen, library, script):
    recording, backend = listen(without=True)
    assert backend.of("speakers") == [] and true_names(library, recording, script) == THREE
    library.rename_speaker(recording.id, "Speaker 1", "Callum")
    recording, backend = listen()
    assert backend.asked == [] and "Callum" in recording.speakers
    told: list[str | None] = []
    recording, backend = listen(relabel=True, progress=lambda at: told.append(at.detail))
    assert len(backend.of("speakers")) >= 3 and not backend.of("timestamps")
    assert told[0] == "window 1 of 3"
    assert true_names(library, recording, script) == THREE


# --- whatever the model does -------------------------------------------------------------------------------


def without_labels(asked: Asked) -> str:
    return official([TimedText(part.start, part.end, part.text) for part in asked.parts])


def one_label(asked: Asked) -> str:
    return official([TimedText(part.start, part.end, part.text, "S01") for part in asked.parts])


def in_turns(asked: Asked) -> str:
    return official(
        [TimedText(part.start, part.end, part.text, f"S0{at % 2 + 1}") for at, part in enumerate(asked.parts)]
    )


def a_label_each(asked: Asked) -> str:
    return official(
        [TimedText(part.start, part.end, part.text, f"S{at + 1:02}") for at, part in enumerate(asked.parts)]
    )


def other_words(asked: Asked) -> str:
    return official([TimedText(part.start, part.end, "la la la", part.speaker) for part in asked.parts])


def at_one_time(asked: Asked) -> str:
    return official([TimedText(3.0, 3.0, part.text, part.speaker) for part in asked.parts])


def half(asked: Asked) -> str:
    return official(asked.parts[: len(asked.parts) // 2])


def loops(asked: Asked):
    return ended("[0.10][S01]" + "we go " * 80, "loop")


def says_nothing(asked: Asked) -> str:
    return ""


def explains(asked: Asked) -> str:
    return "I hear two people who talk about a festival."


@pytest.mark.parametrize(
    "answer",
    [
        without_labels,
        one_label,
        in_turns,
        a_label_each,
        other_words,
        at_one_time,
        half,
        loops,
        says_nothing,
        explains,
    ],
)
def test_whatever_the_model_says_it_is_never_worse_than_the_voices_alone(listen, library, script, answer):
    recording, backend = listen(only("speakers", answer))
    assert backend.of("speakers") and recording.status == "ready" and recording.problems == ()
    assert true_names(library, recording, script) == THREE


def test_a_window_on_which_it_fails_is_told_by_the_voices_and_asked_about_anew(listen, library, script):
    fails = only("speakers", lambda asked: Broken("The server broke down.") if asked.start > 50 else None)
    recording, backend = listen(fails)
    assert recording.status == "ready" and true_names(library, recording, script) == THREE
    (note,) = recording.notes
    assert note.kind == NoteKind.SPEAKERS_BY_VOICE_ONLY and note.detail == "The server broke down."
    assert note.spans and all(span.start > 50 for span in note.spans)
    before = {question.start for question in backend.of("speakers")}

    recording, backend = listen(relabel=True)
    again = {question.start for question in backend.of("speakers")}
    assert again and again < before and min(again) > 50
    assert recording.problems == () and true_names(library, recording, script) == THREE


def test_a_model_that_is_gone_is_not_asked_for_every_window(listen, library, script):
    recording, backend = listen(
        only("speakers", lambda _: Broken("It is gone.")), begins=0.0, ends=306.0, without=False
    )
    assert len({question.start for question in backend.of("speakers")}) < len(backend.of("timestamps"))
    assert [note.detail for note in recording.notes] == ["It is gone."] and len(recording.speakers) == 3


def test_a_window_that_is_too_long_for_the_engine_is_asked_about_in_halves(listen, library, script):
    too_long = NotEnoughMemory("The cache holds less.")
    recording, backend = listen(only("speakers", lambda asked: too_long if asked.seconds > 15 else None))
    assert any(request.seconds > 15 for request in backend.of("speakers"))
    assert true_names(library, recording, script) == THREE and recording.problems == ()


# --- stopped, and heard later ------------------------------------------------------------------------------


def labelled(library: Library) -> int:
    with library.database.transaction() as session:
        return session.scalar(select(func.count()).where(WindowRow.labelled)) or 0


class Killed(BaseException):
    """What ends the program without a word, as ``kill -9`` does: nothing is written down after it."""


@pytest.mark.parametrize("killed", [False, True], ids=["cancelled", "killed"])
def test_stopped_while_it_asks_it_goes_on_with_the_windows_that_are_left(listen, library, script, killed):
    cancel = threading.Event()

    def stop(progress: Progress) -> None:
        if progress.detail and progress.speed is not None:
            if killed:
                raise Killed
            cancel.set()

    with pytest.raises(Killed if killed else Cancelled):
        listen(progress=stop, cancel=cancel)
    done = labelled(library)
    assert done >= 1 and library.recordings()[0].speakers == ()

    recording, backend = listen()
    assert recording.status == "ready" and not backend.of("timestamps")
    with library.database.transaction() as session:
        total = session.scalar(select(func.count()).select_from(WindowRow)) or 0
    assert len(backend.of("speakers")) == total - done
    assert true_names(library, recording, script) == THREE


def test_of_a_window_heard_later_only_that_is_asked_and_names_are_kept(listen, library, script):
    fails = only("timestamps", lambda asked: Broken("No.") if 20 < asked.start < 50 else None)
    recording, backend = listen(fails)
    assert recording.gaps and len(recording.speakers) == 3
    first = {question.start for question in backend.of("speakers")}
    before = dict(said_by(library, recording))
    someone = next(name for name in recording.speakers)
    library.rename_speaker(recording.id, someone, "Ben Carter")

    recording, backend = listen()
    later = {request.start for request in backend.of("speakers")}
    assert later and not later & first and recording.problems == () and recording.gaps == ()
    assert len(recording.speakers) == 3 and "Ben Carter" in recording.speakers
    after = dict(said_by(library, recording))
    assert len(after) > len(before)
    kept = {text: "Ben Carter" if name == someone else name for text, name in before.items()}
    assert {text: after[text] for text in before} == kept
    assert len(true_names(library, recording, script)) == 3


def test_whom_nobody_knew_yet_is_a_new_speaker_when_heard_later(listen, library, script):
    """Callum says nothing in the stretch until its last window, which fails at first."""
    begins, ends = 171.0, 228.0
    fails = only("timestamps", lambda asked: Broken("No.") if asked.end > 38 else None)
    recording, _ = listen(fails, begins=begins, ends=ends)
    before = dict(said_by(library, recording))
    names = {row["text"]: row["speaker"] for row in script}
    assert {names[text] for text in before} == {"Anna", "Ben"}
    recording, _ = listen(begins=begins, ends=ends)
    assert true_names(library, recording, script) == {
        ("Ben", "Speaker 1"),
        ("Anna", "Speaker 2"),
        ("Callum", "Speaker 3"),
    }
