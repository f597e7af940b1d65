"""Standard output and standard error as they are: any encoding, closed, a pipe nobody reads, a full disk."""

from __future__ import annotations

import codecs
import io
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from index.recording_errors import MossAgentError

HANDLER = "moss-agent-legible"
"""Name of the error handler of both streams; see ``_legible``."""

_ASCII = {
    "“": '"', "”": '"', "„": '"', "‘": "'", "’": "'", "–": "-", "—": "-", "…": "...", "×": "x", "·": "-",
    "•": "*", "\N{NO-BREAK SPACE}": " ", "\N{NARROW NO-BREAK SPACE}": " ",
}  # fmt: skip


def prepare() -> None:
    """Make both streams safe to print anything on; called once, before anything is printed.

    Raises:
        MossAgentError: Standard output is closed.
    """
    codecs.register_error(HANDLER, _legible)
    closed = sys.stdout is None
    if closed or sys.stderr is None:
        # The next file that is opened, perhaps the database, would else be taken for the missing stream.
        while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(number)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=HANDLER)
    if closed:
        raise MossAgentError(
            "Standard output is closed, so nothing was done; direct it to a file, or to /dev/null."
        )


def write(text: str, json: bool = False) -> None:
    """Write to standard output.

    Args:
        text: What to write.
        json: Whether it is JSON; its characters are escaped where the output is not in UTF-8.

    Raises:
        MossAgentError: The output cannot be written.
        BrokenPipeError: Nobody reads it.
    """
    if json and not _is_utf8(sys.stdout):
        text = re.sub(r"[^\x00-\x7f]", _escaped, text)
    with writing():
        sys.stdout.write(text)


@contextmanager
def writing() -> Iterator[None]:
    """Turn what goes wrong with standard output into a sentence.

    Raises:
        MossAgentError: The output cannot be written.
        BrokenPipeError: Nobody reads it.
    """
    try:
        yield
    except BrokenPipeError:
        _abandon()
        raise
    except OSError as error:
        _abandon()
        raise MossAgentError(
            f"The output cannot be written ({error.strerror}); direct it to another place."
        ) from error


def finish() -> None:
    """Write out what is still in the buffer of standard output.

    Raises:
        MossAgentError: The output cannot be written.
        BrokenPipeError: Nobody reads it.
    """
    if sys.stdout is not None:
        with writing():
            sys.stdout.flush()


def complain(line: str) -> None:
    """One line on standard error, where there is one."""
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def _abandon() -> None:
    """Drop what standard output did not take, so that Python does not try again, and complain, at its end."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _is_utf8(stream: TextIO) -> bool:
    try:
        return codecs.lookup(stream.encoding or "ascii").name == "utf-8"
    except LookupError:
        return False


def _escaped(match: re.Match[str]) -> str:
    return json.dumps(match[0])[1:-1]


def _legible(error: UnicodeError) -> tuple[str, int]:
    """What to write for characters that an encoding lacks: plain punctuation, else their numbers."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    plain = (_ASCII.get(char) or char.encode("ascii", "backslashreplace").decode() for char in lacking)
    return "".join(plain), error.end
