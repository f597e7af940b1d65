"""A file goes through the whole pipeline in somebody's name; in two people's it becomes two recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from argon2 import PasswordHasher

from index.audio.windows import AudioWindow
from index.diarization.known_voices import KnownVoices
from index.pipeline.ingest import Ingest
from index.recording_errors import Forbidden
from index.records import Segment, Status, Word
from index.search.vectors import Vectors
from index.store.access import NOBODY, acting_as
from index.store.library import Library
from index.store.people import People
from tests.support.indexed import embedder
from tests.support.scripted_backend import excerpt


class Repeating:
    """Hears the same sentence in every window, several windows at a time."""

    name = "repeating"
    windows_at_once = 3
    max_splits = 0
    times_words = True
    window_speech_seconds = 3.0
    max_window_seconds = 4.0

    def prepare(self, stop: object = None) -> None:
        """Nothing is loaded."""

    def detect_language(self, audio: np.ndarray) -> None:
        return None

    def transcribe(self, window: AudioWindow, careful: bool = False) -> list[Segment]:
        found = []
        for span in window.speech:
            words = (Word(span.start, span.end, " Hello.", 0.9),)
            found.append(Segment(span.start, span.end, "Hello.", words=words, engine=self.name))
        return found


@pytest.fixture
def minute(sample: Path, tmp_path: Path) -> Path:
    """Several windows of the sample."""
    return excerpt(sample, tmp_path / "minute.wav", 0, 12)


def test_the_same_file_of_two_people_is_two_recordings(library: Library, vectors: Vectors, minute: Path):
    people = People(library.database, PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    anna, ben = people.add("anna"), people.add("ben")
    library.database.otherwise, library.database.has_people = NOBODY, True
    ingest = Ingest(library, Repeating(), embedder(), vectors, "en", voices=KnownVoices(library, "off"))
    with acting_as(anna):
        annas = ingest.add(minute, "Anna's")
        assert annas.status is Status.READY and library.segments(annas.id)
        again = ingest.add(minute)
        assert again.id == annas.id
    with acting_as(ben):
        assert library.recordings() == []
        bens = ingest.add(minute, "Ben's")
        assert bens.id != annas.id and bens.title == "Ben's"
        assert [found.id for found in library.recordings()] == [bens.id]
        assert library.segments(bens.id) and not library.segments(annas.id)
    with acting_as(anna):
        people.share(annas.id, "ben")
    with acting_as(ben):
        assert ingest.add(minute).id == bens.id, "their own goes before one that is shared"
    with acting_as(NOBODY), pytest.raises(Forbidden):
        ingest.add(minute)
    assert {library.audio_path(found.id).exists() for found in (annas, bens)} == {True}
    vectors.close()
