"""The templates of a summary, and the bar above it."""

from __future__ import annotations

from html import escape

from index.records import Recording

TEMPLATES = (
    ("Meeting", "meeting"),
    ("Lecture", "lecture"),
    ("Interview", "interview"),
    ("Stand-up", "standup"),
    ("Call", "call"),
)


def render_actions(recording: Recording | None, template: str) -> str:
    """Copy and download; empty while there is no summary."""
    if recording is None:
        return ""
    address = f"summary/{escape(recording.id)}.md?template={escape(template)}"
    return (
        f'<button type="button" class="btn" data-copy="{address}">Copy</button>'
        f'<a class="btn" href="{address}" download>Download .md</a>'
    )
