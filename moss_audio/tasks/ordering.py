"""Make times whole: fill in what is missing, stay within the clip, put in order; report each step."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

from moss_audio.tasks.drafts import Draft
from moss_audio.tasks.loops import words_of
from moss_audio.tasks.results import Dropped

ROUNDING_S = 0.005
"""Times are written in hundredths, so that an end may be written this much after the true one."""

A_LITTLE_OVER_S = 2.0
"""An end this much beyond the clip is taken for the clip's end; one further out for no end at all."""

A_LITTLE_OFF_S = 1.0
"""A part that starts this much out of order is moved; one further off is dropped."""

_SECONDS_PER_WORD = 0.4

Step = tuple[list[Draft], list[Dropped]]


def known_duration(duration: float | None) -> float:
    """The clip's length in seconds, infinite if unknown; ``ValueError`` if it is no length."""
    if duration is None:
        return math.inf
    if not duration >= 0:
        raise ValueError(f"the length of a clip is zero seconds or more, not {duration}")
    return float(duration)


def spoken_s(text: str) -> float:
    """About how long these words take, in seconds, at 150 words (or Chinese characters) a minute."""
    return len(words_of(text)) * _SECONDS_PER_WORD


@dataclass(frozen=True)
class Clock:
    """The clip's clock.

    Attributes:
        duration: Length of the clip in seconds; infinite if unknown.
        speech: Whether parts are speech, which lasts about as long as its words take; else a part without an
            end is a moment.
    """

    duration: float
    speech: bool = True

    def complete(self, drafts: Sequence[Draft]) -> Step:
        """Give every draft a start and an end, the start not after the end."""
        done: list[Draft] = []
        dropped: list[Dropped] = []
        for index, one in enumerate(drafts):
            previous = done[-1] if done else None
            following = drafts[index + 1].start if index + 1 < len(drafts) else None
            if one.start is None:
                one = replace(one, start=self._missing_start(one, previous))
                reason = f"no start time; taken to start at {one.start:.2f} s"
                dropped.append(Dropped(one.raw, reason, "no start tag"))
            if one.end is None:
                one = replace(one, end=self._missing_end(one, following))
                reason = f"no end time; taken to end at {one.end:.2f} s"
                dropped.append(Dropped(one.raw, reason, "no end tag"))
            assert one.start is not None and one.end is not None
            if one.end < one.start:
                reason = f"ends at {one.end:.2f} s, before its start at {one.start:.2f} s"
                one = self._turned(one, previous)
                reason += f"; taken as {one.start:.2f} s to {one.end:.2f} s"
                dropped.append(Dropped(one.raw, reason, "out of order"))
            done.append(one)
        return done, dropped

    def _missing_start(self, one: Draft, previous: Draft | None) -> float:
        if previous is not None and previous.end is not None:
            return previous.end if one.end is None else min(previous.end, one.end)
        return 0.0 if one.end is None else max(0.0, one.end - self._length(one.text))

    def _missing_end(self, one: Draft, following: float | None) -> float:
        """An estimate that claims no more of the clip than the words take."""
        assert one.start is not None
        end = one.start + self._length(one.text)
        if following is not None and following > one.start:
            end = min(end, following)
        return max(one.start, min(end, self.duration))

    def _length(self, text: str) -> float:
        return spoken_s(text) if self.speech else 0.0

    def _turned(self, one: Draft, previous: Draft | None) -> Draft:
        """Sounds are listed with times swapped; words rather with one time wrong."""
        assert one.start is not None and one.end is not None
        if not self.speech:
            return replace(one, start=one.end, end=one.start)
        before = previous.end if previous is not None and previous.end is not None else 0.0
        return replace(one, start=before) if before <= one.end else replace(one, end=one.start)

    def within(self, drafts: Sequence[Draft]) -> Step:
        """Drop what lies wholly beyond the clip, and pull in ends that do."""
        kept: list[Draft] = []
        dropped: list[Dropped] = []
        for one in drafts:
            assert one.start is not None and one.end is not None
            over = one.end - self.duration
            if one.start > self.duration or (one.start == self.duration and over > ROUNDING_S):
                reason = f"starts at {one.start:.2f} s, beyond the clip of {self.duration:.2f} s"
                dropped.append(Dropped(one.raw, reason, "beyond the clip"))
                continue
            if over > 0:
                end = self.duration
                if over > A_LITTLE_OVER_S and self.speech:
                    end = min(end, one.start + self._length(one.text))
                if over > ROUNDING_S:
                    reason = f"ends at {one.end:.2f} s, beyond the clip of {self.duration:.2f} s"
                    reason += f"; taken to end at {end:.2f} s"
                    dropped.append(Dropped(one.raw, reason, "beyond the clip"))
                one = replace(one, end=end)
            kept.append(one)
        return kept, dropped


def in_order(drafts: Sequence[Draft]) -> Step:
    """Keep the longest run of parts whose starts never fall; of the others, those a little off are moved.

    One wild time thus costs one part, not all that follow it.
    """
    keep = _longest_rise([one.start or 0.0 for one in drafts])
    ceilings = _ceilings(drafts, keep)
    kept: list[Draft] = []
    dropped: list[Dropped] = []
    for one, fits, ceiling in zip(drafts, keep, ceilings, strict=True):
        assert one.start is not None and one.end is not None
        floor = (kept[-1].start or 0.0) if kept else 0.0
        moved = min(max(one.start, floor), ceiling)
        if fits:
            kept.append(one)
        elif abs(moved - one.start) <= A_LITTLE_OFF_S and moved <= one.end:
            reason = f"starts at {one.start:.2f} s, out of order; moved to {moved:.2f} s"
            dropped.append(Dropped(one.raw, reason, "out of order"))
            kept.append(replace(one, start=moved))
        else:
            reason = f"starts at {one.start:.2f} s, against the order of the parts around it"
            dropped.append(Dropped(one.raw, reason, "out of order"))
    return kept, dropped


def _ceilings(drafts: Sequence[Draft], keep: Sequence[bool]) -> list[float]:
    """For each part, the start of the next one that fits."""
    found: list[float] = []
    ceiling = math.inf
    for one, fits in zip(reversed(drafts), reversed(keep), strict=True):
        if fits:
            ceiling = one.start or 0.0
        found.append(ceiling)
    return found[::-1]


def sorted_by_start(drafts: Sequence[Draft]) -> Step:
    """Sort parts by their starts, and say which were not where they belong."""
    keep = _longest_rise([one.start or 0.0 for one in drafts])
    dropped = [
        Dropped(one.raw, f"starts at {one.start:.2f} s, listed out of order; moved", "out of order")
        for one, fits in zip(drafts, keep, strict=True)
        if not fits
    ]
    return sorted(drafts, key=lambda one: one.start or 0.0), dropped


def _longest_rise(values: Sequence[float]) -> list[bool]:
    """Which values belong to one longest subsequence that never falls (patience sorting, n log n)."""
    tops: list[float] = []
    owners: list[int] = []
    before: list[int] = []
    for index, value in enumerate(values):
        pile = bisect_right(tops, value)
        before.append(owners[pile - 1] if pile else -1)
        if pile == len(tops):
            tops.append(value)
            owners.append(index)
        else:
            tops[pile], owners[pile] = value, index
    keep = [False] * len(values)
    at = owners[-1] if owners else -1
    while at >= 0:
        keep[at], at = True, before[at]
    return keep
