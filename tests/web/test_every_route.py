"""Every route is asked for what is somebody else's: by nobody, by another, by a reader, by links.

The routes are those that the running programs have. One that is in no table here fails: whoever adds it says
what it is, and so who may use it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from argon2 import PasswordHasher
from fastapi import FastAPI
from fastapi.routing import APIRoute
from mcp import Client
from sqlalchemy import select
from starlette.routing import BaseRoute, Mount, Route
from starlette.testclient import TestClient

from agent.settings import Settings
from agent.workspace import Workspace, open_workspace
from index.recording_errors import Busy, DatabaseAway, MossAgentError, UnknownRecording
from index.records import Recording
from index.search.indexing import index_recording
from index.store.access import EVERYTHING, NOBODY, Actor, Person, acting_as
from index.store.database import Base, VoiceRow, VoiceSampleRow
from tests.support.api_serving import wav
from tests.support.indexed import embedder, sentences, store
from tests.support.loops import run_apart
from tests.support.waiting import wait_until
from web.accounts import ACTOR, COOKIE, LONGEST_EVENT
from web.api.api_server import create_api
from web.api.auth import AuthMiddleware
from web.api.library_api import LIBRARY, create_library_api
from web.api.service import Service
from web.app import create_app
from web.jobs import Jobs
from web.mcp_server import LibraryServer
from web.page.handlers import Handlers
from web.page.layout import lay_out
from web.page.page import InTheirName, wire
from web.shared_jobs import SharedJobs
from web.uploads import Uploads

WORD = "zephyrine"
"""In every text of Anna's recordings, and nowhere else."""


@dataclass
class House:
    """A server with accounts. Anna has two recordings, one of which Rita may read; Otto has one."""

    workspace: Workspace
    jobs: Jobs
    uploads: Uploads
    app: FastAPI
    client: TestClient
    hidden: str
    shared: str
    ottos: str
    people: dict[str, Person]
    cookies: dict[str, str]
    keys: dict[str, str]

    def ask(self, who: str | None, method: str, path: str, **more: Any) -> Any:
        headers = {"cookie": f"{COOKIE}={self.cookies[who]}"} if who else {}
        self.client.cookies.clear()
        return self.client.request(method, path, headers=headers, follow_redirects=False, **more)

    def rows(self) -> dict[str, list[tuple]]:
        """All that is stored of the shared recording."""
        found = {}
        with acting_as(EVERYTHING), self.workspace.library.database.transaction() as session:
            for mapper in Base.registry.mappers:
                table: Any = mapper.class_.__table__
                key = table.c.id if table.name == "recordings" else table.c.get("recording_id")
                if key is not None and table.name not in ("log", "thread_recordings"):
                    query = select(table).where(key == self.shared)
                    rows = session.connection().execute(query).all()
                    found[table.name] = [tuple(row) for row in rows]
        return found


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    home = tmp_path_factory.mktemp("routes") / "home"
    workspace = open_workspace(Settings(home=home))
    workspace.__dict__["embedder"] = embedder()
    people = workspace.people
    people._given = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    persons = {name: people.add(name, "a long password") for name in ("anna", "otto", "rita")}
    library = workspace.library
    with acting_as(persons["anna"]):
        talk = sentences(
            f"We decided to keep the {WORD} budget.", f"Maria takes the {WORD} ferry.", speaker=WORD.title()
        )
        hidden = store(library, talk, f"Hidden {WORD}")
        shared = store(library, talk, f"Shared {WORD}")
        people.share(shared, "rita")
        for recording in (hidden, shared):
            library.add_comment(recording, 1.0, f"A {WORD} note")
            audio = library.audio_path(recording)
            audio.parent.mkdir(parents=True, exist_ok=True)
            audio.write_bytes(wav(0.5))
    with acting_as(persons["otto"]):
        ottos = store(library, sentences("Otto has a dog."), "Dog talk")
    for recording in (hidden, shared, ottos):
        index_recording(library, workspace.embedder, workspace.vectors, recording)
    held = workspace.writing()
    held.__enter__()
    jobs = Jobs(refuse, lambda: 1, identify=workspace.identify, actor=lambda: workspace.actor)
    app = create_app(workspace, jobs, accounts=True)
    client = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
    yield House(
        workspace, jobs, Uploads(home, workspace.identify), app, client, hidden, shared, ottos, persons,
        {name: people.begin(person) for name, person in persons.items()},
        {name: people.add_key(person, "test") for name, person in persons.items()},
    )  # fmt: skip
    app.state.service.close()
    jobs.close(5)
    held.__exit__(None, None, None)
    workspace.close()


def refuse(*_: Any, **__: Any) -> Recording:
    raise MossAgentError("Nothing is taken in here.")


# --- the page's own routes and the API --------------------------------------------------------------------

READ, WRITE, OWN, LIST, OPEN, SELF = "read", "write", "own", "list", "open", "self"
"""What a route is for: to read one recording, to change it, what its owner alone may do, what lists
recordings, what needs nobody, what is about whoever asks."""

EDIT = {"json": {"action": "text", "segments": [1], "text": "No."}}
ROUTES: dict[str, tuple[str, dict[str, Any]]] = {
    "GET /audio/{recording}": (READ, {}),
    "HEAD /audio/{recording}": (READ, {}),
    "GET /peaks/{recording}": (READ, {"params": {"start": 0, "end": 0.4, "points": 4}}),
    "GET /timeline/{recording}": (READ, {}),
    "GET /topics/{recording}": (READ, {}),
    "GET /export/{recording}.{format}": (READ, {}),
    "GET /summary/{recording}.md": (READ, {}),
    "GET /edits/{recording}": (READ, {}),
    "GET /edits/{recording}/history": (READ, {}),
    "POST /edits/{recording}": (WRITE, EDIT),
    "GET /changes": (LIST, {}),
    "GET /health": (OPEN, {}),
    "GET /login": (OPEN, {}),
    "POST /login": (OPEN, {"data": {"name": "anna", "password": "wrong wrong wrong"}}),
    "GET /s/{token}": (OPEN, {}),
    "GET /s/{token}/audio": (OPEN, {}),
    "HEAD /s/{token}/audio": (OPEN, {}),
    "GET /s/{token}/export.{format}": (OPEN, {}),
    "POST /logout": (SELF, {}),
    "GET /account": (SELF, {}),
    "POST /account/keys": (SELF, {"data": {"name": "another"}}),
    "POST /account/keys/{number}/remove": (SELF, {}),
    "POST /account/password": (SELF, {"data": {"old": "wrong", "new": "a longer password"}}),
    "GET /share/{recording}": (OWN, {}),
    "POST /share/{recording}": (OWN, {"data": {"action": "add", "name": "otto"}}),
}
ONE = "/api/v1/recordings/{recording}"
API: dict[str, tuple[str, dict[str, Any]]] = {
    "GET /api/v1/recordings": (LIST, {}),
    "POST /api/v1/recordings": (SELF, {"files": {"file": ("talk.wav", wav(0.2))}}),
    "POST /api/v1/imports": (
        SELF,
        {"files": {"file": ("talk.srt", b"1\n00:00:01,000 --> 00:00:02,000\nHi.\n")}},
    ),
    f"GET {ONE}": (READ, {}),
    f"PATCH {ONE}": (WRITE, {"json": {"title": "Mine"}}),
    f"DELETE {ONE}": (OWN, {"params": {"drop_corrections": True}}),
    f"POST {ONE}/again": (WRITE, {}),
    f"POST {ONE}/summary": (READ, {"json": {"instruction": "in one line"}}),
    f"GET {ONE}/talk-time": (READ, {}),
    f"POST {ONE}/media": (WRITE, {"files": {"file": ("talk.wav", wav(0.2))}}),
    f"GET {ONE}/comments": (READ, {}),
    f"POST {ONE}/comments": (WRITE, {"json": {"at": 0, "text": "No."}}),
    f"PATCH {ONE}/comments/{{comment}}": (WRITE, {"json": {"text": "No."}}),
    f"DELETE {ONE}/comments/{{comment}}": (WRITE, {}),
    f"POST {ONE}/speakers/{{speaker}}/confirm": (WRITE, {}),
    f"POST {ONE}/speakers/{{speaker}}/reject": (WRITE, {}),
    f"POST {ONE}/voices": (WRITE, {}),
    "GET /api/v1/voices": (LIST, {}),
    "PUT /api/v1/voices": (SELF, {"json": {"remembered": True}}),
    "DELETE /api/v1/voices": (SELF, {}),
    "DELETE /api/v1/voices/{voice}": (SELF, {}),
    f"GET {ONE}/transcript": (READ, {}),
    f"GET {ONE}/export": (READ, {}),
    f"GET {ONE}/summary": (READ, {}),
    f"GET {ONE}/outline": (READ, {}),
    f"POST {ONE}/listen": (READ, {"json": {"question": "A bell?", "start": 0, "end": 1}}),
    f"GET {ONE}/speakers": (READ, {}),
    f"PATCH {ONE}/speakers/{{speaker}}": (WRITE, {"json": {"name": "Nobody"}}),
    f"PATCH {ONE}/segments/{{segment}}": (WRITE, {"json": {"text": "No."}}),
    f"POST {ONE}/segments/{{segment}}/split": (WRITE, {"json": {"at": 4}}),
    f"POST {ONE}/segments/merge": (WRITE, {"json": {"segments": [3, 4]}}),
    f"GET {ONE}/corrections": (READ, {}),
    f"POST {ONE}/undo": (WRITE, {}),
    f"POST {ONE}/redo": (WRITE, {}),
    "GET /api/v1/search": (LIST, {"params": {"q": f"{WORD} budget"}}),
    "POST /api/v1/ask": (LIST, {"json": {"question": "What did Maria take?", "stream": False}}),
    "GET /api/v1/jobs": (LIST, {}),
    "GET /api/v1/jobs/{job}": (SELF, {}),
    "POST /api/v1/jobs/{job}/cancel": (SELF, {}),
    "POST /api/v1/jobs/{job}/retry": (SELF, {}),
    "GET /api/v1/docs": (OPEN, {}),
    "GET /api/v1/openapi.json": (OPEN, {}),
    "HEAD /api/v1/openapi.json": (OPEN, {}),
}
TABLE = ROUTES | API


def routes_of(routes: list[BaseRoute], before: str = "") -> Iterator[str]:
    for route in routes:
        if isinstance(route, Mount) and not isinstance(inner(route.app), FastAPI):
            continue
        if isinstance(route, Mount):
            app = inner(route.app)
            if route.path:  # Gradio's is mounted at the root
                yield from routes_of(app.routes, before + route.path)
        elif isinstance(route, Route | APIRoute):
            for method in route.methods or ():
                yield f"{method} {before}{route.path}"


def inner(app: Any) -> Any:
    while not isinstance(app, FastAPI) and hasattr(app, "app"):
        app = app.app
    return app


def filled(house: House, path: str, recording: str) -> str:
    with acting_as(EVERYTHING):
        segment = house.workspace.library.segments(recording)[0].id
        comment = house.workspace.library.comments(recording)[0].id
    return path.format(
        recording=recording, format="txt", token="guess", number=1, speaker=WORD.title(), segment=segment,
        comment=comment, voice="guess",
        job="0123456789ab",
    )  # fmt: skip


def test_the_tables_hold_every_route_of_the_page_and_the_api(house: House):
    assert set(routes_of(house.app.routes)) == set(TABLE)


@pytest.mark.parametrize("route", TABLE)
def test_nobody_gets_in_by_a_route(house: House, route: str):
    kind, more = TABLE[route]
    method, _, path = route.partition(" ")
    before = house.rows()
    answer = house.ask(None, method, filled(house, path, house.shared), **more)
    assert WORD not in answer.text.lower()
    assert kind == OPEN or answer.status_code == 401, answer.text
    assert house.rows() == before


@pytest.mark.parametrize("route", TABLE)
def test_another_gets_nothing_by_a_route(house: House, route: str):
    kind, more = TABLE[route]
    method, _, path = route.partition(" ")
    if route in ("POST /logout", "POST /api/v1/recordings", "POST /api/v1/imports"):
        return  # nothing of anybody else's can be named
    before = house.rows()
    for recording in (house.hidden, house.shared):
        answer = house.ask("otto", method, filled(house, path, recording), **more)
        told = answer.text.lower().replace(f"{WORD} budget", "")
        assert WORD not in told
        if kind in (READ, WRITE, OWN):
            unknown = house.ask(
                "otto", method, filled(house, path, recording).replace(recording, "0" * 64), **more
            )
            assert answer.status_code == unknown.status_code == 404, answer.text
            assert answer.text.replace(recording, "") == unknown.text.replace("0" * 64, ""), (
                "as if it did not exist"
            )
    assert house.rows() == before


@pytest.mark.parametrize("route", [route for route, (kind, _) in TABLE.items() if kind in (READ, WRITE, OWN)])
def test_a_reader_reads_and_changes_nothing(house: House, route: str):
    kind, more = TABLE[route]
    method, _, path = route.partition(" ")
    before = house.rows()
    answer = house.ask("rita", method, filled(house, path, house.shared), **more)
    if kind == READ:
        # Where nothing here can listen, that is said.
        assert answer.status_code == 200 or "listen" in route, answer.text
    elif route.startswith("POST /edits"):
        assert answer.json()["error"]
    else:
        assert answer.status_code in (403, 409), answer.text
    assert house.rows() == before


def test_what_is_listed_to_a_reader_is_what_they_may_read(house: House):
    found = house.ask("rita", "GET", "/api/v1/recordings").json()
    assert [each["id"] for each in found["recordings"]] == [house.shared] and found["total"] == 1
    hits = house.ask("rita", "GET", "/api/v1/search", params={"q": f"{WORD} budget"}).json()["hits"]
    assert {hit["recording"] for hit in hits} == {house.shared}


def test_keys_open_the_api_and_nothing_else(house: House):
    headers = {"authorization": f"Bearer {house.keys['otto']}"}
    house.client.cookies.clear()
    found = house.client.get("/api/v1/recordings", headers=headers).json()["recordings"]
    assert [each["id"] for each in found] == [house.ottos]
    assert house.client.get(f"/api/v1/recordings/{house.hidden}", headers=headers).status_code == 404
    assert house.client.get(f"/audio/{house.ottos}", headers=headers).status_code == 401
    wrong = {"authorization": "Bearer moss_guess"}
    assert house.client.get("/api/v1/recordings", headers=wrong).status_code == 401


def test_voices_are_everybodys_own(house: House):
    database = house.workspace.library.database
    with acting_as(house.people["anna"]), database.transaction() as session:
        voice = VoiceRow(name=WORD.title(), encoder="test")
        session.add(voice)
        session.flush()
        session.add(VoiceSampleRow(voice_id=voice.id, recording_id=house.shared, seconds=9.0, embedding=b"1"))
    assert WORD in house.ask("anna", "GET", "/api/v1/voices").text.lower()
    for who in ("otto", "rita"):
        assert WORD not in house.ask(who, "GET", "/api/v1/voices").text.lower()
        house.ask(who, "DELETE", "/api/v1/voices")
        assert house.ask(who, "DELETE", f"/api/v1/voices/{WORD}").status_code >= 400
        house.ask(who, "PUT", "/api/v1/voices", json={"remembered": False})
    assert WORD in house.ask("anna", "GET", "/api/v1/voices").text.lower()
    assert house.ask("anna", "GET", "/api/v1/voices").json()["remembered"] is None
    with acting_as(house.people["anna"]):
        house.workspace.forget_voices()


def test_a_job_is_seen_by_whoever_sent_the_file(house: House, tmp_path: Path):
    file = tmp_path / "talk.wav"
    file.write_bytes(wav(0.2))
    with acting_as(house.people["anna"]):
        job = house.jobs.submit(file, f"Job {WORD}", state="stopped")
    for who, status in (("anna", 200), ("otto", 404), ("rita", 404)):
        assert house.ask(who, "GET", f"/api/v1/jobs/{job.id}").status_code == status
    for action in ("cancel", "retry"):
        assert house.ask("otto", "POST", f"/api/v1/jobs/{job.id}/{action}").status_code == 404
    assert WORD not in house.ask("otto", "GET", "/api/v1/jobs").text.lower()
    with acting_as(house.people["otto"]):
        house.jobs.dismiss(job.id)
        house.jobs.resume(job.id)
        assert house.jobs.list() == []
    with acting_as(house.people["anna"]):
        assert [each.state for each in house.jobs.list()] == ["stopped"]
        house.jobs.dismiss(job.id)


def test_the_same_file_does_not_tell_that_somebody_has_it(house: House):
    sent = {"files": {"file": ("talk.srt", b"1\n00:00:01,000 --> 00:00:02,000\nThe same words.\n")}}
    ids = [house.ask(who, "POST", "/api/v1/imports", **sent).json()["id"] for who in ("otto", "rita", "otto")]
    assert ids[0] == ids[2] != ids[1]
    assert house.ask("rita", "GET", f"/api/v1/recordings/{ids[0]}").status_code == 404
    for who, recording in (("otto", ids[0]), ("rita", ids[1])):
        assert house.ask(who, "DELETE", f"/api/v1/recordings/{recording}").status_code == 200


CHANGING = ("again", "rename", "comment", "recomment", "uncomment", "remove")


def test_who_may_only_read_is_offered_nothing_that_would_be_refused(house: House):
    handlers = Handlers(house.workspace, house.jobs, house.uploads, accounts=True)
    shown = {}
    for who in ("anna", "rita"):
        with acting_as(house.people[who]):
            parts = handlers.load({"recording": house.shared, "thread": None})
        html = "".join(part for part in parts if isinstance(part, str))
        shown[who] = {name for name in CHANGING if f"data-{name}" in html}
        assert f"A {WORD} note" in html and 'class="by">anna<' in html
        assert ("data-fixed" in html) == (who == "rita")
    assert shown == {"anna": set(CHANGING), "rita": set()}
    with acting_as(house.people["rita"]):
        comments = house.ask("rita", "GET", f"/api/v1/recordings/{house.shared}/comments").json()
    assert [comment["by"] for comment in comments] == ["anna"]


# --- links ------------------------------------------------------------------------------------------------


def test_a_link_shows_one_recording_until_it_is_revoked(house: House):
    made = house.ask("anna", "POST", f"/share/{house.shared}", data={"action": "link", "days": "7"})
    token = re.search(r"/s/([\w-]{20,})", made.text)
    assert token is not None
    paths = [f"/s/{token[1]}{part}" for part in ("", "/audio", "/export.txt")]
    assert [house.ask(None, "GET", path).status_code for path in paths] == [200, 200, 200]
    shown = house.ask(None, "GET", paths[0])
    assert WORD in shown.text.lower() and "Hidden" not in shown.text
    led = re.findall(r'<li><a href="#(at-\d+)">', shown.text)
    assert "Decisions" in shown.text and led and all(f'id="{place}"' in shown.text for place in led)
    ranged = house.client.get(paths[1], headers={"range": "bytes=0-3"})
    assert ranged.status_code == 206 and len(ranged.content) == 4
    with acting_as(house.people["anna"]):
        number = house.workspace.people.links(house.shared)[-1].id
    for who, status in (("rita", 403), ("otto", 404)):
        form = {"action": "revoke", "number": str(number)}
        assert house.ask(who, "POST", f"/share/{house.shared}", data=form).status_code == status
    form = {"action": "revoke", "number": str(number)}
    assert house.ask("anna", "POST", f"/share/{house.shared}", data=form).status_code == 303
    assert [house.ask(None, "GET", path).status_code for path in paths] == [404, 404, 404]
    house.client.cookies.clear()
    opened = house.client.get(paths[0], headers={"accept": "text/html,*/*"})
    assert "leads nowhere" in opened.text and opened.text.startswith("<!doctype html>")
    assert house.ask(None, "GET", paths[1]).text.startswith("This link leads nowhere")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UnknownRecording("There is no recording."), 404),
        (Busy("Somebody else is changing the same; try again."), 503),
        (DatabaseAway("The database cannot be used."), 503),
    ],
)
def test_what_goes_wrong_in_the_middle_of_a_request_is_one_sentence(
    house: House, monkeypatch: pytest.MonkeyPatch, error: MossAgentError, status: int
):
    def fails(*_: Any, **__: Any) -> None:
        raise error

    # It was found, and is gone, or cannot be read, a moment later.
    for name in ("export", "read", "timeline", "topics"):
        monkeypatch.setattr(house.workspace, name, fails)
    with acting_as(house.people["anna"]):
        token = house.workspace.people.make_link(house.shared, None)
    paths = [f"/{kind}/{house.shared}" for kind in ("timeline", "topics")]
    for path in (*paths, f"/export/{house.shared}.txt", f"/s/{token}", f"/s/{token}/export.txt"):
        answer = house.ask("anna", "GET", path)
        assert (answer.status_code, "Internal" in answer.text) == (status, False), path
        if not path.startswith("/s/"):
            assert str(error) in answer.text or status == 404


def test_a_stranger_is_not_told_where_the_database_is(house: House, monkeypatch: pytest.MonkeyPatch):
    def away(*_: Any) -> None:
        raise DatabaseAway("The database 10.0.0.7:5432/library cannot be used; start its server.")

    for name in ("by_link", "signed_in", "by_key", "sign_in"):
        monkeypatch.setattr(house.workspace.people, name, away)
    form = {"name": "anna", "password": "a long password"}
    sent = [("GET", "/s/abc", {}), ("POST", "/login", {"data": form}), ("GET", "/api/v1/recordings", {})]
    for who in (None, "anna"):
        for method, path, more in sent:
            answer = house.ask(who, method, path, **more)
            assert "10.0.0.7" not in answer.text and answer.status_code in (401, 503), path


def test_a_link_that_has_ended_shows_nothing(house: House, monkeypatch: pytest.MonkeyPatch):
    with acting_as(house.people["anna"]):
        token = house.workspace.people.make_link(house.shared, days=1)
    assert house.ask(None, "GET", f"/s/{token}").status_code == 200
    import time

    later = time.time() + 2 * 86_400
    monkeypatch.setattr("index.store.people.time.time", lambda: later)
    for part in ("", "/audio", "/export.txt"):
        assert house.ask(None, "GET", f"/s/{token}{part}").status_code == 404


# --- signing in -------------------------------------------------------------------------------------------


def test_somebody_signs_in_goes_on_where_they_wanted_and_signs_out(house: House):
    client = house.client
    client.cookies.clear()
    sent = client.get("/?recording=abc", headers={"accept": "text/html"}, follow_redirects=False)
    assert sent.status_code == 303 and sent.headers["location"] == "/login?next=/%3Frecording%3Dabc"
    form = {"name": "Otto", "password": "a long password", "next": "/?recording=abc"}
    answer = client.post("/login", data=form, follow_redirects=False)
    assert answer.status_code == 303 and answer.headers["location"] == "/?recording=abc"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=lax" in cookie and "secure" not in cookie
    assert client.get("/account").status_code == 200
    assert client.post("/logout", follow_redirects=False).status_code == 303
    client.cookies.set(COOKIE, answer.cookies[COOKIE])
    assert client.get("/account", follow_redirects=False).status_code == 401, "the token is worth nothing now"
    client.cookies.clear()


def test_a_wrong_password_is_told_where_it_is_changed(house: House):
    form = {"old": "not the one", "new": "a longer password"}
    answer = house.ask("rita", "POST", "/account/password", data=form)
    assert answer.status_code == 422 and "password you have now" in answer.text
    assert "name or the password" not in answer.text


def test_a_form_that_is_not_whole_is_answered_in_a_sentence_that_repeats_nothing(house: House):
    for form in ({}, {"name": "otto", "password": "geheim" * 60}):
        answer = house.ask(None, "POST", "/login", data=form)
        assert answer.status_code == 422 and answer.headers["content-type"].startswith("text/plain")
        assert re.fullmatch(r"(name is missing|password must have at most 300 characters)\.", answer.text)
    wrong = house.ask("anna", "GET", f"/peaks/{house.shared}?start=x&end=1&points=1")
    assert wrong.text == "start must be a number."


@pytest.mark.parametrize(
    "where", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:1"]
)
def test_signing_in_leads_nowhere_else(house: House, where: str):
    form = {"name": "otto", "password": "a long password", "next": where}
    answer = house.ask(None, "POST", "/login", data=form)
    assert answer.headers["location"] == "/"


def test_another_sites_form_does_nothing(house: House):
    forged = [{"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}]
    for header in (*forged, {"origin": "null", "sec-fetch-site": "cross-site"}):
        headers = {"cookie": f"{COOKIE}={house.cookies['anna']}", **header}
        house.client.cookies.clear()
        form = {"action": "add", "name": "otto"}
        answer = house.client.post(f"/share/{house.shared}", data=form, headers=headers)
        assert answer.status_code == 403
    with acting_as(house.people["anna"]):
        assert [share.name for share in house.workspace.people.shares(house.shared)] == ["rita"]


# --- Gradio -----------------------------------------------------------------------------------------------


def nested(routes: list[BaseRoute]) -> Iterator[Any]:
    for route in routes:
        router = getattr(route, "original_router", None)
        yield from nested(router.routes) if router is not None else [route]


def test_nobody_reaches_a_route_of_gradios(house: House):
    page = next(route for route in house.app.routes if isinstance(route, Mount) and not route.path)
    asked = 0
    for route in nested(inner(page.app).routes):
        for method in getattr(route, "methods", None) or ():
            path = re.sub(r"\{\w+(:\w+)?\}", "x", route.path)
            answer = house.ask(None, method, path, json={"session_hash": "x"} if method == "POST" else None)
            is_own = path in ("/login", "/health", "/favicon.ico")
            assert is_own or answer.status_code in (401, 403, 404), f"{method} {path}: {answer.status_code}"
            asked += 1
    assert asked > 60


def test_a_session_of_the_page_is_one_persons(house: House):
    heartbeat = {"session_hash": "annasown1", "data": [], "fn_index": 0}
    assert (
        house.ask("anna", "POST", "/gradio_api/cancel", json={**heartbeat, "event_id": "e"}).status_code
        != 404
    )
    for method, path, more in (
        ("GET", "/gradio_api/queue/data?session_hash=annasown1", {}),
        ("GET", "/gradio_api/heartbeat/annasown1", {}),
        ("POST", "/gradio_api/queue/join", {"json": heartbeat}),
        ("POST", "/gradio_api/run/predict", {"json": heartbeat}),
        ("POST", "/gradio_api/reset", {"json": {**heartbeat, "event_id": "e"}}),
    ):
        assert house.ask("otto", method, path, **more).status_code == 404
    # Gradio reads the last of two, and what is longer than is looked at here.
    twice = "/gradio_api/queue/data?session_hash=mine&session_hash=annasown1"
    assert house.ask("otto", "GET", twice).status_code == 400
    padded = json.dumps({"data": ["x" * LONGEST_EVENT], "fn_index": 0, "session_hash": "annasown1"})
    for body in (padded, "{"):
        assert house.ask("otto", "POST", "/gradio_api/queue/join", content=body).status_code == 400


def events(house: House) -> dict[str, list[Any]]:
    """Every event of the page with what is sent with it, about a recording that is hidden."""
    kept = {"recording": house.hidden, "thread": "t"}
    hidden = house.hidden
    return {
        "load": [{**kept, "link": {"recording": hidden, "t": "1"}}],
        "changed": [hidden, "", kept],
        "engines": [""],
        "glossary": [],
        "spell": [SimpleNamespace(text="word")],
        "open": [kept, SimpleNamespace(id=hidden)],
        "remove": [hidden, kept, SimpleNamespace(id=hidden)],
        "cancel": [hidden, SimpleNamespace(id="x")],
        "resume": [hidden, SimpleNamespace(id="x")],
        "dismiss": [hidden, SimpleNamespace(id="x")],
        "again": [hidden, SimpleNamespace(id=hidden, losing=9)],
        "search": [SimpleNamespace(text=f"{WORD} ferry")],
        "added": [hidden, SimpleNamespace(file="/etc/passwd", title="x", speakers=None, track=None)],
        "complain": [SimpleNamespace(text="x")],
        "comment": [hidden, SimpleNamespace(at=1.0, text="No.")],
        "recomment": [hidden, SimpleNamespace(id=1, text="No.")],
        "uncomment": [hidden, SimpleNamespace(id=1)],
        "rename": [hidden, SimpleNamespace(old=WORD.title(), new="Nobody")],
        "voice": [hidden, SimpleNamespace(speaker=WORD.title(), same=True)],
        "corrected": [hidden, "meeting", None, kept, SimpleNamespace(summary=True)],
        "summarise": [hidden, "meeting", None],
        "instruct": [hidden, "meeting", None, SimpleNamespace(text="shorter")],
        "unwrite": [hidden],
        "ask": ["What did Maria take?", "one", hidden, kept],
        "suggest": ["", "one", hidden, kept, SimpleNamespace(text="What did Maria take?")],
        "stopped": [kept],
        "fresh": [hidden, kept],
    }


@pytest.fixture
def page(house: House) -> gr.Blocks:
    with gr.Blocks() as page:
        handlers: Any = InTheirName(Handlers(house.workspace, house.jobs, house.uploads, True))
        wire(page, lay_out("meeting"), handlers)
    return page


def test_every_event_of_the_page_is_worked_on_in_the_name_of_who_sent_it(house: House, page: gr.Blocks):
    functions = {block.fn.__name__: block.fn for block in page.fns.values() if block.fn is not None}
    wanted = events(house)
    assert set(functions) == set(wanted), "a new event is to be asked here for what is somebody else's"
    # Anna talks about her recording; the conversation's name is known to Otto.
    anna = drawn(
        functions["ask"], ["What did Maria take?", "one", house.hidden, {"thread": "t"}], house.people["anna"]
    )
    assert WORD in anna.lower()
    before = house.rows()
    for name, given in wanted.items():
        for actor in (house.people["otto"], NOBODY):
            seen = drawn(functions[name], given, actor).lower().replace(f"{WORD} ferry", "")
            assert WORD not in seen, f"{name} shows {seen}"
    with acting_as(EVERYTHING):
        assert len(house.workspace.library.comments(house.hidden)) == 1
        assert house.workspace.library.recording(house.hidden).speakers == (WORD.title(),)
    assert house.rows() == before


def drawn(function: Any, given: list[Any], actor: Actor) -> str:
    """All that an event draws."""
    scope = {"type": "http", ACTOR: actor}
    request = gr.Request(SimpleNamespace(scope=scope))
    try:
        result = function(*given, request)
        if hasattr(result, "__next__"):
            result = list(result)
    except (MossAgentError, gr.Error, AttributeError, TypeError) as error:
        return str(error)
    return repr(result)


def test_an_event_without_a_request_is_nobodys(house: House, page: gr.Blocks):
    load = next(block.fn for block in page.fns.values() if block.fn and block.fn.__name__ == "load")
    assert "Dog talk" not in repr(load({}, None))
    scope = {"type": "http", ACTOR: house.people["otto"]}
    assert "Dog talk" in repr(load({}, gr.Request(SimpleNamespace(scope=scope))))


# --- MCP --------------------------------------------------------------------------------------------------


def test_every_tool_and_resource_of_mcp_knows_who_asks(house: House):
    house.workspace.__dict__["engines"] = SimpleNamespace(
        listener=object(), close=lambda: None, chat_model=house.workspace.chat_model, elsewhere=None
    )
    try:
        server = LibraryServer(house.workspace, house.jobs, [])
        one = {"recording": house.hidden}
        table: dict[str, dict[str, Any]] = {
            "list_recordings": {},
            "search": {"query": f"{WORD} ferry"},
            "read_transcript": one,
            "ask": {"question": "What did Maria take?"},
            "summarize": one,
            "outline": one,
            "list_speakers": one,
            "confirm_speaker": {**one, "speaker": "Maria", "same": True},
            "listen": {**one, "start": 0, "end": 1, "question": "A bell?"},
            "add_recording": {"path": "/etc/passwd"},
        }

        async def use(actor: Actor) -> None:
            with acting_as(actor):
                async with Client(server) as client:
                    assert {tool.name for tool in (await client.list_tools()).tools} == set(table)
                    for tool, arguments in table.items():
                        told = str(await client.call_tool(tool, arguments)).lower()
                        assert WORD not in told.replace(f"{WORD} ferry", ""), tool
                    assert WORD not in str(await client.list_resources()).lower()
                    for part in ("", "/0-5"):
                        uri = f"moss-agent://recordings/{house.hidden}/transcript{part}"
                        with pytest.raises(Exception, match=r"(?i)no recording|not"):
                            await client.read_resource(uri)

        for actor in (house.people["otto"], NOBODY):
            run_apart(lambda actor=actor: use(actor))
    finally:
        del house.workspace.__dict__["engines"]


def test_mcp_over_http_takes_peoples_keys_and_each_call_is_its_senders(house: House):
    service = Service(None, None)
    server = LibraryServer(house.workspace, house.jobs, [])
    by_key = house.workspace.people.by_key
    app = AuthMiddleware(server.streamable_http_app(host="127.0.0.1"), service, None, "127.0.0.1", who=by_key)
    begin = {
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"},
        },
    }  # fmt: skip
    call = {
        "jsonrpc": "2.0",
        "id": 2,
        "method": "tools/call",
        "params": {"name": "list_recordings", "arguments": {}},
    }
    with TestClient(app, base_url="http://127.0.0.1:7861") as client:

        def send(document: dict[str, Any], key: str, **more: str) -> Any:
            headers = {
                "accept": "application/json, text/event-stream",
                "authorization": f"Bearer {key}",
                **more,
            }
            return client.post("/mcp", json=document, headers=headers)

        assert send(begin, "guess").status_code == 401
        begun = send(begin, house.keys["anna"])
        assert begun.status_code == 200, begun.text
        session = {"mcp-session-id": begun.headers["mcp-session-id"]}
        send({"jsonrpc": "2.0", "method": "notifications/initialized"}, house.keys["anna"], **session)
        assert WORD in send(call, house.keys["anna"], **session).text.lower()
        # Otto goes on in Anna's session, whose name he has learned.
        others = send(call, house.keys["otto"], **session)
        assert WORD not in others.text.lower()
    service.close()


# --- the OpenAI-compatible server -------------------------------------------------------------------------


def test_every_route_of_the_served_api_needs_a_key_and_the_servers_own_opens_no_library(house: House):
    service = Service(None, None)
    library = create_library_api(house.workspace, house.jobs, house.uploads, service, "http://127.0.0.1")
    app = create_api(service, "server", "127.0.0.1", (), library, house.workspace.people.by_key)
    client = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
    known = {"POST /v1/chat/completions", "POST /v1/audio/transcriptions", "GET /v1/models"}
    known |= {"GET /v1/models/{model:path}", "GET /health", "GET /metrics"}
    found = {
        f"{method} {route.path}"
        for route in app.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert found == known
    for route in [*found, *API]:
        method, _, path = route.partition(" ")
        path = filled(house, path.replace(":path", "").replace("{model}", "x"), house.hidden)
        is_open = path == "/health" or path.startswith((f"{LIBRARY}/docs", f"{LIBRARY}/openapi"))
        assert client.request(method, path).status_code == (200 if is_open else 401), route
        server = client.request(method, path, headers={"authorization": "Bearer server"})
        assert path.startswith(LIBRARY) is (server.status_code == 401) or is_open, route
    mine = {"authorization": f"Bearer {house.keys['otto']}"}
    listed = client.get(f"{LIBRARY}/recordings", headers=mine).json()["recordings"]
    assert [each["id"] for each in listed] == [house.ottos]
    service.close()


def test_json_of_what_is_refused_is_the_apis(house: House):
    refused = house.ask(None, "GET", "/api/v1/recordings")
    assert json.loads(refused.text)["error"]["code"] == "not_signed_in"


def test_a_shared_queue_knows_whose_files_are_whose(house: House, tmp_path: Path):
    database = house.workspace.library.database
    file = tmp_path / "talk.wav"
    file.write_bytes(wav(0.2))
    took: list[str] = []

    def add(*_: Any, **__: Any) -> Recording:
        took.append(str(house.workspace.actor))
        raise MossAgentError("Enough.")

    jobs = SharedJobs(
        database, add, identify=house.workspace.identify, actor=lambda: house.workspace.actor,
        person=house.workspace.people.person,
    )  # fmt: skip
    try:
        with acting_as(house.people["anna"]):
            job = jobs.submit(file, f"Job {WORD}")
            wait_until(lambda: [each.state for each in jobs.list()] == ["failed"])
        assert took == [str(house.people["anna"])]
        with acting_as(house.people["otto"]):
            jobs.dismiss(job.id)
            jobs.resume(job.id)
            assert jobs.list() == [] and jobs.find(job.id) is None
        with acting_as(house.people["anna"]):
            assert [each.state for each in jobs.list()] == ["failed"]
            jobs.dismiss(job.id)
            assert jobs.list() == []
    finally:
        jobs.close(5)
