"""Webhooks: signed, tried again, never sent to a private network unasked, gone with the recording."""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import ipaddress
import json
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from agent import webhooks
from agent.cli import commands as cli
from agent.settings import Settings
from agent.webhooks import Webhooks, is_public, signed
from agent.workspace import Workspace, open_workspace
from index.recording_errors import Cancelled, MediaError, MossAgentError
from index.records import Recording
from index.store.database import WebhookDeliveryRow
from tests.support.api_serving import wav
from tests.support.indexed import sentences, store
from tests.support.waiting import wait_until

SECRET = "a secret of many characters"


class Hook:
    """What a webhook was told, and what it answers."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.told: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                hook.told.append(({k.lower(): v for k, v in self.headers.items()}, body))
                status = hook.answers.pop(0) if hook.answers else 204
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if context is not None:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hook?a=1"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.close()


def workspace_for(home: Path, url: str, **more: Any) -> Workspace:
    settings = {"webhook_secret": SECRET, "webhook_private": True, **more}
    return open_workspace(Settings(home=home, webhook_url=url, **settings))


@pytest.fixture
def workspace(home: Path, hook: Hook) -> Iterator[Workspace]:
    opened = workspace_for(home, hook.url)
    yield opened
    opened.close()


def taking(workspace: Workspace, outcome: Recording | Exception) -> None:
    """Let the pipeline end like this."""

    class Ingest:
        def add(self, *_: Any) -> Recording:
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

    workspace.__dict__["ingest"] = Ingest()


def taken(workspace: Workspace, title: str = "A talk") -> Recording:
    return workspace.library.recording(store(workspace.library, sentences("Hello."), title))


def rows(workspace: Workspace) -> list[WebhookDeliveryRow]:
    with workspace.library.database.transaction() as session:
        return list(session.query(WebhookDeliveryRow))


def make_due(workspace: Workspace) -> None:
    with workspace.library.database.transaction() as session:
        session.query(WebhookDeliveryRow).update({"next_at": 0.0})


# --- what is told -------------------------------------------------------------------------------------


def test_a_recording_that_is_ready_is_told_with_a_signature_that_holds(
    workspace: Workspace, hook: Hook, tmp_path: Path
):
    recording = taken(workspace)
    workspace.webhooks.ready(recording)
    assert workspace.webhooks.deliver() == [] and rows(workspace) == []
    ((headers, body),) = hook.told
    told = json.loads(body)
    assert told["type"] == "recording.ready" and told["data"]["id"] == recording.id
    assert told["data"]["link"].endswith(f"?recording={recording.id}")
    assert "Hello" not in body.decode(), "what was said stays here"
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = hmac.new(SECRET.encode(), content, hashlib.sha256).digest()
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"
    assert headers["host"] == f"127.0.0.1:{hook.port}"


def test_the_signature_is_that_of_the_published_scheme():
    # The example of the specification of Standard Webhooks.
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signed(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_each_end_of_taking_a_file_in_is_told_once(workspace: Workspace, hook: Hook, tmp_path: Path):
    file = tmp_path / "talk.wav"
    file.write_bytes(wav(0.2))
    taking(workspace, MediaError("This is no media file."))
    with pytest.raises(MediaError):
        workspace.add(file)
    taking(workspace, RuntimeError("secrets of a library"))
    with pytest.raises(RuntimeError):
        workspace.add(file, "Named")
    taking(workspace, Cancelled("Stopped."))
    with pytest.raises(Cancelled):
        workspace.add(file)
    recording = taken(workspace)
    taking(workspace, recording)
    workspace.add(file)  # it was ready before, so that nothing is new
    assert workspace.webhooks.deliver() == []
    told = [json.loads(body) for _, body in hook.told]
    assert [each["type"] for each in told] == ["recording.failed"] * 2
    assert [each["data"]["title"] for each in told] == ["talk", "Named"]
    assert "no media" in told[0]["data"]["error"] and "secrets" not in told[1]["data"]["error"]


def test_an_imported_transcript_is_told(workspace: Workspace, hook: Hook, tmp_path: Path):
    file = tmp_path / "talk.srt"
    file.write_text("1\n00:00:01,000 --> 00:00:03,000\nHello.\n")
    recording = workspace.add(file)
    empty = tmp_path / "empty.srt"
    empty.write_text("nothing")
    with pytest.raises(MossAgentError):
        workspace.import_transcript(empty)
    with pytest.raises(MossAgentError):
        workspace.import_transcript(file, encoding="no such encoding")
    assert workspace.webhooks.deliver() == []
    told = [json.loads(body) for _, body in hook.told]
    assert [each["type"] for each in told] == ["recording.ready", "recording.failed", "recording.failed"]
    assert told[0]["data"]["id"] == recording.id and told[1]["data"]["title"] == "empty"
    assert told[2]["data"]["id"] is None, "the recording is ready: what failed is the file"


def test_what_becomes_ready_is_told_by_the_command_line(
    home: Path, hook: Hook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    file = tmp_path / "talk.wav"
    file.write_bytes(wav(1.0))
    for name, value in (("URL", hook.url), ("SECRET", SECRET), ("PRIVATE", "true")):
        monkeypatch.setenv(f"MOSS_AGENT_WEBHOOK_{name}", value)

    def add(self: Any, path: Path, *_: Any) -> Recording:
        recording = store(self.library, sentences("Hello."), "A talk")
        return self.library.recording(recording)

    monkeypatch.setattr("index.pipeline.ingest.Ingest.add", add)
    monkeypatch.setattr(sys, "argv", ["moss-agent", "--home", str(home), "add", str(file), "--json"])
    hook.answers = [500]
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capsys.readouterr()
    assert ended.value.code == 0 and json.loads(out)[0]["title"] == "A talk"
    assert "500" in err and err.count("\n") == 1, "the recording is there, and what is not is said"
    assert len(hook.told) == 1


# --- trying again -------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [500, 404, 302, 307])
def test_what_is_not_taken_waits_and_is_sent_again_under_its_id(
    workspace: Workspace, hook: Hook, status: int
):
    workspace.webhooks.ready(taken(workspace))
    hook.answers = [status]
    (problem,) = workspace.webhooks.deliver()
    assert str(status) in problem and len(hook.told) == 1, "a redirect is not followed"
    assert workspace.webhooks.deliver() == [] and len(hook.told) == 1, "not before its time"
    assert workspace.webhooks.waiting() == (1, problem.partition(" It is")[0])
    make_due(workspace)
    assert workspace.webhooks.deliver() == [] and rows(workspace) == []
    assert hook.told[0][0]["webhook-id"] == hook.told[1][0]["webhook-id"]
    assert hook.told[0][1] == hook.told[1][1]


def test_waiting_grows_and_ends(workspace: Workspace, hook: Hook, monkeypatch: pytest.MonkeyPatch):
    now = [1e9]
    monkeypatch.setattr(webhooks.time, "time", lambda: now[0])
    hook.answers = [503] * 20
    workspace.webhooks.failed(None, "A talk", "No.")
    waits = []
    while rows(workspace):
        workspace.webhooks.deliver()
        for row in rows(workspace):
            waits.append(row.next_at - now[0])
            now[0] = row.next_at
    assert waits == list(webhooks.BACK_OFF) and waits == sorted(waits)
    assert len(hook.told) == len(waits) + 1


def test_what_becomes_due_again_meanwhile_is_not_tried_twice_in_one_go(
    workspace: Workspace, hook: Hook, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(webhooks, "BACK_OFF", (0.0,) * 7)
    hook.answers = [503] * 20
    for number in range(2):
        workspace.webhooks.failed(None, f"Talk {number}", "No.")
    assert len(workspace.webhooks.deliver()) == 1, "the same sentence, once"
    assert len(hook.told) == len({headers["webhook-id"] for headers, _ in hook.told}) == 2


def test_where_nobody_answers_the_other_messages_are_not_tried_either(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(webhooks, "PATIENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        workspace = workspace_for(home, f"http://127.0.0.1:{silent.getsockname()[1]}/")
        for number in range(3):
            workspace.webhooks.failed(None, f"Talk {number}", "No.")
        (problem,) = workspace.webhooks.deliver()
        assert "did not answer" in problem
        assert sorted(row.attempts for row in rows(workspace)) == [0, 0, 1]
        workspace.close()


def test_an_answer_that_comes_letter_by_letter_is_not_waited_for(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(webhooks, "PATIENCE", 1.0)
    over = threading.Event()

    def drip(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-A: ")
            while not over.wait(0.2):
                connection.sendall(b"a")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,), daemon=True)
        thread.start()
        workspace = workspace_for(home, f"http://127.0.0.1:{server.getsockname()[1]}/")
        workspace.webhooks.failed(None, "A talk", "No.")
        delivering = threading.Thread(target=workspace.webhooks.deliver, daemon=True)
        delivering.start()
        delivering.join(20)
        assert not delivering.is_alive()
        over.set()
        thread.join(10)
        assert len(rows(workspace)) == 1
        workspace.close()


def test_an_address_that_lets_nobody_connect_is_passed_over_for_the_next(
    home: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(webhooks, "CONNECT", 0.5)
    with socket.socket() as full, ExitStack() as held:
        full.bind(("127.0.0.2", hook.port))
        full.listen(0)
        for _ in range(3):
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.2", hook.port))
        lies = [(2, 1, 6, "", (address, hook.port)) for address in ("127.0.0.2", "127.0.0.1")]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: lies)
        workspace = workspace_for(home, f"http://hooks.example:{hook.port}/")
        workspace.webhooks.failed(None, "A talk", "No.")
        assert workspace.webhooks.deliver() == [] and len(hook.told) == 1
        workspace.close()


def test_a_name_with_letters_beyond_ascii_is_sent_as_it_is_looked_up(
    home: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(2, 1, 6, "", ("127.0.0.1", hook.port))])
    workspace = workspace_for(home, f"http://bücher.example:{hook.port}/")
    workspace.webhooks.failed(None, "A talk", "No.")
    assert workspace.webhooks.deliver() == []
    assert hook.told[0][0]["host"] == f"xn--bcher-kva.example:{hook.port}"
    workspace.close()


def test_a_thread_sends_what_an_earlier_run_left(home: Path, hook: Hook):
    first = workspace_for(home, hook.url)
    first.webhooks.ready(taken(first))
    first.close()
    second = workspace_for(home, hook.url)
    second.webhooks.start()
    wait_until(lambda: hook.told)
    second.webhooks.failed(None, "Another", "No.")
    wait_until(lambda: len(hook.told) == 2)
    second.close()


def test_two_processes_send_a_message_once(home: Path, hook: Hook):
    first, second = (workspace_for(home, hook.url) for _ in range(2))
    for number in range(6):
        first.webhooks.failed(None, f"Talk {number}", "No.")
    threads = [threading.Thread(target=each.webhooks.deliver) for each in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(hook.told) == len({headers["webhook-id"] for headers, _ in hook.told}) == 6
    for each in (first, second):
        each.close()


def test_nothing_of_a_removed_recording_is_told(workspace: Workspace, hook: Hook):
    recording = taken(workspace)
    hook.answers = [500]
    workspace.webhooks.ready(recording)
    workspace.webhooks.deliver()
    workspace.library.delete(recording.id)
    make_due(workspace)
    assert rows(workspace) == [] and workspace.webhooks.deliver() == [] and len(hook.told) == 1


def test_without_an_address_nothing_is_kept(home: Path):
    workspace = open_workspace(Settings(home=home))
    workspace.webhooks.ready(taken(workspace))
    workspace.webhooks.start()
    assert rows(workspace) == [] and workspace.webhooks.deliver() == []
    workspace.close()


# --- where it may lead --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "10.0.0.7", "192.168.1.5", "169.254.169.254", "[fd00::5]", "0.0.0.0",
     "[::ffff:10.0.0.7]", "100.64.0.1", "224.0.0.1"],
)  # fmt: skip
def test_an_address_on_a_private_network_is_refused_before_anything_is_done(home: Path, host: str):
    workspace = workspace_for(home, f"http://{host}/hook", webhook_private=False)
    with pytest.raises(MossAgentError, match="MOSS_AGENT_WEBHOOK_PRIVATE"):
        workspace.add(home / "talk.wav")
    workspace.close()


@pytest.mark.parametrize("lies", [["10.0.0.7"], ["93.184.216.34", "127.0.0.1"], ["::ffff:127.0.0.1"]])
def test_a_name_that_leads_to_a_private_network_is_not_asked(
    home: Path, hook: Hook, lies: list[str], monkeypatch: pytest.MonkeyPatch
):
    workspace = workspace_for(home, f"http://hooks.example:{hook.port}/", webhook_private=False)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(2, 1, 6, "", (lie, 0)) for lie in lies])
    workspace.webhooks.ready(taken(workspace))
    (problem,) = workspace.webhooks.deliver()
    assert "private network" in problem and not hook.told and len(rows(workspace)) == 1
    workspace.close()


def test_a_name_that_leads_elsewhere_a_moment_later_is_connected_where_it_was_checked(
    home: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch
):
    workspace = workspace_for(home, f"http://hooks.example:{hook.port}/x", webhook_private=False)
    answers = iter(["93.184.216.34"])
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *_, **__: [(2, 1, 6, "", (next(answers, "127.0.0.1"), 0))]
    )
    asked: list[tuple[str, str]] = []

    async def post(self: Any, url: str, body: bytes, headers: dict[str, str], host: str) -> int:
        asked.append((url, headers["Host"]))
        return 204

    monkeypatch.setattr(Webhooks, "_post", post)
    workspace.webhooks.ready(taken(workspace))
    assert workspace.webhooks.deliver() == []
    assert asked == [(f"http://93.184.216.34:{hook.port}/x", f"hooks.example:{hook.port}")]
    workspace.close()


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("64:ff9b::5db8:d822", True),
        ("64:ff9b::a00:7", False),
        ("2002:a00:7::", False),
        ("::", False),
        ("fe80::1", False),
        ("ff02::1", False),
        ("198.18.0.1", False),
    ],
)
def test_addresses_that_wrap_others_are_looked_into(address: str, public: bool):
    assert is_public(ipaddress.ip_address(address)) is public


@pytest.mark.parametrize(
    ("url", "secret"),
    [
        ("ftp://hooks.example/", SECRET),
        ("hooks.example", SECRET),
        ("https://me:pass@hooks.example/", SECRET),
        ("https://hooks.example:99999/", SECRET),
        ("https:///path", SECRET),
        ("https://hooks.example/", None),
        ("https://hooks.example/", "short"),
        ("https://hooks.example/", "whsec_not base64 at all!!"),
    ],
)
def test_settings_that_cannot_be_are_one_sentence(home: Path, url: str, secret: str | None):
    workspace = workspace_for(home, url, webhook_secret=secret)
    with pytest.raises(MossAgentError, match=r"^MOSS_AGENT_WEBHOOK_\w+ must .*\.$"):
        _ = workspace.webhooks
    workspace.close()


def certificate(folder: Path, name: str) -> Path:
    """A key and a certificate for a name, signed by itself, in one file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    own = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    today = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(own)
        .issuer_name(own)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    file = folder / f"{name}.pem"
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    file.write_bytes(
        made.public_bytes(serialization.Encoding.PEM) + key.private_bytes(serialization.Encoding.PEM, *form)
    )
    return file


@pytest.mark.parametrize(("name", "arrives"), [("hooks.example", True), ("other.example", False)])
def test_a_certificate_must_be_that_of_the_name(
    home: Path, tmp_path: Path, name: str, arrives: bool, monkeypatch: pytest.MonkeyPatch
):
    file = certificate(tmp_path, name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    hook = Hook(context)
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, port, *_, **__: [(2, 1, 6, "", ("127.0.0.1", port))]
    )
    workspace = workspace_for(home, f"https://hooks.example:{hook.port}/")
    workspace.webhooks.ready(taken(workspace))
    assert bool(workspace.webhooks.deliver()) is not arrives
    assert len(hook.told) == arrives
    workspace.close()
    hook.close()


def test_a_library_of_the_version_before_keeps_what_is_in_it(home: Path, hook: Hook):
    migration = import_module("index.store.migrations.versions.m0013_webhooks")
    before = workspace_for(home, hook.url)
    recording = taken(before)
    with before.library.database.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE webhook_deliveries")
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{migration.down_revision}'")
    before.close()
    after = workspace_for(home, hook.url)
    after.webhooks.ready(after.library.recording(recording.id))
    assert after.webhooks.deliver() == [] and len(hook.told) == 1
    after.close()
