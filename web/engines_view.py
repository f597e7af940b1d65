"""The foot of the left column: which engine hears and which answers, why, and how to get more."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.engines import Engines

LOOKING = "Looking for engines…"


def render_engines(engines: Engines | None, problem: str = "") -> str:
    """Two lines that are always there, and the reasons behind a click.

    Args:
        engines: What was chosen; None while that goes on.
        problem: Why nothing could be chosen.
    """
    if engines is None:
        kind = ' class="bad"' if problem else ""
        return f'<div class="engines"><p{kind}>{escape(problem or LOOKING)}</p></div>'
    hears, thinks = escape(engines.hears), escape(engines.thinks_with)
    reasons = [engines.why, _sent(engines), engines.more]
    return (
        '<details class="engines"><summary>'
        f"<span>Hears: <b>{hears}</b></span><span>Answers: <b>{thinks}</b></span>{_progress(engines)}"
        "<u>Why, and how to get more</u></summary>"
        + "".join(f"<p>{_code(one)}</p>" for one in reasons if one)
        + "</details>"
    )


def _progress(engines: Engines) -> str:
    if not engines.progress:
        return ""
    kind = "bad" if engines.failed else "warn"
    return f'<span class="{kind}">{escape(engines.progress)}</span>'


def _sent(engines: Engines) -> str:
    if engines.elsewhere is None:
        return ""
    what = "Questions and recordings are" if engines.listener else "Questions, with what was said, are"
    return f"{what} sent to {engines.elsewhere}."


def _code(text: str) -> str:
    """A sentence, its commands set apart."""
    parts = escape(text if text.endswith(".") else f"{text}.").split("`")
    return "".join(f"<code>{one}</code>" if at % 2 else one for at, one in enumerate(parts))
