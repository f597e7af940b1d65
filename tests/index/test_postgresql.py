"""A library on a PostgreSQL server: what is as in SQLite's file, and what only a server can do wrong."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError

from agent.settings import Settings
from index.folding import fold
from index.recording_errors import Busy, DatabaseAway, DiskFull, MossAgentError, ReadOnly
from index.search.passages import PassageStore
from index.store.access import CHECKED, acting_as
from index.store.database import Database, JobRow, PassageRow, RecordingRow
from index.store.library import Library
from index.store.people import People
from tests.servers import Postgres, postgres
from tests.support.indexed import keyword_index_is_whole, sentences, store

DATABASES = ("postgresql",)


@pytest.fixture
def own_server() -> Iterator[Postgres]:
    """A server that a test may stop."""
    server = Postgres()
    yield server
    server.stop()


# Settings


def test_the_url_is_read_from_the_setting_and_from_the_one_it_was_called_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MOSS_AGENT_DATABASE_URL", "sqlite:////old")
    assert Settings().database == "sqlite:////old"
    monkeypatch.setenv("MOSS_AGENT_DATABASE", "postgresql+psycopg://new/library")
    assert Settings().database == "postgresql+psycopg://new/library"
    assert Settings(database=None).database is None


def test_a_library_in_a_file_imports_no_driver_of_a_server(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from index.store.database import Database\n"
        "Database(pathlib.Path(sys.argv[1])).close(); import agent.checkpointer\n"
        "sys.exit(any(name.startswith('psycopg') or 'checkpoint.postgres' in name for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path / "library.sqlite"]).returncode == 0


@pytest.mark.parametrize("url", ["mysql://host/library", "postgresql+asyncpg://host/library", "library", ""])
def test_what_is_no_database_is_refused_by_the_name_of_the_setting(url: str) -> None:
    with pytest.raises(MossAgentError, match="MOSS_AGENT_DATABASE"):
        Database(url)


# The server


def test_many_processes_may_open_a_new_database_at_once() -> None:
    url = postgres().empty_database()
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(Database, [url] * 4))
    for database in opened:
        assert Library(database, Path("/nowhere")).recordings() == []
        database.close()


def test_a_server_that_is_away_is_one_sentence_and_works_again_when_it_is_back(own_server: Postgres) -> None:
    database = Database(own_server.new_database())
    library = Library(database, Path("/nowhere"))
    recording = store(library, sentences("One."), "Call")
    own_server.stop()
    for _ in range(2):
        with pytest.raises(DatabaseAway, match="MOSS_AGENT_DATABASE") as told:
            library.recordings()
        assert "\n" not in str(told.value)
    with pytest.raises(DatabaseAway):
        Database(str(database.backend.url))  # type: ignore[attr-defined]
    own_server.start()
    assert [item.id for item in library.recordings()] == [recording]
    database.close()


def test_a_transaction_that_the_server_breaks_off_leaves_nothing(library: Library) -> None:
    def broken_off() -> None:
        with library.database.transaction() as session:
            session.add(RecordingRow(id="a", title="A", source_name="a.wav", added_at=""))
            session.flush()
            pid = session.connection().exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
            postgres().execute(f"SELECT pg_terminate_backend({pid})")
            session.connection().exec_driver_sql("SELECT 1")

    with pytest.raises(DatabaseAway):
        broken_off()
    assert library.recordings() == []


def test_a_password_is_in_no_message(own_server: Postgres) -> None:
    own_server.stop()
    url = f"postgresql://library:s3cr3t@127.0.0.1:{own_server.port}/library"
    with pytest.raises(DatabaseAway) as told:
        Database(url)
    assert "s3cr3t" not in str(told.value) and str(own_server.port) in str(told.value)


def test_a_database_that_only_reads_is_read_and_says_so_when_it_is_to_be_written(library: Library) -> None:
    store(library, sentences("One."), "Call")
    url = str(library.database.engine.url.render_as_string(hide_password=False))
    reader = Database(url, read_only=True)
    assert [item.title for item in Library(reader, library.home).recordings()] == ["Call"]
    for write in (reader.changing, reader.transaction):
        with pytest.raises(ReadOnly), write() as session:
            session.add(RecordingRow(id="a", title="A", source_name="a.wav", added_at=""))
    reader.close()
    with pytest.raises(ReadOnly):
        Database(postgres().empty_database(), read_only=True)


def test_a_full_disk_of_the_server_is_told_as_that(library: Library) -> None:
    import psycopg

    def full(*_: object) -> None:
        raise OperationalError("INSERT", {}, psycopg.errors.DiskFull("could not extend file"))

    event.listen(library.database.engine, "before_cursor_execute", full)
    with pytest.raises(DiskFull, match="server"):
        library.recordings()


def test_texts_with_a_zero_character_are_kept_without_it(library: Library) -> None:
    recording = store(library, sentences("One\0two."), "Call\0")
    assert library.recording(recording).title == "Call"
    assert [segment.text for segment in library.segments(recording)] == ["Onetwo."]


# Writing at the same time


def test_nobody_writes_between_what_a_change_reads_and_what_it_writes(library: Library) -> None:
    recording = store(library, [], "0")
    begun = threading.Barrier(4)

    def count_up() -> None:
        begun.wait()
        for _ in range(5):
            with library.database.changing() as session:
                row = session.get_one(RecordingRow, recording)
                row.title = str(int(row.title) + 1)

    threads = [threading.Thread(target=count_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert library.recording(recording).title == "20"


def test_other_writing_waits_for_a_change_and_reading_does_not(library: Library) -> None:
    recording = store(library, [], "Before")
    with library.database.changing() as session, ThreadPoolExecutor(1) as pool:
        writing = pool.submit(library.rename, recording, "Renamed")
        assert library.recording(recording).title == "Before"
        session.get_one(RecordingRow, recording).title = "Changed"
        session.commit()
        writing.result(10)
    assert library.recording(recording).title == "Renamed"


def test_giving_up_what_somebody_sent_and_beginning_it_wait_for_each_other(library: Library) -> None:
    database, people = library.database, People(library.database)
    people.add("anna")
    ben = people.add("ben")
    with acting_as(ben), database.transaction() as session:
        session.add(JobRow(id="a", title="a", path="a", state="waiting", queued_at=0.0, person_id=ben.id))
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    with ThreadPoolExecutor(1) as other:
        with database.transaction() as session:
            job = session.get_one(JobRow, "a", with_for_update=True)
            given_up = other.submit(people.give_up_jobs, ben)
            until = time.monotonic() + 20
            while session.scalar(waiting, execution_options=CHECKED) == 0:
                assert time.monotonic() < until, "nobody waited"
                time.sleep(0.01)
            job.state = "running"
        given_up.result(30)
    with database.transaction() as session:
        assert session.get(JobRow, "a") is None


def test_what_one_process_holds_no_other_one_does(library: Library) -> None:
    other = Database(library.database.engine.url.render_as_string(hide_password=False))
    with library.database.holding("recording"):
        with pytest.raises(Busy), other.holding("recording", wait=False):
            pass
        with other.holding("another", wait=False):
            pass
    with other.holding("recording", wait=False):
        pass
    other.close()


# Keyword search

WORDS = [
    *("ferry", "ferries", "boat", "boats", "call", "called", "calling", "the", "roof", "of"),
    *("10:30", "10", "30", "2.5", "2", "5", "музей", "хор", "café"),
]


@given(
    st.lists(st.lists(st.sampled_from(WORDS), max_size=12), min_size=1, max_size=12),
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=4),
)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_both_databases_rank_alike(
    library: Library, tmp_path_factory: pytest.TempPathFactory, texts: list[list[str]], asked: list[str]
) -> None:
    """FTS5's BM25 and ours; where two are as good, the one that was stored first is first in both."""
    ranked = []
    for database in (library.database, Database(tmp_path_factory.mktemp("file") / "library.sqlite")):
        with database.transaction() as session:
            session.query(PassageRow).delete()
            session.query(RecordingRow).delete()
            for number, words in enumerate(texts):
                recording = f"{number % 2}"
                if number < 2:
                    row = RecordingRow(id=recording, title="A", source_name="a.wav", added_at="")
                    session.add(row)
                    session.flush()
                values = {"start": 0.0, "end": 1.0, "text": " ".join(words), "embedder": "e"}
                values |= {"segment_ids": [number], "embedding": b"", "folded": fold(" ".join(words))}
                session.add(PassageRow(recording_id=recording, **values))
                session.flush()
        assert keyword_index_is_whole(database)
        passages = PassageStore(database)
        found = []
        for recording in (None, "0") if database is library.database else (None,):
            numbers = passages.keyword_matches(" ".join(asked), recording, 50)
            stored = passages.by_id(numbers)
            found.append([stored[at].segment_ids[0] for at in numbers])
        ranked.append(found)
        if database is not library.database:
            database.close()
    assert ranked[0][0] == ranked[1][0]
    assert ranked[0][1] == [number for number in ranked[0][0] if number % 2 == 0]


def test_a_word_longer_than_an_index_takes_is_found(library: Library) -> None:
    long = "ab" * 4_000
    recording = store(library, [], "Long")
    with library.database.transaction() as session:
        values = {"start": 0.0, "end": 1.0, "text": long, "embedder": "e", "folded": fold(long)}
        session.add(PassageRow(recording_id=recording, segment_ids=[], embedding=b"", **values))
    assert len(PassageStore(library.database).keyword_matches(long, None, 5)) == 1
