"""Which pages of the KV cache belong to whom.

The cache is cut into pages of a fixed number of tokens. A sequence takes all the pages it can ever need
when it is admitted, so it never runs out half way; they are neighbours where possible, so that they can be
read without copying. A full page of a prompt is remembered by what it holds, and a later prompt that
begins the same way takes it over instead of computing it again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

Key = int | bytes
"""What stands at one position: a token id, or for audio what the clip holds there."""


@dataclass(frozen=True)
class Grant:
    """Pages of one sequence, in order; the first ``cached_tokens`` positions are filled already."""

    pages: tuple[int, ...]
    cached_tokens: int


def page_names(keys: Sequence[Key], page_size: int) -> tuple[bytes, ...]:
    """For each full page of a prompt a digest of all that stands up to its end."""
    digests: list[bytes] = []
    before = b""
    for start in range(0, len(keys) - page_size + 1, page_size):
        content = repr(keys[start : start + page_size]).encode()
        before = blake2b(before + content, digest_size=16).digest()
        digests.append(before)
    return tuple(digests)


class PagePool:
    """Hands out pages.

    Args:
        n_pages: Pages there are.
        page_size: Tokens a page.
    """

    def __init__(self, n_pages: int, page_size: int) -> None:
        self.n_pages = n_pages
        self.page_size = page_size
        self._free = np.ones(n_pages, dtype=bool)
        self._users: dict[int, int] = {}
        self._page_of: dict[bytes, int] = {}
        self._digest_of: dict[int, bytes] = {}
        # Remembered pages nobody uses, the longest unused first.
        self._idle: OrderedDict[int, None] = OrderedDict()

    @property
    def available(self) -> int:
        """Pages that nobody uses, remembered ones included."""
        return int(self._free.sum()) + len(self._idle)

    def pages_for(self, tokens: int) -> int:
        """Pages that hold so many tokens."""
        return -(-tokens // self.page_size)

    def admit(self, names: Sequence[bytes], tokens: int, capacity: int) -> Grant | None:
        """Pages for a prompt and all that may be written after it; None while there are too few.

        Args:
            names: Of the prompt's full pages, from ``page_names``.
            tokens: Of the prompt.
            capacity: Positions in all, prompt included.
        """
        shared = self._match(names, tokens)
        wanted = self.pages_for(capacity) - len(shared)
        # A page that is about to be shared cannot be taken for something new.
        if wanted > self.available - sum(page in self._idle for page in shared):
            return None
        for page in shared:
            self._use(page)
        own = self._take(wanted)
        return Grant((*shared, *own), len(shared) * self.page_size)

    def remember(self, names: Sequence[bytes], pages: Sequence[int]) -> None:
        """Note what the full pages of a prompt hold, now that it has been computed."""
        for digest, page in zip(names, pages, strict=False):
            if digest not in self._page_of and page not in self._digest_of:
                self._page_of[digest] = page
                self._digest_of[page] = digest

    def release(self, pages: Sequence[int]) -> None:
        """Give a sequence's pages back."""
        for page in pages:
            self._users[page] -= 1
            if self._users[page]:
                continue
            del self._users[page]
            if page in self._digest_of:
                self._idle[page] = None
            else:
                self._free[page] = True

    def _match(self, names: Sequence[bytes], tokens: int) -> list[int]:
        """Remembered pages at the start of a prompt; its last token is always computed anew."""
        pages: list[int] = []
        for digest in names[: (tokens - 1) // self.page_size]:
            page = self._page_of.get(digest)
            if page is None:
                break
            pages.append(page)
        return pages

    def _use(self, page: int) -> None:
        self._users[page] = self._users.get(page, 0) + 1
        self._idle.pop(page, None)

    def _take(self, count: int) -> list[int]:
        while self._free.sum() < count:
            page, _ = self._idle.popitem(last=False)
            del self._page_of[self._digest_of.pop(page)]
            self._free[page] = True
        free = np.flatnonzero(self._free)
        chosen = free[_run(free, count)] if count else free[:0]
        self._free[chosen] = False
        pages = [int(page) for page in chosen]
        for page in pages:
            self._users[page] = 1
        return pages


def _run(free: np.ndarray, count: int) -> slice:
    """Where ``count`` neighbours begin among the free pages; else simply the first ones."""
    if len(free) > count:
        ends = free[count - 1 :] - free[: len(free) - count + 1]
        first = int(np.argmax(ends == count - 1))
        if ends[first] == count - 1:
            return slice(first, first + count)
    return slice(0, count)
