"""The API for the library: what it gives, and what it answers to what cannot be."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from agent.answer import TextDelta
from agent.settings import Settings
from agent.workspace import Workspace, open_workspace
from index.progress import Progress
from index.recording_errors import Cancelled, MediaError
from index.records import StageName
from index.search.indexing import index_recording
from tests.support.api_serving import wav
from tests.support.indexed import embedder, heard, may_be_anna, sentences, store
from tests.support.stages import on_stage
from tests.support.waiting import wait_until
from web.api.api_server import create_api
from web.api.auth import AuthMiddleware
from web.api.library_api import LIBRARY, create_library_api, safe_name
from web.api.limiter import Limits
from web.api.service import Service
from web.app import create_app
from web.jobs import Jobs
from web.uploads import Uploads

TITLE = "Harbour Lights planning call"
OTHER = "Notes on penguins"


@dataclass
class Door:
    """A served library."""

    workspace: Workspace
    jobs: Jobs
    http: httpx2.Client

    def get(self, path: str, status: int = 200, **more: Any) -> Any:
        return self._checked(self.http.get(LIBRARY + path, **more), status)

    def send(self, method: str, path: str, status: int = 200, **more: Any) -> Any:
        return self._checked(self.http.request(method, LIBRARY + path, **more), status)

    def _checked(self, found: httpx2.Response, status: int) -> Any:
        assert found.status_code == status, found.text
        if status >= 400:
            (error,) = found.json().values()
            assert error["message"].endswith(".") and "\n" not in error["message"]
            return error
        return found.json()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with two recordings; copied, never changed."""
    home = tmp_path_factory.mktemp("api") / "home"
    workspace = with_embedder(home)
    for title, said in ((TITLE, heard()), (OTHER, sentences("Penguins eat krill.", "They swim far."))):
        recording = store(workspace.library, said, title)
        index_recording(workspace.library, workspace.embedder, workspace.vectors, recording)
    workspace.close()
    return home


@pytest.fixture
def door(filled: Path, home: Path) -> Iterator[Door]:
    """The API over a library of its own, without a key."""
    shutil.copytree(filled, home)
    yield from _open(home)


def with_embedder(home: Path) -> Workspace:
    """A workspace with the embedder that is loaded once a run."""
    workspace = open_workspace(Settings(home=home))
    workspace.__dict__["embedder"] = embedder()
    return workspace


def _open(home: Path, add: Any = None, limits: Limits | None = None, attach: Any = None) -> Iterator[Door]:
    workspace = with_embedder(home)
    jobs = Jobs(add or workspace.add, hear_again=lambda *_: None, attach=attach or workspace.attach_media)
    service = Service(None, None, limits)
    api = create_library_api(workspace, jobs, Uploads(home), service)

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await AuthMiddleware(create_api(service, library=api), service, None, "127.0.0.1")(
            scope, receive, send
        )

    with on_stage(mounted) as stage:
        http = httpx2.Client(base_url=stage.address, trust_env=False, timeout=60)
        yield Door(workspace, jobs, http)
        http.close()
        service.close()
        jobs.close(10)
        workspace.close()


# --- what it gives ------------------------------------------------------------------------------------


def test_recordings_are_listed_named_and_deleted(door: Door):
    listed = door.get("/recordings")
    assert {found["title"] for found in listed["recordings"]} == {TITLE, OTHER} and listed["total"] == 2
    recording = door.workspace.recording(TITLE).id
    for reference in (recording, recording[:9], TITLE):
        assert door.get(f"/recordings/{reference}")["id"] == recording
    assert door.send("PATCH", f"/recordings/{recording}", json={"title": "The pier"})["title"] == "The pier"
    assert door.send("DELETE", f"/recordings/{recording}") == {"id": recording, "title": "The pier"}
    assert [found["title"] for found in door.get("/recordings")["recordings"]] == [OTHER]


def test_a_transcript_is_read_by_range_with_a_link_to_the_moment(door: Door):
    found = door.get(f"/recordings/{TITLE}/transcript", params={"from": "2:00", "to": 180})
    expected = [segment.text for segment in heard() if segment.start < 180 and segment.end > 120]
    assert [segment["text"] for segment in found["segments"]] == expected
    recording = door.workspace.recording(TITLE).id
    assert found["link"] == f"{str(door.http.base_url).rstrip('/')}/?recording={recording}&t=120"
    whole = door.get(f"/recordings/{TITLE}/transcript")
    assert len(whole["segments"]) == len(heard()) and whole["more_from"] is None


@pytest.mark.parametrize("kind", ["txt", "srt", "vtt", "md", "json", "docx"])
def test_a_transcript_is_exported_as_the_command_line_does(door: Door, kind: str):
    found = door.http.get(f"{LIBRARY}/recordings/{TITLE}/export", params={"format": kind, "to": 60})
    exported = door.workspace.export(TITLE, kind, None, 60)
    assert found.status_code == 200 and (kind == "docx" or found.content == exported)
    assert len(found.content) > 300


def test_search_finds_in_one_recording_and_in_all(door: Door):
    hits = door.get("/search", params={"q": "what do penguins eat"})["hits"]
    assert hits[0]["title"] == OTHER and "krill" in hits[0]["text"]
    hits = door.get("/search", params={"q": "what do penguins eat", "recording": TITLE, "k": 2})["hits"]
    assert len(hits) <= 2 and {hit["title"] for hit in hits} <= {TITLE}


def test_an_answer_comes_as_events_that_end_with_the_whole(door: Door):
    question = {"question": "what did we decide about the sound stage?", "recording": TITLE}
    with door.http.stream("POST", f"{LIBRARY}/ask", json=question) as found:
        assert found.headers["content-type"].startswith("text/event-stream")
        events = [
            (block.partition("\n")[0].removeprefix("event: "), json.loads(block.partition("data: ")[2]))
            for block in "".join(found.iter_text()).split("\n\n")
            if block.startswith("event: ")
        ]
    names = [name for name, _ in events]
    assert names[0] == "step" and names[-1] == "done" and {"token", "citation"} <= set(names)
    done = events[-1][1]
    last_step = max(at for at, name in enumerate(names) if name.startswith("step"))
    said = "".join(told["text"] for name, told in events[last_step:] if name == "token")
    assert said.strip() == done["answer"].strip()
    assert [told for name, told in events if name == "citation"] == done["citations"]
    assert any("North Key" in citation["quote"] for citation in done["citations"])
    assert all(f"&t={round(citation['start'], 1):g}" in citation["link"] for citation in done["citations"])


def test_a_conversation_goes_on_without_events_too(door: Door):
    first = door.send(
        "POST", "/ask", json={"question": f"what was said at minute 2 of {TITLE}?", "stream": False}
    )
    then = door.send(
        "POST",
        "/ask",
        json={"question": "and after that?", "thread": first["thread"], "recording": TITLE, "stream": False},
    )
    assert then["thread"] == first["thread"] and min(c["start"] for c in then["citations"]) >= 170


def test_summary_outline_and_speakers(door: Door):
    summary = door.get(f"/recordings/{TITLE}/summary", params={"template": "meeting"})
    assert summary["decisions"] and all(
        item["link"].endswith(f"&t={item['start']:.1f}".rstrip("0").rstrip("."))
        for item in summary["decisions"]
    )
    topics = door.get(f"/recordings/{TITLE}/outline")["topics"]
    assert [topic["title"] for topic in topics] == [topic["title"] for topic in summary["topics"]]
    before = door.get(f"/recordings/{TITLE}/speakers")
    old = before[0]["name"]
    renamed = door.send("PATCH", f"/recordings/{TITLE}/speakers/{old}", json={"name": "Anna"})
    assert renamed["name"] == "Anna" and renamed["segments"] > 0
    assert door.get(f"/recordings/{TITLE}/speakers")[0] == {**before[0], "name": "Anna"}


def test_sentences_are_corrected_and_taken_back(door: Door):
    one = f"/recordings/{OTHER}"
    first, second = door.get(f"{one}/transcript")["segments"]
    sentence = f"{one}/segments/{first['id']}"
    changed = door.send("PATCH", sentence, json={"text": "Penguins love krill.", "version": first["version"]})
    assert changed["segments"][0]["text"] == "Penguins love krill." and changed["can_undo"]
    assert door.get(f"{one}/transcript")["segments"][0]["text"] == "Penguins love krill."
    stale = door.send("PATCH", sentence, 409, json={"text": "No.", "version": first["version"]})
    assert stale["code"] == "changed_meanwhile"
    assert door.send("PATCH", sentence, json={"speaker": "Anna"})["segments"][0]["speaker"] == "Anna"
    parts = door.send("POST", f"{sentence}/split", json={"at": len("Penguins ")})["segments"]
    assert [part["text"] for part in parts] == ["Penguins", "love krill."]
    ids = [part["id"] for part in parts]
    assert door.send("POST", f"{one}/segments/merge", json={"segments": ids})["segments"]
    history = door.get(f"{one}/corrections")
    assert [entry["kind"] for entry in history] == ["merge", "split", "speaker", "text"]
    assert history[-1]["before"][0]["text"] == first["text"] and history[0]["by"] == "API"
    for _ in history:
        door.send("POST", f"{one}/undo")
    assert door.get(f"{one}/transcript")["segments"][0]["text"] == first["text"]
    assert door.send("POST", f"{one}/undo", 422)["code"] == "invalid_value"
    assert door.send("POST", f"{one}/redo")["segments"][0]["text"] == "Penguins love krill."
    assert door.send("PATCH", sentence, 422, json={})["code"] == "invalid_value"
    assert door.send("PATCH", f"{one}/segments/999", 422, json={"text": "x"})["code"] == "invalid_value"
    assert door.send("DELETE", one, 409)["code"] == "has_corrections"
    assert door.send("DELETE", one, params={"drop_corrections": True})["title"] == OTHER
    assert second["text"] == "They swim far."


def test_two_speakers_become_one_only_where_that_is_said(door: Door):
    names = [speaker["name"] for speaker in door.get(f"/recordings/{TITLE}/speakers")]
    address = f"/recordings/{TITLE}/speakers/{names[0]}"
    assert door.send("PATCH", address, 409, json={"name": names[1]})["code"] == "speaker_exists"
    assert door.send("PATCH", address, json={"name": names[1], "merge": True})["name"] == names[1]
    assert len(door.get(f"/recordings/{TITLE}/speakers")) == len(names) - 1


def test_comments_are_noted_changed_and_deleted(door: Door):
    place = f"/recordings/{TITLE}/comments"
    noted = door.send("POST", place, 201, json={"at": "1:05", "text": "Look this up."})
    assert noted["at"] == 65 and noted["link"].endswith("&t=65")
    own = f"{place}/{noted['id']}"
    assert door.send("PATCH", own, json={"text": "Done."})["text"] == "Done."
    assert [comment["text"] for comment in door.get(place)] == ["Done."]
    elsewhere = f"/recordings/{OTHER}/comments/{noted['id']}"
    assert door.send("DELETE", elsewhere, 404)["code"] == "unknown_comment"
    door.send("DELETE", own)
    assert door.get(place) == []
    door.send("DELETE", own, 404)
    for wrong in ({"at": 9999, "text": "Too late."}, {"at": 5, "text": " "}, {"at": -1, "text": "Early."}):
        door.send("POST", place, 422, json=wrong)


def test_talk_time_and_a_summary_by_an_instruction(door: Door):
    talk = door.get(f"/recordings/{TITLE}/talk-time")
    assert sum(voice["share"] for voice in talk["voices"]) == pytest.approx(1) and talk["silence"] > 0
    asked = {"instruction": "only what concerns the sound stage"}
    found = door.send("POST", f"/recordings/{TITLE}/summary", json=asked)
    assert "MOSS_AGENT_MODEL" in found["written"]["note"] and found["written"]["fitting"]
    assert door.send("POST", f"/recordings/{TITLE}/summary", 422, json={"instruction": ""})


def test_a_voice_is_confirmed_rejected_and_forgotten(door: Door):
    door.workspace.voices.setting = "on"
    may_be_anna(door.workspace, TITLE, "Speaker 2")
    speakers = {row["name"]: row["likeness"] for row in door.get(f"/recordings/{TITLE}/speakers")}
    assert speakers["Speaker 2"]["voice"] == "Anna" and not speakers["Speaker 2"]["sure"]
    place = f"/recordings/{TITLE}/speakers"
    assert "Speaker 2" in door.send("POST", f"{place}/Speaker 1/confirm", 422)["message"]
    assert door.send("POST", f"{place}/Speaker 2/reject") == {
        "speaker": "Speaker 2", "voice": "Anna", "same": False,
    }  # fmt: skip
    door.send("POST", f"{place}/Speaker 2/confirm", 422)
    assert door.get("/voices")["remembered"] is True
    door.send("DELETE", "/voices/Zoe", 422)
    assert door.send("DELETE", "/voices/anna")["voices"] == []
    assert "MOSS_AGENT_VOICES" in door.send("PUT", "/voices", 422, json={"remembered": False})["message"]


def test_a_recording_is_heard_again_only_where_no_correction_is_lost_unsaid(door: Door):
    recording = door.workspace.recording(TITLE)
    place = f"/recordings/{TITLE}/again"
    assert "audio" in door.send("POST", place, 422)["message"]
    copy = door.workspace.library.audio_path(recording.id)
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_bytes(wav(0.2))
    (first, *_) = door.get(f"/recordings/{TITLE}/transcript")["segments"]
    door.send("PATCH", f"/recordings/{TITLE}/segments/{first['id']}", json={"text": "Good evening."})
    assert door.send("POST", place, 409)["code"] == "has_corrections"
    job = door.send("POST", place, 202, params={"drop_corrections": True})
    assert job["recording"] == recording.id and job["title"] == TITLE


def test_media_is_only_given_to_an_imported_transcript(door: Door):
    refused = door.send("POST", f"/recordings/{TITLE}/media", 422, files={"file": ("talk.wav", wav(0.2))})
    assert "imported" in refused["message"] and not list(door.workspace.home.glob("arriving/*"))


def test_a_transcript_made_elsewhere_is_imported(door: Door):
    cues = "1\n00:00:01,000 --> 00:00:03,000\nAnna: Who books the ferry?\n"
    files = {"file": ("talk.srt", cues.encode())}
    made = door.send("POST", "/imports", 201, files=files, data={"title": "The ferry", "language": "en"})
    assert made["title"] == "The ferry" and made["status"] == "ready"
    assert door.get("/search", params={"q": "who books the ferry"})["hits"][0]["title"] == "The ferry"
    back = "1\n00:00:09,000 --> 00:00:03,000\nBack.\n"
    assert door.send("POST", "/imports", 201, files={"file": ("back.srt", back.encode())})["notes"]
    wrong = door.send("POST", "/imports", 422, files={"file": ("none.srt", b"no times at all")})
    assert wrong["code"] == "unusable_transcript"
    assert door.send("POST", "/imports", 422, files=files, data={"language": "xx"})["param"] == "language"
    assert door.send("POST", "/imports", 422, files={"file": ("a.srt", b"")})["param"] == "file"
    assert not [*(door.workspace.home / "arriving").iterdir()]


# --- files --------------------------------------------------------------------------------------------


class Hand:
    """What takes files in, held at each until it is let go; ``.txt`` is no media."""

    def __init__(self) -> None:
        self.taken: list[Path] = []
        self.go = threading.Event()

    def __call__(self, path: Path, title=None, speakers=None, progress=None, cancel=None, **more) -> Any:
        if path.suffix == ".txt":
            raise MediaError("This is no media file.")
        self.taken.append(path)
        while not self.go.wait(0.01):
            if cancel.is_set():
                raise Cancelled("Stopped.")

    def attach(self, recording: str, path: Path, speakers=None, progress=None, cancel=None, track=None):
        progress(Progress(StageName.FINDING_SPEECH, 30.0, 120.0))
        self(path, recording, speakers, progress, cancel)


@pytest.fixture
def hand(home: Path) -> Iterator[tuple[Door, Hand]]:
    hand = Hand()
    for door in _open(home, hand, Limits(library_bytes=200_000), hand.attach):
        yield door, hand
        hand.go.set()


def send_file(door: Door, name: str = "talk.wav", status: int = 202, data: bytes | None = None, **form: Any):
    files = {"file": (name, wav(0.5) if data is None else data)}
    return door.send("POST", "/recordings", status, files=files, data=form)


def test_a_file_becomes_a_job_that_can_be_followed_to_its_end(hand: tuple[Door, Hand]):
    door, taking = hand
    job = send_file(door, title="A talk")
    assert job["title"] == "A talk"
    wait_until(lambda: door.get(f"/jobs/{job['id']}")["state"] == "running")
    assert taking.taken[0].read_bytes() == wav(0.5)
    taking.go.set()
    wait_until(lambda: door.get(f"/jobs/{job['id']}")["state"] == "done")
    done = door.get(f"/jobs/{job['id']}")
    assert done["recording"] and done["fraction"] == 1.0 and not taking.taken[0].exists()
    assert [listed["id"] for listed in door.get("/jobs")] == [job["id"]]


def test_a_job_is_stopped_and_tried_again(hand: tuple[Door, Hand]):
    door, taking = hand
    first, second = send_file(door), send_file(door, "b.wav", data=wav(0.6))
    wait_until(lambda: taking.taken)
    assert door.send("POST", f"/jobs/{second['id']}/cancel")["state"] == "stopped"
    door.send("POST", f"/jobs/{first['id']}/cancel")
    wait_until(lambda: door.get(f"/jobs/{first['id']}")["state"] == "stopped")
    assert door.send("POST", f"/jobs/{first['id']}/retry")["state"] in ("waiting", "running")
    taking.go.set()
    wait_until(lambda: door.get(f"/jobs/{first['id']}")["state"] == "done")
    assert door.send("POST", f"/jobs/{second['id']}/retry", 409)["code"] == "not_retried"
    assert door.send("POST", f"/jobs/{first['id']}/cancel", 409)["code"] == "not_running"


def test_media_for_a_transcript_is_a_job_that_tells_how_far_it_is_and_can_be_stopped(hand: tuple[Door, Hand]):
    door, taking = hand
    cues = b"1\n00:00:01,000 --> 00:00:03,000\nWho books the ferry?\n"
    talk = door.send("POST", "/imports", 201, files={"file": ("talk.srt", cues)})["id"]
    place, files = f"/recordings/{talk}/media", {"file": ("talk.wav", wav(0.5))}
    job = door.send("POST", place, 202, files=files)
    assert job["recording"] == talk and job["title"] == "talk"
    wait_until(lambda: door.get(f"/jobs/{job['id']}")["fraction"] == 0.25)
    assert door.get(f"/jobs/{job['id']}")["stage"] and door.get(f"/jobs/{job['id']}")["recording"] == talk
    assert door.send("POST", place, 409, files=files)["code"] == "busy"
    door.send("POST", f"/jobs/{job['id']}/cancel")
    wait_until(lambda: door.get(f"/jobs/{job['id']}")["state"] == "stopped")
    assert taking.taken[0].exists() and door.get(f"/recordings/{talk}")["status"] == "ready"
    door.send("POST", f"/jobs/{job['id']}/retry")
    taking.go.set()
    wait_until(lambda: door.get(f"/jobs/{job['id']}")["state"] == "done")
    assert taking.taken[1].name == "talk.wav" and not taking.taken[1].exists()


def test_a_file_that_is_no_media_fails_with_its_sentence(hand: tuple[Door, Hand]):
    door, _ = hand
    job = send_file(door, "a.txt")
    wait_until(lambda: door.get(f"/jobs/{job['id']}")["state"] == "failed")
    failed = door.get(f"/jobs/{job['id']}")
    assert failed["error"] and not failed["can_retry"]


def test_what_is_too_large_or_empty_is_refused_and_leaves_nothing(hand: tuple[Door, Hand]):
    door, taking = hand
    assert send_file(door, status=413, data=bytes(400_000))["code"] == "too_large"
    assert send_file(door, status=422, data=b"")["param"] == "file"
    assert send_file(door, status=422, speakers="99")["param"] == "speakers"
    assert door.send("POST", "/recordings", 422)["param"] == "file"
    assert not taking.taken and door.get("/jobs") == []
    home = door.workspace.home
    assert not [*(home / "arriving").iterdir(), *(home / "uploads").iterdir()]


def test_a_file_whose_size_is_not_told_beforehand_is_refused_when_it_is_too_large(hand: tuple[Door, Hand]):
    door, _ = hand

    def body() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        for _ in range(40):
            yield bytes(10_000)
        yield b"\r\n--x--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    assert door.send("POST", "/recordings", 413, content=body(), headers=headers)["code"] == "too_large"
    assert door.get("/jobs") == []


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\talks\\a.mp3", "a.mp3"),
        ("..", "recording"),
        ("", "recording"),
        ("a\x00b\n.wav", "ab.wav"),
        ("ü" * 200 + ".mp3", "ü" * 73 + ".mp3"),
    ],
)
def test_a_senders_name_for_a_file_leads_nowhere(given: str, kept: str):
    assert safe_name(given) == kept


# --- what cannot be -----------------------------------------------------------------------------------


def test_what_does_not_exist_is_404(door: Door):
    for path in ("", "/transcript", "/summary", "/outline", "/speakers", "/export"):
        assert door.get(f"/recordings/nothing{path}", 404)["code"] == "unknown_recording"
    assert door.get("/search", 404, params={"q": "a", "recording": "nothing"})["code"] == "unknown_recording"
    for stream in (True, False):
        asked = {"question": "what?", "recording": "nothing", "stream": stream}
        assert door.send("POST", "/ask", 404, json=asked)["code"] == "unknown_recording"
    assert door.send("DELETE", "/recordings/nothing", 404)["code"] == "unknown_recording"
    assert door.get("/jobs/nothing", 404)["code"] == "unknown_job"
    assert door.send("POST", "/jobs/nothing/cancel", 404)["code"] == "unknown_job"
    assert door.get("/nothing", 404)["code"] == "not_found"
    door.send("PUT", "/recordings", 405)


@pytest.mark.parametrize(
    "range_", [{"from": 60, "to": 60}, {"from": "9:00:00"}, {"from": -1}, {"to": "noon"}, {"from": "nan"}]
)
def test_a_range_that_cannot_be_is_422(door: Door, range_: dict):
    for path in ("transcript", "export"):
        assert door.get(f"/recordings/{TITLE}/{path}", 422, params=range_)["code"] == "invalid_value"


def test_fields_that_cannot_be_are_422(door: Door):
    one = f"/recordings/{TITLE}"
    assert door.send("PATCH", one, 422, json={"title": " "})["code"] == "invalid_value"
    assert door.send("PATCH", one, 422, json={"name": "x"})["param"] in ("title", "name")
    assert door.send("PATCH", one, 400, content="{", headers={"Content-Type": "application/json"})
    assert "application/json" in door.send("POST", "/ask", 400, data={"question": "x"})["message"]
    assert door.send("PATCH", f"{one}/speakers/Nobody", 422, json={"name": "Anna"})["code"] == "invalid_value"
    assert door.get(f"{one}/export", 422, params={"format": "exe"})["param"] == "format"
    assert door.get(f"{one}/summary", 422, params={"template": "song"})["param"] == "template"
    assert door.get("/search", 422, params={"q": ""})["param"] == "q"
    assert door.get("/search", 422, params={"q": "a", "k": 1000})["param"] == "k"
    assert door.send("POST", "/ask", 422, json={"question": "x" * 5000})["param"] == "question"
    assert door.send("POST", "/ask", 422, json={"question": " "})["code"] == "invalid_value"
    assert door.send("POST", "/ask", 413, json={"question": "x" * 100_000})["code"] == "too_large"


def test_what_is_wrong_with_a_field_is_said_in_plain_words(door: Door):
    one = f"/recordings/{TITLE}"
    found = door.get(f"{one}/transcript", 422, params={"from": "abc"})
    assert found["param"] == "from" and re.match(r"from must be .*m:ss", found["message"])
    assert "at most 100" in door.get("/search", 422, params={"q": "a", "k": 101})["message"]
    wrong = door.send("POST", f"{one}/segments/merge", 422, json={"segments": [1, 2], "versions": "x"})
    assert wrong["param"] == "versions" and "Content-Type" not in wrong["message"]
    missing = door.send("POST", f"{one}/comments", 422, json={"text": "x"})
    assert (missing["code"], missing["param"]) == ("missing", "at")
    for sent in ({"data": {"file": "abc"}}, {"json": {}}):
        assert "multipart/form-data" in door.send("POST", "/imports", 422, **sent)["message"]
    json_ = {"Content-Type": "application/json"}
    assert door.send("POST", "/ask", 400, content="[" * 50_000, headers=json_)["code"] == "invalid_json"
    assert "64 KiB" in door.send("POST", "/ask", 413, json={"question": "x" * 100_000})["message"]


def test_a_title_keeps_no_control_characters(door: Door):
    recording = door.workspace.recording(TITLE).id
    assert door.send("PATCH", f"/recordings/{recording}", 422, json={"title": "\x00\x07"})
    assert (
        door.send("PATCH", f"/recordings/{recording}", json={"title": "The\x00 pier\x1b"})["title"]
        == "The pier"
    )


def test_where_nothing_listens_that_is_said(door: Door):
    asked = {"question": "Is there music?", "start": 0, "end": 10}
    error = door.send("POST", f"/recordings/{TITLE}/listen", 503, json=asked)
    assert "MOSS_AGENT_MODEL" in error["message"]


def test_a_home_that_another_process_writes_to_is_409(door: Door):
    other = open_workspace(Settings(home=door.workspace.home))
    with other.writing():
        assert door.send("DELETE", f"/recordings/{TITLE}", 409)["code"] == "home_in_use"
    other.close()
    assert door.get(f"/recordings/{TITLE}")["title"] == TITLE


def test_who_goes_away_ends_the_work_and_the_next_may_ask(home: Path, monkeypatch: pytest.MonkeyPatch):
    ended = threading.Event()

    def ask(self: Workspace, question: str, *_: Any) -> Iterator[Any]:
        cancel = _[-1]
        yield TextDelta("Well, ")
        assert cancel.wait(30)
        ended.set()

    monkeypatch.setattr(Workspace, "ask", ask)
    opened = _open(home, limits=Limits(asks=1, waiting=0))
    door = next(opened)
    with door.http.stream("POST", f"{LIBRARY}/ask", json={"question": "What?"}) as found:
        pieces = found.iter_text()
        assert "Well" in next(pieces)
        refused = door.http.post(f"{LIBRARY}/ask", json={"question": "And I?"})
        assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["code"] == "queue_full"
        assert not ended.is_set()
    assert ended.wait(20)
    wait_until(lambda: door.http.post(f"{LIBRARY}/ask", json={"question": ""}).status_code == 422)
    assert next(opened, None) is None


# --- who gets in --------------------------------------------------------------------------------------


def test_other_sites_and_names_are_refused(door: Door):
    for headers in (
        {"Origin": "https://evil.example"},
        {"Host": "evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        assert door.get("/recordings", 403, headers=headers)["type"] == "permission_error"
        assert door.send("DELETE", f"/recordings/{TITLE}", 403, headers=headers)


def test_a_key_opens_all_but_the_description(filled: Path, home: Path):
    shutil.copytree(filled, home)
    workspace = open_workspace(Settings(home=home))
    service = Service(None, None)
    jobs = Jobs(workspace.add)
    api = create_library_api(workspace, jobs, Uploads(home), service, "http://pages.example/")
    with on_stage(create_api(service, "secret", library=api)) as stage:
        door = Door(workspace, jobs, httpx2.Client(base_url=stage.address, trust_env=False, timeout=60))
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            assert door.get("/recordings", 401, headers=headers)["code"] == "invalid_api_key"
            assert door.send("DELETE", f"/recordings/{TITLE}", 401, headers=headers)
        found = door.get("/recordings", headers={"Authorization": "Bearer secret"})["recordings"]
        assert all(one["link"].startswith("http://pages.example/?recording=") for one in found)
        assert door.get("/openapi.json")["paths"]
        assert door.http.get(f"{LIBRARY}/docs").status_code == 200
        door.http.close()
    service.close()
    jobs.close(5)
    workspace.close()


def test_the_page_offers_it_behind_its_guard(home: Path):
    workspace = open_workspace(Settings(home=home))
    store(workspace.library, sentences("Penguins eat krill."), OTHER)
    jobs = Jobs(workspace.add)
    app = create_app(workspace, jobs)
    client = TestClient(app, base_url="http://127.0.0.1:7860")
    found = client.get(f"{LIBRARY}/recordings")
    assert found.json()["recordings"][0]["link"].startswith("http://127.0.0.1:7860/?recording=")
    assert "frame-ancestors 'none'" in found.headers["content-security-policy"]
    assert client.get(f"{LIBRARY}/recordings", headers={"Host": "evil.example"}).status_code == 403
    renamed = client.patch(f"{LIBRARY}/recordings/{OTHER}", json={"title": "x"}, headers={"Origin": "null"})
    assert renamed.status_code == 403 and workspace.recording(OTHER)
    app.state.service.close()
    jobs.close(5)
    workspace.close()


# --- its description ----------------------------------------------------------------------------------


def test_every_route_is_typed_and_described_without_anything_from_elsewhere(door: Door):
    openapi = door.get("/openapi.json")
    page = door.http.get(f"{LIBRARY}/docs")
    operations = [
        (method, path, operation)
        for path, methods in openapi["paths"].items()
        for method, operation in methods.items()
    ]
    assert len(operations) >= 18
    examples = re.findall(r"\$SERVER[^\s\"&]*", page.text)
    assert len(examples) >= 18 and not [address for address in examples if "{" in address]
    for method, path, operation in operations:
        assert operation["description"] and f">{method.upper()}<" in page.text
        assert f"<code>{LIBRARY}{path}</code>" in page.text
        answers = [
            kind
            for code in ("200", "201", "202")
            for kind in operation["responses"].get(code, {}).get("content", {})
        ]
        assert answers, path
        for kind, content in operation["responses"].get("200", {}).get("content", {}).items():
            assert kind != "application/json" or content["schema"], path
    assert "<script" not in page.text and "http" not in page.text.replace("httpx", "")
    assert "default-src 'none'" in page.headers["content-security-policy"]
