"""Servers that tests need, started by the first test that does and stopped when the run ends."""

from __future__ import annotations

import atexit
import ctypes
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest

from index.store.database import Database

OPTIONS = {
    # Nothing has to survive the run.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "shared_buffers": "64MB",
    "max_connections": "200",
    "listen_addresses": "127.0.0.1",
}

PLENTY = 8 << 30
"""Bytes that the databases of a whole run, some 8 MB each, leave room in."""


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Postgres:
    """A PostgreSQL server over a folder of its own; tests get databases that are migrated already."""

    def __init__(self) -> None:
        self._bin = _postgresql_programs()
        self._user = _other_user()
        self.folder = Path(tempfile.mkdtemp(prefix="moss-agent-postgres-", dir=_memory()))
        atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        if self._user is not None:
            shutil.chown(self.folder, self._user)
        self.port = free_port()
        self._run("initdb", "-D", "data", "-U", "library", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.stop)
        self.start()
        self._template = ""

    def url(self, database: str) -> str:
        """What is set as ``MOSS_AGENT_DATABASE``."""
        return f"postgresql+psycopg://library@127.0.0.1:{self.port}/{database}"

    def new_database(self, template: str = "") -> str:
        """The URL of a new database with the newest schema, or of a copy of another one."""
        if not self._template:
            self._template = self._create()
            Database(self.url(self._template)).close()
        return self.url(self._create(template or self._template))

    def empty_database(self) -> str:
        """The URL of a new database without tables."""
        return self.url(self._create())

    def execute(self, statement: str, database: str = "postgres") -> None:
        """Run a statement as its administrator."""
        import psycopg

        address = self.url(database).replace("+psycopg", "")
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[call-overload]

    def start(self) -> None:
        """Start it and wait until it answers."""
        import psycopg

        options = [part for name, value in OPTIONS.items() for part in ("-c", f"{name}={value}")]
        self._process = subprocess.Popen(
            [self._bin / "postgres", "-D", "data", "-p", str(self.port), "-k", self.folder, *options],
            cwd=self.folder,
            user=self._user,
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / "log").open("ab"),
            preexec_fn=_end_with_parent,
        )
        for _ in range(3000):
            with suppress(psycopg.OperationalError):
                return self.execute("SELECT 1")
            time.sleep(0.02)
        raise AssertionError((self.folder / "log").read_text())

    def stop(self) -> None:
        """Stop it at once, whoever is connected."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(30)
            self._process = None

    def _create(self, template: str = "template0") -> str:
        name = f"library_{uuid.uuid4().hex[:12]}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._bin / program, *arguments],
            cwd=self.folder,
            user=self._user,
            check=True,
            capture_output=True,
        )


def _memory() -> str | None:
    """A folder in memory where there is plenty: a database is hundreds of files, which disks make slowly."""
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() and shutil.disk_usage(memory).free > PLENTY else None


@cache
def postgres() -> Postgres:
    """The run's server; a test that asks for it is skipped where PostgreSQL is not installed."""
    return Postgres()


KIND = ["sqlite"]
"""In which kind of database ``location`` puts libraries now; the fixture ``database_kind`` sets it."""


def location(home: Path) -> Path | str:
    """Where a test's library is: always the same for one home folder."""
    if KIND[0] == "sqlite":
        return home / "library.sqlite"
    if home not in _databases:
        _databases[home] = postgres().new_database()
    return _databases[home]


def copy_home(home: Path, copy: Path) -> Path:
    """Copy a home folder whose library is closed, and the library where it is elsewhere; returns the copy."""
    if home in _databases:
        _databases[copy] = postgres().new_database(_databases[home].rpartition("/")[2])
    return shutil.copytree(home, copy)


_databases: dict[Path, str] = {}


def _postgresql_programs() -> Path:
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    newest = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not newest:
        pytest.skip("PostgreSQL is not installed (Debian's package postgresql)")
    return newest[-1].parent


def _other_user() -> str | None:
    """Who runs the server: it refuses to run as root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _end_with_parent() -> None:
    """End the server also where the run is killed (prctl(2), PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGQUIT)


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
