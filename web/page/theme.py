"""What the page looks like: a Gradio theme of system fonts, and the files of ``static/``, read once.

The few icons of the page, drawn here so that none is fetched: 16 px, stroked in the text's colour.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from gradio.themes import Base
from gradio.themes.utils.fonts import Font

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
    "person": '<circle cx="8" cy="5.4" r="2.6"/><path d="M3 13.2c.5-2.7 2.4-4 5-4s4.5 1.3 5 4"/>',
    "play": '<path class="when-paused" d="M5 3l8 5-8 5z" fill="currentColor"/>',
    "pause": '<path class="when-playing" d="M5 3.5v9M11 3.5v9" stroke-width="2.4"/>',
    "volume": '<path d="M2.5 6.2v3.6h2.3L8 12.5v-9L4.8 6.2z"/><path d="M10.3 5.8a3 3 0 0 1 0 4.4"/>',
    "link": '<path d="M6.8 9.2a2.6 2.6 0 0 0 3.7 0l2-2a2.6 2.6 0 0 0-3.7-3.7l-.8.8"/>'
    '<path d="M9.2 6.8a2.6 2.6 0 0 0-3.7 0l-2 2a2.6 2.6 0 0 0 3.7 3.7l.8-.8"/>',
    "keys": '<rect x="1.5" y="4" width="13" height="8.5" rx="1.6"/>'
    '<path d="M4 6.8h.01M6.7 6.8h.01M9.3 6.8h.01M12 6.8h.01M5 10h6"/>',
    "again": '<path d="M12.6 6.2A5 5 0 1 0 13 9.4M13 2.8v3.6H9.4"/>',
    "comment": '<path d="M2.5 3h11v7.5H8L5 13v-2.5H2.5zM5 6h6M5 8h4"/>',
}


def icon(name: str) -> str:
    """One icon as inline SVG, hidden from screen readers: the control around it carries the name."""
    return (
        '<svg class="icon" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" fill="none" '
        'stroke="currentColor" stroke-width="1.3" stroke-linecap="round" stroke-linejoin="round">'
        f"{_SHAPES[name]}</svg>"
    )


STATIC = Path(__file__).parent / "static"
STYLES = (
    "tokens.css",
    "page.css",
    "library.css",
    "recording.css",
    "timeline.css",
    "panels.css",
    "edit.css",
    "chat.css",
    "voices.css",
)
SCRIPTS = (
    "page.js",
    "library.js",
    "microphone.js",
    "player.js",
    "transcript.js",
    "moment.js",
    "timeline.js",
    "panels.js",
    "comments.js",
    "edit.js",
    "voices.js",
    "keyboard.js",
)

SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def theme() -> Base:
    """Gradio's variables, tied to ours in ``static/tokens.css``."""
    look = Base(font=[Font(name) for name in SANS], font_mono=[Font(name) for name in MONO])
    values = {
        "body_text_color": "var(--ink)",
        "body_text_color_subdued": "var(--ink-soft)",
        "background_fill_primary": "var(--surface)",
        "background_fill_secondary": "var(--paper)",
        "block_background_fill": "transparent",
        "block_border_width": "0px",
        "block_padding": "0",
        "block_shadow": "none",
        "border_color_primary": "var(--line)",
        "border_color_accent": "var(--accent)",
        "color_accent_soft": "var(--accent-soft)",
        "input_background_fill": "var(--surface)",
        "input_border_color": "var(--line-strong)",
        "input_border_color_focus": "var(--accent)",
        "input_placeholder_color": "var(--ink-soft)",
        "link_text_color": "var(--accent)",
        "link_text_color_hover": "var(--accent)",
        "link_text_color_visited": "var(--accent)",
        "button_primary_background_fill": "var(--accent)",
        "button_primary_background_fill_hover": "var(--accent-strong)",
        "button_primary_text_color": "var(--on-accent)",
        "button_secondary_background_fill": "var(--surface)",
        "button_secondary_background_fill_hover": "var(--hover)",
        "button_secondary_text_color": "var(--ink)",
    }
    both = {}
    for name, value in values.items():
        both[name] = value
        if hasattr(look, f"{name}_dark"):
            both[f"{name}_dark"] = value
    # Painted before our styles arrive, so these two are the colours themselves (--paper in tokens.css).
    both |= {"body_background_fill": "#f6f5f1", "body_background_fill_dark": "#131513"}
    return look.set(**both)


@cache
def head() -> str:
    """The page's styles and scripts, inline: they are there before Gradio builds the page.

    Styles are not handed to Gradio's ``css``, which would put every selector inside its own container.
    """
    styles, code = _joined(STYLES), _joined(SCRIPTS)
    return (
        '<meta name="color-scheme" content="light dark">'
        f"<style>\n{styles}\n</style><script>\n{code}\n</script>"
    )


def _joined(names: tuple[str, ...]) -> str:
    return "\n".join((STATIC / name).read_text(encoding="utf-8") for name in names)
