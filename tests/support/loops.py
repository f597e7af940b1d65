"""Asynchronous code in tests that are not: the browser tests of the same process keep a loop of their own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import anyio

T = TypeVar("T")


def run_apart(function: Callable[[], Awaitable[T]]) -> T:
    """What an asynchronous function returns, run by a loop in a thread of its own."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(anyio.run, function).result()
