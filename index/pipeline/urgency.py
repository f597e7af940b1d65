"""Whose work a thread does: which recording it is about, and whether somebody waits for it.

Only where several machines share the work does it matter, where a queue serves many recordings at a time; the
threads that process windows have it from the thread that began them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Work:
    """What is worked on.

    Attributes:
        recording: Its id; empty where it is about none.
        is_archive: Whether nobody waits for it: one of many files, or one that was found in a watched folder.
    """

    recording: str = ""
    is_archive: bool = False


_NONE = Work()
_work: ContextVar[Work] = ContextVar("work", default=_NONE)


def current_work() -> Work:
    """What this thread works on."""
    return _work.get()


@contextmanager
def working_on(recording: str) -> Iterator[None]:
    """Within the block, work is about this recording."""
    with _set(replace(_work.get(), recording=recording)):
        yield


@contextmanager
def archiving(is_archive: bool = True) -> Iterator[None]:
    """Within the block, nobody waits for the work, unless ``is_archive`` is false."""
    with _set(replace(_work.get(), is_archive=is_archive)):
        yield


@contextmanager
def _set(work: Work) -> Iterator[None]:
    before = _work.set(work)
    try:
        yield
    finally:
        _work.reset(before)
