"""The language is found for each stretch of speech: a change is followed, a foreign word is not."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sqlalchemy import create_engine, select, text

from agent.cli.output import added_json, show_added
from agent.settings import Settings
from agent.workspace import Workspace, open_workspace
from index.audio.decode import decode_to_flac
from index.audio.windows import AudioWindow, KeptSpan
from index.export.formats import export
from index.language_names import name_languages
from index.pipeline.transcribe_file import Transcript, transcribe_file
from index.progress import Progress
from index.recording_errors import Cancelled, MossAgentError
from index.records import Recording, Segment, Span, Status
from index.store.database import WindowRow
from index.transcription.languages import LanguageGuess, follow, sounds_different
from index.transcription.whisper import WhisperTranscriber
from index.transcription.whisper_languages import LanguageWhisper
from moss_audio.audio import SAMPLE_RATE
from tests.index.test_voice_label_migration import revise
from tests.support.indexed import open_library
from tests.support.media import cut
from tests.support.scripted_backend import excerpt

DATA = Path(__file__).parents[1] / "data"
ENGLISH_THEN_GERMAN = DATA / "field_cases" / "english_then_german.opus"
"""English up to 70 s, German from there."""
THREE = DATA / "three_languages.opus"
"""Spanish up to 19.3 s, English up to 43.8 s, then German."""

BEGIN = 43.4
"""Where the stretch that is heard of the former begins, seconds: hearing all of it takes long."""

CHANGE = 70.9 - BEGIN
"""Where the English of that stretch becomes German, seconds."""


def stretch(seconds: float = 5.0, **odds: float) -> tuple[dict[str, float], float]:
    return odds, seconds


ENGLISH, GERMAN = stretch(en=0.95, de=0.02), stretch(en=0.02, de=0.95)
UNCLEAR = stretch(en=0.05, de=0.1, ja=0.4)


def test_a_change_of_language_is_followed_and_followed_back():
    heard = [ENGLISH] * 3 + [GERMAN] * 3 + [ENGLISH] * 3
    assert follow(heard, "en") == ["en"] * 3 + ["de"] * 3 + ["en"] * 3
    assert follow([GERMAN] * 4, "en") == ["de"] * 4, "expected another"
    assert follow([ENGLISH, GERMAN, GERMAN], "en") == ["en", "de", "de"], "into the end"
    tail = stretch(2.0, en=0.02, de=0.95)
    assert follow([ENGLISH, ENGLISH, tail], "en") == ["en", "en", "de"], "a sentence at the end"
    assert follow([ENGLISH, GERMAN, ENGLISH], "en") == ["en", "de", "en"], "a clear sentence"
    assert follow([GERMAN, ENGLISH, ENGLISH], "en") == ["de", "en", "en"], "at the beginning"
    assert follow([ENGLISH, GERMAN, ENGLISH], "en", is_noisy=True) == ["en"] * 3, "a sentence in noise"
    assert follow([ENGLISH, *[GERMAN] * 4, ENGLISH], "en", is_noisy=True)[1:5] == ["de"] * 4, "many in noise"
    assert follow([], "en") == []


def test_one_foreign_word_and_a_moment_that_is_not_clear_change_nothing():
    word = stretch(1.0, en=0.02, de=0.95)
    assert follow([ENGLISH, word, ENGLISH], "en") == ["en"] * 3
    doubtful = stretch(en=0.1, de=0.7)
    assert follow([ENGLISH, doubtful, ENGLISH], "en") == ["en"] * 3
    assert follow([ENGLISH, UNCLEAR, UNCLEAR, ENGLISH], "en") == ["en"] * 4
    assert follow([UNCLEAR] * 8, "en") == ["en"] * 8, "music is in no language"


def test_a_closer_look_is_taken_where_it_can_matter():
    assert not sounds_different([ENGLISH] * 4, "en")
    assert not sounds_different([ENGLISH, UNCLEAR, ENGLISH], "en"), "too short to be followed"
    assert sounds_different([ENGLISH, GERMAN, ENGLISH], "en"), "clear"
    assert sounds_different([ENGLISH, GERMAN], "en") and sounds_different([GERMAN, ENGLISH], "en")
    assert sounds_different([ENGLISH, stretch(en=0.5, de=0.4), GERMAN, ENGLISH], "en")
    assert sounds_different([GERMAN], "en") and not sounds_different([], "en")


def test_a_window_is_expected_in_the_language_heard_before_it():
    guess = LanguageGuess()
    assert guess.at(0.0) is None
    guess.heard(60.0, "de")
    guess.heard(0.0, "en")
    assert [guess.at(time) for time in (0.0, 30.0, 60.0, 90.0)] == ["en", "en", "en", "de"]
    assert LanguageGuess("fr").at(5.0) == "fr"


def test_languages_are_named_in_a_sentence():
    assert name_languages(["en"]) == "English"
    assert name_languages(["de", "en", "fr"]) == "German, English and French"
    assert name_languages(["tlh"]) == "tlh"


@pytest.fixture(scope="module")
def whisper(models: Path) -> WhisperTranscriber:
    return WhisperTranscriber("base", models / "whisper")


def transcript(path: Path, whisper: WhisperTranscriber, language: str | None = None) -> Transcript:
    *_, last = transcribe_file(path, whisper, language, threading.Event())
    assert isinstance(last, Transcript)
    return last


def spoken(segments: tuple[Segment, ...], start: float, end: float) -> set[str | None]:
    """The languages of sentences whose middle lies in a range."""
    return {item.language for item in segments if start <= (item.start + item.end) / 2 < end}


def words(segments: tuple[Segment, ...], start: float = 0.0, end: float = 1e9) -> str:
    return " ".join(item.text for item in segments if start <= item.start < end).lower()


def joined(source: Path, target: Path, *stretches: tuple[float, float]) -> Path:
    """Some stretches of a file, in seconds, one after another: hearing all of it takes long."""
    whole = target.with_name("whole.flac")
    decode_to_flac(source, whole)
    parts = [cut(whole, start, end)[0] for start, end in stretches]
    soundfile.write(target, np.concatenate(parts), SAMPLE_RATE)
    return target


@pytest.mark.slow
def test_three_languages_come_out_each_in_its_language(whisper, tmp_path):
    path = joined(THREE, tmp_path / "three.wav", (3.15, 19.4), (19.6, 33.7), (43.8, 54.6))
    found = transcript(path, whisper)
    assert spoken(found.segments, 0, 16.2) == {"es"}
    assert spoken(found.segments, 16.4, 30.3) == {"en"}
    assert spoken(found.segments, 30.5, 42) == {"de"}
    assert found.coverage > 0.97
    assert "jardín" in words(found.segments) and "festival" in words(found.segments)
    assert "prüfung" in words(found.segments)


@pytest.fixture(scope="module")
def mixed(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A library with the recording that is English first and then German."""
    home = tmp_path_factory.mktemp("mixed")
    (home / "models").symlink_to(models)
    opened = open_workspace(Settings(home=home, transcriber="base"))
    folder = tmp_path_factory.mktemp("call")
    opened.add(joined(ENGLISH_THEN_GERMAN, folder / "call.wav", (BEGIN, 93.2)), title="Call")
    yield opened
    opened.close()


@pytest.mark.slow
def test_english_then_german_comes_out_each_in_its_language(mixed):
    recording = mixed.library.resolve("Call")
    segments = tuple(mixed.library.segments(recording.id))
    assert spoken(segments, 0, CHANGE - 1.4) == {"en"}
    assert spoken(segments, CHANGE + 0.1, 1e9) == {"de"}
    assert "prüfung beginnt am dienstag" in words(segments, CHANGE + 0.1)
    assert "extra crew" in words(segments, 0, CHANGE - 0.9)
    assert recording.coverage is not None and recording.coverage > 0.97
    assert (recording.language, recording.languages) == ("en", ("en", "de"))


def test_windows_are_cut_where_the_language_changes(mixed):
    with mixed.library.database.transaction() as session:
        rows = session.scalars(select(WindowRow).order_by(WindowRow.start)).all()
    assert rows[0].language == "en" and {row.language for row in rows if row.end < CHANGE - 1.4} <= {"en"}
    assert {row.language for row in rows if row.end > CHANGE + 4.1} == {"de"}
    assert all(row.done and row.end > row.start for row in rows)
    assert all(before.end <= after.start for before, after in pairwise(rows))
    assert min(abs(row.start - CHANGE + 0.4) for row in rows) < 1.5


def test_the_languages_are_shown(mixed):
    recording = mixed.library.resolve("Call")
    segments = mixed.library.segments(recording.id)
    document = json.loads(export(recording, segments, "json"))
    assert document["languages"] == ["en", "de"]
    assert document["segments"][0]["language"] == "en" and document["segments"][-1]["language"] == "de"
    assert "English and German" in export(recording, segments, "md").decode()
    assert added_json(recording, len(segments))["languages"] == ["en", "de"]
    answer = mixed.assistant.ask("What language is spoken in the call?", recording.id)
    assert "English and German" in answer.text


def test_one_language_is_named_as_several_are(capsys):
    recording = Recording("a" * 64, "Call", "a.mp3", 9.0, Status.READY, "", language="en", languages=("en",))
    show_added(recording, 1)
    assert "English" in capsys.readouterr().out
    assert "English" in export(recording, [], "md").decode()


def test_a_language_that_is_given_is_the_only_one(whisper, sample, tmp_path):
    audio, rate = cut(sample, 3, 7)
    soundfile.write(tmp_path / "english.wav", audio, rate)
    found = transcript(tmp_path / "english.wav", whisper, "de")
    assert {item.language for item in found.segments} == {"de"} and found.language == "de"


class ByLoudness(LanguageWhisper):
    """Takes loud speech for English and soft speech for German, and is sure of both by themselves only."""

    def __init__(self) -> None:
        """Nothing is loaded."""

    def _odds_of(self, audio, stretches):
        yield from [{"la": 0.4, "en": 0.2, "de": 0.2, "fr": 0.2}] * len(stretches)

    def _alone(self, audio, stretch):
        samples = audio[round(stretch.start * SAMPLE_RATE) : round(stretch.end * SAMPLE_RATE)]
        return np.array([[[np.percentile(np.abs(samples), 90)]]])

    def language_odds(self, output, start, end):
        return {"en": 0.98, "de": 0.02} if output[0, 0, 0] > 0.1 else {"en": 0.02, "de": 0.98}


@pytest.mark.parametrize(
    ("pause", "speech"),
    [
        ((4.5, 4.8), (Span(0, 4.5), Span(4.8, 12))),
        ((3.1, 3.3), (Span(0, 12),)),
        ((6.0, 6.4), (Span(0, 6.0), Span(6.4, 6.9), Span(7.2, 12))),
    ],
)
def test_the_language_changes_at_the_pause_before_its_first_words(pause, speech):
    audio = np.random.default_rng(0).normal(0, 0.2, 12 * SAMPLE_RATE).astype(np.float32)
    audio[round(pause[0] * SAMPLE_RATE) :] *= 0.3
    audio[round(pause[0] * SAMPLE_RATE) : round(pause[1] * SAMPLE_RATE)] = 0.0
    window = AudioWindow(audio, 0.0, speech, "en", language_is_guess=True)
    english, german = ByLoudness().languages(audio, [KeptSpan(0.0, Span(0, 12))], window, "en")
    assert (english.language, german.language) == ("en", "de")
    assert pause[0] <= english.span.end == german.span.start <= pause[1]


class Understanding(LanguageWhisper):
    """Takes the middle sentence of three for Thai, and understands it as well as it is told."""

    def __init__(self, sure: float) -> None:
        """Nothing is loaded."""
        self.sure = sure

    def _odds_of(self, audio, stretches):
        thai = {"th": 0.9, "de": 0.05, "en": 0.05}
        yield from [{"de": 0.99, "en": 0.01}, thai, {"de": 0.99, "en": 0.01}]

    def _encoded(self, audio):
        return np.zeros((1, 1, 1))

    def _sureness(self, output, languages):
        return {language: self.sure if language == "th" else -1.5 for language in languages}

    def language_odds(self, output, start, end):
        return {"th": 0.9, "de": 0.05, "en": 0.05}


@pytest.mark.parametrize(("sure", "languages"), [(-1.3, ["de"]), (-0.4, ["de", "th", "de"])])
def test_a_sentence_that_is_understood_in_no_language_changes_none(sure, languages):
    speech = (Span(0, 4), Span(5, 9), Span(10, 14))
    audio = np.random.default_rng(0).normal(0, 0.2, 15 * SAMPLE_RATE).astype(np.float32)
    for pause in (4, 9, 14):
        audio[pause * SAMPLE_RATE : (pause + 1) * SAMPLE_RATE] = 0.0
    window = AudioWindow(audio, 0.0, speech, "de", language_is_guess=True)
    found = Understanding(sure).languages(audio, [KeptSpan(0.0, Span(0, 15))], window, "de")
    assert [part.language for part in found] == languages


class Polyglot:
    """Stands for an engine: understands every language, and keeps what each window was expected in."""

    name = "polyglot"
    windows_at_once = 1
    window_speech_seconds = 8.0
    max_window_seconds = 12.0
    max_splits = 0
    times_words = False

    def __init__(self) -> None:
        self.expected: list[tuple[str | None, bool]] = []

    def prepare(self, stop: threading.Event | None = None) -> None:
        """Nothing is loaded."""

    def detect_language(self, audio: np.ndarray) -> tuple[str, float]:
        return "en", 1.0

    def transcribe(self, window: AudioWindow, careful: bool = False) -> list[Segment]:
        self.expected.append((window.language, window.language_is_guess))
        span = window.speech[0]
        return [Segment(span.start, span.end, "Words.", engine=self.name, language=window.language)]


@pytest.fixture
def polyglot(home: Path) -> Iterator[Workspace]:
    opened = open_workspace(Settings(home=home))
    opened.__dict__["transcriber"] = Polyglot()
    yield opened
    opened.close()


def add_first_window(workspace: Workspace, file: Path, language: str | None) -> None:
    """Add a file, and stop when the first window is stored."""
    cancel = threading.Event()

    def stop(progress: Progress) -> None:
        if progress.speed is not None:
            cancel.set()

    with pytest.raises(Cancelled):
        workspace.add(file, progress=stop, cancel=cancel, language=language)


def test_a_language_that_is_set_is_not_guessed_and_one_that_is_given_comes_before_it(home, sample, tmp_path):
    opened = open_workspace(Settings(home=home, language="fr"))
    opened.__dict__["transcriber"] = hears = Polyglot()
    recording = opened.add(excerpt(sample, tmp_path / "a.wav", 3, 6))
    other = opened.add(excerpt(sample, tmp_path / "b.wav", 3, 7), language="de")
    languages = {item.language for item in opened.library.segments(other.id)}
    opened.close()
    assert hears.expected == [("fr", False), ("de", False)]
    assert recording.language == "fr"
    assert other.language == "de" and languages == {"de"}


def test_a_language_that_was_given_is_still_the_only_one_when_it_goes_on(polyglot, sample, tmp_path):
    file = excerpt(sample, tmp_path / "talk.wav", 0, 40)
    add_first_window(polyglot, file, "de")
    polyglot.transcriber.expected.clear()
    recording = polyglot.add(file)
    assert recording.status == "ready" and recording.languages == ("de",)
    assert set(polyglot.transcriber.expected) == {("de", False)}


def test_a_language_that_was_found_is_still_a_guess_when_it_goes_on(polyglot, sample, tmp_path):
    file = excerpt(sample, tmp_path / "talk.wav", 0, 40)
    add_first_window(polyglot, file, None)
    polyglot.transcriber.expected.clear()
    assert polyglot.add(file).status == "ready"
    assert {is_guess for _, is_guess in polyglot.transcriber.expected} == {True}


@pytest.mark.parametrize("is_ready", [True, False])
def test_what_was_transcribed_in_another_language_than_the_one_given_now_stays_and_that_is_said(
    polyglot, sample, tmp_path, is_ready
):
    file = excerpt(sample, tmp_path / "talk.wav", 0, 40)
    if is_ready:
        polyglot.add(file)
    else:
        add_first_window(polyglot, file, None)
    told: list[str] = []
    recording = polyglot.add(file, language="de", told=told.append)
    languages = {segment.language for segment in polyglot.library.segments(recording.id)}
    assert languages == ({"en"} if is_ready else {"en", "de"})
    assert "English" in told[-1] and "German" in told[-1] and "--again" in told[-1]
    told.clear()
    polyglot.add(file, language="en" if is_ready else None, told=told.append)
    assert not any("English" in sentence for sentence in told)


def test_a_model_for_english_alone_says_so(models, tmp_path):
    tiny = WhisperTranscriber("tiny.en", models / "whisper")
    path = tmp_path / "three.opus"
    path.write_bytes(THREE.read_bytes())
    with pytest.raises(MossAgentError, match="English only"):
        transcript(path, tiny, "de")


def test_recordings_of_an_older_version_have_their_one_language_everywhere(home):
    home.mkdir(parents=True)
    engine = create_engine(f"sqlite:///{home / 'library.sqlite'}")
    revise(engine, "upgrade", "0005")
    with engine.begin() as connection:
        for name, language in (("a", "de"), ("b", None)):
            connection.execute(
                text(
                    "INSERT INTO recordings (id, title, source_name, duration, status, added_at, gaps, "
                    "notes, engine, seconds_taken, language) "
                    "VALUES (:id, :id, 'x', 9.0, 'ready', '', '[]', '[]', '', 0.0, :language)"
                ),
                {"id": name, "language": language},
            )
            for kind in ("speech", "sound"):
                connection.execute(
                    text(
                        'INSERT INTO segments (recording_id, start, "end", kind, text, words, engine) '
                        "VALUES (:id, 0, 1, :kind, 'x', '[]', '')"
                    ),
                    {"id": name, "kind": kind},
                )
        # Killed after the first change.
        connection.execute(text("ALTER TABLE segments ADD COLUMN language VARCHAR"))
    engine.dispose()
    library = open_library(home)
    assert [library.recording(name).languages for name in "ab"] == [("de",), ()]
    assert {item.kind: item.language for item in library.segments("a")} == {"speech": "de", "sound": None}
    assert {item.language for item in library.segments("b")} == {None}
    library.database.close()
    revise(engine, "downgrade", "0005")
