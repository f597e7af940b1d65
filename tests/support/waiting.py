"""Waiting for what another thread or process is to do."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest


def wait_until(holds: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until something holds; fails the test if it does not within so many seconds."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            pytest.fail(f"waited {seconds:g} seconds in vain")
        time.sleep(0.01)
