"""The servers that benchmarks are run over, on this machine: PostgreSQL and Chroma's server in Rust."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def servers() -> Iterator[tuple[str, str]]:
    """Start both over folders that are deleted again, with the settings that they come with.

    Yields:
        What is set as ``MOSS_AGENT_DATABASE`` and ``MOSS_AGENT_VECTORS``.

    Raises:
        RuntimeError: Debian's ``postgresql`` is not installed.
    """
    with tempfile.TemporaryDirectory(prefix="moss-agent-servers-") as folder:
        Path(folder).chmod(0o755)
        with postgresql(Path(folder) / "postgresql") as database, chroma(Path(folder) / "chroma") as vectors:
            yield database, vectors


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """A PostgreSQL with one empty database; its SQLAlchemy URL."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        raise RuntimeError("PostgreSQL is not installed (Debian's package postgresql).")
    # It refuses to run as root.
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = ("postgres" if "postgres" in names else "nobody") if os.geteuid() == 0 else None
    folder.mkdir()
    if user is not None:
        shutil.chown(folder, user)
    port, data = free_port(), folder / "data"
    make = ["initdb", "-D", data, "-U", "library", "-A", "trust", "-E", "UTF8", "--locale=C"]
    subprocess.run(
        [programs[-1] / make[0], *make[1:]], user=user, cwd=folder, check=True, capture_output=True
    )
    serve = ["-D", data, "-p", str(port), "-k", folder, "-c", "max_connections=200"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [programs[-1] / "postgres", *serve], user=user, cwd=folder, stdout=log, stderr=log
        )
    try:
        ready = [programs[-1] / "pg_isready", "-h", "127.0.0.1", "-p", str(port), "-q"]
        while subprocess.run(ready, check=False).returncode != 0:
            time.sleep(0.1)
        yield f"postgresql+psycopg://library@127.0.0.1:{port}/postgres"
    finally:
        server.terminate()
        server.wait(60)


@contextmanager
def chroma(folder: Path) -> Iterator[str]:
    """An empty Chroma server; its address."""
    folder.mkdir()
    port = free_port()
    command = [Path(sys.executable).parent / "chroma", "run", "--path", folder / "data", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([*command, "--host", "127.0.0.1"], cwd=folder, stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}"
        while True:
            with suppress(OSError), urllib.request.urlopen(f"{address}/api/v2/heartbeat", timeout=1):
                break
            time.sleep(0.1)
        yield address
    finally:
        server.terminate()
        server.wait(60)
