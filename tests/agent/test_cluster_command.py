"""`moss-agent cluster`: what is wrong is one sentence, said at once and without Ray."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import pytest

from agent.adding import add_files
from agent.settings import Settings
from agent.watching import Watch
from agent.workspace import open_workspace
from index.cluster import ray_nodes, ray_session
from index.cluster.cluster_engines import ClusterEmbedder, ClusterTranscriber
from index.cluster.ray_session import TOKEN_FILE, connect, make_token
from index.pipeline.stage import as_finished
from index.pipeline.urgency import archiving, current_work, working_on
from index.recording_errors import ClusterAway, InvalidInput, MediaError
from index.records import Status
from tests.conftest import ROOT
from tests.support.indexed import store


@pytest.fixture
def closed() -> str:
    """An address at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


def test_a_cluster_that_does_not_answer_is_one_line_of_the_command_line(closed, home):
    done = subprocess.run(
        [sys.executable, "-m", "agent.cli", "cluster", "status"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "MOSS_AGENT_HOME": str(home), "MOSS_AGENT_RAY": closed},
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert not done.stdout
    (line,) = done.stderr.splitlines()
    assert closed in line and "moss-agent cluster start" in line


@pytest.mark.parametrize("address", ["", "here", "host:", ":6379", "host:six", "ray://host", "http://host/"])
def test_what_is_no_address_is_refused_before_anything_is_tried(address):
    with pytest.raises(ClusterAway, match="no address"):
        connect(address)
    with pytest.raises(InvalidInput):
        ray_nodes.join(address)


def test_a_name_without_an_address_cannot_be_listened_on():
    with pytest.raises(InvalidInput):
        ray_nodes.start_head("no-such-host.invalid")


def test_a_token_is_made_once_and_for_its_user_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    make_token()
    file = tmp_path / TOKEN_FILE
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(file.read_text()) == 64
    made = file.read_text()
    with ThreadPoolExecutor(4) as others:
        for begun in [others.submit(make_token) for _ in range(4)]:
            begun.result()
    assert file.read_text() == made
    assert [path.name for path in file.parent.iterdir()] == [file.name]


class LateSession:
    """Stands where ``RaySession`` does: Ray takes as long as it is told to."""

    go = threading.Event()
    made: ClassVar[list[LateSession]] = []

    def __init__(self, address: str) -> None:
        self.closed, self.present = threading.Event(), threading.Event()
        LateSession.made.append(self)
        assert LateSession.go.wait(20)

    def stay_present(self) -> None:
        """It is used."""
        self.present.set()

    def close(self) -> None:
        """See ``RaySession``."""
        self.closed.set()


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, type[LateSession]]]:
    monkeypatch.setattr(ray_session, "RaySession", LateSession)
    monkeypatch.setattr(ray_session, "CONNECT_SECONDS", 0.05)
    LateSession.go.clear()
    LateSession.made.clear()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}", LateSession
    LateSession.go.set()


def test_a_connection_that_comes_after_nobody_waits_any_more_is_closed(late):
    address, sessions = late
    with pytest.raises(ClusterAway):
        connect(address)
    sessions.go.set()
    assert sessions.made[0].closed.wait(20) and not sessions.made[0].present.is_set()
    assert connect(address) is sessions.made[1]
    assert sessions.made[1].present.wait(20) and not sessions.made[1].closed.is_set()


def test_who_asks_again_meanwhile_gets_the_connection_that_is_being_made(late, monkeypatch):
    address, sessions = late
    with pytest.raises(ClusterAway):
        connect(address)
    monkeypatch.setattr(ray_session, "CONNECT_SECONDS", 20.0)
    with ThreadPoolExecutor(1) as other:
        again = other.submit(connect, address)
        threading.Timer(0.2, sessions.go.set).start()
        assert again.result(30) is sessions.made[0]
    assert len(sessions.made) == 1
    assert sessions.made[0].present.wait(20) and not sessions.made[0].closed.is_set()


def test_a_workspace_with_a_cluster_opens_lists_and_tells_without_reaching_it(closed, home):
    workspace = open_workspace(Settings(home=home, ray=closed))
    assert workspace.recordings() == []
    assert isinstance(workspace.transcriber, ClusterTranscriber)
    assert isinstance(workspace.embedder, ClusterEmbedder)
    assert closed in workspace.engines.hears
    with pytest.raises(ClusterAway):
        workspace.transcriber.prepare()
    workspace.set_glossary("North Quay")
    assert workspace.transcriber.glossary == ("North Quay",)
    workspace.close()


class Told:
    """A cluster that notes which recordings were opened."""

    def __init__(self) -> None:
        self.recordings: list[str] = []

    def opened(self, recording: str) -> None:
        self.recordings.append(recording)

    def close(self) -> None:
        pass


def test_a_recording_that_is_opened_comes_first_while_it_is_being_heard(home):
    workspace = open_workspace(Settings(home=home, ray="auto"))
    cluster = Told()
    workspace.__dict__["cluster"] = cluster
    heard = store(workspace.library, [], "In work", Status.LISTENING)
    ready = store(workspace.library, [], "Ready", Status.READY)
    workspace.opened(ready)
    workspace.opened(heard)
    assert cluster.recordings == [heard]
    workspace.close()


def test_one_file_is_waited_for_and_many_or_those_of_a_watched_folder_are_an_archive(home, tmp_path):
    workspace = open_workspace(Settings(home=home, transcriber="tiny.en"))
    (tmp_path / "inbox").mkdir()
    files = [tmp_path / "inbox" / f"{number}.wav" for number in range(2)]
    for file in files:
        file.write_bytes(b"RIFF")
    seen: list[bool] = []

    def add(*given, **named):
        seen.append(current_work().is_archive)
        raise MediaError("No sound.")

    workspace.add = add  # type: ignore[method-assign]
    list(add_files(workspace, files[:1], lambda name: lambda progress: None))
    list(add_files(workspace, files, lambda name: lambda progress: None))
    watch = Watch(workspace, tmp_path / "inbox", lambda name: lambda progress: None, settle=0.0, look=0.01)
    list(watch.run(once=True))
    assert seen == [False, True, True, True, True]
    assert not current_work().is_archive
    workspace.close()


def test_threads_that_process_windows_know_whose_work_they_do():
    with working_on("tape"), archiving():
        results = as_finished(lambda _: current_work(), [1, 2, 3], 2, threading.Event())
        assert {(work.recording, work.is_archive) for _, work in results} == {("tape", True)}
