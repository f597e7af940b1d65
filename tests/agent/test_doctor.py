"""The doctor: each part of the settings is checked, and what is wrong is said with what to do."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from agent.cli import commands, doctor
from agent.cli.doctor import Check, examine, examine_parts
from agent.settings import Settings
from agent.workspace import open_workspace
from index.recording_errors import MossAgentError
from tests.servers import free_port
from tests.support.served_server import replaying

SECRET = "0123456789abcdef"


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what loads models, which tests of the engines look at."""
    for name in ("_voices", "_recogniser", "_search", "_thinks"):
        monkeypatch.setattr(doctor, name, lambda *_: "not looked at")
    monkeypatch.setattr("agent.engines.engine_choice.CONTACT_SECONDS", 5.0)
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)


@pytest.fixture
def checks_of(home: Path) -> Callable[..., dict[str, Check]]:
    def look(**given) -> dict[str, Check]:
        workspace = open_workspace(Settings(home=home, **given))
        try:
            return {check.name: check for check in examine(workspace)}
        finally:
            workspace.close()

    return look


Answer = Callable[[str], tuple[int, dict[str, str], bytes]]


@pytest.fixture
def serving() -> Iterator[Callable[[Answer], str]]:
    """Makes a server that answers GET as it is told; returns its address."""
    started: list[ThreadingHTTPServer] = []

    def serve(answer: Answer) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, headers, body = answer(self.path)
                self.send_response_only(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        started.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=started[-1].serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{started[-1].server_address[1]}"

    yield serve
    for server in started:
        server.shutdown()
        server.server_close()


def python_chroma(path: str) -> tuple[int, dict[str, str], bytes]:
    """As Chroma's server in Python answers (chromadb/server/fastapi of 1.5.9)."""
    documents = {
        "/api/v2/version": "1.5.9",
        "/openapi.json": {"openapi": "3.1.0", "info": {"title": "Chroma", "version": "1.5.9"}},
    }
    headers = {"Server": "uvicorn", "Content-Type": "application/json"}
    if path not in documents:
        return 404, headers, b'{"detail":"Not Found"}'
    return 200, headers, json.dumps(documents[path]).encode()


def without_description(headers: dict[str, str]) -> Answer:
    """The same server behind a proxy that passes on what its clients need, under other headers."""
    return lambda path: (200, headers, b'"1.5.9"') if path.endswith("version") else (404, headers, b"")


def test_a_laptop_without_settings_is_well(checks_of):
    checks = checks_of()
    for name in ("home", "library", "database", "vectors", "audio", "media decoding", "model"):
        assert checks[name].ok, checks[name]
    assert "SQLite" in checks["database"].detail and "ray" not in checks and "webhook" not in checks


def test_the_rust_server_is_told_from_the_one_in_python(checks_of, chroma, serving):
    assert checks_of(vectors=chroma)["vectors"].ok
    assert "Rust" in checks_of(vectors=chroma)["vectors"].detail
    for answer in (python_chroma, without_description({"Server": "uvicorn"})):
        check = checks_of(vectors=serving(answer))["vectors"]
        assert not check.ok and check.required
        assert "CVE-2026-45829" in check.detail and "chroma run" in check.detail
    hidden = checks_of(vectors=serving(without_description({"Server": "proxy"})))["vectors"]
    assert hidden.ok and "not known" in hidden.detail


def test_a_chroma_server_that_is_away_is_said(checks_of):
    check = checks_of(vectors=f"http://127.0.0.1:{free_port()}")["vectors"]
    assert not check.ok and "MOSS_AGENT_VECTORS" in check.detail


def test_servers_with_public_addresses_are_warned_about(checks_of, chroma, monkeypatch):
    monkeypatch.setattr(doctor, "is_public", lambda address: True)
    check = checks_of(vectors=chroma)["vectors"]
    assert not check.ok and "public" in check.detail
    with replaying() as server:
        checks = checks_of(model=server.url)
        (name,) = [name for name in checks if name.startswith("model ")]
        assert not checks[name].ok and "https" in checks[name].detail


def test_audio_that_cannot_be_kept_is_said(checks_of, tmp_path):
    assert checks_of(audio=f"file://{tmp_path}/kept")["audio"].ok
    check = checks_of(audio="s3://bucket/folder")["audio"]
    assert not check.ok and "s3fs" in check.detail
    (tmp_path / "file").write_text("not a folder")
    check = checks_of(audio=f"file://{tmp_path}/file")["audio"]
    assert not check.ok and "MOSS_AGENT_AUDIO" in check.detail


def test_every_model_address_is_asked(checks_of):
    away = f"http://127.0.0.1:{free_port()}/v1"
    with replaying() as one, replaying() as two:
        checks = checks_of(model=f"{one.url} {away} {two.url}")
        hosts = [url.split("/")[2] for url in (one.url, away, two.url)]
        assert [checks[f"model {host}"].ok for host in hosts] == [True, False, True]
        assert hosts[1] in checks[f"model {hosts[1]}"].detail
        assert checks["model"].ok


def test_a_webhook_is_connected_to_and_told_nothing(checks_of):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/told"
        given = {"webhook_url": url, "webhook_secret": SECRET, "webhook_private": True}
        assert checks_of(**given)["webhook"].ok
        connection, _ = listener.accept()
        assert connection.recv(1) == b""
        connection.close()
    check = checks_of(**given)["webhook"]
    assert not check.ok and check.required and "MOSS_AGENT_WEBHOOK_URL" in check.detail


def test_a_full_disk_is_said(checks_of, monkeypatch):
    monkeypatch.setattr(doctor, "LEAST_FREE_BYTES", 10**18)
    check = checks_of()["home"]
    assert not check.ok and "free some space" in check.detail


def test_where_the_library_cannot_be_opened_the_other_parts_are_checked(home, chroma, tmp_path):
    away = f"http://127.0.0.1:{free_port()}/v1"
    with replaying() as model:
        settings = Settings(
            home=home, vectors=chroma, audio=f"file://{tmp_path}/kept", model=f"{model.url} {away}"
        )
        found = examine_parts(settings, MossAgentError("The database is away; start it."))
        checks = {check.name: check for check in found}
        assert checks[f"model {model.url.split('/')[2]}"].ok and not checks[f"model {away.split('/')[2]}"].ok
    assert not checks["library"].ok and checks["library"].detail == "The database is away; start it."
    assert checks["vectors"].ok and checks["audio"].ok and checks["media decoding"].ok


def test_the_command_ends_with_1_where_something_is_wrong(home, monkeypatch, capsys):
    monkeypatch.setenv("MOSS_AGENT_AUDIO", "nowhere/at/all")
    monkeypatch.setattr("sys.argv", ["moss-agent", "--home", str(home), "doctor", "--json"])
    with pytest.raises(SystemExit) as ended:
        commands.main()
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)}
    assert ended.value.code == 1
    assert not checks["library"]["ok"] and "MOSS_AGENT_AUDIO" in checks["audio"]["detail"]
    assert checks["media decoding"]["ok"]


def test_a_ray_address_is_looked_at(home):
    def ray_of(address: str) -> Check:
        (check,) = doctor._cluster(Settings(home=home, ray=address))
        return check

    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert ray_of(f"127.0.0.1:{listener.getsockname()[1]}").ok
    away = ray_of(f"ray://127.0.0.1:{free_port()}")
    assert not away.ok and "MOSS_AGENT_RAY" in away.detail
    assert not ray_of("nowhere").ok
    assert ray_of("local").ok and doctor._cluster(Settings(home=home)) == []
