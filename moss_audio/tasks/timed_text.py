"""Timed text: sentences, words and turns of speakers in the form ``[0.00]hello there[2.01]``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from moss_audio.generation.loops import cut_loops, words_of
from moss_audio.tasks.cleaning import clean, without_fences
from moss_audio.tasks.drafts import Clock, Draft, in_order, known_duration, read_drafts
from moss_audio.tasks.results import Dropped, Parsed, TimedText, TimedTexts, has_words

Step = Callable[[list[Draft]], tuple[list[Draft], list[Dropped]]]


def parse_sentences(text: str, duration: float | None = None) -> Parsed[TimedTexts]:
    """Read a transcript with the times of its sentences.

    Args:
        text: What the model wrote.
        duration: Length of the clip in seconds; None if unknown, then no time counts as beyond it.

    Returns:
        Sentences with ``0 <= start <= end <= duration``, starts never falling, no empty text. Reported: all
        text without times, times that were missing and are estimates, times beyond the clip or out of order,
        loops, and everything that surrounds the answer.
    """
    return _parse(text, duration)


def parse_words(text: str, duration: float | None = None) -> Parsed[TimedTexts]:
    """Read a transcript with the times of its words; like ``parse_sentences``, with one word in each part.

    Where the model put several words between two stamps, their time is shared out by length, and reported.
    """
    return _parse(text, duration, _one_word_each)


def parse_speakers(text: str, duration: float | None = None) -> Parsed[TimedTexts]:
    """Read a transcript with times and speaker labels; like ``parse_sentences``, with ``speaker`` set.

    Labels such as ``[S1]``, ``[Speaker 1]`` or ``Speaker 1:`` become ``S01``. A part without one is reported.
    """
    parsed = _parse(text, duration, labels=True)
    unknown = [
        Dropped(part.text, f"nobody is named for the words at {part.start:.2f} s", "no speaker")
        for part in parsed.value
        if part.speaker is None
    ]
    return replace(parsed, dropped=(*parsed.dropped, *unknown))


def _parse(text: str, duration: float | None, *extra: Step, labels: bool = False) -> Parsed[TimedTexts]:
    clock = Clock(known_duration(duration))
    answer, dropped = clean(text)
    answer, found = without_fences(answer)
    dropped += found
    drafts, found = read_drafts(answer, labels)
    dropped += found
    steps: tuple[Step, ...] = (_without_loops, clock.complete, clock.within, in_order, *extra)
    for step in steps:
        drafts, found = step(drafts)
        dropped += found
    return Parsed(TimedTexts(_settled(drafts)), tuple(dropped))


def _settled(drafts: list[Draft]) -> Iterator[TimedText]:
    for draft in drafts:
        assert draft.start is not None and draft.end is not None
        yield TimedText(draft.start, draft.end, draft.text, draft.speaker)


def _without_loops(drafts: list[Draft]) -> tuple[list[Draft], list[Dropped]]:
    """Cut loops of words that run through one part or through many, and parts that stand there twice."""
    seen: set[tuple[float | None, float | None, str]] = set()
    once: list[Draft] = []
    dropped: list[Dropped] = []
    for draft in drafts:
        same = (draft.start, draft.end, draft.text)
        if same in seen and draft.end is not None:
            dropped.append(Dropped(draft.raw, "stands there already, with the same times", "loop"))
        else:
            once.append(draft)
        seen.add(same)
    texts, cut = cut_loops([draft.text for draft in once])
    # A part that is gone entirely is reported with its times.
    for owner, words in cut:
        raw = words if has_words(texts[owner]) else once[owner].raw
        dropped.append(Dropped(raw, "says again what was just said", "loop"))
    kept = [
        replace(draft, text=text) for draft, text in zip(once, texts, strict=True) if text and has_words(text)
    ]
    return kept, dropped


@dataclass(frozen=True)
class _Share:
    """How much of a part's time its words before this one took, and what it takes itself."""

    word: str
    before: int
    size: int


def _one_word_each(drafts: list[Draft]) -> tuple[list[Draft], list[Dropped]]:
    words: list[Draft] = []
    dropped: list[Dropped] = []
    for draft in drafts:
        shares = _shares(draft.text)
        if len(shares) < 2:
            words.append(replace(draft, text=shares[0].word))
            continue
        reason = f"{len(shares)} words between two stamps; their times within are shared out by length"
        dropped.append(Dropped(draft.raw, reason, "several words"))
        assert draft.start is not None and draft.end is not None
        length = draft.end - draft.start
        total = shares[-1].before + shares[-1].size
        for share in shares:
            begin = draft.start + length * share.before / total
            finish = min(draft.end, draft.start + length * (share.before + share.size) / total)
            words.append(replace(draft, start=min(begin, finish), end=finish, text=share.word))
    # Shares of overlapping parts interleave.
    return sorted(words, key=lambda word: word.start or 0.0), dropped


def _shares(text: str) -> list[_Share]:
    """Words of a text and their sizes; punctuation that stands alone goes with the word before it."""
    joined: list[str] = []
    for piece in text.split():
        if joined and not (has_words(piece) and has_words(joined[-1])):
            joined[-1] += piece
        else:
            joined.append(piece)
    shares: list[_Share] = []
    before = 0
    for word in joined:
        size = max(1, len(words_of(word)) if not word.isascii() else len(word))
        shares.append(_Share(word, before, size))
        before += size
    return shares
