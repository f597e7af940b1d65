"""Text that was composed by rule from what tools returned, told apart from what a language model wrote."""

from __future__ import annotations

from langchain_core.messages import BaseMessage

BY_RULE = "by_rule"
"""Key of ``additional_kwargs``: how many characters at the end of the message were composed by rule.

In a stream it comes with the first of them, and all that follows in that message is by rule too.
"""


def by_rule(message: BaseMessage) -> int:
    """Characters at the end of a message that were composed by rule."""
    return int(message.additional_kwargs.get(BY_RULE) or 0)
