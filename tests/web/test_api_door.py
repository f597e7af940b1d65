"""Who gets in, how much they may send, how many at a time, and what is told of it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2
import openai
import pytest

from agent.engines.loading import LoadingBackend
from agent.settings import Settings
from agent.workspace import open_workspace
from index.recording_errors import HomeInUse, MossAgentError
from index.transcription.moss_transcriber import MossTranscriber
from moss_audio.errors import CheckpointError
from moss_audio.served import ServedBackend
from tests.support.api_serving import hears, serving, user, wav
from tests.support.moss_backend import RuleBackend
from tests.support.preloaded import Program
from tests.support.served_server import Act, replaying, stream
from tests.support.tiny_moss import chain, letters, writing_checkpoint
from tests.support.waiting import wait_until
from web.api.api_server import serve
from web.api.limiter import Limits

CHAT = "/v1/chat/completions"
BODY = {"model": "RuleMoss-1B", "messages": [user("Hi")]}


def model(**more) -> RuleBackend:
    return RuleBackend(think=lambda *_: "Yes.", **more)


@contextmanager
def held() -> Iterator[tuple[RuleBackend, threading.Event]]:
    """A model that answers when it is let go, and is let go at the end."""
    go = threading.Event()

    def think(*_) -> str:
        assert go.wait(60)
        return "Yes."

    try:
        yield RuleBackend(think=think), go
    finally:
        go.set()


# --- keys and sites -----------------------------------------------------------------------------------


def test_a_wrong_key_gets_nowhere():
    with serving(model(), key="secret") as served:
        for key in ("wrong", "secre", "secrett", "SECRET", "ключ"):
            header = {"Authorization": f"Bearer {key}".encode()}
            for path in ("/v1/models", "/metrics", "/nothing"):
                assert served.get(path, headers=header).status_code == 401
            found = served.post(CHAT, json=BODY, headers=header)
            assert (found.status_code, found.json()["error"]["code"]) == (401, "invalid_api_key")
            assert found.headers["www-authenticate"] == "Bearer"
        assert served.service.backend.chats == []


def test_the_key_opens_and_health_is_open_to_all():
    with serving(model(), key="secret") as served:
        assert served.get("/health").json() == {"status": "ready"}
        assert served.get("/v1/models").status_code == 401
        with pytest.raises(openai.AuthenticationError):
            served.client("wrong").models.list()
        assert [listed.id for listed in served.client().models.list()] == ["RuleMoss-1B"]
        assert served.post(CHAT, json=BODY, headers={"Authorization": "bearer secret"}).status_code == 200


def test_a_key_may_have_any_letters():
    with serving(model(), key="ключ ß") as served:
        assert (
            served.get("/v1/models", headers={"Authorization": "Bearer ключ ß".encode()}).status_code == 200
        )


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Host": "evil.example"},
        {"Origin": "null"},
    ],
)
def test_no_page_of_another_site_may_use_a_server_without_a_key(headers: dict):
    with serving(model()) as served:
        for found in (
            served.post(CHAT, json=BODY, headers=headers),
            served.post("/v1/audio/transcriptions", files={"file": b"a"}, headers=headers),
            served.get("/v1/models", headers=headers),
        ):
            assert found.status_code == 403 and "access-control-allow-origin" not in found.headers
        assert served.service.backend.chats == []


def test_a_name_that_a_site_pointed_here_is_refused_on_every_address():
    with serving(model(), host="0.0.0.0", names=["GPU-box.example"]) as served:
        for name in ("evil.example", "evil.example:8000", "gpu-box.example.evil.example", ""):
            headers = {"Host": name, "Origin": f"http://{name}", "Sec-Fetch-Site": "same-origin"}
            found = served.post(CHAT, json=BODY, headers=headers)
            assert found.status_code == 403 and "--allow-host" in found.json()["error"]["message"]
        for name in ("gpu-box.example:8000", "192.0.2.7:8000", "[2001:db8::1]:8000", "localhost"):
            assert served.post(CHAT, json=BODY, headers={"Host": name}).status_code == 200
        assert len(served.service.backend.chats) == 4
    with serving(model(), host="0.0.0.0", key="secret") as served:
        headers = {"Host": "any.example", "Authorization": "Bearer secret"}
        assert served.post(CHAT, json=BODY, headers=headers).status_code == 200, "a key is enough"


def test_a_form_of_another_site_cannot_ask_in_the_guise_of_text():
    with serving(model()) as served:
        found = served.post(CHAT, content=json.dumps(BODY), headers={"Content-Type": "text/plain"})
        assert found.status_code == 415
        assert served.post("/v1/audio/transcriptions", json={}).status_code == 415


def test_there_is_no_cross_origin_sharing():
    with serving(model(), key="secret") as served:
        asked = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
        found = served.get("/health", headers=asked)
        assert not [name for name in found.headers if name.startswith("access-control")]


# --- routes -------------------------------------------------------------------------------------------


def test_nothing_but_the_routes_is_there():
    with serving(model()) as served:
        files = ["/etc/passwd", "/static/../etc/passwd", "/v1/models/../../etc/passwd", "/v1/files"]
        for path in ["/", "/docs", "/openapi.json", "/v1", *files]:
            found = served.get(path)
            assert found.status_code == 404 and found.json()["error"]["message"].endswith(".")
        assert served.get(CHAT).status_code == 405
        assert served.post("/health").status_code == 405


def test_models_are_listed_and_named():
    with serving(model()) as served:
        client = served.client()
        assert client.models.retrieve("RuleMoss-1B").object == "model"
        with pytest.raises(openai.NotFoundError, match="There is no model “a/b” here"):
            client.models.retrieve("a/b")


def test_names_that_were_listed_once_are_understood_when_the_server_behind_tells_its_model():
    with replaying(stream("vllm_transcript.sse")) as behind:
        backend = ServedBackend(behind.url, retries=0)
        transcriber = MossTranscriber(backend)
        with serving(backend, transcriber) as served:
            client = served.client()
            (before,) = [listed.id for listed in client.models.list()]
            assert before.startswith("127.0.0.1:")
            asked = {"messages": [user("Hi")], "max_tokens": 50}
            assert client.chat.completions.create(model=before, **asked).model == before
            (after,) = [listed.id for listed in client.models.list()]
            assert after == "MOSS-Audio-8B-Thinking"
            for name in (before, after):
                assert client.models.retrieve(name).id == name
                assert client.chat.completions.create(model=name, **asked).choices[0].message.content
                quiet = client.audio.transcriptions.create(model=name, file=("a.wav", wav(1.0)))
                assert quiet.text == ""
            with pytest.raises(openai.NotFoundError):
                client.chat.completions.create(model="whisper-1", **asked)


# --- how much -----------------------------------------------------------------------------------------


def test_a_body_that_is_too_large_is_refused_declared_or_not():
    limits = Limits(chat_bytes=10_000, upload_bytes=20_000)
    with serving(model(), limits=limits) as served:
        large = json.dumps(BODY | {"user": "a" * 200_000}).encode()
        kind = {"Content-Type": "application/json"}

        def pieces():
            yield large

        for content in (large, pieces()):
            found = served.post(CHAT, content=content, headers=kind)
            assert found.status_code == 413 and found.json()["error"]["code"] == "too_large"
        with pytest.raises(openai.APIStatusError) as error:
            served.client().chat.completions.create(model="RuleMoss-1B", messages=[hears(wav(10.0))])
        assert error.value.status_code == 413
        with pytest.raises(openai.APIStatusError) as error:
            served.client().audio.transcriptions.create(model="whisper-1", file=("a.wav", wav(10.0)))
        assert error.value.status_code == 413
        assert served.post(CHAT, json=BODY).status_code == 200
        assert served.service.chats.inside == served.service.transcriptions.inside == 0


def test_what_is_no_json_object_is_refused():
    bodies = [b"", b"{", b"[]", b"3", b"\xff\xfe", b"[" * 200_000]
    with serving(model()) as served:
        for body in (*bodies, b'{"model": "a", "messages": ' + b"[" * 50_000):
            found = served.post(CHAT, content=body, headers={"Content-Type": "application/json"})
            assert found.status_code == 400 and found.json()["error"]["code"] == "invalid_json"


def test_half_a_surrogate_pair_breaks_nothing():
    backend = RuleBackend(think=lambda messages, _: messages[-1]["content"])
    with serving(backend) as served:
        body = json.dumps(BODY | {"messages": [user("a\ud800b")]}).encode()
        found = served.post(CHAT, content=body, headers={"Content-Type": "application/json"})
        assert found.json()["choices"][0]["message"]["content"] == "a?b"


def test_a_body_that_does_not_arrive_gives_its_seat_back(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("web.api.auth.DRAIN_SECONDS", 0.05)
    with serving(model(), limits=Limits(idle_seconds=0.2)) as served:
        port = int(served.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as slow:
            slow.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                b"Content-Length: 100\r\n\r\n{"
            )
            assert slow.recv(100).startswith(b"HTTP/1.1 408")
        assert served.service.chats.inside == 0


def test_large_bodies_are_held_up_to_a_bound():
    with (
        held() as (backend, go),
        serving(backend, limits=Limits(held_bytes=150_000)) as served,
        ThreadPoolExecutor(1) as pool,
    ):
        large = BODY | {"user": "a" * 100_000}
        first = pool.submit(served.post, CHAT, json=large)
        wait_until(lambda: served.service.chats.inside == 1 and served.service.memory.taken > 100_000)
        assert served.post(CHAT, json=large).status_code == 429
        go.set()
        assert served.post(CHAT, json=BODY).status_code == first.result().status_code == 200
        wait_until(lambda: served.service.memory.taken == 0)


# --- how many -----------------------------------------------------------------------------------------


def test_a_full_queue_says_when_to_come_back_and_loses_nobody_who_waits():
    with (
        held() as (backend, go),
        serving(backend, limits=Limits(waiting=2)) as served,
        ThreadPoolExecutor(6) as pool,
    ):
        create = served.client().chat.completions.create
        inside = [pool.submit(create, model=backend.name, messages=[user("Hi")]) for _ in range(6)]
        wait_until(lambda: served.service.chats.inside == 6)
        with pytest.raises(openai.RateLimitError) as error:
            create(model=backend.name, messages=[user("Hi")])
        assert error.value.code == "queue_full"
        assert 1 <= int(error.value.response.headers["retry-after"]) <= 60
        shown = served.get("/metrics").text
        assert "moss_agent_chat_running 4.0" in shown and "moss_agent_chat_waiting 2.0" in shown
        assert served.get("/health").json() == {"status": "ready"}
        go.set()
        assert all(future.result().choices[0].finish_reason == "stop" for future in inside)
        assert len(backend.chats) == 6
        wait_until(lambda: served.service.chats.inside == 0)
        create(model=backend.name, messages=[user("Hi")])


def test_one_who_leaves_the_queue_is_never_answered():
    with held() as (backend, go), serving(backend) as served, ThreadPoolExecutor(4) as pool:
        create = served.client().chat.completions.create
        running = [pool.submit(create, model=backend.name, messages=[user("Hi")]) for _ in range(4)]
        wait_until(lambda: len(backend.chats) == 4)
        stream_body = BODY | {"messages": [user("Me too")], "stream": True}
        for body in (BODY, stream_body):
            with pytest.raises(Exception, match="timed out"):
                served.post(CHAT, timeout=0.2, json=body)
        wait_until(lambda: served.service.chats.inside == 4)
        go.set()
        for future in running:
            future.result()
        wait_until(lambda: served.service.chats.inside == 0)
        assert len(backend.chats) == 4


# --- health -------------------------------------------------------------------------------------------


def test_health_tells_how_far_a_model_is_and_loads_nothing():
    go = threading.Event()
    loads: list[int] = []

    def load(_) -> RuleBackend:
        loads.append(1)
        assert go.wait(60)
        if len(loads) == 1:
            raise CheckpointError("/home/me/weights is gone.")
        return model()

    backend = LoadingBackend("RuleMoss-1B", load)
    with serving(backend) as served, ThreadPoolExecutor(1) as pool:

        def health() -> tuple[int, dict]:
            found = served.get("/health")
            assert ("retry-after" in found.headers) == (found.status_code == 503)
            return found.status_code, found.json()

        assert health() == (200, {"status": "waiting"}) and not loads
        loading = pool.submit(served.post, CHAT, json=BODY)
        wait_until(lambda: bool(loads))
        assert health() == (503, {"status": "loading"})
        go.set()
        assert loading.result().status_code == 503
        assert health() == (503, {"status": "failed"})
        assert backend.loaded() and health() == (200, {"status": "ready"})
        assert len(loads) == 2


def test_health_tells_of_a_server_behind_and_looks_for_it_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("web.api.service.AGAIN_SECONDS", 0.0)
    with replaying(stream("vllm_transcript.sse")) as behind:
        there, behind.models = behind.models, Act([b'{"error": "no"}'], 401, "application/json")
        backend = ServedBackend(behind.url, retries=0)
        with serving(backend) as served:

            def health() -> tuple[int, str]:
                found = served.get("/health")
                return found.status_code, found.json()["status"]

            wait_until(lambda: health() == (503, "failed"))
            behind.models = there
            wait_until(lambda: health() == (200, "ready"))
            assert behind.chats == []


def test_metrics_count_requests_tokens_and_refusals():
    with serving(model()) as served:
        served.post(CHAT, json=BODY)
        served.post(CHAT, json=BODY | {"n": 2})
        served.get("/somewhere/else")
        text = served.get("/metrics").text
        assert 'moss_agent_requests_total{route="/v1/chat/completions",status="200"} 1.0' in text
        assert 'moss_agent_requests_total{route="/v1/chat/completions",status="400"} 1.0' in text
        assert 'moss_agent_requests_total{route="other",status="404"} 1.0' in text
        assert 'moss_agent_tokens_total{kind="prompt"} 10.0' in text
        assert "Hi" not in text and "somewhere" not in text


def test_every_response_has_an_id_and_no_guessing_of_types():
    with serving(model()) as served:
        for found in (served.get("/health"), served.post(CHAT, json={}), served.post(CHAT, json=BODY)):
            assert found.headers["x-request-id"].startswith("req_")
            assert found.headers["x-content-type-options"] == "nosniff"


# --- the command --------------------------------------------------------------------------------------


def test_other_machines_are_let_in_with_a_key_or_a_word_only(home: Path):
    workspace = open_workspace(Settings(home=home))
    for host in ("0.0.0.0", "::", "192.0.2.7"):
        with pytest.raises(MossAgentError, match=r"--api-key.*--no-auth"):
            serve(workspace, host)
    with pytest.raises(MossAgentError, match="empty"):
        serve(workspace, key=" ")


def test_a_taken_address_is_one_sentence(home: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(MossAgentError, match=r"^The server cannot listen on .* with --port\.$"):
            serve(open_workspace(Settings(home=home)), port=taken.getsockname()[1])


@pytest.mark.slow
def test_the_command_serves_the_model_of_the_settings_and_ends(home: Path, tmp_path: Path):
    folder = writing_checkpoint(tmp_path, chain(*letters("world")), "Tiny-Instruct")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"MOSS_AGENT_SERVE_API_KEY": "secret", "MOSS_AGENT_MODEL": str(folder)}
    arguments = ["--home", str(home), "serve", "--library", "--port", str(port), "--json"]
    server = Program("from agent.cli import main; main()", arguments, settings, tmp_path / "log")
    said = json.loads(server.stdout.readline() or "null")
    assert said == {
        "url": f"http://127.0.0.1:{port}/v1",
        "model": "Tiny-Instruct",
        "transcriber": "Tiny-Instruct",
    }, (tmp_path / "log").read_text()
    client = openai.OpenAI(base_url=said["url"], api_key="secret")
    assert [listed.id for listed in client.models.list()] == ["Tiny-Instruct"]
    answer = client.chat.completions.create(
        model=said["model"], messages=[user("Hi")], temperature=0, max_completion_tokens=20
    )
    assert answer.choices[0].message.content == "world"
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}/api/v1", trust_env=False) as library:
        assert library.get("/recordings").status_code == 401
        found = library.get("/recordings", headers={"Authorization": "Bearer secret"})
        assert found.json() == {"recordings": [], "total": 0}
    other = open_workspace(Settings(home=home))
    with pytest.raises(HomeInUse), other.writing():
        pass
    other.close()
    server.terminate()
    server.wait(30)
    assert server.poll() == 0
    assert (tmp_path / "log").read_text() == ""


def test_a_model_that_cannot_be_loaded_is_one_sentence(home: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(MossAgentError, match=r"^MOSS_AGENT_MODEL: .*\.$"):
        serve(open_workspace(Settings(home=home, model=str(tmp_path / "empty"))), port=0)
