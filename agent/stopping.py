"""Stop sequences: where a text that is being written ends before its writer does."""

from __future__ import annotations

from collections.abc import Sequence


class Stop:
    """Lets text through up to the first stop sequence, which is left out.

    Args:
        sequences: Any of them ends the text; empty ones do not count.

    Attributes:
        met: Whether one has come.
        text: All that came before it.
    """

    def __init__(self, sequences: Sequence[str] | None) -> None:
        self.met = False
        self.text = ""
        self._sequences = [one for one in sequences or () if one]
        self._held = ""

    def feed(self, text: str) -> str:
        """Take more text; returns what is certain to stand before any stop sequence."""
        if self.met:
            return ""
        text, self._held = self._held + text, ""
        found = [at for one in self._sequences if (at := text.find(one)) >= 0]
        if found:
            self.met = True
            return self._out(text[: min(found)])
        keep = max((_begun(text, one) for one in self._sequences), default=0)
        self._held = text[len(text) - keep :]
        return self._out(text[: len(text) - keep])

    def finish(self) -> str:
        """The text has ended; returns what was held back."""
        rest, self._held = self._held, ""
        return self._out(rest)

    def _out(self, text: str) -> str:
        self.text += text
        return text


def _begun(text: str, sequence: str) -> int:
    """How many characters at the end of a text are the first ones of a sequence."""
    for length in range(min(len(sequence) - 1, len(text)), 0, -1):
        if text.endswith(sequence[:length]):
            return length
    return 0
