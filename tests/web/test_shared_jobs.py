"""The queue of files where several processes work on it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, update
from starlette.testclient import TestClient

from agent.settings import Settings
from agent.workspace import open_workspace
from index.audio.decode import file_id
from index.progress import Progress
from index.recording_errors import Cancelled, DatabaseAway, MediaError
from index.records import StageName
from index.store.access import acting_as
from index.store.database import Database, JobRow
from index.store.people import People
from tests.servers import Postgres, postgres
from tests.support.waiting import wait_until
from web import shared_jobs
from web.app import create_app
from web.jobs import Job, Jobs
from web.page.handlers import Handlers
from web.shared_jobs import SharedJobs
from web.uploads import Uploads


class Worker:
    """What takes files in: it reports, and goes on when it is told to."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.go = threading.Event()
        self.error: Exception | None = None

    def add(self, path, title, speakers, progress, cancel, **_):
        self.begun.append(title)
        progress(Progress(StageName.TRANSCRIBING, 30.0, 120.0, 2.0, 45.0, "window 1 of 4"))
        while not self.go.wait(0.01):
            if cancel.is_set():
                raise Cancelled("stopped")
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        self.ended.append(title)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'library.sqlite'}"
    return postgres().new_database()


@pytest.fixture
def process(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., SharedJobs]]:
    """Makes the queue of another process."""
    monkeypatch.setattr(shared_jobs, "BEAT_SECONDS", 0.02)
    opened: list[SharedJobs] = []

    def begin(worker: Worker, released: list[str] | None = None) -> SharedJobs:
        release = [].append if released is None else released.append
        opened.append(SharedJobs(Database(url), worker.add, release=release))  # type: ignore[arg-type]
        return opened[-1]

    yield begin
    for jobs in opened:
        jobs.close(5)
        jobs.database.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "talk.wav"
    path.write_bytes(b"a talk")
    return path


def only(jobs: SharedJobs) -> Job:
    (job,) = jobs.list()
    return job


def test_another_process_gives_a_transcript_its_media(url, monkeypatch, file) -> None:
    monkeypatch.setattr(shared_jobs, "BEAT_SECONDS", 0.02)
    given: list[tuple] = []
    jobs = SharedJobs(Database(url), Worker().add, attach=lambda *args: given.append(args))
    jobs.submit(file, "Talk", 2, recording="transcript", track=3, is_attached=True)
    wait_until(lambda: [job.state for job in jobs.left()] == ["done"])
    jobs.close(5)
    jobs.database.close()
    recording, path, speakers, _, _, track = given[0]
    assert (recording, path, speakers, track) == ("transcript", file, 2, 3)


def test_another_process_sees_how_far_a_file_is_and_cancels_it(process, file) -> None:
    here, there = Worker(), Worker()
    near = process(here)
    near.submit(file, "Talk")
    wait_until(lambda: here.begun)
    far = process(there)
    wait_until(lambda: (job := only(far)).progress is not None and job.progress.detail == "window 1 of 4")
    assert only(far).state == "running" and far.working_on(file_id(file))
    far.cancel(only(far).id)
    wait_until(lambda: only(near).state == "stopped")
    assert there.begun == [] and here.ended == []
    here.go.set()
    there.go.set()
    far.resume(only(near).id)
    wait_until(lambda: near.list() == [])
    assert [job.state for job in far.left()] == ["done"]
    assert far.find(far.left()[0].id) == far.left()[0]


def test_each_file_is_taken_in_by_one_process(process, file) -> None:
    workers = [Worker(), Worker(), Worker()]
    for worker in workers:
        worker.go.set()
    queues = [process(worker) for worker in workers]
    for number in range(12):
        queues[number % 3].submit(file, f"{number}")
    wait_until(lambda: queues[0].list() == [])
    assert sorted(int(title) for worker in workers for title in worker.ended) == list(range(12))


def test_what_a_process_left_behind_goes_on_in_another_but_not_for_ever(process, file, url) -> None:
    dead = "a process that was killed"
    worker = Worker()
    jobs = process(worker)
    database = Database(url)

    def left_behind(begun: int) -> None:
        with database.transaction() as session:
            session.execute(
                update(JobRow).values(state="running", worker=dead, lease_until=time.time() - 1, begun=begun)
            )

    jobs.submit(file, "Talk", state="stopped")
    left_behind(begun=1)
    wait_until(lambda: worker.begun == ["Talk"])
    worker.go.set()
    wait_until(lambda: jobs.list() == [])
    jobs.submit(file, "Deadly", state="stopped")
    with database.transaction() as session:
        deadly = session.scalar(select(JobRow.id).where(JobRow.title == "Deadly"))
        session.execute(
            update(JobRow)
            .where(JobRow.id == deadly)
            .values(state="running", worker=dead, lease_until=time.time() - 1, begun=2)
        )
    wait_until(lambda: only(jobs).state == "failed")
    assert worker.begun == ["Talk"] and "twice" in (only(jobs).error or "")
    database.close()


def test_a_process_that_others_took_for_dead_stops(process, file, url) -> None:
    worker = Worker()
    jobs = process(worker)
    job = jobs.submit(file, "Talk")
    wait_until(lambda: worker.begun)
    database = Database(url)
    with database.transaction() as session:
        session.execute(update(JobRow).values(worker="another", lease_until=time.time() + 60))
    wait_until(lambda: not jobs._cancels)
    assert worker.ended == [] and only(jobs).state == "running"
    with database.transaction() as session:
        assert session.get_one(JobRow, job.id).worker == "another"
    database.close()


def test_the_end_of_a_process_leaves_its_files_to_others(process, file) -> None:
    here, there = Worker(), Worker()
    near = process(here)
    near.submit(file, "Talk")
    wait_until(lambda: here.begun)
    there.go.set()
    near.close(5)
    far = process(there)
    wait_until(lambda: there.ended == ["Talk"])
    wait_until(lambda: far.list() == [])


def test_an_upload_is_queued_once_and_released_at_the_end(process, file) -> None:
    worker, released = Worker(), []
    jobs = process(worker, released)
    first = jobs.submit(file, "Talk", source="upload")
    assert jobs.submit(file, "Talk again", source="upload").id == first.id
    worker.go.set()
    wait_until(lambda: released == ["upload"])
    second = jobs.submit(file, "Talk", source="upload")
    assert second.id != first.id


def test_what_waits_is_given_up_when_it_is_cancelled_and_what_failed_when_it_is_dismissed(
    process, file
) -> None:
    worker, released = Worker(), []
    jobs = process(worker, released)
    worker.error = MediaError("no audio")
    jobs.submit(file, "Broken", source="a")
    wait_until(lambda: worker.begun)
    waiting = jobs.submit(file, "Waiting", source="b")
    jobs.cancel(waiting.id)
    assert [job.title for job in jobs.list()] == ["Broken"] and released == ["b"]
    worker.go.set()
    wait_until(lambda: only(jobs).state == "failed")
    assert not only(jobs).retry and only(jobs).error == "no audio"
    jobs.dismiss(only(jobs).id)
    assert jobs.list() == [] and {job.state for job in jobs.left()} == {"stopped"}


def test_a_file_that_this_process_cannot_read_is_left_to_others(process, file, tmp_path) -> None:
    worker = Worker()
    worker.go.set()
    jobs = process(worker)
    jobs.submit(tmp_path / "elsewhere.wav", "Elsewhere")
    jobs.submit(file, "Here")
    wait_until(lambda: worker.ended == ["Here"] and len(jobs.list()) == 1)
    assert only(jobs).state == "waiting"


def test_many_files_that_this_process_cannot_read_do_not_keep_it_from_one_that_it_can(
    process, file, tmp_path
) -> None:
    worker = Worker()
    worker.go.set()
    jobs = process(worker)
    for number in range(shared_jobs.LOOKED_AT + 3):
        jobs.submit(tmp_path / f"{number}.wav", "Elsewhere")
    jobs.submit(file, "Here")
    wait_until(lambda: worker.ended == ["Here"])
    wait_until(lambda: {job.state for job in jobs.list()} == {"waiting"})


def test_what_somebody_sent_waits_for_every_process_while_they_are_kept_out(process, file, url) -> None:
    worker = Worker()
    worker.go.set()
    people = People(Database(url))
    people.add("anna")
    ben = people.add("ben")
    people.set_disabled("ben", True)
    jobs = process(worker)
    with acting_as(ben):
        jobs.submit(file, "Of Ben")
    jobs.submit(file, "Of nobody")
    wait_until(lambda: [(job.title, job.state) for job in jobs.list()] == [("Of Ben", "waiting")])
    assert worker.ended == ["Of nobody"]
    people.set_disabled("ben", False)
    wait_until(lambda: worker.ended == ["Of nobody", "Of Ben"])
    people.database.close()


def test_work_that_a_lost_database_broke_off_is_done_again(process, file) -> None:
    worker = Worker()
    worker.error = DatabaseAway("away")
    worker.go.set()
    jobs = process(worker)
    jobs.submit(file, "Talk")
    wait_until(lambda: worker.ended == ["Talk"])
    assert worker.begun == ["Talk", "Talk"]


def test_a_page_whose_database_is_away_says_so_and_goes_on_when_it_is_back(home: Path) -> None:
    server = Postgres()
    workspace = open_workspace(Settings(home=home, database=server.new_database()))
    jobs = Jobs(workspace.add)
    page = TestClient(create_app(workspace, jobs), base_url="http://127.0.0.1:7860")
    handlers = Handlers(workspace, jobs, Uploads(home))
    before = page.get("/changes").text
    server.stop()
    assert "MOSS_AGENT_DATABASE" in handlers.changed(None, "", {})[0]
    assert page.get("/changes").text != before
    assert page.get("/health").status_code == page.get("/export/a.txt").status_code == 503
    server.start()
    assert "No recordings yet" in handlers.changed(None, "", {})[0]
    assert page.get("/changes").text == before
    assert page.get("/health").json() == {"recordings": 0}
    jobs.close(1)
    workspace.close()
    server.stop()
