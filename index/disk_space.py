"""A full disk, found out from what libraries make of it, and the room kept back to write down that it is."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import soundfile

from index.recording_errors import DiskFull

RESERVE_BYTES = 256 * 1024
"""Kept back while a recording is taken in: room for a few transactions of some pages of 4 KiB each."""

AS_GOOD_AS_FULL = 64 * 1024
"""Free bytes below which it is the disk that a library failed on, whatever it says."""

_FULL = {errno.ENOSPC, errno.EDQUOT}
_SAID = ("no space left on device", "database or disk is full", "disk quota exceeded")


def disk_full(folder: Path) -> DiskFull:
    """The error for a folder whose disk is full."""
    return DiskFull(
        f"The disk is full: there is no room in {folder}; free some space and try again. "
        "What was finished is kept."
    )


def is_disk_full(error: BaseException, folder: Path) -> bool:
    """Whether an error, or one that it came from, is due to the disk under ``folder`` being full.

    SQLite, libsndfile and Chroma say “I/O error” or less where the operating system said “no space”; there
    the free space decides.
    """
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if isinstance(cause, DiskFull) or (isinstance(cause, OSError) and cause.errno in _FULL):
            return True
        if any(words in str(cause).casefold() for words in _SAID):
            return True
        if _is_vague(cause) and _free(folder) < AS_GOOD_AS_FULL:
            return True
        cause = cause.__cause__ or cause.__context__
    return False


@contextmanager
def noticing_full_disk(folder: Path) -> Iterator[None]:
    """Turn every error that comes of a full disk under ``folder`` into one.

    Raises:
        DiskFull: The disk is full.
    """
    try:
        yield
    except DiskFull:
        raise
    except Exception as error:
        if is_disk_full(error, folder):
            raise disk_full(folder) from error
        raise


@contextmanager
def reserve(path: Path) -> Iterator[Callable[[], None]]:
    """Keep ``RESERVE_BYTES`` of the disk back, in a file that is deleted at the end.

    Yields:
        What gives them back early, to have room to write down why the work ended.

    Raises:
        DiskFull: There is not that much.
    """

    def give_back() -> None:
        with suppress(OSError):
            path.unlink(missing_ok=True)

    try:
        with noticing_full_disk(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                # Random, so that no file system stores it in less.
                file.write(os.urandom(RESERVE_BYTES))
                file.flush()
                os.fsync(file.fileno())
        yield give_back
    finally:
        give_back()


def _is_vague(error: BaseException) -> bool:
    libraries = (sqlite3.Error, soundfile.SoundFileError)
    return isinstance(error, libraries) or type(error).__module__.split(".")[0] == "chromadb"


def _free(folder: Path) -> int:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free
