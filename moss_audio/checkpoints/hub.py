"""A checkpoint by name: in a folder, in the hub's cache, or downloaded from the Hugging Face hub.

What is on this machine is never asked for again. A download that was interrupted goes on where it stopped.

One large file of the hub into its cache, going on where an earlier attempt stopped.

huggingface_hub 2 keeps whole files of an interrupted download, but begins each unfinished one anew; the
shards of a checkpoint are gigabytes. Here an unfinished file stays beside the cache's blobs and is asked
for from its end on; it becomes a blob only when its SHA-256 is the published one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import httpx2
from huggingface_hub import HfApi, constants, hf_hub_url, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import (
    WeakFileLock,
    build_hf_headers,
    filter_repo_objects,
    get_session,
    hf_raise_for_status,
)
from tqdm import tqdm

from moss_audio.checkpoints.files import weight_files
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


RELEASED_BYTES = {
    "OpenMOSS-Team/MOSS-Audio-4B-Instruct": 10_451_725_200,
    "OpenMOSS-Team/MOSS-Audio-4B-Thinking": 10_451_725_200,
    "OpenMOSS-Team/MOSS-Audio-8B-Instruct": 18_111_010_792,
    "OpenMOSS-Team/MOSS-Audio-8B-Thinking": 18_111_010_792,
}
"""Download sizes of the released checkpoints; Thinking ones have the same tensors as Instruct ones."""

FILES = ["*.json", "*.safetensors", "*.jinja", "merges.txt"]
"""What a checkpoint needs; pictures, code and other formats of weights stay on the hub."""

CONTACT_SECONDS = 8.0
"""How long the hub may take to answer at all before this counts as offline."""

GB = 1_000_000_000

Progress = Callable[[int, int], None]
"""Called with bytes there and bytes in all while a download runs."""


@dataclass(frozen=True)
class _Source:
    """Which repository, and how to ask for it."""

    name: str
    revision: str | None
    cache: Path
    token: str | bool | None

    @property
    def blobs(self) -> Path:
        """Where the cache keeps the files' contents, unfinished ones included."""
        return self.cache / ("models--" + self.name.replace("/", "--")) / "blobs"


def resolve(
    name_or_folder: str | Path,
    progress: Progress | None = None,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
) -> Path:
    """The folder of a checkpoint, complete.

    Args:
        name_or_folder: A folder, or a name on the hub such as ``OpenMOSS-Team/MOSS-Audio-4B-Instruct``.
        progress: Told of a download's bytes as they come; by default a bar is shown on stderr.
        revision: Branch, tag or commit on the hub.
        cache_dir: Where downloads are kept; by default the hub's own cache.
        token: The hub's access token, as ``huggingface_hub`` takes it.
        local_files_only: Never download.

    Raises:
        CheckpointError: Neither here nor to be had: says why, and what to do.
    """
    name = str(name_or_folder)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _checked(folder)
    if folder.exists():
        raise CheckpointError(f"{name} is a file; give the folder that holds config.json and the weights.")
    cache = Path(cache_dir or constants.HF_HUB_CACHE).expanduser()
    source = _Source(name, revision, cache, token)
    try:
        here = _cached(source)
    except HFValidationError as error:
        raise CheckpointError(
            f"There is no folder {name}, and no model on the hub can be called so."
        ) from error
    if here is not None:
        return here
    if local_files_only:
        raise CheckpointError(absent(name, "local_files_only forbids to download it; leave that out"))
    return _download(source, progress)


def absent(name: str, why: str) -> str:
    """The sentence for a checkpoint that is not here and was not asked for, with its size where known."""
    size = RELEASED_BYTES.get(name)
    weight = f" ({size / GB:.2f} GB)" if size else ""
    return f"{name}{weight} is not on this machine, and {why}, or {_BY_HAND}."


def present(
    name: str, *, revision: str | None = None, cache_dir: str | Path | None = None
) -> tuple[Path | None, int]:
    """Whether a checkpoint of the hub is on this machine; nothing is downloaded.

    Args:
        name: On the hub.
        revision, cache_dir: As for ``resolve``.

    Returns:
        Its folder, None unless all of it is there; and the bytes of large files that are there, those of an
        unfinished download among them.
    """
    source = _Source(name, revision, Path(cache_dir or constants.HF_HUB_CACHE).expanduser(), None)
    try:
        folder = _cached(source)
        there = sum(one.stat().st_size for one in source.blobs.iterdir()) if source.blobs.is_dir() else 0
    except (HFValidationError, OSError):
        return None, 0
    return folder, there


def _checked(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder} holds no config.json, so it is not a checkpoint; give its folder.")
    weight_files(folder)
    return folder


def _cached(source: _Source) -> Path | None:
    """The snapshot in the cache, if all of it is there."""
    try:
        found = snapshot_download(
            source.name,
            revision=source.revision,
            cache_dir=source.cache,
            allow_patterns=FILES,
            local_files_only=True,
        )
        return _checked(Path(found))
    except (LocalEntryNotFoundError, CheckpointError):
        return None


def _download(source: _Source, progress: Progress | None) -> Path:
    if constants.is_offline_mode():
        raise CheckpointError(absent(source.name, "HF_HUB_OFFLINE forbids to download it; unset it"))
    files = _listing(source)
    meter = _Meter(source, sum(one.size for one in files), progress)
    _check_disk(source, files)
    try:
        with meter:
            for file in files:
                fetch(file, source.blobs, source.token, meter.count)
            # The large files are there; what is left are small ones, and links to all of them.
            folder = snapshot_download(
                source.name,
                revision=source.revision,
                cache_dir=source.cache,
                token=source.token,
                allow_patterns=FILES,
                tqdm_class=_Silent,
            )
    except (HfHubHTTPError, httpx2.HTTPError, OSError) as error:
        raise CheckpointError(
            f"The download of {source.name} stopped after {meter.done / GB:.2f} of {meter.total / GB:.2f} GB "
            f"({_reason(error)}); what is there is kept, run it again to go on."
        ) from error
    return _checked(Path(folder))


def _listing(source: _Source) -> list[RemoteFile]:
    """The large files of a checkpoint; the one request that tells whether the hub can be reached."""
    try:
        info = _within(CONTACT_SECONDS, lambda: _ask(source))
    except GatedRepoError as error:
        raise CheckpointError(
            f"{source.name} asks for permission: accept its terms on its page, then run `hf auth login`."
        ) from error
    except RevisionNotFoundError as error:
        raise CheckpointError(f"{source.name} has no revision {source.revision} on the hub.") from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"There is no folder {source.name} here, nor a public model of that name on the hub; "
            "check the name."
        ) from error
    except (HfHubHTTPError, httpx2.HTTPError, OSError) as error:
        why = f"the hub at {constants.ENDPOINT} could not be reached ({_reason(error)})"
        raise CheckpointError(absent(source.name, f"{why}; connect and run it again")) from error
    large = {one.rfilename: one for one in info.siblings or [] if one.lfs is not None}
    return [
        RemoteFile(source.name, info.sha, name, large[name].lfs.size, large[name].lfs.sha256)
        for name in filter_repo_objects(sorted(large), allow_patterns=FILES)
    ]


_BY_HAND = "copy the checkpoint here by other means and give its folder instead of the name"


def _ask(source: _Source) -> Any:
    api = HfApi(token=source.token)
    return api.model_info(source.name, revision=source.revision, files_metadata=True, timeout=CONTACT_SECONDS)


def _within(seconds: float, work: Callable[[], Any]) -> Any:
    """Run something that may hang where no timeout reaches it (looking up an address can)."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((work(), None))
        except Exception as error:  # handed on to the caller below
            outcome.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise TimeoutError(f"no answer within {seconds:.0f} s")
    value, error = outcome[0]
    if error is not None:
        raise error
    return value


def _check_disk(source: _Source, files: Sequence[RemoteFile]) -> None:
    missing = sum(one.size for one in files if not (source.blobs / one.sha256).exists())
    for one in files:
        partial = partial_path(source.blobs, one.sha256)
        missing -= partial.stat().st_size if partial.exists() else 0
    place = source.cache
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if missing > free:
        raise CheckpointError(
            f"{source.name} needs {missing / GB:.2f} GB more on the disk of {source.cache}, which has "
            f"{free / GB:.2f} GB free; make room, or set HF_HOME to a folder on a larger disk."
        )


class _Meter:
    """Counts the bytes of a download and tells of them; shows a bar where nobody else asked to be told."""

    def __init__(self, source: _Source, total: int, progress: Progress | None) -> None:
        self.done, self.total = 0, total
        self._progress = progress
        self._bar = tqdm(
            desc=source.name, total=total, unit="B", unit_scale=True, disable=progress is not None, delay=0.2
        )

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def count(self, amount: int) -> None:
        self.done += amount
        self._bar.update(amount)
        if self._progress is not None:
            self._progress(self.done, self.total)


class _Silent(tqdm):
    """The hub's own bars, not shown: the caller shows progress itself."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.pop("name", None)
        super().__init__(*args, **{**kwargs, "disable": True})


def _reason(error: BaseException) -> str:
    """The innermost cause in a few words."""
    while error.__cause__ is not None:
        error = error.__cause__
    first = str(error).strip().partition("\n")[0]
    return first[:160] or type(error).__name__
