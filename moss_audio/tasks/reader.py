"""Read stamps, labels and words in whatever order a model wrote them, into drafts of timed text."""

from __future__ import annotations

import re

from moss_audio.tasks.drafts import Draft
from moss_audio.tasks.lines import read_lines
from moss_audio.tasks.marks import (
    CLOSE,
    DASH,
    OPEN,
    SPEAKER,
    TIME,
    TRUNCATED_STAMP,
    UNIT,
    has_words,
    one_line,
    seconds,
    speaker,
)
from moss_audio.tasks.results import Dropped, Kind

_GAP = r"\s{0,3}"
_MARK = re.compile(
    rf"{OPEN}{_GAP}(?:(?P<start>{TIME}){UNIT}"
    rf"(?:{_GAP}(?:{CLOSE}[ \t]{{0,3}}{DASH}[ \t]{{0,3}}{OPEN}|{DASH}|[,，]){_GAP}(?P<end>{TIME}){UNIT})?"
    rf"|(?P<speaker>{SPEAKER})){_GAP}{CLOSE}",
    re.IGNORECASE,
)
_NAMED = re.compile(rf"\W{{0,5}}{SPEAKER}[^\w:：]{{0,3}}[:：]", re.IGNORECASE)
_BLANK_LINE = re.compile(r"\n[ \t\r]{0,20}\n")


def read_drafts(text: str, labels: bool = False) -> tuple[list[Draft], list[Dropped]]:
    """Read timed text.

    Args:
        text: Clean model output.
        labels: Whether words such as ``Speaker 1:`` at the start of a part name who speaks.

    Returns:
        Drafts in the order of writing, and what belongs to none. Without a single bracketed time, lines such
        as ``00:01 - 00:03 hello`` are tried.
    """
    if any(match["start"] for match in _MARK.finditer(text)):
        reader = _Reader(text, labels)
        reader.read()
        return reader.drafts, reader.dropped
    drafts, dropped = read_lines(text)
    drafts = [_labelled(one, labels) for one in drafts]
    return drafts, dropped if drafts else [Dropped(one.text, one.reason, "no times") for one in dropped]


def _labelled(draft: Draft, labels: bool) -> Draft:
    who, words = _named(draft.text) if labels else (None, draft.text)
    return Draft(draft.start, draft.end, words, who, draft.raw)


def _named(text: str) -> tuple[str | None, str]:
    """Split ``Speaker 1: hello`` into label and words."""
    match = _NAMED.match(text)
    if match is None or not has_words(text[match.end() :]):
        return None, text
    return speaker(match["number"]), text[match.end() :].strip()


class _Reader:
    """A small state machine over marks: what is known of the part now open, and where it began."""

    def __init__(self, text: str, labels: bool) -> None:
        self.drafts: list[Draft] = []
        self.dropped: list[Dropped] = []
        self._text = text
        self._labels = labels
        self._started = False
        self._open(0)

    def _open(self, begin: int, start: float | None = None, end: float | None = None) -> None:
        self._begin = begin
        self._start = start
        self._end = end
        self._speaker: str | None = None

    def read(self) -> None:
        """Go through all marks once."""
        reached = 0
        for mark in _MARK.finditer(self._text):
            words = self._text[reached : mark.start()]
            reached = mark.end()
            if mark["speaker"]:
                self._on_speaker(words, mark)
            elif mark["end"]:
                self._on_range(words, mark)
            else:
                self._on_stamp(words, mark)
            self._started = True
        self._on_end(self._text[reached:])

    def _on_stamp(self, words: str, mark: re.Match[str]) -> None:
        time = seconds(mark["start"])
        if not has_words(words):
            self._restart(mark.start(), time)
        elif not self._started:
            self._drop(words, "stands before the first time", "explanation")
            self._open(mark.start(), time)
        elif self._end is not None:
            # The part told its end beforehand, so this stamp opens the next one.
            self._close(words, mark.start(), self._end)
            self._open(mark.start(), time)
        else:
            self._close(words, mark.end(), time)
            self._open(mark.end())

    def _on_range(self, words: str, mark: re.Match[str]) -> None:
        start, end = seconds(mark["start"]), seconds(mark["end"])
        if not has_words(words):
            self._restart(mark.start(), start, end)
        elif not self._started:
            self._drop(words, "stands before the first time", "explanation")
            self._open(mark.start(), start, end)
        else:
            self._close(words, mark.start(), self._end)
            self._open(mark.start(), start, end)

    def _restart(self, at: int, start: float, end: float | None = None) -> None:
        """Open a part where no words stand before; a label that waits for its words belongs to it."""
        label, begin = self._speaker, self._begin
        if self._start is not None:
            self._drop(self._text[begin:at], "no words between two times", "empty")
            begin = at
        self._open(begin if label else at, start, end)
        self._speaker = label

    def _on_speaker(self, words: str, mark: re.Match[str]) -> None:
        if has_words(words) and self._started:
            self._close(words, mark.start(), self._end)
            self._open(mark.start())
        elif has_words(words):
            self._drop(words, "stands before the first time", "explanation")
            self._open(mark.start())
        elif self._speaker:
            self._drop(f"[{self._speaker}]", "a label with no words", "empty")
        elif self._start is None:
            self._begin = mark.start()
        self._speaker = speaker(mark["number"])

    def _on_end(self, words: str) -> None:
        cut = TRUNCATED_STAMP.search(words)
        if cut:
            words = words[: cut.start()]
            self._drop(cut[0], "the output ends in the middle of it", "cut off")
        waits = self._start is not None or self._speaker is not None
        blank = _BLANK_LINE.search(words)
        if blank and has_words(words[: blank.start()]):
            self._drop(words[blank.end() :], "stands after the last time", "explanation")
            words = words[: blank.start()]
        if not has_words(words):
            if waits:
                self._drop(self._text[self._begin :], "a time or label with no words", "empty")
        elif not waits and words.lstrip(" \t\r").startswith("\n"):
            self._drop(words, "stands after the last time", "explanation")
        else:
            self._close(words, len(self._text), self._end)

    def _close(self, words: str, finish: int, end: float | None) -> None:
        who, text = self._speaker, one_line(words)
        if self._labels and who is None:
            who, text = _named(text)
        self.drafts.append(Draft(self._start, end, text, who, self._text[self._begin : finish].strip()))

    def _drop(self, text: str, reason: str, kind: Kind) -> None:
        if text.strip():
            self.dropped.append(Dropped(text.strip(), reason, kind))
