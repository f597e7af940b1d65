"""Time expressions: each form of the documentation, what must not be read as one, and their arithmetic."""

from __future__ import annotations

import re
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from agent.extractive.time_expressions import TimeRange, TopicRange, find_time

DOCUMENT = (Path(__file__).parents[2] / "docs" / "time-expressions.md").read_text()
TEN_MINUTES = 600.0
HOUR, MINUTE = 3600, 60


def seconds(label: str) -> float:
    total = 0
    for part in label.split(":"):
        total = total * 60 + int(part)
    return float(total)


def span(text: str, duration: float | None = TEN_MINUTES) -> tuple[float, float]:
    found = find_time(text, duration)
    assert isinstance(found, TimeRange), f"{text!r} gave {found}"
    return found.start, found.end


# --- the documentation --------------------------------------------------------------------------------

ROWS = re.findall(r"^\| `(.+)` \| ([\d:]+)–([\d:]+) \|$", DOCUMENT, re.MULTILINE)
TOPIC_ROWS = re.findall(r"^\| `(.+)` \| (before|after): (.+) \|$", DOCUMENT, re.MULTILINE)
LOOKALIKES = re.findall(r"`([^`]+)`", DOCUMENT.partition("## What is not a time expression")[2])


def test_every_row_of_the_documentation_is_run():
    rows = [line for line in DOCUMENT.splitlines() if line.startswith("| `")]
    assert len(rows) == len(ROWS) + len(TOPIC_ROWS) > 70
    assert len(LOOKALIKES) > 20


@pytest.mark.parametrize("phrase,start,end", ROWS)
def test_a_documented_expression_means_what_the_table_says(phrase: str, start: str, end: str):
    assert span(phrase) == (seconds(start), seconds(end))


@pytest.mark.parametrize("frame", ["What did Anna say {}?", "{}: who spoke", "  {}  ", "So, {}…"])
@pytest.mark.parametrize(
    "phrase,start,end", [row for row in ROWS if row[0][-1] not in "?]" and "[" not in row[0]]
)
def test_expressions_are_found_inside_questions_in_any_case(phrase: str, start: str, end: str, frame: str):
    assert span(frame.format(phrase)) == (seconds(start), seconds(end))
    assert span(frame.format(phrase).upper()) == (seconds(start), seconds(end))


@pytest.mark.parametrize("phrase,direction,topic", TOPIC_ROWS)
def test_a_documented_topic_is_read(phrase: str, direction: str, topic: str):
    found = find_time(phrase, TEN_MINUTES)
    assert isinstance(found, TopicRange)
    assert (found.direction, found.topic) == (direction, topic)
    assert found.phrase in phrase


@pytest.mark.parametrize("phrase", LOOKALIKES)
def test_a_documented_lookalike_is_left_alone(phrase: str):
    assert find_time(phrase, TEN_MINUTES) is None


# --- more forms -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text,start,end,kind",
    [
        ("what was said at minute 2?", 120, 180, "minute"),
        ("What did we hear in the second minute", 60, 120, "minute"),
        ("at min 2", 120, 180, "minute"),
        ("minute number 4", 240, 300, "minute"),
        ("at the 1 minute 30 second mark", 75, 105, "moment"),
        ("at 1 min 20 sec", 65, 95, "moment"),
        ("at 12 minutes and 5 seconds", 710, 740, "moment"),
        ("an hour and a half in", 5385, 5415, "moment"),
        ("at three quarters of an hour", 2685, 2715, "moment"),
        ("twenty-five minutes in, who speaks?", 1485, 1515, "moment"),
        ("at 3:05.5", 170.5, 200.5, "moment"),
        ("@2:15", 120, 150, "moment"),
        ("at 0:05", 0, 20, "moment"),
        ("from 90 seconds to two minutes", 90, 120, "range"),
        ("from two minutes to four", 120, 240, "range"),
        ("between one and a half and two minutes", 90, 120, "range"),
        ("between 3 and 1 minutes", 60, 180, "range"),
        ("from 1h to 1h30", 3600, 5400, "range"),
        ("seconds 10 to 20", 10, 20, "range"),
        ("between minute 1:30 and 2:00", 90, 120, "range"),
        ("from 30 seconds on", 30, 600, "range"),
        ("2:30 onwards", 150, 600, "range"),
        ("until the third minute", 0, 180, "range"),
        ("the first 1:30", 0, 90, "first"),
        ("the first half hour", 0, 1800, "first"),
        ("the closing two minutes", 480, 600, "last"),
        ("at the last minute of the meeting", 540, 600, "last"),
        ("the 2nd half", 300, 600, "part"),
        ("the second third", 200, 400, "part"),
        ("towards the end of the harbour meeting", 540, 600, "end"),
    ],
)
def test_more_ways_to_say_it(text: str, start: float, end: float, kind: str):
    found = find_time(text, TEN_MINUTES)
    assert found == TimeRange(start, end, found.phrase if found else "", kind)


@pytest.mark.parametrize(
    "text",
    [
        "and after that?",
        "what came before this?",
        "after it",
        "before and after",
        "see you at 2:15pm",
        "at 9:30 on Wednesday",
        "at 10:30 a.m.",
        "what is due after Wednesday",
        "what must be done before the opening?",
        "who looks after the money?",
        "day after tomorrow",
        "what did he say about 10 minutes?",
        "a talk of around 10 minutes",
        "it rose from 10 minutes to 5",
        "3 minutes in the rain",
        "at 10 minutes to 3",
        "half past two",
        "at the last minute",
        "in the last 24 hours",
        "revenue in the last quarter",
        "one minute please",
        "the minutes of the meeting",
        "the minutes 2024 budget",
        "a 10 minute 2 mile walk",
        "the start-up",
        "in the beginning-of-year report",
        "for the first time",
        "the second decision",
        "two thirds of the people",
        "at least 5 minutes",
        "at 100 people",
        "version 2:1",
        "for 5 euros",
        "in 2019",
        "who was against it from the start",
        "what did we decide about the sound stage?",
        "",
    ],
)
def test_other_talk_of_time_is_left_to_the_search(text: str):
    assert find_time(text, TEN_MINUTES) is None
    assert find_time(text, None) is None


def test_the_phrase_is_quoted_as_it_was_written():
    found = find_time("What did she say Between 1:00 – 2:30, please?", None)
    assert isinstance(found, TimeRange) and found.phrase == "Between 1:00 – 2:30"


def test_a_time_wins_over_a_topic():
    assert span("after the vote, at 2:15") == (120.0, 150.0)


@pytest.mark.parametrize(
    "text",
    [
        "the end",
        "the last 30 seconds",
        "the second half",
        "the middle",
        "after 2:30",
        "halfway through",
        "from 1:00 to the end",
        "before the last 2 minutes",
        "two minutes before the end",
        "after the first half",
    ],
)
def test_a_phrase_that_counts_from_the_end_says_that_it_needs_the_duration(text: str):
    unknown, known = find_time(text, None), find_time(text, TEN_MINUTES)
    assert isinstance(unknown, TimeRange) and unknown.needs_duration and unknown.start < unknown.end
    assert isinstance(known, TimeRange) and not known.needs_duration and known.end <= TEN_MINUTES


@pytest.mark.parametrize(
    "text", ["at minute 2", "at 2:15", "the first half minute", "until 1:00", "the beginning"]
)
def test_a_phrase_that_counts_from_the_start_needs_no_duration(text: str):
    assert find_time(text, None) == find_time(text, TEN_MINUTES)
    found = find_time(text, None)
    assert isinstance(found, TimeRange) and not found.needs_duration


def test_a_range_beyond_the_recording_is_returned_as_it_was_asked():
    assert span("at minute 20") == (1200.0, 1260.0)
    assert span("the first hour") == (0.0, 3600.0)
    start, end = span("after 20:00")
    assert start == 1200.0 and end > start


# --- arithmetic -----------------------------------------------------------------------------------------

SMALL = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
sixteen seventeen eighteen nineteen"""
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"


def spell(number: int) -> str:
    """A number below 100 in words."""
    if number < 20:
        return SMALL.split()[number]
    tens, ones = divmod(number, 10)
    return TENS.split()[tens - 2] + (f"-{spell(ones)}" if ones else "")


hours, sixties = st.integers(0, 99), st.integers(0, 59)


def notations(h: int, m: int, s: int) -> list[str]:
    """One time in each notation that can hold it."""
    ways = [f"{h}:{m:02d}:{s:02d}", f"{h:02d}:{m:02d}:{s:02d}", f"{h}h{m:02d}m{s:02d}s", f"{h}h {m}m {s}s"]
    ways += [
        f"{h} hours {m} minutes {s} seconds",
        f"{spell(h)} hours, {spell(m)} minutes and {spell(s)} seconds",
    ]
    ways += [f"{h * HOUR + m * MINUTE + s} seconds", f"{h} hr {m} min {s} sec"]
    if h == 0:
        ways += [f"{m}:{s:02d}", f"{m}m{s:02d}s", f"{m}m{s:02d}", f"{m} minutes {s}"]
        ways += [f"{spell(m)} minutes {spell(s)}", f"minute {m}:{s:02d}"]
    if s == 0:
        ways += [f"{h}h{m:02d}", f"{h} hours {m} minutes", f"{h} hours {m}"]
    return ways


@given(hours, sixties, sixties)
@example(0, 0, 0)
@example(0, 2, 15)
@example(1, 5, 0)
def test_a_time_in_any_notation_is_read_back(h: int, m: int, s: int):
    moment = h * HOUR + m * MINUTE + s
    assume(moment < 999_999)
    for way in notations(h, m, s):
        assert span(f"what was said at {way}?") == (max(0, moment - 15), moment + 15), way
        assert span(f"around {way}, what was said?") == (max(0, moment - 30), moment + 30), way


@given(st.integers(0, 999))
def test_a_minute_is_the_one_that_starts_at_its_number(minute: int):
    assert span(f"at minute {minute}") == (minute * 60, minute * 60 + 60)
    if minute < 100:
        assert span(f"in minute {spell(minute)}") == (minute * 60, minute * 60 + 60)


@given(hours, sixties, sixties, hours, sixties, sixties)
def test_a_range_runs_between_its_two_times_in_any_notation_and_order(h1, m1, s1, h2, m2, s2):
    one, other = h1 * HOUR + m1 * MINUTE + s1, h2 * HOUR + m2 * MINUTE + s2
    assume(one != other)
    expected = (min(one, other), max(one, other))
    for left in notations(h1, m1, s1)[:5]:
        for right in notations(h2, m2, s2)[:5]:
            assert span(f"from {left} to {right}") == expected, (left, right)
            assert span(f"between {left} and {right}, who spoke?") == expected, (left, right)


@given(st.integers(0, 200), st.integers(0, 200))
def test_minutes_may_share_their_unit(one: int, other: int):
    assume(one != other)
    expected = (min(one, other) * 60, max(one, other) * 60)
    for text in (
        "between {} and {} minutes",
        "minutes {}-{}",
        "from minute {} to {}",
        "minute {} to minute {}",
    ):
        assert span(text.format(one, other)) == expected, text


@given(st.integers(1, 3000), st.sampled_from(["seconds", "s", "sec"]), st.floats(1, 10_000))
def test_first_and_last_are_cut_from_their_sides(length: int, unit: str, duration: float):
    assert span(f"the first {length} {unit}", duration) == (0.0, length)
    start, end = span(f"the last {length} {unit}", duration)
    assert start == max(0.0, duration - length) and (end == duration or end <= start + 1)


@given(st.sampled_from([2, 3, 4, 5]), st.floats(1, 100_000), st.data())
def test_fractions_tile_the_recording(parts: int, duration: float, data: st.DataObject):
    name = {2: "half", 3: "third", 4: "quarter", 5: "fifth"}[parts]
    ordinals = ["first", "second", "third", "fourth", "fifth"][:parts]
    spans = [span(f"the {ordinal} {name}", duration) for ordinal in ordinals]
    assert spans[0][0] == 0 and spans[-1][1] == pytest.approx(duration)
    assert all(left[1] == right[0] for left, right in pairwise(spans))
    assert span(f"the last {name}", duration) == spans[-1]


VOCABULARY = """at in from between to until and the first last minute minutes second seconds hour half third
quarter end beginning middle of a an before after about around mark 2 3 10 2:15 1h05 90s 2m30 - – , ? . [ ]
3rd two twenty five hundred and a half few couple onwards on it that meeting month ferry into pm $ 0 0:00
99:59:59 through halfway point"""
WORDS = st.sampled_from(VOCABULARY.split())


@pytest.mark.parametrize("word", ["at ", "before the ", "first ", "minutes 2, ", "2 ", "a half ", "1h", "9"])
def test_a_pasted_page_is_read_in_a_moment(word: str):
    started = time.process_time()
    find_time(word * 3000, TEN_MINUTES)
    assert time.process_time() - started < 2.0


@given(st.one_of(st.text(), st.lists(WORDS, max_size=14).map(" ".join)), st.none() | st.floats(0, 1e6))
def test_no_text_breaks_it_and_no_range_is_empty(text: str, duration: float | None):
    found = find_time(text, duration)
    if isinstance(found, TimeRange):
        assert 0 <= found.start < found.end
        assert found.phrase and found.phrase in text
        assert duration is None or found.end < float("inf")
        assert not (duration is not None and found.needs_duration)
    elif found is not None:
        assert found.topic and found.topic in text and found.phrase in text
