"""Uploads: only what a browser really sent is taken, and only that is ever deleted."""

from __future__ import annotations

import json
import threading
from functools import partial
from pathlib import Path

import pytest

from agent.settings import Settings
from agent.workspace import open_workspace
from index.audio.decode import file_id
from index.recording_errors import Cancelled, DiskFull, MossAgentError
from index.store.access import acting_as
from tests.support.waiting import wait_until
from web import jobs as queue
from web.app import create_app
from web.jobs import Jobs
from web.uploads import Upload, Uploads

FORGED = "0123456789abcdef" * 2


def arrive(uploads: Uploads, name: str, data: bytes = b"x", folder: str = "h") -> str:
    """Put a file where Gradio puts what a browser sends."""
    path = uploads.arriving / folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return str(path)


@pytest.fixture
def victim(home: Path) -> Path:
    """A folder that no upload may touch."""
    folder = home.parent / "victim"
    folder.mkdir(parents=True)
    (folder / "thesis.mp3").write_bytes(b"years of work")
    return folder


@pytest.fixture
def uploads(home: Path) -> Uploads:
    return Uploads(home)


def everything_is_let_go(home: Path) -> list[Upload]:
    """Start over the home as the page does, and forget every upload that comes back."""
    uploads = Uploads(home)
    jobs = Jobs(lambda *_, **__: None)  # type: ignore[arg-type, return-value]
    found = list(uploads.left_over())
    for upload in found:
        release = partial(uploads.release, upload.name)
        jobs.dismiss(jobs.submit(upload.path, upload.title, release=release, state="stopped").id)
    jobs.close(5)
    return found


@pytest.mark.parametrize("reach", ["../../../victim/thesis.mp3", "{victim}/thesis.mp3", "link.mp3", "..", ""])
def test_a_forged_note_reaches_no_other_folder(
    home: Path, uploads: Uploads, victim: Path, reach: str
) -> None:
    folder = uploads.folder / FORGED
    folder.mkdir()
    (folder / "link.mp3").symlink_to(victim / "thesis.mp3")
    note = {"file": reach.format(victim=victim), "title": "t", "speakers": None, "recording": None}
    (uploads.notes / f"{FORGED}.json").write_text(json.dumps(note))
    assert everything_is_let_go(home) == []
    assert (victim / "thesis.mp3").read_bytes() == b"years of work"
    assert not folder.exists()


def test_a_note_whose_name_or_folder_leads_elsewhere_deletes_nothing_there(
    home: Path, uploads: Uploads, victim: Path
) -> None:
    (uploads.folder / FORGED).symlink_to(victim)
    note = json.dumps({"file": "thesis.mp3", "title": "t", "speakers": None, "recording": None})
    for name in (FORGED, "..", "victim"):
        (uploads.notes / f"{name}.json").write_text(note)
    assert everything_is_let_go(home) == []
    for name in ("..", "../../victim", str(victim), "", "."):
        uploads.release(name)
    assert (victim / "thesis.mp3").exists()
    assert uploads.folder.exists()


def test_an_upload_called_like_a_note_is_a_file_like_any_other(
    home: Path, uploads: Uploads, victim: Path
) -> None:
    forged = json.dumps({"path": str(victim / "thesis.mp3"), "file": "x", "title": "t", "speakers": None})
    talk = uploads.claim(arrive(uploads, "talk.mp3"), "A talk", None)
    arrive(uploads, "job.json", forged.encode())
    uploads.claim(arrive(uploads, f"{talk.name}.json", forged.encode()), "Forged", None)
    assert {upload.title for upload in everything_is_let_go(home)} == {"A talk", "Forged"}
    assert (victim / "thesis.mp3").exists()
    assert list(uploads.folder.iterdir()) == list(uploads.notes.iterdir()) == []
    assert list(uploads.arriving.iterdir()) == []


def test_only_uploaded_files_can_be_claimed(home: Path, uploads: Uploads) -> None:
    outside = home / "library.sqlite"
    outside.write_text("secret")
    (uploads.arriving / "h").mkdir()
    link = uploads.arriving / "h" / "link.mp3"
    link.symlink_to(outside)
    beside = uploads.arriving / "h" / ".." / ".." / "library.sqlite"
    for path in (outside, beside, link, Path("/etc/passwd"), "a\0b", "x" * 5000):
        with pytest.raises(MossAgentError, match="did not arrive"):
            uploads.claim(str(path), "x", None)
    assert list(uploads.folder.iterdir()) == []


def test_uploads_that_were_not_added_come_back_and_others_are_cleared(home: Path, uploads: Uploads) -> None:
    path = arrive(uploads, "0123456789abcdef-talk.mp3", b"words")
    recording = file_id(Path(path))
    uploads.claim(path, "A talk", 3, 2)
    arrive(uploads, "loose.mp3")
    (uploads.folder / "loose").mkdir()
    again = Uploads(home)
    found = list(again.left_over())
    assert [(upload.title, upload.speakers, upload.path.name) for upload in found] == [
        ("A talk", 3, "talk.mp3")
    ]
    assert found[0].recording == recording and found[0].track == 2
    assert [file.name for file in again.folder.iterdir()] == [found[0].name]
    assert list(again.arriving.iterdir()) == []


def test_the_same_bytes_sent_twice_are_two_uploads_that_leave_each_other_alone(uploads: Uploads) -> None:
    # Both arrive before either is claimed, in Gradio's folder for these bytes.
    paths = [arrive(uploads, f"{number:016x}-talk.mp3") for number in range(2)]
    first, second = (uploads.claim(path, title, None) for path, title in zip(paths, "ab", strict=True))
    third = uploads.claim(arrive(uploads, "talk.mp3"), "c", None)
    assert first.recording == second.recording == third.recording
    uploads.release(first.name)
    uploads.release(first.name)
    assert not first.path.exists()
    assert second.path.read_bytes() == third.path.read_bytes() == b"x"


def test_the_note_names_the_recording_where_removing_looks_for_it(home: Path, uploads: Uploads) -> None:
    upload = uploads.claim(arrive(uploads, "talk.mp3"), "A talk", None)
    note = json.loads((home / "upload-jobs" / f"{upload.name}.json").read_text())
    assert note["recording"] == file_id(upload.path)
    assert upload.path.parent == home.resolve() / "uploads" / upload.name


def test_a_stopped_upload_of_an_earlier_run_belongs_to_its_recording(home: Path, uploads: Uploads) -> None:
    upload = uploads.claim(arrive(uploads, "talk.mp3"), "A talk", None)
    assert upload.recording is not None
    uploads.note_state(upload.name, "stopped")
    workspace = open_workspace(Settings(home=home))
    jobs = Jobs(workspace.add)
    create_app(workspace, jobs)
    assert [(job.state, job.recording) for job in jobs.list()] == [("stopped", upload.recording)]
    jobs.dismiss_recording(upload.recording)
    assert jobs.list() == []
    assert not upload.path.exists()
    jobs.close(5)
    workspace.close()


class Slow:
    """Stands where ``Workspace.add`` does: a file takes until it is let go or cancelled."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.go = threading.Event()

    def __call__(self, path, title=None, speakers=None, progress=None, cancel=None, **_):
        self.began.append(title)
        while not self.go.wait(0.01):
            if cancel.is_set():
                raise Cancelled("Stopped.")


def take_up(home: Path, add: Slow) -> Jobs:
    """The queue as the page takes it up when its server starts."""
    jobs = Jobs(add)
    Uploads(home).take_up(jobs, ready=())
    return jobs


def test_the_queue_goes_on_in_its_order_when_the_server_starts_again(home: Path, uploads: Uploads) -> None:
    for number, title in enumerate(("first", "second", "third", "unwanted")):
        uploads.claim(arrive(uploads, f"{title}.mp3", title.encode(), str(number)), title, None)
    add = Slow()
    jobs = take_up(home, add)
    wait_until(lambda: [job.state for job in jobs.list()] == ["running", "waiting", "waiting", "waiting"])
    jobs.cancel(jobs.list()[3].id)
    jobs.cancel(jobs.list()[0].id)
    wait_until(lambda: [job.state for job in jobs.list()] == ["stopped", "running", "waiting"])
    jobs.close(5)
    again = take_up(home, add)
    wait_until(
        lambda: (
            [(job.title, job.state) for job in again.list()]
            == [("first", "stopped"), ("second", "running"), ("third", "waiting")]
        )
    )
    add.go.set()
    wait_until(lambda: [job.title for job in again.list()] == ["first"])
    again.close(5)
    assert add.began == ["first", "second", "second", "third"]
    assert len(list(Uploads(home).left_over())) == 1


def test_a_job_has_the_same_id_after_a_restart(home: Path, uploads: Uploads) -> None:
    add = Slow()
    jobs = Jobs(add)
    sent = [
        uploads.submit(jobs, arrive(uploads, f"{title}.mp3", title.encode(), title), title).id
        for title in ("first", "second")
    ]
    jobs.close(5)
    again = take_up(home, add)
    assert [job.id for job in again.list()] == sent
    add.go.set()
    again.close(5)


def test_media_for_a_transcript_that_is_ready_goes_to_it_after_a_restart(
    home: Path, uploads: Uploads
) -> None:
    uploads.claim(arrive(uploads, "talk.mp3"), "A talk", 2, None, "transcript")
    given: list[tuple] = []
    jobs = Jobs(Slow(), attach=lambda *args: given.append(args))
    Uploads(home).take_up(jobs, ready=("transcript",))
    wait_until(lambda: given and not jobs.list())
    jobs.close(5)
    recording, path, speakers, *_ = given[0]
    assert (recording, path.name, speakers) == ("transcript", "talk.mp3", 2) and not path.exists()


def test_a_failure_is_still_there_after_a_restart_and_can_be_tried_again(
    home: Path, uploads: Uploads
) -> None:
    upload = uploads.claim(arrive(uploads, "talk.mp3"), "A talk", None)
    uploads.note_state(upload.name, "running")
    uploads.note_state(upload.name, "failed", "The weights are missing.")
    add = Slow()
    jobs = take_up(home, add)
    assert [(job.state, job.error) for job in jobs.list()] == [("failed", "The weights are missing.")]
    jobs.resume(jobs.list()[0].id)
    wait_until(lambda: add.began == ["A talk"])
    jobs.close(5)


def test_a_file_that_ends_the_program_is_not_begun_for_ever(home: Path, uploads: Uploads) -> None:
    upload = uploads.claim(arrive(uploads, "talk.mp3"), "A talk", None)
    add = Slow()
    for _ in range(2):
        # Killed: what was noted last is that it runs.
        uploads.note_state(upload.name, "running")
    jobs = take_up(home, add)
    assert [job.state for job in jobs.list()] == ["failed"]
    assert add.began == []
    jobs.close(5)
    uploads.note_state(upload.name, "waiting")
    for _ in range(3):
        # Ended as it should, however often.
        jobs = take_up(home, add)
        wait_until(lambda jobs=jobs: [job.state for job in jobs.list()] == ["running"])
        jobs.close(5)


def test_what_somebody_sent_waits_while_they_are_kept_out_and_goes_only_with_their_account(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "LOOK_AGAIN_SECONDS", 0.01)
    workspace, add = open_workspace(Settings(home=home)), Slow()
    people = workspace.people
    anna = people.add("anna")
    uploads = Uploads(home)
    for name in ("ben", "carl"):
        with acting_as(people.add(name)):
            uploads.claim(arrive(uploads, f"{name}.mp3", name.encode()), name, None)
    people.set_disabled("ben", True)
    people.remove("carl")
    jobs = Jobs(add, actor=lambda: workspace.actor, is_held=people.is_disabled)
    create_app(workspace, jobs)
    with acting_as(anna):
        uploads.submit(jobs, arrive(uploads, "anna.mp3"), "anna")
    wait_until(lambda: add.began == ["anna"])
    assert [upload.title for upload in uploads.left_over()] == ["ben", "anna"]
    add.go.set()
    wait_until(lambda: [(job.title, job.state) for job in jobs.list()] == [("ben", "waiting")])
    people.set_disabled("ben", False)
    wait_until(lambda: add.began == ["anna", "ben"] and jobs.list() == [])
    assert list(uploads.left_over()) == []
    jobs.close(5)
    workspace.close()


def test_an_upload_that_a_full_disk_cannot_note_is_let_go(uploads, home, monkeypatch):
    path = arrive(uploads, "talk.mp3")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(DiskFull):
        uploads.claim(path, "talk", None)
    assert not list(uploads.folder.iterdir()) and not list(uploads.notes.iterdir())
