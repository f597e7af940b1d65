"""A user who may read a folder, but not write it."""

from __future__ import annotations

# The interpreter may lie where a bystander cannot read; zipfile asks for this one late.
import encodings.cp437  # noqa: F401
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65_534
"""User id without rights of its own, by convention."""


@contextmanager
def readable_copy(home: Path) -> Iterator[Path]:
    """A copy of a home where every user can read, and only root can write."""
    # Not in pytest's folder, which is closed to other users.
    folder = Path(tempfile.mkdtemp())
    copy = folder / "home"
    try:
        folder.chmod(0o755)
        shutil.copytree(home, copy)
        seal(copy)
        yield copy
    finally:
        for path in (copy, *copy.rglob("*")):
            if path.is_dir():
                path.chmod(0o755)
        shutil.rmtree(folder)


def seal(home: Path) -> None:
    """Take everybody's right to write from a folder."""
    for path in (*home.rglob("*"), home):
        path.chmod(0o555 if path.is_dir() else 0o444)


@contextmanager
def bystander() -> Iterator[None]:
    """Be a user whom no right to write is given; root, who may always write, becomes nobody for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
