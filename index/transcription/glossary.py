"""A glossary: words and phrases that must be spelled right, one a line of a text file."""

from __future__ import annotations

from pathlib import Path

from index.recording_errors import MossAgentError
from index.text import one_line

MOST_BYTES = 65_536
"""A larger file is no glossary."""

LONGEST_ENTRY = 80
"""Characters of one word or phrase."""


def read_glossary(path: Path) -> tuple[str, ...]:
    """The words and phrases of a file in its order, each once; empty lines are left out.

    Raises:
        MossAgentError: The file cannot be read, is too large, is not UTF-8, or has a line that is no phrase.
    """
    try:
        with path.expanduser().open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise MossAgentError(
            f"The glossary {path} cannot be read ({error.strerror or type(error).__name__}); "
            "check MOSS_AGENT_GLOSSARY."
        ) from error
    except UnicodeDecodeError as error:
        raise MossAgentError(f"The glossary {path} is not a text file in UTF-8.") from error
    if len(data) > MOST_BYTES:
        raise MossAgentError(f"The glossary {path} is too large; it may have {MOST_BYTES // 1024} KiB.")
    entries = dict.fromkeys(entry for line in text.splitlines() if (entry := one_line(line)))
    if too_long := [entry for entry in entries if len(entry) > LONGEST_ENTRY]:
        raise MossAgentError(
            f"The glossary {path} has a line of {len(too_long[0])} characters; "
            f"write one word or phrase a line, of at most {LONGEST_ENTRY} characters."
        )
    return tuple(entries)
