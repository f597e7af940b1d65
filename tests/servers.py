"""Real servers that tests work with: started once a session, on a free port, and stopped."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def chroma_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of Chroma's server in Rust, which comes with its package; tests share what it holds."""
    program = Path(sys.executable).parent / "chroma"
    if not program.exists():
        pytest.skip("Chroma's command is not installed.")
    folder, port = tmp_path_factory.mktemp("chroma"), free_port()
    command = [program, "run", "--path", folder / "data", "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log, cwd=folder)
    try:
        _wait_for(f"http://127.0.0.1:{port}/api/v2/heartbeat", server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=20)


@pytest.fixture
def chroma(chroma_server: str) -> str:
    """The address of a Chroma server that holds nothing."""
    import chromadb

    client = chromadb.HttpClient("127.0.0.1", int(chroma_server.rpartition(":")[2]))
    for collection in client.list_collections():
        client.delete_collection(collection.name)
    return chroma_server


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        with suppress(OSError), urllib.request.urlopen(url, timeout=1):
            return
        time.sleep(0.05)
    raise AssertionError(f"{url} did not begin to answer")
