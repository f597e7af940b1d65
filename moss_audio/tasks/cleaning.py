"""What surrounds an answer: special tokens, thought, code fences, preambles, and loops inside it."""

from __future__ import annotations

import re

from moss_audio.generation.loops import cut_loops
from moss_audio.tasks.results import Dropped, has_words

_SPECIAL = re.compile(r"<\|([A-Za-z_][\w/ -]{0,40})\|>")
_THOUGHT_TAG = re.compile(r"<(/?)think(?:ing)?>", re.IGNORECASE)
_FENCE = re.compile(r"```(?:[\w+-]{1,20}(?=[ \t]{0,20}(?:\r|\n|\Z))|(?:json|text|txt|plaintext|markdown)\b)?")
_PREAMBLE = re.compile(
    r"\s{0,20}(?:(?:sure|certainly|of course|okay|ok)[,.!]?\s{1,5})?"
    r"(?:here(?:'s|’s| is) (?:the|a|your) [^\n:：]{0,60}"
    r"|the (?:transcript|transcription)[^\n:：]{0,60}"
    r"|\*{0,2}transcri(?:pt|ption)|转录(?:文本|结果)?|转写(?:文本|结果)?|以下是[^\n:：]{0,40})"
    r"\*{0,2}\s{0,3}[:：]\*{0,2}\s{0,20}",
    re.IGNORECASE,
)


def clean(text: str) -> tuple[str, list[Dropped]]:
    """Take away special tokens and thought, which are no part of any answer.

    Args:
        text: Output of the model, decoded with or without its special tokens.

    Returns:
        The answer with nothing else changed, and what was taken away.
    """
    text, tokens = _without_special_tokens(text)
    text, thoughts = _without_thought(text)
    return text, tokens + thoughts


def _without_special_tokens(text: str) -> tuple[str, list[Dropped]]:
    """Drop tokens such as ``<|im_end|>``, and every turn that the model invented after its own."""
    kept: list[str] = []
    dropped: list[Dropped] = []
    reached = 0
    for match in _SPECIAL.finditer(text):
        kept.append(text[reached : match.start()])
        reached = match.end()
        if match[1] == "im_start" and has_words("".join(kept)):
            reason = "the model went on with a turn that is not its own"
            return "".join(kept), [*dropped, Dropped(text[match.start() :], reason, "invented turn")]
        if match[1] == "im_start" and text.startswith("assistant", reached):
            reached += len("assistant")
        dropped.append(Dropped(text[match.start() : reached], "a special token, no text", "special token"))
    return "".join([*kept, text[reached:]]), dropped


def _without_thought(text: str) -> tuple[str, list[Dropped]]:
    """Drop thought, also where its opening or its closing tag is missing."""
    answer: list[str] = []
    dropped: list[Dropped] = []
    thinking, reached = False, 0
    for tag in _THOUGHT_TAG.finditer(text):
        piece, closing = text[reached : tag.start()], bool(tag[1])
        # A close that comes first ends a thought which the prompt had opened.
        if thinking or (closing and reached == 0):
            _thought(dropped, piece, "thought before the answer")
        else:
            answer.append(piece)
        thinking, reached = not closing, tag.end()
    if thinking:
        _thought(dropped, text[reached:], "a thought that never ended, so there is no answer after it")
    else:
        answer.append(text[reached:])
    return "".join(answer), dropped


def _thought(dropped: list[Dropped], piece: str, reason: str) -> None:
    if piece.strip():
        dropped.append(Dropped(piece.strip(), reason, "thinking"))


def without_fences(text: str) -> tuple[str, list[Dropped]]:
    """Drop the marks of code fences and keep what is inside and outside of them."""
    dropped = [Dropped(match[0], "the mark of a code fence", "fence") for match in _FENCE.finditer(text)]
    return (_FENCE.sub("", text), dropped) if dropped else (text, [])


def inside_fences(text: str) -> tuple[str, list[Dropped]]:
    """Where there are code fences, keep only what is inside of them; unless that is nothing."""
    parts = _FENCE.split(text)
    if not has_words("".join(parts[1::2])):
        return without_fences(text)
    dropped = without_fences(text)[1]
    for outside in parts[0::2]:
        if outside.strip():
            dropped.append(
                Dropped(outside.strip(), "outside the code fence that holds the answer", "explanation")
            )
    return "\n".join(part.strip() for part in parts[1::2] if part.strip()), dropped


def without_preamble(text: str) -> tuple[str, list[Dropped]]:
    """Drop an announcement such as “Here is the transcript:” before an answer."""
    match = _PREAMBLE.match(text)
    if match is None or not has_words(text[match.end() :]):
        return text, []
    return text[match.end() :], [Dropped(match[0].strip(), "announces the answer", "explanation")]


def without_loops(text: str) -> tuple[str, list[Dropped]]:
    """Cut loops out of one text; the first saying of each phrase stays."""
    kept, cut = cut_loops([text])
    return kept[0].strip(), [Dropped(words, "says again what was just said", "loop") for _, words in cut]
