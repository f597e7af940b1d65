"""Stop strings: an answer ends before the first of them, however the stream cuts it."""

from __future__ import annotations

from collections.abc import Sequence


class StopSplitter:
    """Lets text through up to the first stop string.

    Args:
        stops: None of them empty.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.stopped = False
        """Whether a stop string has come; nothing goes through after it."""

    def feed(self, text: str) -> str:
        """What is certain to belong to the answer by now."""
        if self.stopped:
            return ""
        self._held += text
        # The one that was whole first counts, as if the text had come letter by letter.
        found = [(at + len(stop), at) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            out, self._held = self._held[: min(found)[1]], ""
            return out
        keep = max((_begun(self._held, stop) for stop in self._stops), default=0)
        certain = len(self._held) - keep
        out, self._held = self._held[:certain], self._held[certain:]
        return out

    def flush(self) -> str:
        """The text has ended: what was held back."""
        out, self._held = ("" if self.stopped else self._held), ""
        return out


def _begun(text: str, stop: str) -> int:
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
