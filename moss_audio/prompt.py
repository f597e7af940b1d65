"""A prompt as text: the turns of the conversation, and where the audio goes.

A place for audio ("span") is written ``<|audio_bos|><|AUDIO|><|audio_eos|>``. The three strings are no
tokens; the processor cuts the text at its spans and puts ids there by number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

AUDIO_START = "<|audio_bos|>"
AUDIO = "<|AUDIO|>"
AUDIO_END = "<|audio_eos|>"
SPAN = AUDIO_START + AUDIO + AUDIO_END
"""One place for one recording. ``<|AUDIO|>`` may be repeated; it stays one recording."""

SYSTEM = "You are a helpful assistant."
"""What the released models were given as system text with audio."""

# A single-turn prompt with audio, in the pieces in which it is also built for fine-tuning:
# SYSTEM_TURN + USER_OPEN + audio + AFTER_AUDIO + question + ANSWER_OPEN + answer + ANSWER_CLOSE.
SYSTEM_TURN = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n"
USER_OPEN = "<|im_start|>user\n"
AFTER_AUDIO = "\n"
ANSWER_OPEN = "<|im_end|>\n<|im_start|>assistant\n"
ANSWER_CLOSE = "<|im_end|>"
NO_THOUGHT = "<think>\n\n</think>\n\n"
"""An empty thought, with which Qwen3 is told to answer at once."""

_SPAN = re.compile(f"{re.escape(AUDIO_START)}(?:{re.escape(AUDIO)})+{re.escape(AUDIO_END)}")


class Prompt(str):
    """A complete prompt, turns and all: the processor takes it as it is and wraps nothing around it.

    It stays one when text is added behind it; any other operation of ``str`` gives plain text.
    """

    __slots__ = ()

    def __add__(self, behind: str) -> Prompt:
        return Prompt(str(self) + behind)


def default_prompt(question: str, audio: bool = True, thinking: bool | None = None) -> Prompt:
    """The prompt of a single question, about one recording or none.

    Args:
        question: What is asked. Its control strings act as such; see ``defuse`` for text of others.
        audio: Whether a recording comes before the question.
        thinking: False hands the model an empty thought, so that it answers at once.
    """
    heard = SPAN + AFTER_AUDIO if audio else ""
    unthought = NO_THOUGHT if thinking is False else ""
    return Prompt(f"{SYSTEM_TURN}{USER_OPEN}{heard}{question}{ANSWER_OPEN}{unthought}")


def split_at_spans(text: str) -> list[str]:
    """The text between the spans, in order: one piece more than there are spans."""
    return _SPAN.split(text)


def defuse(text: str, control: Iterable[str]) -> str:
    """The text with every control string broken by a space after its first character.

    What people said, wrote or sent may contain ``<|im_end|>`` or an audio span; untouched, it would end its
    turn or ask for a recording. Broken, ``< |im_end|>`` is ordinary text. Other text stays as it is.

    Args:
        text: Text that must not steer the prompt.
        control: Strings with a meaning; shorter than two characters or with white space they are left alone.
    """
    pattern = _any_of(tuple(control))
    # Again, because a control string may begin within another one that has just been broken.
    while pattern is not None and pattern.search(text):
        text = pattern.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)
    return text


@lru_cache(maxsize=16)
def _any_of(control: tuple[str, ...]) -> re.Pattern[str] | None:
    usable = sorted({one for one in control if len(one) > 1 and not re.search(r"\s", one)})
    return re.compile("|".join(map(re.escape, usable))) if usable else None
