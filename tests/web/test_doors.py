"""Every door of the table in docs/doors.md is gone through; each must reach the function of its row."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from mcp import Client
from starlette.testclient import TestClient

from agent.cli import commands as cli
from agent.settings import Settings
from agent.workspace import Workspace, open_workspace
from index.corrections.correcting import Changed
from index.records import Recording, Segment
from index.search.indexing import index_recording
from index.store.database import RecordingRow
from tests.conftest import ROOT
from tests.support.api_serving import wav
from tests.support.indexed import embedder, heard, store
from tests.support.loops import run_apart
from tests.support.waiting import wait_until
from tools.result import Heard, RecordingInfo
from web.api.library_api import LIBRARY, create_library_api
from web.api.service import Service
from web.app import add_routes
from web.edits import add_edit_routes
from web.jobs import Jobs
from web.mcp_server import LibraryServer
from web.page.handlers import Handlers
from web.uploads import Uploads

TITLE = "Harbour Lights planning call"
QUESTION = "what did we decide about the sound stage?"
TABLE = (ROOT / "docs" / "doors.md").read_text()
DOORS = ("page", "command line", "API", "MCP")


@dataclass(frozen=True)
class Row:
    """One row of the table."""

    function: str
    cells: dict[str, str]


def rows() -> list[Row]:
    lines = [line for line in TABLE.splitlines() if line.startswith("|") and line.count("|") == 7]
    split = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    return [Row(cells[1].strip("`"), dict(zip(DOORS, cells[2:], strict=True))) for cells in split]


ROWS = rows()
CASES = [(row, door) for row in ROWS for door in DOORS if row.cells[door] != "–"]


@dataclass
class House:
    """A library, and everything that stands before it."""

    workspace: Workspace
    jobs: Jobs
    uploads: Uploads
    file: Path
    reached: list[str] = field(default_factory=list)

    @property
    def transcript(self) -> Path:
        """A transcript that was made elsewhere."""
        file = self.file.with_suffix(".srt")
        file.write_text("1\n00:00:01,000 --> 00:00:02,000\nHello.\n")
        return file

    @property
    def said(self) -> list[Segment]:
        """The first two sentences."""
        return self.workspace.library.segments(self.recording)[:2]

    @property
    def audio(self) -> str:
        """The recording, with an audio copy."""
        copy = self.workspace.library.audio_path(self.recording)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(self.file.read_bytes())
        return self.recording

    @property
    def comment(self) -> int:
        """Something that was noted."""
        return self.workspace.add_comment(TITLE, 5.0, "Here.").id

    @property
    def recording(self) -> str:
        return self.workspace.recording(TITLE).id


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("doors") / "home"
    workspace = open_workspace(Settings(home=home))
    workspace.__dict__["embedder"] = embedder()
    recording = store(workspace.library, heard(), TITLE)
    index_recording(workspace.library, workspace.embedder, workspace.vectors, recording)
    workspace.close()
    return home


@pytest.fixture
def house(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """The house, with each function of the table noting that it was reached.

    Those that would take long, or take something away, do nothing else.
    """
    workspace = open_workspace(Settings(home=filled))
    workspace.__dict__["embedder"] = embedder()
    monkeypatch.setattr("agent.workspace.Workspace.embedder", embedder())
    file = tmp_path / "talk.wav"
    file.write_bytes(wav(0.2))
    jobs = Jobs(
        lambda *given, **named: workspace.add(*given, **named),
        hear_again=lambda *given: workspace.hear_again(*given),
        attach=lambda *given: workspace.attach_media(*given),
    )
    house = House(workspace, jobs, Uploads(filled), file)

    def same(self: Workspace, *_: Any, **__: Any) -> Recording:
        return self.library.resolve(TITLE)

    def listened(self: Workspace, *_: Any, **__: Any) -> Heard:
        return Heard(recording=RecordingInfo.of(self.library.resolve(TITLE)), range=(0, 9), answer="A bell.")

    def changed(self: Workspace, *_: Any, **__: Any) -> Changed:
        return Changed(0)

    instead: dict[str, Callable[..., Any]] = dict.fromkeys(
        ["correct_sentence", "give_speaker", "split_sentence", "merge_sentences", "undo_correction"], changed
    )
    instead |= dict.fromkeys(["import_transcript", "attach_media", "hear_again"], same)
    instead |= dict.fromkeys(["confirm_voice", "reject_voice", "forget_voice"], lambda *_: "Anna")
    instead |= {"add": same, "remove": same, "relabel_speakers": same, "listen": listened}
    for row in ROWS:
        noted(monkeypatch, house, row.function, instead.get(row.function))
    yield house
    jobs.close(10)
    workspace.close()


def noted(monkeypatch: pytest.MonkeyPatch, house: House, name: str, instead: Callable | None) -> None:
    real = instead or getattr(Workspace, name)

    def function(*given: Any, **named: Any) -> Any:
        house.reached.append(name)
        return real(*given, **named)

    monkeypatch.setattr(Workspace, name, function)


# --- the page -----------------------------------------------------------------------------------------


def by_page(house: House, row: Row) -> None:
    handlers = Handlers(house.workspace, house.jobs, house.uploads)
    arrived = house.uploads.arriving / "h" / "talk.wav"
    arrived.parent.mkdir(exist_ok=True)
    arrived.write_bytes(house.file.read_bytes())
    kept: Any = {"recording": house.recording, "thread": None}
    event = SimpleNamespace
    sent = event(file=str(arrived), title="A talk", speakers=None, track=None)
    first = house.workspace.library.resolve(TITLE).speakers[0]
    gone_through: dict[str, Callable[[], Any]] = {
        "recordings": lambda: handlers.load(kept),
        "add": lambda: handlers.added(None, event(**vars(sent))),
        "remove": lambda: handlers.remove(None, kept, event(id=house.recording)),
        "ask": lambda: list(handlers.ask(QUESTION, "one", house.recording, kept)),
        "summarize": lambda: list(handlers.summarise(house.recording, "meeting", None)),
        "rename_speaker": lambda: handlers.rename(house.recording, event(old=first, new=first)),
        "set_glossary": lambda: handlers.spell(event(text="ferry")),
        "correct_sentence": lambda: edited(house, "text", text="Hello."),
        "give_speaker": lambda: edited(house, "speaker", speaker=first),
        "split_sentence": lambda: edited(house, "split", at=0),
        "merge_sentences": lambda: edited(house, "merge"),
        "undo_correction": lambda: edited(house, "undo"),
        "correction_history": lambda: page_routes(house).get(f"/edits/{house.recording}/history"),
        "add_comment": lambda: handlers.comment(house.recording, event(at=5, text="Here.")),
        "change_comment": lambda: handlers.recomment(house.recording, event(id=house.comment, text="There.")),
        "remove_comment": lambda: handlers.uncomment(house.recording, event(id=house.comment)),
        "hear_again": lambda: handlers.again(None, event(id=house.audio, losing=0)),
        "attach_media": lambda: by_api(house, row),
        "talk_time": lambda: handlers.load(kept),
        "speaker_facts": lambda: handlers.load(kept),
        "summarize_as": lambda: list(
            handlers.instruct(house.recording, "meeting", None, event(text="short"))
        ),
        "confirm_voice": lambda: handlers.voice(house.recording, event(speaker=first, same=True)),
        "reject_voice": lambda: handlers.voice(house.recording, event(speaker=first, same=False)),
        "allow_voices": lambda: handlers.rename(house.recording, event(old=first, new=first, remember=False)),
        "search_library": lambda: handlers.search(event(text="ferry")),
        "export": lambda: page_routes(house).get(f"/export/{house.recording}.txt").raise_for_status(),
    }
    gone_through[row.function]()
    if row.function in ("add", "hear_again"):
        wait_until(lambda: not house.jobs.list())


def edited(house: House, action: str, **more: Any) -> None:
    asked = {"action": action, "segments": [segment.id for segment in house.said], **more}
    if action in ("text", "split"):
        asked["segments"] = asked["segments"][:1]
    page_routes(house).post(f"/edits/{house.recording}", json=asked).raise_for_status()


def page_routes(house: House) -> TestClient:
    from fastapi import FastAPI

    app = FastAPI()
    add_routes(app, house.workspace)
    add_edit_routes(app, house.workspace)
    return TestClient(app)


# --- the command line ---------------------------------------------------------------------------------


def by_command_line(house: House, row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    command = row.cells["command line"].strip("`")
    first = house.workspace.library.resolve(TITLE).speakers[0]
    more = {
        "import": [house.transcript], "attach": [TITLE, house.file], "sync": [house.file.parent / "notes"],
        "comment": [TITLE, "0:05", "Here."], "list": [], "voices": [], "reindex": [], "add": [house.file],
        "search": ["ferry"], "ask": [QUESTION],
        "rename": [TITLE, TITLE], "rename-speaker": [TITLE, first, first],
        "listen": [TITLE, "0", "9", "A bell?"],
    }.get(command, [TITLE])  # fmt: skip
    words = house.said[0].text.split()
    if command == "correct":
        more = {
            "correct_sentence": [TITLE, "0:01", "Hello."],
            "give_speaker": [TITLE, "0:01", "--speaker", first],
            "split_sentence": [TITLE, "0:01", "--split", words[1]],
            "merge_sentences": [TITLE, "0:01", "--merge"],
        }[row.function]
    more = {
        "change_comment": [TITLE, "--change", house.comment, "There."],
        "remove_comment": [TITLE, "--remove", house.comment],
        "summarize_as": [TITLE, "--instruction", "short"],
        "allow_voices": ["off"], "find_voices": ["find", TITLE],
        "confirm_voice": ["confirm", TITLE, first], "reject_voice": ["reject", TITLE, first],
        "forget_voice": ["forget", "Anna"], "forget_voices": ["forget", "--all"],
    }.get(row.function, more)  # fmt: skip
    arguments = ["moss-agent", "--home", house.workspace.home, command, *more, "--json"]
    monkeypatch.setattr(sys, "argv", [str(each) for each in arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0


# --- the API ------------------------------------------------------------------------------------------


def imported(house: House, kind: str | None) -> None:
    """Have the recording be a transcript of this kind, or media where there is none."""
    with house.workspace.library.database.transaction() as session:
        session.get_one(RecordingRow, house.recording).imported = kind


def by_api(house: House, row: Row) -> None:
    if row.function == "hear_again":
        _ = house.audio
    if row.function == "attach_media":
        imported(house, "srt")
    method, _, path = row.cells["API"].strip("`").partition(" ")
    service = Service(None, None)
    client = TestClient(create_library_api(house.workspace, house.jobs, house.uploads, service))
    first = house.workspace.library.resolve(TITLE).speakers[0]
    bodies: dict[str, dict[str, Any]] = {
        "POST /recordings": {"files": {"file": ("talk.wav", house.file.read_bytes())}},
        "POST /imports": {"files": {"file": ("talk.srt", house.transcript.read_bytes())}},
        "PATCH /recordings/{recording}": {"json": {"title": TITLE}},
        "PATCH /recordings/{recording}/speakers/{speaker}": {"json": {"name": first}},
        "POST /ask": {"json": {"question": QUESTION, "stream": False}},
        "POST /recordings/{recording}/listen": {"json": {"question": "A bell?", "start": 0, "end": 9}},
        "PATCH /recordings/{recording}/segments/{segment}": {
            "json": {"speaker": first} if row.function == "give_speaker" else {"text": "Hello."}
        },
        "POST /recordings/{recording}/segments/{segment}/split": {"json": {"at": 5}},
        "POST /recordings/{recording}/segments/merge": {"json": {"segments": [1, 2]}},
        "POST /recordings/{recording}/media": {"files": {"file": ("talk.wav", house.file.read_bytes())}},
        "POST /recordings/{recording}/summary": {"json": {"instruction": "short"}},
        "POST /recordings/{recording}/comments": {"json": {"at": 5, "text": "Here."}},
        "PATCH /recordings/{recording}/comments/{comment}": {"json": {"text": "There."}},
        "PUT /voices": {"json": {"remembered": False}},
        "GET /search": {"params": {"q": "ferry"}},
    }
    comment = house.comment if "{comment}" in path else 0
    filled = path.format(
        recording=house.recording, speaker=first, segment=house.said[0].id, comment=comment, voice="Anna"
    )
    found = client.request(method, filled, **bodies.get(f"{method} {path}", {}))
    assert found.status_code in (200, 201, 202), found.text
    if row.function in ("add", "hear_again", "attach_media"):
        wait_until(lambda: not house.jobs.list())
    if row.function == "attach_media":
        imported(house, None)
    service.close()


# --- MCP ----------------------------------------------------------------------------------------------


def by_mcp(house: House, row: Row) -> None:
    tool = row.cells["MCP"].strip("`")
    house.workspace.__dict__["engines"] = SimpleNamespace(
        listener=object(), close=lambda: None, chat_model=house.workspace.chat_model
    )
    server = LibraryServer(house.workspace, house.jobs)
    arguments: dict[str, Any] = {
        "list_recordings": {},
        "search": {"query": "ferry"},
        "ask": {"question": QUESTION},
        "listen": {"recording": TITLE, "start": 0, "end": 9, "question": "A bell?"},
        "add_recording": {"path": str(house.file)},
        "confirm_speaker": {"recording": TITLE, "speaker": "X", "same": row.function == "confirm_voice"},
    }.get(tool, {"recording": TITLE})
    if row.function == "summarize_as":
        arguments["instruction"] = "short"

    async def use() -> None:
        async with Client(server) as client:
            if tool == "a resource":
                uri = f"moss-agent://recordings/{house.recording}/transcript"
                assert (await client.read_resource(uri)).contents
            else:
                result = await client.call_tool(tool, arguments)
                # What stands in for the pipeline stores nothing.
                assert not result.is_error or tool == "add_recording", result.content

    run_apart(use)


# --- the table ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("row", "door"), CASES, ids=[f"{row.function}-{door}" for row, door in CASES])
def test_each_door_reaches_the_function_of_its_row(
    house: House, row: Row, door: str, monkeypatch: pytest.MonkeyPatch
):
    house.reached.clear()
    if door == "command line":
        by_command_line(house, row, monkeypatch)
    else:
        {"page": by_page, "API": by_api, "MCP": by_mcp}[door](house, row)
    assert row.function in house.reached


def test_the_table_holds_every_command_route_and_tool(house: House):
    told = set(re.findall(r"`([^`]+)`", TABLE))
    commands = set(typer.main.get_command(cli.app).commands)  # type: ignore[attr-defined]
    assert commands <= told, "docs/doors.md lacks a command"
    service = Service(None, None)
    openapi = create_library_api(house.workspace, house.jobs, house.uploads, service).openapi()
    service.close()
    routes = {f"{method.upper()} {path}" for path, methods in openapi["paths"].items() for method in methods}
    assert routes <= told, "docs/doors.md lacks a route"
    tools = run_apart(LibraryServer(house.workspace, house.jobs).list_tools)
    assert {tool.name for tool in tools} <= told, "docs/doors.md lacks a tool"
    assert LIBRARY in TABLE and len(CASES) > 30
