"""A checkpoint by name: in a folder, in the hub's cache, or downloaded from the Hugging Face hub.

What is on this machine is never asked for again, and an interrupted download resumes where it stopped.

huggingface_hub does the downloading (``http_get``: ranges, retries, timeouts) and keeps the cache. Two pieces
stand here because it lacks them: since 1.18 it deletes an unfinished file, so that every run would begin a
shard of gigabytes anew, and it does not compare what came with the published SHA-256. Here unfinished files
stay beside the cache's blobs, and become blobs when their SHA-256 is the published one.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from huggingface_hub import HfApi, constants, hf_hub_download, hf_hub_url, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import WeakFileLock, build_hf_headers, filter_repo_objects
from tqdm import tqdm

from moss_audio.checkpoints.files import weight_files
from moss_audio.errors import CheckpointError

RELEASED_BYTES = {
    "OpenMOSS-Team/MOSS-Audio-4B-Instruct": 10_451_725_200,
    "OpenMOSS-Team/MOSS-Audio-4B-Thinking": 10_451_725_200,
    "OpenMOSS-Team/MOSS-Audio-8B-Instruct": 18_111_010_792,
    "OpenMOSS-Team/MOSS-Audio-8B-Thinking": 18_111_010_792,
}
"""Download sizes of the released checkpoints; Thinking ones have the same tensors as Instruct ones."""

FILES = ["*.json", "*.safetensors", "*.jinja", "merges.txt"]
"""What a checkpoint needs; pictures, code and other formats of weights stay on the hub."""

HUB_OPTIONS = ("revision", "cache_dir", "token", "local_files_only")
"""Options of transformers' ``from_pretrained`` that say what to take from the hub; ``resolve`` knows them."""

CONTACT_SECONDS = 8.0
"""How long the hub may take to answer at all before this counts as offline."""

GB = 1_000_000_000

HTTP_ERROR: type[Exception] = next(base for base in HfHubHTTPError.__mro__ if base.__name__ == "HTTPError")
"""Base of all errors of huggingface_hub's HTTP client: of httpx in its version 1, of httpx2 in version 2."""

Progress = Callable[[int, int], None]
"""Called with the bytes that are here and the bytes in all while a download runs."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class _Source:
    """Which repository, and how to ask for it."""

    name: str
    revision: str | None
    cache: Path
    token: str | bool | None

    @property
    def blobs(self) -> Path:
        """Where the cache keeps the files' contents; unfinished ones lie there too."""
        return self.cache / ("models--" + self.name.replace("/", "--")) / "blobs"


@dataclass(frozen=True)
class RemoteFile:
    """A large file of a repository at one commit; its size in bytes."""

    repository: str
    commit: str
    name: str
    size: int
    sha256: str


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

    Ctrl+C ends a download at once, however the connection is; what is here by then is kept.

    Args:
        name_or_folder: A folder, or a name on the hub such as ``OpenMOSS-Team/MOSS-Audio-4B-Instruct``.
        progress: Told of a download's bytes as they come; by default a bar is shown on stderr.
        revision: Branch, tag or commit on the hub.
        cache_dir: Where downloads are kept; by default the hub's own cache.
        token: The hub's access token, as ``huggingface_hub`` takes it.
        local_files_only: Never download.

    Raises:
        CheckpointError: It is neither here nor to be had; the message says why, and what to do.
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
        cached = _cached(source)
    except HFValidationError as error:
        raise CheckpointError(
            f"There is no folder {name}, and it is not a valid model name on the hub."
        ) from error
    if cached is not None:
        return cached
    if local_files_only:
        raise CheckpointError(absent(name, "local_files_only forbids downloading it; leave that option out"))
    return _download(source, progress)


def absent(name: str, why: str) -> str:
    """The sentence for a checkpoint that is not here and was not downloaded, with its size where known."""
    size = RELEASED_BYTES.get(name)
    weight = f" ({size / GB:.2f} GB)" if size else ""
    return f"{name}{weight} is not on this machine, and {why}, or {_BY_HAND}."


_BY_HAND = "copy the checkpoint to this machine by other means and give its folder instead of its name"


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
        there = sum(blob.stat().st_size for blob in source.blobs.iterdir()) if source.blobs.is_dir() else 0
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
        raise CheckpointError(absent(source.name, "HF_HUB_OFFLINE forbids downloading it; unset it"))
    listing = _listing(source)
    meter = _Meter(source, sum(file.size for file in listing.large), progress)
    _check_disk(source, listing.large)
    try:
        with meter, _quiet_retries():
            folder = in_thread(lambda count: _fetch_all(source, listing, count), meter.count)
    except (HTTP_ERROR, OSError) as error:
        raise CheckpointError(
            f"The download of {source.name} stopped after {meter.done / GB:.2f} of {meter.total / GB:.2f} GB "
            f"({_reason(error)}); what was downloaded is kept, run it again to resume."
        ) from error
    return _checked(folder)


@dataclass(frozen=True)
class _Listing:
    """The files of a checkpoint: large ones, whose SHA-256 is published, and names of the others."""

    large: list[RemoteFile]
    small: list[str]


def _listing(source: _Source) -> _Listing:
    """What is to be downloaded; the one request that tells whether the hub can be reached."""
    try:
        info = in_thread(lambda report: _ask(source), seconds=CONTACT_SECONDS)
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
    except (HTTP_ERROR, OSError) as error:
        why = f"the hub at {constants.ENDPOINT} could not be reached ({_reason(error)})"
        raise CheckpointError(absent(source.name, f"{why}; connect and run it again")) from error
    files = {file.rfilename: file for file in info.siblings or []}
    wanted = list(filter_repo_objects(sorted(files), allow_patterns=FILES))
    if "config.json" not in wanted:
        raise CheckpointError(f"{source.name} on the hub holds no config.json, so it is not a checkpoint.")
    return _Listing(
        large=[
            RemoteFile(source.name, info.sha, name, files[name].lfs.size, files[name].lfs.sha256)
            for name in wanted
            if files[name].lfs is not None
        ],
        small=[name for name in wanted if files[name].lfs is None],
    )


def _ask(source: _Source) -> Any:
    api = HfApi(token=source.token)
    return api.model_info(source.name, revision=source.revision, files_metadata=True, timeout=CONTACT_SECONDS)


def _check_disk(source: _Source, files: Sequence[RemoteFile]) -> None:
    missing = sum(file.size for file in files if not (source.blobs / file.sha256).exists())
    for file in files:
        partial = partial_path(source.blobs, file.sha256)
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


def _fetch_all(source: _Source, listing: _Listing, count: Callable[[int], None]) -> Path:
    """Download what is missing; returns the snapshot's folder."""
    for file in listing.large:
        fetch(file, source.blobs, source.token, count)
    # One after another in this thread, not by snapshot_download, whose threads would outlive a Ctrl+C. Of the
    # large files, which are blobs by now, nothing is downloaded: links to them are made.
    for name in [*listing.small, *(file.name for file in listing.large)]:
        path = hf_hub_download(
            source.name,
            name,
            revision=source.revision,
            cache_dir=source.cache,
            token=source.token,
            tqdm_class=_Silent,
        )
    return Path(path).parents[name.count("/")]


def fetch(file: RemoteFile, blobs: Path, token: str | bool | None, count: Callable[[int], None]) -> None:
    """Bring a file into the cache's folder of blobs, where it is named after its SHA-256.

    Args:
        file: What to bring.
        blobs: The folder; made if it is missing.
        token: The hub's access token.
        count: Told how many bytes came, those of earlier attempts first; negative when some are given up.

    Raises:
        CheckpointError: What came is not what was published.
        OSError: The connection or the disk failed (or ``HTTP_ERROR``); what came is kept.
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
        _resume(partial, file, token, count)
        if (found := _sha256(partial)) != file.sha256:
            partial.unlink()
            count(-file.size)
            raise CheckpointError(
                f"{file.name} of {file.repository} arrived damaged (SHA-256 {found[:12]}…, published "
                f"{file.sha256[:12]}…) and was deleted; run it again to download it anew."
            )
        os.replace(partial, target)


def partial_path(blobs: Path, sha256: str) -> Path:
    """Where the unfinished file lies."""
    return blobs / f"{sha256}.part"


def _resume(partial: Path, file: RemoteFile, token: str | bool | None, count: Callable[[int], None]) -> None:
    """Download what a file lacks.

    ``http_get`` hands on 10 MB at a time, so that much may come again after an interruption.
    """
    url = hf_hub_url(file.repository, file.name, revision=file.commit)
    with partial.open("ab") as out:
        if out.tell() > file.size:
            out.truncate(0)
            out.seek(0)
        counted = _counting(count)
        counted(initial=out.tell()).close()
        while True:
            before = out.tell()
            try:
                return http_get(
                    url,
                    out,
                    resume_size=before,
                    headers=build_hf_headers(token=token),
                    expected_size=file.size,
                    tqdm_class=counted,
                )
            except HTTP_ERROR:
                # http_get tries again after most failures, but not after a connection that was reset.
                if out.tell() <= before:
                    raise


def _counting(count: Callable[[int], None]) -> type[tqdm]:
    """A bar that shows nothing and tells ``count`` how many bytes of one file came, over all attempts."""
    there = 0

    def now(size: int) -> None:
        nonlocal there
        if size != there:
            count(size - there)
            there = size

    class Counting(tqdm):
        def __init__(self, *args: Any, initial: int = 0, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})
            now(initial)

        def update(self, n: float | None = 1) -> None:
            now(there + int(n or 0))

    return Counting


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class _Abandoned(BaseException):
    """Ends work that nobody waits for any more; no handler of errors on its way may take it for one."""


def in_thread(
    work: Callable[[Callable[[int], None]], Result],
    told: Callable[[int], None] = lambda number: None,
    seconds: float | None = None,
) -> Result:
    """Do something that may block where neither a timeout nor Ctrl+C reaches it (looking up an address can).

    Args:
        work: Runs in a thread of its own; it is given a function to report a number with.
        told: Called in this thread with each number that ``work`` reports.
        seconds: How long to wait for a report or the end; None for ever.

    Returns:
        What ``work`` returns; its errors are raised here. Where this thread is interrupted, ``work`` is left
        to itself: it ends when it reports next, or with the program, which does not wait for it.

    Raises:
        TimeoutError: Nothing was heard of ``work`` for so many seconds.
    """
    messages: SimpleQueue[Callable[[], Result | None]] = SimpleQueue()
    abandoned = threading.Event()
    finished: list[Result] = []

    def report(number: int) -> None:
        if abandoned.is_set():
            raise _Abandoned
        messages.put(lambda: told(number))

    def run() -> None:
        try:
            result = work(report)
            messages.put(lambda: finished.append(result))
        except BaseException as error:
            raised = error

            def fail() -> None:
                raise raised

            messages.put(fail)

    threading.Thread(target=run, daemon=True).start()
    try:
        while not finished:
            messages.get(timeout=seconds)()
        return finished[0]
    except Empty:
        raise TimeoutError(f"no answer within {seconds:.0f} s") from None
    finally:
        abandoned.set()


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


@contextmanager
def _quiet_retries() -> Iterator[None]:
    """Keep the hub's warnings about attempts that failed off the screen; what counts is how it ends."""
    logger = logging.getLogger("huggingface_hub.file_download")

    def drop(record: logging.LogRecord) -> bool:
        return False

    logger.addFilter(drop)
    try:
        yield
    finally:
        logger.removeFilter(drop)


def _reason(error: BaseException) -> str:
    """The innermost cause in a few words."""
    while error.__cause__ is not None:
        error = error.__cause__
    first = str(error).strip().partition("\n")[0]
    return first[:160] or type(error).__name__
