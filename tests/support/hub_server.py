"""A small server that answers as the Hugging Face hub does, on this machine, over real HTTP."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Serves folders as models, by name.

    Attributes:
        ranges: The ``Range`` of every request for a large file, in order.
        break_after: Bytes after which a connection for a large file breaks off, once; None never.
        closed_after_break: Whether nothing is answered from then on.
        knows_ranges: Whether a part of a file can be asked for.
        claimed_size: What is said to be the size of every large file, if not the truth.
        stall_after: Bytes after which a large file comes no more, until the connection is given up.
    """

    def __init__(self, models: dict[str, Path]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.models = models
        self.requests: list[str] = []
        self.ranges: list[str | None] = []
        self.break_after: int | None = None
        self.stall_after: int | None = None
        self.closed_after_break = False
        self.knows_ranges = True
        self.claimed_size: int | None = None
        self.closed = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: object) -> None:
        """Connections that are given up are what is tested here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        if self.server.closed:
            self.close_connection = True
            return self.connection.close()
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append(f"{self.command} {path}")
        for name, folder in self.server.models.items():
            if path.startswith(f"/api/models/{name}"):
                rest = path.removeprefix(f"/api/models/{name}")
                if rest.startswith("/revision/") and rest not in ("/revision/main", f"/revision/{COMMIT}"):
                    return self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
                size = self.server.claimed_size
                return self._json(_tree(folder) if rest.startswith("/tree/") else _info(name, folder, size))
            if path.startswith(f"/{name}/resolve/"):
                return self._file(folder / path.split("/resolve/")[1].partition("/")[2])
        self._send(404, b'{"error":"Repository not found"}', {"X-Error-Code": "RepoNotFound"})

    def _json(self, content: object) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def _file(self, file: Path) -> None:
        if not file.is_file():
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
        data = file.read_bytes()
        large = file.suffix == ".safetensors"
        asked = self.headers.get("Range") if self.server.knows_ranges else None
        if large and self.command == "GET":
            self.server.ranges.append(asked)
        first = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("ETag", f'"{_etag(file)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        if large:
            self.send_header("X-Linked-Etag", f'"{_etag(file)}"')
            self.send_header("X-Linked-Size", str(len(data)))
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - first))
        self.end_headers()
        if self.command == "GET":
            self._body(data[first:], large)

    def _body(self, data: bytes, large: bool) -> None:
        if large and self.server.break_after is not None:
            cut, self.server.break_after = self.server.break_after, None
            self.wfile.write(data[:cut])
            self.wfile.flush()
            self.server.closed = self.server.closed_after_break
            self.connection.close()
            self.close_connection = True
        elif large and self.server.stall_after is not None:
            self.wfile.write(data[: self.server.stall_after])
            self.wfile.flush()
            time.sleep(30)
        else:
            self.wfile.write(data)


def _etag(file: Path) -> str:
    data = file.read_bytes()
    if file.suffix == ".safetensors":
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


def _entry(file: Path, claimed: int | None) -> dict:
    entry: dict = {"size": file.stat().st_size, "blobId": _etag(file)}
    if file.suffix == ".safetensors":
        size = claimed or file.stat().st_size
        entry["lfs"] = {"sha256": _etag(file), "size": size, "pointerSize": 134}
    return entry


def _info(name: str, folder: Path, claimed: int | None) -> dict:
    siblings = [{"rfilename": file.name, **_entry(file, claimed)} for file in sorted(folder.iterdir())]
    return {"id": name, "modelId": name, "sha": COMMIT, "private": False, "tags": [], "siblings": siblings}


def _tree(folder: Path) -> list[dict]:
    entries = []
    for file in sorted(folder.iterdir()):
        entry = {"type": "file", "path": file.name, "oid": _etag(file), "size": file.stat().st_size}
        if file.suffix == ".safetensors":
            entry["lfs"] = {"oid": _etag(file), "size": file.stat().st_size, "pointerSize": 134}
        entries.append(entry)
    return entries


@contextmanager
def serving(models: dict[str, Path]) -> Iterator[Hub]:
    """A hub with these models, until the block ends."""
    hub = Hub(models)
    thread = Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
