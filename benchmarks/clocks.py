"""Whether a transcript that does not fit its media is noticed: talks simulated from real meetings.

    python -m benchmarks.clocks FILE.jsonl.gz [--talks N] [--seed N]

A talk of 3 to 60 minutes has sentences as long as those of a meeting in the file, at 0.35 s a word, and
pauses of all lengths. Its transcript has times as inexact as recognisers and subtitles have them, in turns;
speech is detected a little off, some of it missed, some split, some where nobody speaks. Then the media have
one pause more, or one stretch is cut out of them, of three lengths each; and the same transcript is moved,
runs fast or slow, or is another talk's, where no break must be found.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.common import show
from index.imports.fit_clock import Clock, find_clock
from index.records import Segment, Span

SECONDS_A_WORD = 0.35
BREAKS = ((2.5, 5.0), (5.0, 10.0), (10.0, 35.0))
LENGTHS = {"3 to 6 min": 6.0, "6 to 15 min": 15.0, "15 to 60 min": 60.0}
NEAR_SECONDS, NEAR_PLACE = 0.7, 30.0
"""How exact a break's length and its place must be to count as told rightly, seconds."""

WITHOUT = {
    "as it is": Clock(),
    "later by 30 s": Clock(30.0),
    "0.1 % fast": Clock(0.0, 1.001),
    "0.2 % slow, later by 5 s": Clock(5.0, 0.998),
    "24 frames a second instead of 25": Clock(0.0, 24 / 25),
}

Times = list[tuple[float, float]]


def talk(words: Sequence[int], seconds: float, rng: np.random.Generator) -> Times:
    """When sentences of so many words are said."""
    at, said = float(rng.uniform(0.5, 5.0)), []
    number = int(rng.integers(0, max(1, len(words) - 20)))
    while True:
        count = words[number % len(words)]
        number += 1
        length = max(0.3, count * SECONDS_A_WORD * float(rng.lognormal(0.0, 0.2)))
        if at + length > seconds - 2.0:
            return said
        said.append((at, at + length))
        at += length + min(15.0, float(rng.lognormal(-0.7, 1.1)))


def recognised(said: Times, rng: np.random.Generator) -> Times:
    """The times that a recogniser has for it."""
    return _positive(
        [
            (start + rng.normal(0, 0.15), end + rng.normal(0, 0.2))
            for start, end in said
            if rng.random() > 0.02
        ]
    )


def subtitled(said: Times, rng: np.random.Generator) -> Times:
    """The times that subtitles have for it: short sentences share one, which stays a little."""
    joined: Times = []
    for start, end in said:
        if rng.random() < 0.05:
            continue
        if joined and start - joined[-1][1] < 1.0 and end - joined[-1][0] < 7.0:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return _positive([(start - rng.uniform(0, 0.3), end + rng.uniform(0, 0.6)) for start, end in joined])


def _positive(times: Times) -> Times:
    return sorted((max(0.0, start), max(max(0.0, start) + 0.2, end)) for start, end in times)


def detected(said: Times, rng: np.random.Generator) -> list[Span]:
    """The speech that is found in it."""
    found: Times = []
    for start, end in said:
        start, end = start + rng.normal(0, 0.08), end + rng.normal(0, 0.12)
        if rng.random() < 0.03:
            continue
        if rng.random() < 0.05:
            found.append((end + 0.3, end + 0.3 + rng.uniform(0.4, 2.0)))
        while end - start > 4.0:
            middle = start + rng.uniform(1.0, end - start - 1.0)
            found.append((start, middle))
            start = middle + 0.3
        if end > start + 0.15:
            found.append((start, end))
    spans: list[Span] = []
    for start, end in sorted((max(0.0, start), end) for start, end in found):
        if spans and start <= spans[-1].end:
            spans[-1] = Span(spans[-1].start, max(end, spans[-1].end))
        else:
            spans.append(Span(start, end))
    return spans


def broken(said: Times, at: float, by: float) -> Times:
    """What media have with a pause of so many seconds put in there, or where negative, cut out."""
    kept = [(start, end) for start, end in said if end <= at or start >= at + max(0.0, -by)]
    return [(start, end) if start < at else (start + by, end + by) for start, end in kept]


def _segments(times: Times, clock: Clock) -> list[Segment]:
    return [Segment(round(clock.at(start), 3), round(clock.at(end), 3), "said") for start, end in times]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Whether a transcript that does not fit is noticed.")
    parser.add_argument("file", type=Path, help="meetings, one JSON object a line, gzipped")
    parser.add_argument("--talks", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with gzip.open(options.file, "rt", encoding="utf-8") as lines:
        meetings = [
            [count for _, said in json.loads(line)["sentences"] if (count := len(said.split()))]
            for line in lines
        ]
    found: dict[tuple[str, str], list[tuple[bool, bool]]] = {}
    for number in range(options.talks):
        rng = np.random.default_rng(options.seed + number)
        seconds = 60.0 * float(np.exp(rng.uniform(np.log(3), np.log(60))))
        length = next(name for name, most in LENGTHS.items() if seconds <= 60 * most)
        said = talk(meetings[int(rng.integers(len(meetings)))], seconds, rng)
        write = subtitled if number % 2 else recognised
        written = write(said, rng)
        for least, most in BREAKS:
            for name, sign in (("pause", 1), ("cut", -1)):
                by, at = sign * float(rng.uniform(least, most)), seconds * float(rng.uniform(0.2, 0.8))
                heard = detected(broken(said, at, by), rng)
                _, leap = find_clock(_segments(written, Clock()), heard, seconds + by)
                is_right = (
                    leap is not None and abs(leap[1] - by) < NEAR_SECONDS and abs(leap[0] - at) < NEAR_PLACE
                )
                row = f"{name} of {least:g} to {most:g} s", length
                found.setdefault(row, []).append((leap is not None, is_right))
        for name, clock in WITHOUT.items():
            _, leap = find_clock(_segments(written, clock), detected(said, rng), seconds)
            found.setdefault((name, length), []).append((leap is not None, leap is None))
        other = write(talk(meetings[int(rng.integers(len(meetings)))], seconds - 5.0, rng), rng)
        moved, leap = find_clock(_segments(other, Clock()), detected(said, rng), seconds)
        is_left = leap is None and moved == Clock()
        found.setdefault(("another talk's", length), []).append((leap is not None, is_left))
    rows = []
    for name in dict.fromkeys(name for name, _ in found):
        row: dict[str, object] = {"the transcript, or the media": name}
        for length in LENGTHS:
            seen = found.get((name, length), [])
            row[length] = f"{sum(one for one, _ in seen)}, {sum(two for _, two in seen)} / {len(seen)}"
        rows.append(row)
    result = {f"{name}, {length}": value for (name, length), value in found.items()}
    show("Breaks found, told rightly / all", rows, {"clocks": result})


if __name__ == "__main__":
    main()
