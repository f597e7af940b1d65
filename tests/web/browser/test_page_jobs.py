"""The queue behind the page: one file at a time, nothing lost, every failure one sentence."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path

import pytest

from index.pipeline.ingest import Progress
from index.recording_errors import Cancelled, MediaError, MossAgentError
from tests.support.waiting import wait_until
from web.jobs import Jobs


class Adder:
    """Stands where ``Workspace.add`` does: takes as long as the test says."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.running = 0
        self.most = 0
        self.go = threading.Event()
        self.raises: Exception | None = None

    def __call__(self, path, title=None, speakers=None, progress=None, cancel=None):
        self.began.append(path.name)
        self.running += 1
        self.most = max(self.most, self.running)
        progress(Progress("transcribing", 5.0, 10.0, 2.0, 2.5))
        try:
            while not self.go.wait(0.01):
                if cancel.is_set():
                    raise Cancelled("Stopped.")
            if self.raises:
                raise self.raises
        finally:
            self.running -= 1


@pytest.fixture
def adder() -> Adder:
    return Adder()


@pytest.fixture
def jobs(adder: Adder):
    made = Jobs(adder)
    yield made
    adder.go.set()
    made.close(5)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    made = []
    for name in ("a", "b", "c"):
        folder = tmp_path / "uploads" / name
        folder.mkdir(parents=True)
        made.append(folder / f"{name}.wav")
        made[-1].write_bytes(name.encode())
    return made


def states(jobs: Jobs) -> list[str]:
    return [job.state for job in jobs.list()]


def test_files_are_added_one_at_a_time_in_their_order(jobs: Jobs, adder: Adder, files: list[Path]) -> None:
    for file in files:
        jobs.submit(file, file.stem, release=file.unlink)
    wait_until(lambda: states(jobs) == ["running", "waiting", "waiting"] and jobs.list()[0].progress)
    assert jobs.list()[0].progress.fraction == 0.5
    adder.go.set()
    wait_until(lambda: not jobs.list())
    assert adder.began == ["a.wav", "b.wav", "c.wav"]
    assert adder.most == 1
    assert not any(file.exists() for file in files), "an upload goes once it was added"


def test_a_file_of_the_users_own_is_never_deleted(jobs: Jobs, adder: Adder, files: list[Path]) -> None:
    jobs.submit(files[0], "mine")
    adder.go.set()
    wait_until(lambda: not jobs.list())
    assert files[0].exists()


def test_a_stopped_job_keeps_its_file_and_goes_on(jobs: Jobs, adder: Adder, files: list[Path]) -> None:
    job = jobs.submit(files[0], "a", release=files[0].unlink)
    wait_until(lambda: adder.began)
    jobs.cancel(job.id)
    wait_until(lambda: states(jobs) == ["stopped"])
    assert files[0].exists()
    jobs.resume(job.id)
    adder.go.set()
    wait_until(lambda: not jobs.list())
    assert adder.began == ["a.wav", "a.wav"]


def test_cancelling_a_waiting_job_removes_it_and_its_upload(
    jobs: Jobs, adder: Adder, files: list[Path]
) -> None:
    jobs.submit(files[0], "a", release=files[0].unlink)
    second = jobs.submit(files[1], "b", release=files[1].unlink)
    jobs.cancel(second.id)
    assert len(jobs.list()) == 1
    assert not files[1].exists()


@pytest.mark.parametrize(
    ("error", "sentence", "retry"),
    [
        (MediaError("This is no media file."), "This is no media file.", False),
        (
            MossAgentError("The weights are missing; install them."),
            "The weights are missing; install them.",
            True,
        ),
        (ZeroDivisionError("x"), "Unexpected error (ZeroDivisionError: x).", True),
    ],
)
def test_a_failure_is_one_sentence_and_the_next_file_is_added(
    jobs: Jobs, adder: Adder, files: list[Path], error: Exception, sentence: str, retry: bool
) -> None:
    adder.raises = error
    adder.go.set()
    first = jobs.submit(files[0], "a", release=partial(files[0].unlink, missing_ok=True))
    wait_until(lambda: states(jobs) == ["failed"])
    assert (jobs.list()[0].error, jobs.list()[0].retry) == (sentence, retry)
    assert files[0].exists() is retry
    adder.raises = None
    jobs.submit(files[1], "b")
    wait_until(lambda: len(jobs.list()) == 1)
    jobs.dismiss(first.id)
    assert jobs.list() == []
    assert not files[0].exists()


def test_a_running_job_cannot_be_dismissed_or_queued_twice(
    jobs: Jobs, adder: Adder, files: list[Path]
) -> None:
    job = jobs.submit(files[0], "a")
    wait_until(lambda: states(jobs) == ["running"])
    jobs.dismiss(job.id)
    jobs.resume(job.id)
    assert states(jobs) == ["running"]
    assert jobs.working_on(jobs.list()[0].recording or "") or jobs.list()[0].recording is None


def test_closing_stops_the_running_job_and_keeps_its_upload(adder: Adder, files: list[Path]) -> None:
    jobs = Jobs(adder)
    jobs.submit(files[0], "a", release=files[0].unlink)
    wait_until(lambda: adder.began)
    jobs.close(5)
    assert adder.running == 0
    assert files[0].exists()
