"""Times as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.planning.time_expressions import TimeRange, find_time
from moss_audio.timestamps import clock, clock_range, parse_clock


@pytest.mark.parametrize(
    "seconds,label",
    [
        (0, "0:00"),
        (5, "0:05"),
        (59.999, "0:59"),
        (60, "1:00"),
        (125.7, "2:05"),
        (3599.99, "59:59"),
        (3600, "1:00:00"),
        (3723, "1:02:03"),
        (36_000, "10:00:00"),
        (-1, "0:00"),
    ],
)
def test_seconds_read_as_a_clock(seconds: float, label: str):
    assert clock(seconds) == label


@pytest.mark.parametrize(
    ("start", "end", "label"),
    [
        (125, 130.9, "2:05–2:10"),
        (20.25, 20.95, "0:20.2–0:20.9"),
        (19.9, 20.1, "0:19–0:20"),
        (20.2, 20.21, "0:20.2"),
    ],
)
def test_a_stretch_never_seems_to_end_where_it_begins(start: float, end: float, label: str):
    assert clock_range(start, end) == label


@given(st.floats(0, 1e6))
def test_a_label_names_the_second_that_holds_the_time(seconds: float):
    assert parse_clock(clock(seconds)) <= seconds < parse_clock(clock(seconds)) + 1


@pytest.mark.parametrize(
    "written,seconds",
    [
        ("2:05", 125),
        ("1:02:05", 3725),
        ("2:05.5", 125.5),
        ("00:01:05,200", 65.2),
        ("95.5", 95.5),
        ("０１：０５．２", 65.2),
    ],
)
def test_a_clock_time_is_read_in_seconds(written: str, seconds: float):
    assert parse_clock(written) == seconds


def test_what_is_no_number_between_colons_is_refused():
    with pytest.raises(ValueError):
        parse_clock("2:x")


@given(st.integers(0, 10**7))
def test_tenths_are_written_and_read_without_loss(tenths: int):
    written = clock(tenths / 10, decimals=1)
    assert parse_clock(written) == tenths / 10
    assert ("." in written) == (tenths % 10 > 0)


@given(st.floats(15, 359_999))
def test_a_label_asked_for_finds_its_own_second(seconds: float):
    found = find_time(f"What was said at {clock(seconds)}?", None)
    assert isinstance(found, TimeRange)
    assert found.start <= int(seconds) < found.end and found.start + found.end == 2 * int(seconds)
