"""The few icons of the page, drawn here so that none is fetched: 16 px, stroked in the text's colour."""

from __future__ import annotations

_SHAPES = {
    "close": '<path d="M4 4l8 8M12 4l-8 8"/>',
    "edit": '<path d="M10.5 3.5l2 2L6 12l-2.7.7L4 10z"/>',
    "export": '<path d="M8 2.5v7M5 6.8l3 3 3-3M3 13h10"/>',
    "upload": '<path d="M8 10v-7M5 5.8l3-3 3 3M3 13h10"/>',
    "mic": '<rect x="6" y="2" width="4" height="7.5" rx="2"/><path d="M3.5 7.5a4.5 4.5 0 0 0 9 0M8 12v2"/>',
    "theme": '<circle cx="8" cy="8" r="5.5"/><path d="M8 2.5v11a5.5 5.5 0 0 0 0-11z" fill="currentColor"/>',
    "search": '<circle cx="7" cy="7" r="4.2"/><path d="M10.2 10.2l3.3 3.3"/>',
    "library": '<path d="M3 3.5h10M3 8h10M3 12.5h6"/>',
    "wave": '<path d="M2 7v2M5 4.5v7M8 2.5v11M11 5.5v5M14 7v2"/>',
    "chat": '<path d="M3 3h10v7.5H7L4 13v-2.5H3z"/>',
}


def icon(name: str) -> str:
    """One icon as inline SVG, hidden from screen readers: the control around it carries the name."""
    return (
        '<svg class="icon" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" fill="none" '
        'stroke="currentColor" stroke-width="1.3" stroke-linecap="round" stroke-linejoin="round">'
        f"{_SHAPES[name]}</svg>"
    )
