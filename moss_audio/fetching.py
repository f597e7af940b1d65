"""One large file of the hub into its cache, going on where an earlier attempt stopped.

huggingface_hub 2 keeps whole files of an interrupted download, but begins each unfinished one anew; the
shards of a checkpoint are gigabytes. Here an unfinished file stays beside the cache's blobs and is asked
for from its end on; it becomes a blob only when its SHA-256 is the published one.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import httpx2
from huggingface_hub import constants, hf_hub_url
from huggingface_hub.utils import WeakFileLock, build_hf_headers, get_session, hf_raise_for_status

from moss_audio.errors import CheckpointError

RETRIES = 5
"""Attempts without a single new byte before a download counts as stopped."""

RETRY_SECONDS = 1.0


@dataclass(frozen=True)
class RemoteFile:
    """A large file of a repository at one commit."""

    repository: str
    commit: str
    name: str
    size: int
    sha256: str


def fetch(file: RemoteFile, blobs: Path, token: str | bool | None, count: Callable[[int], None]) -> None:
    """Bring a file into the cache's folder of blobs, where it is named after its SHA-256.

    Args:
        file: What to bring.
        blobs: The folder; made if it is missing.
        token: The hub's access token.
        count: Told how many bytes came, those of earlier attempts first; negative when some are given up.

    Raises:
        CheckpointError: What came is not what was published.
        httpx2.HTTPError, OSError: The connection or the disk failed; what came is kept.
    """
    target = blobs / file.sha256
    blobs.mkdir(parents=True, exist_ok=True)
    # The lock huggingface_hub takes for the same blob, so that neither loads what the other is loading.
    locks = blobs.parents[1] / ".locks" / blobs.parent.name
    locks.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(locks / f"{file.sha256}.lock"):
        if target.exists():
            count(file.size)
            return
        partial = partial_path(blobs, file.sha256)
        _fill(partial, file, token, count)
        if (found := _sha256(partial)) != file.sha256:
            partial.unlink()
            count(-file.size)
            raise CheckpointError(
                f"{file.name} of {file.repository} came damaged (SHA-256 {found[:12]}…, published "
                f"{file.sha256[:12]}…) and was deleted; run it again to load it anew."
            )
        os.replace(partial, target)


def partial_path(blobs: Path, sha256: str) -> Path:
    """Where the unfinished file lies."""
    return blobs / f"{sha256}.part"


def _fill(partial: Path, file: RemoteFile, token: str | bool | None, count: Callable[[int], None]) -> None:
    failures = 0
    with partial.open("ab") as out:
        if out.tell() > file.size:
            out.truncate(0)
        count(out.tell())
        while out.tell() < file.size:
            before = out.tell()
            try:
                _receive(out, file, token, count)
            except httpx2.TransportError:
                failures = 0 if out.tell() > before else failures + 1
                if failures >= RETRIES:
                    raise
                time.sleep(RETRY_SECONDS)


def _receive(out: BinaryIO, file: RemoteFile, token: str | bool | None, count: Callable[[int], None]) -> None:
    """Ask for the file from where ``out`` ends, and append what comes."""
    headers = build_hf_headers(token=token) | {"Range": f"bytes={out.tell()}-", "Accept-Encoding": "identity"}
    url = hf_hub_url(file.repository, file.name, revision=file.commit)
    with get_session().stream(
        "GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT, follow_redirects=True
    ) as response:
        hf_raise_for_status(response)
        if response.status_code != 206 and out.tell() > 0:  # the server begins from the start
            count(-out.tell())
            out.truncate(0)
        for chunk in response.iter_bytes():
            if out.tell() + len(chunk) > file.size:
                raise OSError(f"{file.name} is longer than the {file.size:,} bytes that were announced")
            out.write(chunk)
            count(len(chunk))
        out.flush()


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
