"""The Chroma collection: rebuilt from the database, never mixed, nothing left of what was deleted."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from agent.settings import Settings
from agent.workspace import open_workspace
from index.corrections.correcting import Corrections
from index.recording_errors import IndexOutOfDate, MossAgentError, VectorsAway
from index.records import Passage
from index.search.indexing import index_recording, mend, rebuild
from index.search.passages import PassageStore
from index.search.searching import Search
from index.search.vectors import Vectors, look_at_server
from tests.support.forwarder import Forwarder
from tests.support.indexed import Numbers, embedder, heard, open_library, sentences, store


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


@pytest.fixture(params=["folder", "server"])
def vectors(home: Path, request: pytest.FixtureRequest):
    """A collection in a folder, and one on a server: both are the same to their users."""
    is_folder = request.param == "folder"
    opened = Vectors(home / "vectors" if is_folder else request.getfixturevalue("chroma"), Named())
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


def test_other_processes_may_use_a_server_too(chroma: str) -> None:
    first, second = Vectors(chroma, Named()), Vectors(chroma, Named())
    first.add(passages("a", 1, 5), unit(5))
    assert second.count() == 5
    second.reset()
    second.add(passages("b", 11, 5), unit(5, seed=1))
    assert first.count() == 5 and first.query(unit(5, seed=1)[2], 1)[0][0] == 13
    first.close()
    second.close()


@pytest.fixture
def line(chroma: str):
    opened = Forwarder(chroma)
    yield opened
    opened.cut()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers that were away are asked again at once."""
    monkeypatch.setattr("index.search.vectors.FIRST_PAUSE", 0.0)
    monkeypatch.setattr("index.search.vectors.LONGEST_PAUSE", 0.0)


def test_a_server_that_is_away_is_one_sentence_and_not_asked_again_at_once(line: Forwarder) -> None:
    vectors = Vectors(line.url, Named())
    vectors.add(passages("a", 1, 5), unit(5))
    line.cut()
    with pytest.raises(VectorsAway, match=line.url):
        vectors.count()
    line.mend()
    with pytest.raises(VectorsAway):
        vectors.query(unit(5)[2], 1)
    vectors.add(passages("b", 11, 5), unit(5, seed=1))  # what is to be kept is tried all the same
    assert vectors.count() == 10
    vectors.close()


def test_without_the_server_recordings_are_taken_in_corrected_and_found(
    home: Path, line: Forwarder, impatient: None, caplog: pytest.LogCaptureFixture
) -> None:
    library = open_library(home)
    vectors = Vectors(line.url, embedder())
    first = store(library, sentences("The fireworks need an insurance."), "Fireworks")
    count = index_recording(library, embedder(), vectors, first)
    search = Search(library, embedder(), vectors)
    question = "who pays the crew of the boat?"

    line.cut()
    second = store(library, sentences("The boat leaves at ten.", "The town pays its crew."), "Boat")
    more = index_recording(library, embedder(), vectors, second)
    assert more > 0 and vectors.missed == {second}
    assert any(hit.recording == second for hit in search.search(question))
    assert search.search("insurance for the fireworks")[0].recording == first
    assert sum(line.url in record.getMessage() for record in caplog.records) >= 1

    corrections = Corrections(library, embedder(), vectors)
    sentence = library.segments(second)[1]
    corrections.edit(second, sentence.id, "The museum pays its crew.")
    assert "museum" in search.search("the museum pays")[0].text

    line.mend()
    third = store(library, sentences("Nobody has seen the second key."), "Key")
    added = index_recording(library, embedder(), vectors, third)
    assert vectors.missed == set()
    assert vectors.count() == count + more + added == PassageStore(library.database).count()
    vectors.close()
    library.database.close()


def test_what_a_process_that_ended_left_behind_is_mended_by_the_next(home: Path, chroma: str) -> None:
    library = open_library(home)
    vectors = Vectors(chroma, Numbers())
    kept = [store(library, sentences(f"Sentence {number}."), f"Talk {number}") for number in range(4)]
    for recording in kept[:3]:
        index_recording(library, Numbers(), vectors, recording)
    owned = PassageStore(library.database).owners()
    (lost,) = [number for number, recording in owned.items() if recording == kept[0]]
    (taken,) = [number for number, recording in owned.items() if recording == kept[1]]
    vectors.drop(kept[0], [lost])  # never sent
    vectors.add(passages("gone", taken, 1), unit(1))  # of a recording that had this number before
    vectors.add(passages("gone", 900, 2), unit(2))  # never removed
    vectors.close()

    following = Vectors(chroma, Numbers())
    index_recording(library, Numbers(), following, kept[3])
    assert following.owners() == PassageStore(library.database).owners()
    stored = following.stored([lost, taken])
    for number, text in ((lost, "Sentence 0."), (taken, "Sentence 1.")):
        assert stored[number] == pytest.approx(Numbers().encode_query(text), abs=1e-5)
    assert mend(library, following) == 0
    following.close()
    library.database.close()


def test_what_another_process_is_still_indexing_is_found_too(
    home: Path, chroma: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    library = open_library(home)
    vectors = Vectors(chroma, Numbers())
    for number in range(12):
        said = sentences(f"The boat number {number} leaves at {number}.")
        index_recording(library, Numbers(), vectors, store(library, said, f"Boat {number}"))
    newest = store(library, sentences("The museum keeps the second key."), "Key")
    index_recording(library, Numbers(), vectors, newest)
    (passage,) = PassageStore(library.database).of_recording(newest)[0]
    vectors.drop(newest, [passage.id])  # as if it were on its way
    monkeypatch.setattr("index.search.passages.PassageStore.vectors", lambda *_: pytest.fail("compared all"))
    found = Search(library, Numbers(), vectors)._nearest("who has the other key?")
    assert passage.id in found and len(found) == 13
    assert not caplog.records
    vectors.close()
    library.database.close()


def test_a_large_library_without_its_server_is_searched_by_words_alone(
    home: Path, line: Forwarder, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = open_library(home)
    vectors = Vectors(line.url, Numbers())
    index_recording(library, Numbers(), vectors, store(library, sentences("We light the fireworks."), "A"))
    line.cut()
    monkeypatch.setattr("index.search.searching.MOST_COMPARED", 0)
    monkeypatch.setattr("index.search.passages.PassageStore.vectors", lambda *_: pytest.fail("compared"))
    search = Search(library, Numbers(), vectors)
    assert search._candidates("fireworks") and not search._nearest("fireworks")
    vectors.close()
    library.database.close()


class _Answers(BaseHTTPRequestHandler):
    """Answers everything with the status and body that the server was given."""

    def do_GET(self) -> None:
        status, body = self.server.answer  # type: ignore[attr-defined]
        self.server.asked.append(self.headers.get("Authorization"))  # type: ignore[attr-defined]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    "answer,word",
    [
        ((200, b"<html>"), "no Chroma server"),
        ((404, b"{}"), "no Chroma server"),
        ((302, b""), "no Chroma server"),
        ((401, b""), "TOKEN"),
        ((503, b"busy"), "503"),
    ],
)
def test_a_server_that_is_none_or_refuses_is_one_sentence(answer: tuple[int, bytes], word: str) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    server.answer, server.asked = answer, []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        vectors = Vectors(f"http://127.0.0.1:{server.server_address[1]}", Named(), "secret-token")
        with pytest.raises(VectorsAway, match=word) as raised:
            vectors.count()
        assert "secret-token" not in str(raised.value)
        assert server.asked == ["Bearer secret-token"]  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()


def test_a_token_is_sent_with_every_request(chroma: str) -> None:
    assert look_at_server(chroma, "some-token", ask_kind=True).kind == "rust"
    vectors = Vectors(chroma, Named(), "some-token")
    assert vectors.count() == 0
    headers = vectors._connect()._server.get_request_headers()  # type: ignore[attr-defined]
    assert headers["authorization"] == "Bearer some-token"
    vectors.close()


@pytest.mark.parametrize(
    "location",
    ["localhost:8000", "ftp://host/x", "http://", "http://user:word@host:1", "vectors", "http://h:x"],
)
def test_what_is_no_address_is_refused(location: str) -> None:
    with pytest.raises(MossAgentError, match="MOSS_AGENT_VECTORS"):
        Vectors(location, Named())


def test_removing_waits_for_the_server_that_holds_a_recordings_vectors(
    home: Path, line: Forwarder, impatient: None
) -> None:
    workspace = open_workspace(Settings(home=home, vectors=line.url))
    kept = store(workspace.library, sentences("The fireworks need an insurance."), "Fireworks")
    removed = store(workspace.library, sentences("The boat leaves at ten."), "Boat")
    assert workspace.reindex() == PassageStore(workspace.library.database).count()
    line.cut()
    with pytest.raises(VectorsAway, match="Boat"):
        workspace.remove("Boat")
    assert workspace.library.recording(removed)
    line.mend()
    workspace.remove("Boat")
    assert [recording.id for recording in workspace.library.recordings()] == [kept]
    assert workspace.vectors.count() == PassageStore(workspace.library.database).count()
    assert not (home / "vectors").exists()
    workspace.close()
