"""Importing large libraries without the garbage collector looking through what they make."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collections() -> Iterator[None]:
    """Hold the garbage collector off while libraries are imported.

    Modules, classes and functions stay for good. The collector walks over all of them every few hundred new
    objects, which is a seventh of the time that the libraries of the embedder take to import; what was made
    by the end of the block it never looks through again.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()
