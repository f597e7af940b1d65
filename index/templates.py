"""The summary templates: what kind of conversation a recording is summarised as.

One list for settings, tools, command line and page; nothing heavy is imported with it.
"""

from __future__ import annotations

from typing import Literal, get_args

Template = Literal["meeting", "lecture", "interview", "standup", "call"]

TEMPLATES: tuple[Template, ...] = get_args(Template)

TEMPLATE_LABELS: dict[Template, str] = {
    name: "Stand-up" if name == "standup" else name.capitalize() for name in TEMPLATES
}
"""How each template is written on the page."""
