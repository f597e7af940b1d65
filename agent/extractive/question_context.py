"""What the graph's state holds about a question, handed to a chat model with the system message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from langchain_core.messages import BaseMessage, SystemMessage

from agent.extractive.intents import Intent, understand
from agent.extractive.situation import Focus, Situation, read_situation

CONTEXT = "question_context"
"""Where the context lies in the system message's ``additional_kwargs``; no server is sent it."""


@dataclass(frozen=True)
class QuestionContext:
    """What is known of a question beside the conversation.

    Attributes:
        focus: The recording it is about, if known.
        recordings: How many recordings the library has.
        can_listen: Whether there is a tool that listens to audio again.
        intent: What it asks for, by rule; None to have it understood from the conversation.
    """

    focus: Focus | None = None
    recordings: int = 0
    can_listen: bool = False
    intent: Intent | None = None

    def situation(self, messages: Sequence[BaseMessage]) -> Situation:
        """The conversation as the planning rules look at it."""
        return read_situation(messages, self.focus, self.recordings, self.can_listen)

    def intent_of(self, situation: Situation) -> Intent:
        """What the question asks for."""
        return self.intent or understand(situation)


def context_of(messages: Sequence[BaseMessage]) -> QuestionContext:
    """The context that the system message carries; an empty one where none does."""
    for message in messages:
        if isinstance(message, SystemMessage):
            context = message.additional_kwargs.get(CONTEXT)
            if isinstance(context, QuestionContext):
                return context
    return QuestionContext()
