"""Room that requests share: memory for bodies, disk for uploads."""

from __future__ import annotations

import threading

from web.api.errors import queue_full


class Room:
    """So many bytes for all requests at a time.

    Args:
        most: Bytes there are.
        full: What to say when they are taken.
    """

    def __init__(self, most: int, full: str) -> None:
        self._most, self._full = most, full
        self._lock = threading.Lock()
        self.taken = 0

    def take(self, size: int) -> None:
        """Take some, also if that is too much: what has arrived is there.

        Raises:
            ApiError: 429, there is no more.
        """
        with self._lock:
            self.taken += size
            full = self.taken > self._most
        if full:
            raise queue_full(self._full)

    def give_back(self, size: int) -> None:
        """Give some back."""
        with self._lock:
            self.taken -= size
