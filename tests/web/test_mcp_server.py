"""The library through the Model Context Protocol, as the official client sees it."""

from __future__ import annotations

import json
import shutil
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import numpy as np
import pytest
import soundfile
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from starlette.testclient import TestClient

from agent.settings import Settings
from agent.workspace import Workspace, open_workspace
from index.audio.decode import file_id
from index.progress import Progress
from index.records import StageName
from index.search.indexing import index_recording
from index.store.database import RecordingRow
from tests.conftest import ROOT
from tests.support.api_serving import wav
from tests.support.indexed import embedder, heard, may_be_anna, sentences, store
from tests.support.loops import run_apart
from tests.support.preloaded import Program
from tests.support.stages import on_stage
from web import mcp_server
from web.api.api_server import create_api
from web.api.auth import AuthMiddleware
from web.api.library_api import create_library_api
from web.api.service import Service
from web.jobs import Jobs
from web.mcp_server import LibraryServer
from web.uploads import Uploads

TITLE = "Harbour Lights planning call"
OTHER = "Notes on penguins"
TOOLS = {
    "list_recordings",
    "search",
    "read_transcript",
    "ask",
    "summarize",
    "outline",
    "add_recording",
    "list_speakers",
    "confirm_speaker",
}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with two recordings; copied, never changed."""
    home = tmp_path_factory.mktemp("mcp") / "home"
    workspace = open_workspace(Settings(home=home))
    workspace.__dict__["embedder"] = embedder()
    for title, said in ((TITLE, heard()), (OTHER, sentences("Penguins eat krill.", "They swim far."))):
        recording = store(workspace.library, said, title)
        index_recording(workspace.library, workspace.embedder, workspace.vectors, recording)
    workspace.close()
    return home


@pytest.fixture
def workspace(filled: Path, home: Path) -> Iterator[Workspace]:
    shutil.copytree(filled, home)
    opened = open_workspace(Settings(home=home, page_url="http://pages.example"))
    opened.__dict__["embedder"] = embedder()
    yield opened
    opened.close()


def talk(workspace: Workspace, use: Callable[[Client], Awaitable[Any]], folders=None, add=None) -> Any:
    """What comes of a client's conversation with a server in this process."""
    jobs = Jobs(add or workspace.add)

    async def run() -> Any:
        async with Client(LibraryServer(workspace, jobs, folders)) as client:
            return await use(client)

    try:
        return run_apart(run)
    finally:
        jobs.close(10)


def call(workspace: Workspace, tool: str, **arguments: Any) -> dict[str, Any]:
    """The typed result of one call."""

    async def use(client: Client) -> Any:
        return await client.call_tool(tool, arguments)

    result = talk(workspace, use)
    assert not result.is_error, result.content[0].text
    return result.structured_content


def failure(workspace: Workspace, tool: str, /, folders=None, add=None, **arguments: Any) -> str:
    """The sentence of a call that fails."""

    async def use(client: Client) -> Any:
        return await client.call_tool(tool, arguments)

    result = talk(workspace, use, folders, add)
    assert result.is_error and result.structured_content is None
    (content,) = result.content
    assert "\n" not in content.text and "Traceback" not in content.text
    return content.text


# --- tools --------------------------------------------------------------------------------------------


def test_every_tool_is_described_and_typed(workspace: Workspace):
    tools = talk(workspace, lambda client: client.list_tools()).tools
    assert {tool.name for tool in tools} == TOOLS, "listen is there only with something that listens"
    for tool in tools:
        assert tool.description and tool.output_schema, tool.name
        assert tool.annotations.read_only_hint is (tool.name not in ("add_recording", "confirm_speaker"))


def test_what_is_found_is_typed_and_links_to_moments(workspace: Workspace):
    recording = workspace.recording(TITLE).id
    listed = call(workspace, "list_recordings")
    assert {each["title"] for each in listed["recordings"]} == {TITLE, OTHER}
    hits = call(workspace, "search", query="what do penguins eat")["hits"]
    assert hits[0]["title"] == OTHER and "krill" in hits[0]["text"]
    read = call(workspace, "read_transcript", recording=recording[:8], start="2:00", end=180)
    expected = [segment.text for segment in heard() if segment.start < 180 and segment.end > 120]
    assert [segment["text"] for segment in read["segments"]] == expected
    assert read["link"] == f"http://pages.example/?recording={recording}&t=120"
    summary = call(workspace, "summarize", recording=TITLE)
    outline = call(workspace, "outline", recording=TITLE)
    titles = [topic["title"] for topic in outline["topics"]]
    assert summary["decisions"] and [topic["title"] for topic in summary["topics"]] == titles
    answer = call(workspace, "ask", question="what did we decide about the sound stage?", recording=TITLE)
    assert any("North Key" in citation["quote"] for citation in answer["citations"])
    links = [each["link"] for each in (*hits, *summary["decisions"], *answer["citations"])]
    assert all(link.startswith("http://pages.example/?recording=") and "&t=" in link for link in links)


def test_speakers_are_told_with_who_they_may_be_and_it_is_confirmed(workspace: Workspace, monkeypatch):
    workspace.voices.setting = "on"
    may_be_anna(workspace, TITLE, "Speaker 2")
    listed = {row["name"]: row for row in call(workspace, "list_speakers", recording=TITLE)["speakers"]}
    assert listed["Speaker 2"]["likeness"] == {"speaker": "Speaker 2", "voice": "Anna", "sure": False}
    assert listed["Speaker 1"]["likeness"] is None and listed["Speaker 1"]["seconds"] > 10
    assert "http://pages.example/" in listed["Speaker 2"]["snippet_link"]
    failure(workspace, "confirm_speaker", recording=TITLE, speaker="Speaker 1", same=True)
    told = call(workspace, "confirm_speaker", recording=TITLE, speaker="Speaker 2", same=True)
    assert told["voice"] == "Anna" and "Anna" in workspace.recording(TITLE).speakers


def test_a_summary_by_an_instruction_says_what_could_not_be_done(workspace: Workspace):
    told = call(workspace, "summarize", recording=TITLE, instruction="only what concerns the sound stage")
    assert "MOSS_AGENT_MODEL" in told["written"]["note"] and told["decisions"]
    assert any("stage" in each["text"] for each in told["written"]["fitting"])
    assert call(workspace, "summarize", recording=TITLE)["written"] is None


def test_a_long_transcript_is_read_in_parts(workspace: Workspace, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mcp_server, "MOST_SEGMENTS", 30)
    texts, start = [], 0.0
    while True:
        read = call(workspace, "read_transcript", recording=TITLE, start=start)
        assert len(read["segments"]) <= 30
        texts += [segment["text"] for segment in read["segments"] if segment["start"] >= start]
        if read["more_from"] is None:
            break
        start = read["more_from"]
    assert texts == [segment.text for segment in heard()]


def test_what_was_added_and_deleted_elsewhere_is_seen(workspace: Workspace):
    assert call(workspace, "search", query="penguins")["hits"][0]["title"] == OTHER
    elsewhere = open_workspace(Settings(home=workspace.home))
    elsewhere.__dict__["embedder"] = embedder()
    added = store(elsewhere.library, sentences("The walrus sleeps on the ice."), "Walrus")
    index_recording(elsewhere.library, elsewhere.embedder, elsewhere.vectors, added)
    elsewhere.remove(OTHER)
    elsewhere.close()
    assert call(workspace, "search", query="an animal with tusks rests")["hits"][0]["title"] == "Walrus"
    titles = {hit["title"] for hit in call(workspace, "search", query="penguins")["hits"]}
    assert OTHER not in titles


def test_what_listens_is_asked(workspace: Workspace):
    class Ear:
        def listen(self, audio: np.ndarray, question: str, cancel: threading.Event) -> str:
            return f"A bell at 0:02, in {len(audio) / 16000:.0f} s."

    workspace.__dict__["engines"] = SimpleNamespace(listener=Ear(), close=lambda: None)
    path = workspace.library.audio_path(workspace.recording(TITLE).id)
    path.parent.mkdir()
    soundfile.write(path, np.zeros(310 * 16000, dtype=np.float32), 16000)
    assert {tool.name for tool in talk(workspace, lambda client: client.list_tools()).tools} == {
        *TOOLS,
        "listen",
    }
    found = call(workspace, "listen", recording=TITLE, start=60, end=70, question="What rings?")
    assert found["answer"] == "A bell at 1:02, in 10 s." and found["link"].endswith("&t=60")


# --- files --------------------------------------------------------------------------------------------


def test_a_file_is_added_with_progress(workspace: Workspace, tmp_path: Path):
    file = tmp_path / "talk.wav"
    file.write_bytes(wav(1.0))
    seen: list[float] = []

    def add(path: Path, title=None, speakers=None, progress=None, cancel=None, **more) -> Any:
        for done in (0.2, 0.8):
            progress(Progress(StageName.TRANSCRIBING, done, 1.0))
            cancel.wait(0.5)
        row = RecordingRow(
            id=file_id(path), title=title, source_name=path.name, duration=1.0, status="ready",
            added_at="2026-01-01T00:00:00+00:00", gaps=[],
        )  # fmt: skip
        with workspace.library.database.transaction() as session:
            session.add(row)

    async def use(client: Client) -> Any:
        async def told(progress: float, total: float | None, message: str | None) -> None:
            seen.append(progress / total)

        asked = {"path": str(file), "title": "A talk"}
        return await client.call_tool("add_recording", asked, progress_callback=told)

    result = talk(workspace, use, add=add)
    assert not result.is_error, result.content
    assert result.structured_content["job"]["state"] == "done"
    assert result.structured_content["recording"]["title"] == "A talk"
    assert seen == sorted(seen) and seen[-1] > 0.1


def test_a_file_that_takes_long_goes_on_and_is_found_again(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(mcp_server, "ADD_WAITS", 0.1)
    file = tmp_path / "talk.wav"
    file.write_bytes(wav(1.0))
    go = threading.Event()

    def add(path: Path, title=None, speakers=None, progress=None, cancel=None, **more) -> Any:
        assert go.wait(30)

    async def use(client: Client) -> Any:
        asked = {"path": str(file)}
        jobs = [(await client.call_tool("add_recording", asked)).structured_content["job"] for _ in "ab"]
        go.set()
        return jobs

    first, second = talk(workspace, use, add=add)
    assert first["id"] == second["id"] and second["state"] == "running"


def test_files_that_may_not_or_cannot_be_added_are_one_sentence(workspace: Workspace, tmp_path: Path):
    allowed, elsewhere = tmp_path / "allowed", tmp_path / "elsewhere"
    for folder in (allowed, elsewhere):
        folder.mkdir()
        (folder / "talk.wav").write_bytes(wav(1.0))
    (allowed / "link.wav").symlink_to(elsewhere / "talk.wav")
    for path in (elsewhere / "talk.wav", allowed / "link.wav", allowed / ".." / "elsewhere" / "talk.wav"):
        assert "--folder" in failure(workspace, "add_recording", [allowed], path=str(path))
        assert "--folder" in failure(workspace, "add_recording", [], path=str(path))
    assert "whole path" in failure(workspace, "add_recording", path="talk.wav")
    assert "no file" in failure(workspace, "add_recording", path=str(allowed / "nothing.wav"))
    (allowed / "round.wav").symlink_to(allowed / "round.wav")
    for path in (f"{allowed}/talk.wav\0", "~nobody-of-this-name/talk.wav", str(allowed / "round.wav")):
        for folders in (None, [allowed]):
            assert "no file" in failure(workspace, "add_recording", folders, path=path)
    text = allowed / "text.wav"
    text.write_text("not a sound")
    assert "text.wav" in failure(workspace, "add_recording", path=str(text))


def test_while_a_process_without_a_page_has_the_home_reading_goes_on(workspace: Workspace, tmp_path: Path):
    file = tmp_path / "talk.wav"
    file.write_bytes(wav(1.0))
    other = open_workspace(Settings(home=workspace.home))
    with other.writing():
        assert "Another moss-agent" in failure(workspace, "add_recording", path=str(file))
        assert call(workspace, "search", query="penguins")["hits"]
        assert call(workspace, "ask", question="what was said at minute 2?", recording=TITLE)["citations"]
        other.opened_at("http://127.0.0.1:9")  # nobody is there any more
        assert "cannot be reached" in failure(workspace, "add_recording", path=str(file))
    other.close()


def test_while_the_page_has_the_home_files_are_added_by_the_page(workspace: Workspace, tmp_path: Path):
    file = tmp_path / "talk.wav"
    file.write_bytes(wav(1.0))
    sent: list[bytes] = []
    page = open_workspace(Settings(home=workspace.home))

    def add(path: Path, title: str, *_: Any, **more: Any) -> Any:
        sent.append(path.read_bytes())
        row = RecordingRow(
            id=file_id(path), title=title, source_name=path.name, duration=1.0, status="ready",
            added_at="2026-01-01T00:00:00+00:00", gaps=[],
        )  # fmt: skip
        with page.library.database.transaction() as session:
            session.add(row)

    jobs = Jobs(add)
    service = Service(None, None)
    api = create_library_api(page, jobs, Uploads(page.home), service)
    with page.writing(), on_stage(create_api(service, library=api)) as stage:
        page.opened_at(stage.address)
        added = call(workspace, "add_recording", path=str(file), title="A talk")
        assert added["job"]["state"] == "done" and added["recording"]["title"] == "A talk"
        assert sent == [file.read_bytes()]
        text = tmp_path / "text.wav"
        text.write_bytes(b"")
        assert failure(workspace, "add_recording", path=str(text))
    service.close()
    jobs.close(10)
    page.close()


# --- what cannot be -----------------------------------------------------------------------------------


def test_an_unknown_recording_is_one_clear_error(workspace: Workspace):
    for tool, more in (
        ("read_transcript", {}),
        ("summarize", {}),
        ("outline", {}),
        ("search", {"query": "a"}),
        ("ask", {"question": "a"}),
    ):
        assert "no such recording" in failure(workspace, tool, recording="nothing", **more)


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("read_transcript", {"recording": TITLE, "start": 60, "end": 60}),
        ("read_transcript", {"recording": TITLE, "start": 9000}),
        ("read_transcript", {"recording": TITLE, "start": -1}),
        ("read_transcript", {"recording": TITLE, "start": "noon"}),
        ("read_transcript", {}),
        ("search", {"query": ""}),
        ("search", {"query": "a", "k": 1000}),
        ("ask", {"question": " "}),
        ("summarize", {"recording": TITLE, "template": "song"}),
        ("sing", {}),
    ],
)
def test_arguments_that_cannot_be_are_one_sentence(workspace: Workspace, tool: str, arguments: dict):
    try:
        assert failure(workspace, tool, **arguments)
    except MCPError as error:
        assert tool == "sing" and "sing" in str(error)


# --- resources ----------------------------------------------------------------------------------------


def test_transcripts_are_resources(workspace: Workspace):
    recording = workspace.recording(TITLE).id

    async def use(client: Client) -> Any:
        listed = (await client.list_resources()).resources
        templates = (await client.list_resource_templates()).resource_templates
        read = [
            (await client.read_resource(f"moss-agent://recordings/{recording}/transcript{part}")).contents[0]
            for part in ("", "/120-180")
        ]
        wrong = {}
        for uri in ("nothing/transcript", f"{recording}/transcript/a-b", f"{recording}/transcript/9-3", "x"):
            with pytest.raises(MCPError) as error:
                await client.read_resource(f"moss-agent://recordings/{uri}")
            wrong[uri] = str(error.value)
        return listed, templates, read, wrong

    listed, templates, (whole, part), wrong = talk(workspace, use)
    assert {resource.title for resource in listed} == {TITLE, OTHER} and len(templates) == 2
    assert whole.mime_type == "text/markdown"
    assert whole.text == workspace.export(TITLE, "md").decode()
    assert part.text == workspace.export(TITLE, "md", 120, 180).decode()
    assert all(sentence and "\n" not in sentence for sentence in wrong.values())


# --- transports ---------------------------------------------------------------------------------------


def test_nothing_but_the_protocol_is_on_standard_output(filled: Path, home: Path, tmp_path: Path):
    shutil.copytree(filled, home)
    log, wire = tmp_path / "log", tmp_path / "wire"
    # What the server writes goes through a copy, so that every byte of it can be looked at.
    command = '"$0" -m agent.cli --home "$1" mcp --json | tee "$2"'
    server = StdioServerParameters(
        command="bash",
        args=["-c", command, sys.executable, str(home), str(wire)],
        cwd=ROOT,
        env={"PYTHONPATH": ":".join(filter(None, [str(ROOT), *sys.path[1:]]))},
    )

    async def run() -> Any:
        with log.open("w") as errors:
            async with Client(stdio_client(server, errlog=errors)) as client:
                found = await client.call_tool("read_transcript", {"recording": OTHER})
                wrong = await client.call_tool("read_transcript", {"recording": "nothing"})
                return found, wrong

    found, wrong = run_apart(run)
    assert found.structured_content["segments"][0]["text"] == "Penguins eat krill."
    assert wrong.is_error
    lines = wire.read_text().splitlines()
    assert lines and all(json.loads(line)["jsonrpc"] == "2.0" for line in lines)
    assert log.read_text() == ""


def test_over_http_a_client_with_the_key_is_served_and_others_are_not(
    filled: Path, home: Path, tmp_path: Path
):
    shutil.copytree(filled, home)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ["--home", str(home), "mcp", "--http", "--port", str(port), "--json"]
    settings = {"MOSS_AGENT_SERVE_API_KEY": "secret"}
    server = Program("from agent.cli import main; main()", arguments, settings, tmp_path / "log")
    url = json.loads(server.stdout.readline() or "null")["url"]
    assert url == f"http://127.0.0.1:{port}/mcp"

    async def run() -> Any:
        headers = {"Authorization": "Bearer secret"}
        async with (
            httpx2.AsyncClient(headers=headers, trust_env=False, timeout=60) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            return await client.call_tool("list_recordings", {})

    assert len(run_apart(run).structured_content["recordings"]) == 2
    asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    with httpx2.Client(trust_env=False) as http:
        assert http.post(url, json=asked).status_code == 401
        wrong = {"Authorization": "Bearer wrong"}
        assert http.post(url, json=asked, headers=wrong).json()["error"]["code"] == "invalid_api_key"
        rebound = {"Authorization": "Bearer secret", "Host": "evil.example"}
        assert http.post(url, json=asked, headers=rebound).status_code in (403, 421)
    server.terminate()
    server.wait(30)
    assert server.poll() == 0


def test_a_refusal_names_no_option_that_the_server_lacks(workspace: Workspace):
    jobs, service = Jobs(workspace.add), Service(None, None)
    app = LibraryServer(workspace, jobs).streamable_http_app(host="127.0.0.1")
    with TestClient(AuthMiddleware(app, service, None, "127.0.0.1")) as client:
        found = client.post("/mcp", json={}, headers={"Host": "evil.example"})
    assert found.status_code == 403 and "--" not in found.json()["error"]["message"]
    service.close()
    jobs.close(10)
