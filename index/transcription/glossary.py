"""A glossary: words and phrases that must be spelled right, one a line of a text file."""

from __future__ import annotations

from pathlib import Path

from index.disk_space import noticing_full_disk
from index.recording_errors import MossAgentError
from index.text import one_line

HOME_FILE = "glossary.txt"
"""The glossary of a home folder, which the page writes."""

MOST_BYTES = 65_536
"""A larger file is no glossary."""

LONGEST_ENTRY = 80
"""Characters of one word or phrase."""


def read_glossary(path: Path, setting: str = "") -> tuple[str, ...]:
    """The words and phrases of a file in its order, each once; empty lines are left out.

    Args:
        path: The file.
        setting: What names it, for the sentence that says that it cannot be read.

    Raises:
        MossAgentError: The file cannot be read, is too large, is not UTF-8, or has a line that is no phrase.
    """
    try:
        with path.expanduser().open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        text = data.decode("utf-8-sig")
    except OSError as error:
        check = f"; check {setting}" if setting else ""
        raise MossAgentError(
            f"The glossary {path} cannot be read ({error.strerror or type(error).__name__}){check}."
        ) from error
    except UnicodeDecodeError as error:
        raise MossAgentError(f"The glossary {path} is not a text file in UTF-8.") from error
    return _entries(text, len(data), f"The glossary {path}")


def write_glossary(path: Path, text: str) -> tuple[str, ...]:
    """Keep a glossary that a user typed, in place of the one that was there; returns its entries.

    Args:
        path: The file; without an entry there is none afterwards.
        text: One word or phrase a line.

    Raises:
        MossAgentError: It is too large, or has a line that is no phrase; the file is as it was.
        DiskFull: There is no room for it.
    """
    entries = _entries(text, len(text.encode("utf-8", "replace")), "The list of words")
    if not entries:
        path.unlink(missing_ok=True)
        return ()
    partial = path.with_suffix(".partial")
    try:
        with noticing_full_disk(path.parent):
            partial.write_text("".join(f"{entry}\n" for entry in entries), encoding="utf-8")
            partial.replace(path)
    except OSError as error:
        raise MossAgentError(
            f"{path} cannot be written ({error.strerror or type(error).__name__})."
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return entries


def _entries(text: str, size: int, what: str) -> tuple[str, ...]:
    """The entries of a text of ``size`` bytes; ``what`` it is called in an error."""
    if size > MOST_BYTES:
        raise MossAgentError(f"{what} is too large; it may have {MOST_BYTES // 1024} KiB.")
    entries = dict.fromkeys(entry for line in text.splitlines() if (entry := one_line(line)))
    if too_long := [entry for entry in entries if len(entry) > LONGEST_ENTRY]:
        raise MossAgentError(
            f"{what} has a line of {len(too_long[0])} characters; "
            f"write one word or phrase a line, of at most {LONGEST_ENTRY} characters."
        )
    return tuple(entries)
