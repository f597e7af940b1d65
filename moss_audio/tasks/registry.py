"""The tasks: each a prompt and the parser that knows what comes back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from moss_audio.errors import PromptError
from moss_audio.tasks import prompts
from moss_audio.tasks.caption import parse_caption
from moss_audio.tasks.choosing import ask_choice, choice_frame, parse_choice
from moss_audio.tasks.events import parse_events
from moss_audio.tasks.plain import parse_description, parse_transcript
from moss_audio.tasks.results import Parsed
from moss_audio.tasks.timed import parse_sentences, parse_speakers, parse_words


class Parser(Protocol):
    """Reads what a model wrote; never raises on any text."""

    def __call__(self, text: str, duration: float | None = None) -> Parsed[Any]:
        """Read ``text``, the answer about a clip of ``duration`` seconds."""
        ...


@dataclass(frozen=True)
class Task:
    """One thing to ask about a clip.

    Attributes:
        name: As on the command line.
        title: What comes back, for help.
        prompt: What the model is asked; for a task with a question of the user's, what is said before it.
        parse: ``parse(text, duration)`` reads the answer. It raises on no text, and ``ValueError`` only on a
            duration that is none.
        greedy: Whether to decode greedily; else with the model's usual sampling.
        needs_question: Whether the user must ask something; see ``ask`` and ``choice``.
    """

    name: str
    title: str
    prompt: str
    parse: Parser
    greedy: bool = True
    needs_question: bool = False


_ALL = (
    Task("transcribe", "what is said", prompts.TRANSCRIBE, parse_transcript),
    Task("timestamps", "sentences with their times", prompts.SENTENCES, parse_sentences),
    Task("words", "words with their times", prompts.WORDS, parse_words),
    Task("speakers", "sentences with times and speaker labels", prompts.SPEAKERS, parse_speakers),
    Task("events", "sounds with their times", prompts.EVENTS, parse_events),
    Task("caption", "how a voice sounds, in thirteen fields", prompts.CAPTION, parse_caption),
    Task("music", "a description of the music", prompts.MUSIC, parse_description, greedy=False),
    Task("scene", "a description of the scene", prompts.SCENE, parse_description, greedy=False),
    Task("ask", "the answer to your question", "", parse_description, greedy=False, needs_question=True),
    Task("choice", "the option that fits", choice_frame(), parse_choice, needs_question=True),
)

TASKS: dict[str, Task] = {task.name: task for task in _ALL}
"""All tasks by name."""


def ask(question: str) -> Task:
    """The task of answering one question in prose.

    Raises:
        PromptError: If the question is empty.
    """
    if not question.strip():
        raise PromptError("The question is empty; write what you want to know about the audio.")
    return replace(TASKS["ask"], prompt=question.strip(), needs_question=False)


def choice(question: str, options: Sequence[str]) -> Task:
    """The task of choosing one of two to twenty-six options; its parser knows them.

    Raises:
        PromptError: If there is nothing to choose from, or an option is empty.
    """
    prompt = ask_choice(question, options)
    parse = partial(parse_choice, options=tuple(options))
    return replace(TASKS["choice"], prompt=prompt, parse=parse, needs_question=False)
