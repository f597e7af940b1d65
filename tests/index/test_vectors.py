"""The Chroma collection: rebuilt from the database, never mixed, nothing left of what was deleted."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from index.recording_errors import IndexOutOfDate
from index.records import Passage
from index.search.indexing import index_recording, rebuild
from index.search.passages import PassageStore
from index.search.vectors import Vectors
from tests.support.indexed import embedder, heard, open_library, sentences, store


@dataclass
class Named:
    """The part of an embedder that the collection needs."""

    name: str = "small"
    dimensions: int = 8


def passages(recording: str, first: int, count: int) -> list[Passage]:
    return [Passage(recording, 40.0 * at, 40.0 * at + 39, "text", (at,), first + at) for at in range(count)]


def unit(count: int, seed: int = 0, width: int = 8) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def vectors(home: Path):
    opened = Vectors(home / "vectors", Named())
    yield opened
    opened.close()


def test_a_vector_finds_its_own_passage_with_its_cosine(vectors: Vectors) -> None:
    rows = unit(20)
    vectors.add(passages("a", 1, 20), rows)
    found = vectors.query(rows[6], 3)
    assert found[0][0] == 7
    assert found[0][1] == pytest.approx(1.0, abs=1e-5)
    exact = np.sort(rows @ rows[6])[::-1][:3]
    assert [similarity for _, similarity in found] == pytest.approx(list(exact), abs=1e-5)


def test_adding_twice_is_harmless(vectors: Vectors) -> None:
    for _ in range(2):
        vectors.add(passages("a", 1, 5), unit(5))
    assert vectors.count() == 5


def test_replacing_a_recording_leaves_the_others_alone(vectors: Vectors) -> None:
    vectors.add(passages("a", 1, 5), unit(5))
    vectors.add(passages("b", 11, 5), unit(5, seed=1))
    vectors.replace("a", passages("a", 21, 2), unit(2, seed=2))
    assert {number for number, _ in vectors.query(unit(1)[0], 50)} == {21, 22, *range(11, 16)}


def test_more_vectors_than_one_batch_takes_are_all_there(vectors: Vectors) -> None:
    count = vectors._batch() + 10
    vectors.add(passages("a", 1, count), unit(count))
    assert vectors.count() == count


def test_vectors_survive_a_restart(home: Path) -> None:
    first = Vectors(home / "vectors", Named())
    first.add(passages("a", 1, 5), unit(5))
    first.close()
    second = Vectors(home / "vectors", Named())
    assert second.query(unit(5)[2], 1)[0][0] == 3
    second.close()


def test_no_text_goes_to_chroma(vectors: Vectors) -> None:
    vectors.add(passages("a", 1, 2), unit(2))
    stored = vectors._open().get(include=["documents", "metadatas"])
    assert stored["documents"] == [None, None]
    assert sorted(stored["metadatas"][0]) == ["end", "recording", "start"]
    assert isinstance(stored["metadatas"][0]["start"], float)


def test_another_embedder_is_refused_with_the_command_that_helps(home: Path) -> None:
    first = Vectors(home / "vectors", Named("one"))
    first.add(passages("a", 1, 3), unit(3))
    first.close()
    second = Vectors(home / "vectors", Named("other"))
    with pytest.raises(IndexOutOfDate, match="reindex"):
        second.query(unit(1)[0], 3)
    with pytest.raises(IndexOutOfDate, match="one"):
        second.add(passages("a", 1, 3), unit(3))
    second.delete("a")  # deleting must always be possible
    assert second.count() == 0
    second.close()


def test_an_empty_collection_may_change_its_embedder(home: Path) -> None:
    first = Vectors(home / "vectors", Named("one", 8))
    assert first.count() == 0
    first.close()
    second = Vectors(home / "vectors", Named("other", 16))
    second.add(passages("a", 1, 3), unit(3, width=16))
    assert second.count() == 3
    second.close()


def test_deleting_leaves_neither_vector_nor_id_in_any_file(home: Path) -> None:
    vectors = Vectors(home / "vectors", Named())
    keep, drop = unit(30, seed=1), unit(1500, seed=2)  # enough that Chroma writes its index files
    vectors.add(passages("dropped-recording", 1001, 1500), drop)
    vectors.add(passages("kept-recording", 1, 30), keep)
    vectors.delete("dropped-recording")
    assert vectors.count() == 30
    assert vectors.query(keep[4], 1)[0][0] == 5
    vectors.close()
    stored = b"".join(file.read_bytes() for file in (home / "vectors").rglob("*") if file.is_file())
    assert b"kept-recording" in stored
    assert b"dropped-recording" not in stored
    assert not any(row.tobytes() in stored for row in drop)


def test_deleting_what_is_not_there_changes_nothing(vectors: Vectors) -> None:
    vectors.add(passages("a", 1, 3), unit(3))
    vectors.delete("b")
    assert vectors.count() == 3


@pytest.mark.parametrize("damage", ["removed", "overwritten"])
def test_a_lost_collection_is_reported_and_rebuilt_from_the_database(home: Path, damage: str) -> None:
    library = open_library(home)
    recording = store(library, heard(), "Harbour")
    vectors = Vectors(home / "vectors", embedder())
    count = index_recording(library, embedder(), vectors, recording)
    vectors.check(library)
    query = embedder().encode_query("insurance for the fireworks")
    before = vectors.query(query, count)
    vectors.close()
    if damage == "removed":
        for file in (home / "vectors").rglob("*"):
            if file.is_file():
                file.unlink()
    else:
        (home / "vectors" / "chroma.sqlite3").write_bytes(b"this is no database " * 1000)
    with pytest.raises(IndexOutOfDate, match="reindex"):
        vectors.check(library)
    told: list[float] = []
    assert rebuild(library, embedder(), vectors, told.append) == count
    assert told == sorted(told)
    assert told[-1] == 1.0
    vectors.check(library)
    after = vectors.query(query, count)
    assert [number for number, _ in after] == [number for number, _ in before]
    vectors.close()
    library.database.close()


class Renamed:
    """The packaged model under another name: what a changed setting looks like to the index."""

    name = "another-model"
    dimensions = 384
    encode_passages = staticmethod(lambda texts: embedder().encode_passages(texts))
    encode_query = staticmethod(lambda text: embedder().encode_query(text))


def test_reindexing_after_the_embedder_changed_embeds_everything_again(home: Path) -> None:
    library = open_library(home)
    recording = store(library, heard(), "Harbour")
    vectors = Vectors(home / "vectors", embedder())
    count = index_recording(library, embedder(), vectors, recording)
    vectors.close()
    changed = Vectors(home / "vectors", Renamed())
    with pytest.raises(IndexOutOfDate):
        index_recording(library, Renamed(), changed, recording)  # type: ignore[arg-type]
    assert rebuild(library, Renamed(), changed) == count  # type: ignore[arg-type]
    changed.check(library)
    assert PassageStore(library.database).of_recording(recording)[1] == {"another-model"}
    changed.close()
    library.database.close()


def test_indexing_twice_keeps_the_passages_and_their_numbers(home: Path) -> None:
    library = open_library(home)
    recording = store(library, heard(), "Harbour")
    vectors = Vectors(home / "vectors", embedder())
    index_recording(library, embedder(), vectors, recording)
    passages_before, _ = PassageStore(library.database).of_recording(recording)
    index_recording(library, embedder(), vectors, recording)
    passages_after, _ = PassageStore(library.database).of_recording(recording)
    assert passages_after == passages_before
    assert vectors.count() == len(passages_before)
    vectors.close()
    library.database.close()


def test_a_recording_without_speech_is_indexed_as_nothing(home: Path) -> None:
    library = open_library(home)
    recording = store(library, [], "Silence")
    vectors = Vectors(home / "vectors", embedder())
    assert index_recording(library, embedder(), vectors, recording) == 0
    assert vectors.count() == 0
    vectors.close()
    library.database.close()


def test_segment_embeddings_are_those_of_their_sentences(home: Path) -> None:
    library = open_library(home)
    recording = store(library, sentences("The boat leaves at ten.", "We pay the crew."), "Boat")
    vectors = Vectors(home / "vectors", embedder())
    index_recording(library, embedder(), vectors, recording)
    segments = library.segments(recording)
    stored = library.segment_embeddings(segments[::-1])
    assert stored is not None
    fresh = embedder().encode_passages([segment.text for segment in segments[::-1]])
    assert np.abs(stored - fresh).max() < 1e-3
    vectors.close()
    library.database.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
def test_a_chroma_server_works_like_the_folder(tmp_path: Path) -> None:
    port = _free_port()
    chroma = Path(sys.executable).parent / "chroma"
    command = [
        str(chroma),
        "run",
        "--path",
        str(tmp_path / "server"),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < deadline, "the Chroma server did not start"
                time.sleep(0.2)
        vectors = Vectors(f"http://127.0.0.1:{port}", Named())
        vectors.add(passages("a", 1, 5), unit(5))
        vectors.add(passages("b", 11, 5), unit(5, seed=1))
        assert vectors.query(unit(5)[2], 1)[0][0] == 3
        vectors.delete("a")
        assert vectors.count() == 5
        vectors.reset()
        assert vectors.count() == 0
        vectors.close()
    finally:
        server.terminate()
        server.wait(timeout=20)


def test_an_unreachable_server_is_one_sentence() -> None:
    vectors = Vectors(f"http://127.0.0.1:{_free_port()}", Named())
    with pytest.raises(IndexOutOfDate) as raised:
        vectors.count()
    assert "127.0.0.1" in str(raised.value)
