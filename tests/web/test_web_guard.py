"""Who may speak to the page: not other sites, not under other names, and only on the page's routes."""

from __future__ import annotations

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from web.guard import Guard

HOME = "http://127.0.0.1:7860"
ACTIONS = ("gradio_api/upload", "gradio_api/queue/join", "gradio_api/run/predict", "gradio_api/cancel")


def client(host: str = "127.0.0.1", base: str = HOME) -> TestClient:
    return TestClient(Guard(PlainTextResponse("reached"), host), base_url=base)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", ACTIONS)
@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:8000"},
        {"Origin": "http://localhost:7860"},
        {"Origin": HOME, "Sec-Fetch-Site": "cross-site"},
    ],
)
def test_another_site_cannot_act_here(path: str, headers: dict[str, str]) -> None:
    reply = client().post(f"/{path}", headers=headers)
    assert reply.status_code == 403
    assert "other sites" in reply.text


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/api/v1/ask", {"Origin": "https://evil.example"}, 403),
        ("/api/v1/ask", {"Host": "evil.example"}, 403),
        ("/api/v1", {}, 404),
    ],
)
def test_a_program_that_is_refused_gets_the_document_of_every_other_error(
    path: str, headers: dict[str, str], status: int
) -> None:
    reply = client().post(path, headers=headers)
    assert reply.status_code == status
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("headers", [{}, {"Origin": HOME}, {"Origin": HOME, "Sec-Fetch-Site": "same-origin"}])
def test_the_page_itself_and_programs_can_act(headers: dict[str, str]) -> None:
    for path in ACTIONS:
        assert client().post(f"/{path}", headers=headers).text == "reached"


def test_a_link_from_another_site_opens_the_page() -> None:
    reply = client().get("/", headers={"Sec-Fetch-Site": "cross-site"})
    assert reply.status_code == 200
    assert "frame-ancestors 'none'" in reply.headers["Content-Security-Policy"]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_no_method_but_reading_is_open_to_another_site(method: str) -> None:
    reply = client().request(method, "/gradio_api/upload", headers={"Sec-Fetch-Site": "cross-site"})
    assert reply.status_code == 403


@pytest.mark.parametrize(
    ("listening", "named", "status"),
    [
        ("127.0.0.1", "127.0.0.1:7860", 200),
        ("127.0.0.1", "localhost:7860", 200),
        ("127.0.0.1", "[::1]:7860", 200),
        ("127.0.0.2", "127.0.0.2:7860", 200),
        ("::1", "[::1]:7860", 200),
        ("127.0.0.2", "evil.example:7860", 403),
        ("::1", "evil.example", 403),
        ("localhost", "evil.example", 403),
        ("127.0.0.1", "127.0.0.1.evil.example", 403),
        ("127.0.0.1", "192.168.1.5:7860", 403),
        ("127.0.0.1", "", 403),
        ("0.0.0.0", "192.168.1.5:7860", 200),
        ("0.0.0.0", "[fd00::5]:7860", 200),
        ("0.0.0.0", "studio:7860", 200),
        ("0.0.0.0", "Studio.local:7860", 200),
        ("0.0.0.0", "evil.example:7860", 403),
        ("studio.lan", "studio.lan:7860", 200),
        ("::", "evil.example", 403),
    ],
)
def test_a_name_that_could_be_pointed_here_is_refused(
    monkeypatch: pytest.MonkeyPatch, listening: str, named: str, status: int
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "Studio")
    assert client(listening).get("/", headers={"Host": named}).status_code == status


@pytest.mark.parametrize(
    "path",
    [
        "gradio_api/file=/home/me/uploads/a/talk.mp3",
        "gradio_api/file/uploads/a/talk.mp3",
        "gradio_api/file%3D/home/me/uploads/a/talk.mp3",
        "gradio_api//file=/etc/passwd",
        "gradio_api/stream/a/1/2/playlist.m3u8",
        "gradio_api/deep_link",
        "gradio_api/process_recording",
        "gradio_api/openapi.json",
        "gradio_api/info",
        "gradio_api/proxy=https://example.org/x",
        "gradio_api/run/other",
        "gradio_api/call/v2/ask",
        "gradio_api/component_server",
        "gradio_api/run-history/records",
        "monitoring",
        "docs",
        "login",
    ],
)
def test_a_route_the_page_does_not_use_does_not_exist(path: str) -> None:
    assert client().get(f"/{path}").status_code == 404
    assert client().post(f"/{path}").status_code == 404
