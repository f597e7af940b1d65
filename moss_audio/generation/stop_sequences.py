"""Stop sequences: an answer ends before the first of them, however the stream cuts it."""

from __future__ import annotations

from collections.abc import Iterable


def begun(text: str, sequences: Iterable[str]) -> int:
    """How many characters at the end of a text may be the beginning of one of these sequences.

    A whole sequence at the end does not count: whoever asks has looked for those already.
    """
    longest = 0
    for sequence in sequences:
        for length in range(min(len(text), len(sequence) - 1), longest, -1):
            if text.endswith(sequence[:length]):
                longest = length
                break
    return longest


class StopSequences:
    """Lets text through up to the first stop sequence, which is left out.

    Where sequences overlap, the one that is complete first counts, as if the text had come character by
    character. So the pieces in which it comes make no difference.

    Args:
        sequences: Any of them ends the text; empty ones do not count.

    Attributes:
        met: Whether one has come. Nothing goes through after it.
        text: All that was let through.
    """

    def __init__(self, sequences: Iterable[str] | None) -> None:
        self.met = False
        self.text = ""
        self._sequences = [sequence for sequence in sequences or () if sequence]
        self._held = ""

    def feed(self, text: str) -> str:
        """Take more text; returns what is certain to stand before any stop sequence."""
        if self.met:
            return ""
        text, self._held = self._held + text, ""
        found = [(at + len(stop), at) for stop in self._sequences if (at := text.find(stop)) >= 0]
        if found:
            self.met = True
            return self._let_through(text[: min(found)[1]])
        certain = len(text) - begun(text, self._sequences)
        self._held = text[certain:]
        return self._let_through(text[:certain])

    def finish(self) -> str:
        """The text has ended; returns what was held back."""
        rest, self._held = self._held, ""
        return self._let_through(rest)

    def _let_through(self, text: str) -> str:
        self.text += text
        return text
