"""What the parsers of tasks report, as tests compare it."""

from __future__ import annotations

from typing import Any

from moss_audio.tasks import Parsed


def findings(parsed: Parsed[Any]) -> list[tuple[str, str]]:
    """The kind and the text of each finding."""
    return [(finding.kind, finding.text) for finding in parsed.dropped]
