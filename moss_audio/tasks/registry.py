"""The tasks: each a prompt, and the parser that knows what comes back.

The prompts for transcription, sentence times, speakers and the speech caption are those that the makers of
MOSS-Audio published for it (in issues 3, 6 and 7 of OpenMOSS/MOSS-Audio), since a model does best on the
words it was evaluated with. The others are ours. Answers in plain words (a transcript without times, a
description) are read here; the other parsers have modules of their own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from moss_audio.errors import PromptError
from moss_audio.tasks.caption import parse_caption
from moss_audio.tasks.choice import ask_choice, choice_frame, parse_choice
from moss_audio.tasks.cleaning import clean, inside_fences, without_loops, without_preamble
from moss_audio.tasks.results import CLOSE, OPEN, Description, Dropped, Parsed, Transcript
from moss_audio.tasks.timed_text import parse_events, parse_sentences, parse_speakers, parse_words

TRANSCRIBE = "Transcribe the audio."

SENTENCES = (
    "Transcribe the audio into sentence-level timestamps using the format [xx.xx]text[yy.yy], where xx.xx "
    "and yy.yy are millisecond-precision timestamps rounded to two decimal places. Concatenate consecutive "
    "segments without breaks, for example [0.00]hello there[2.01][2.01]the weather is nice today[4.32]. "
    "Exclude any additional content such as explanations, headings, or annotations."
)

WORDS = (
    "Transcribe the audio into word-level timestamps using the format [xx.xx]word[yy.yy], where xx.xx and "
    "yy.yy are millisecond-precision timestamps rounded to two decimal places. Give every word its own pair "
    "of timestamps and concatenate consecutive words without breaks, for example "
    "[0.00]hello[0.42][0.50]there[0.91]. Exclude any additional content such as explanations, headings, or "
    "annotations."
)

SPEAKERS = (
    "Transcribe the audio into text. Each sentence should begin with a start timestamp and a speaker label "
    "([S01], [S02], [S03], …), followed by the corresponding spoken content, and end with an end timestamp "
    "to clearly indicate the time span of that sentence."
)

EVENTS = (
    "List every sound event in the audio in order of time, one event per line, in the format "
    "start_sec - end_sec: event description, for example 0.00 - 1.20: a dog barks. Times are seconds from "
    "the start of the audio, with two decimal places. Write nothing else."
)

CAPTION = (
    "Describe the vocal characteristics in the audio in JSON format. Include the following fields: gender, "
    "age, pitch, speed, volume, clarity, fluency, accent, texture, emotion, tone, personality, and summary. "
    "Fill each field with the corresponding description."
)

MUSIC = (
    "Describe the music in the audio: genre, instruments and voices, tempo, rhythm and key, mood, how it is "
    "produced, and how it changes over time. If there is no music, say so."
)

SCENE = (
    "Describe the scene in the audio: where it seems to be, what can be heard in the foreground and in the "
    "background, who or what makes each sound, and what is happening."
)


_STAMP = re.compile(rf"{OPEN}\s{{0,3}}\d{{1,7}}\.\d{{1,3}}\s{{0,3}}{CLOSE}")


def parse_transcript(text: str, duration: float | None = None) -> Parsed[Transcript]:
    """Read a transcript without times.

    Args:
        text: What the model wrote.
        duration: Not used; every parser takes it.

    Returns:
        The words said. Dropped: thought, fences and what stands outside them, an announcement before the
        words, time stamps that were not asked for, loops.
    """
    answer, dropped = clean(text)
    answer, found = inside_fences(answer)
    dropped += found
    answer, found = without_preamble(answer)
    dropped += found
    stamps = [
        Dropped(match[0], "a time that was not asked for", "stamp") for match in _STAMP.finditer(answer)
    ]
    if stamps:
        answer = " ".join(_STAMP.sub(" ", answer).split())
    answer, found = without_loops(answer)
    return Parsed(Transcript(answer), (*dropped, *stamps, *found))


def parse_description(text: str, duration: float | None = None) -> Parsed[Description]:
    """Read an answer in prose; its markdown stays as it is.

    Args:
        text: What the model wrote.
        duration: Not used; every parser takes it.

    Returns:
        The prose. Dropped: special tokens, thought, loops.
    """
    answer, dropped = clean(text)
    answer, found = without_loops(answer)
    return Parsed(Description(answer), (*dropped, *found))


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
    Task("transcribe", "what is said", TRANSCRIBE, parse_transcript),
    Task("timestamps", "sentences with their times", SENTENCES, parse_sentences),
    Task("words", "words with their times", WORDS, parse_words),
    Task("speakers", "sentences with times and speaker labels", SPEAKERS, parse_speakers),
    Task("events", "sounds with their times", EVENTS, parse_events),
    Task("caption", "how a voice sounds, in thirteen fields", CAPTION, parse_caption),
    Task("music", "a description of the music", MUSIC, parse_description, greedy=False),
    Task("scene", "a description of the scene", SCENE, parse_description, greedy=False),
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
