"""Times between two clocks, a recording's and a clip's: ``m:ss`` is moved, nothing else is touched."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moss_audio.timestamps import clock
from tools.listen import LONGEST_S, ROUNDING_S, on_the_clips_clock, on_the_recordings_clock

SOME = settings(max_examples=40)

WAYS = [
    "A dog barks at {}.",
    "[{}] a dog",
    "a dog ({})",
    "**{}**: a dog",
    "around {}, a dog",
    "{}",
    "狗在{}叫",
]
RANGES = [
    "[{}-{}]",
    "[{} – {}] music",
    "from {} to {}",
    "{}–{}: a dog",
    "{} --> {}",
    "music until {}, then {}",
]
OTHER_NUMBERS = [
    *("for 3 seconds", "at 3.5 s", "3.5 seconds later", "[3.50]", "see [3]", "in minute 2", "second 83"),
    *(
        "a 3 second pause",
        "at 4.50 euros",
        "between 1.5 and 2.5 kHz",
        "music of the 80s",
        "He is 5'11\" tall.",
    ),
    *(
        "at 10:30 am",
        "at 8:30 p.m.",
        "1:2:3:4",
        "version 1:2",
        "3:75",
        "a ratio of 4:3",
        "12:3",
        "1,200 people",
    ),
]
"""What may mean a time or not, and stays as it is."""


def labels(text: str) -> list[str]:
    return re.findall(r"\d+:[\d:]+\d", text)


@pytest.mark.parametrize("way", WAYS)
@SOME
@given(start=st.floats(0, 20_000), time=st.integers(0, int(LONGEST_S) - 1), behind=st.floats(0, LONGEST_S))
def test_a_time_is_moved_to_the_recordings_clock(way: str, start: float, time: int, behind: float) -> None:
    heard = on_the_recordings_clock(way.format(clock(time)), start, start + time + behind)
    assert labels(heard.text) == [clock(round(start + time, 6))]
    assert not heard.beyond and "[" not in heard.text


@pytest.mark.parametrize("way", RANGES)
@SOME
@given(start=st.integers(0, 20_000), times=st.tuples(st.integers(0, 599), st.integers(0, 599)))
def test_both_times_of_a_stretch_are_moved(way: str, start: int, times: tuple[int, int]) -> None:
    heard = on_the_recordings_clock(way.format(*map(clock, times)), start, start + 600)
    assert labels(heard.text) == [clock(start + time) for time in times]


@pytest.mark.parametrize("text", OTHER_NUMBERS)
def test_other_numbers_stay_as_they_are(text: str) -> None:
    heard = on_the_recordings_clock(text, 120.0, 1000.0)
    assert (heard.text, heard.beyond) == (text, ())
    assert on_the_clips_clock(text, 0.25, 1000.0) == text


@pytest.mark.parametrize("way", WAYS)
@SOME
@given(length=st.integers(1, 300), over=st.integers(int(ROUNDING_S) + 1, 300))
def test_a_time_beyond_the_clip_stays_and_is_told(way: str, length: int, over: int) -> None:
    written = clock(length + over)
    heard = on_the_recordings_clock(way.format(written), 50.0, 50.0 + length)
    assert (labels(heard.text), heard.beyond) == ([written], (written,))


def test_times_that_can_be_right_are_moved_beside_one_that_cannot() -> None:
    heard = on_the_recordings_clock("A dog at 0:05, 0:10 and 9:00; music 0:20–8:00.", 120.0, 210.0)
    assert heard.text == "A dog at 2:05, 2:10 and 9:00; music 0:20–8:00."
    assert heard.beyond == ("9:00", "0:20–8:00")


@given(
    st.lists(st.sampled_from([*WAYS, *RANGES, *OTHER_NUMBERS, "0:07", "[", "]", "#1"]) | st.text()),
    st.floats(0, 600),
)
def test_any_answer_is_read(parts: list[str], length: float) -> None:
    text = " ".join(parts)
    assert isinstance(on_the_recordings_clock(text, 60.0, 60.0 + length).text, str)
    assert isinstance(on_the_clips_clock(text, 60.0, 60.0 + length), str)


@pytest.mark.parametrize("text", ["1", "1:", "1:00 ", "[1:00 to ", "[ ", " \n", "1:00-"])
def test_long_answers_of_any_kind_are_read_in_no_time(text: str) -> None:
    heard = on_the_recordings_clock(text * 3000, 0.0, 600.0)
    assert len(heard.text) <= 2 * len(text) * 3000


def test_a_listener_cannot_cite() -> None:
    assert on_the_recordings_clock("A dog [#12] barks [#3-#9].", 0, 10).text == "A dog barks."


# --- questions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["at {}", "Is somebody laughing at {}?", "[{}]", "around {}, what is it?"])
@given(cut=st.floats(0, 20_000), ahead=st.floats(0, 500), behind=st.floats(1, 100))
def test_a_question_and_an_answer_that_repeats_it_name_the_same_second(
    way: str, cut: float, ahead: float, behind: float
) -> None:
    start, asked = round(cut, 2), clock(round(cut, 2) + ahead)
    end = start + ahead + behind
    echo = on_the_recordings_clock(on_the_clips_clock(way.format(asked), start, end), start, end)
    assert (labels(echo.text), echo.beyond) == ([asked], ())


@pytest.mark.parametrize(
    ("question", "put"),
    [
        ("Is somebody laughing at 2:15?", "Is somebody laughing at 0:15?"),
        ("between 2:05 and 2:10?", "between 0:05 and 0:10?"),
        ("from 1:50 to 2:10?", "from 0:00 to 0:10?"),
        ("at 1:23?", "at 1:23?"),
        ("from 10:00 to 12:00?", "from 10:00 to 12:00?"),
        ("Is 2:05 louder than 9:00?", "Is 0:05 louder than 9:00?"),
        ("in the last 30 seconds?", "in the last 30 seconds?"),
    ],
)
def test_times_of_a_question_are_put_on_the_clips_clock_where_they_lie_in_it(question: str, put: str) -> None:
    assert on_the_clips_clock(question, 120.0, 150.0) == put
