"""The timeline of sound events, in the forms models write."""

from __future__ import annotations

import pytest

from moss_audio.tasks import Event, parse_events
from tests.support.parsed_answers import findings

DOG_CAR = (Event(0.0, 1.2, "dog barks"), Event(1.2, 3.0, "a car, 10-20 people"))


@pytest.mark.parametrize(
    "written",
    [
        "0.00 - 1.20: dog barks\n1.20 - 3.00: a car, 10-20 people",
        "[0.0 - 1.2] dog barks\n[1.2 - 3.0] a car, 10-20 people",
        "[0.0]-[1.2] dog barks\n[1.2]-[3.0] a car, 10-20 people",
        "[0.0, 1.2] dog barks\n[1.2, 3.0] a car, 10-20 people",
        "00:00.0-00:01.2 dog barks\n00:01.2-00:03 a car, 10-20 people",
        "- 0.0 – 1.2: dog barks\n- 1.2 – 3.0: a car, 10-20 people",
        "* **0.0s - 1.2s**: dog barks\n* **1.2s - 3s**: a car, 10-20 people",
        "1. 0.0 to 1.2 seconds: dog barks\n2. 1.2 to 3 seconds: a car, 10-20 people",
        "From 0.0 to 1.2 s: dog barks\nFrom 1.2 to 3.0 s: a car, 10-20 people",
        "dog barks (0.0 - 1.2)\na car, 10-20 people (1.2 - 3.0)",
        "（0.0～1.2秒）：dog barks\n（1.2～3.0秒）：a car, 10-20 people",
        "| 0.0 | 1.2 | dog barks |\n| 1.2 | 3.0 | a car, 10-20 people |",
        "0.0 - 1.2: dog barks 1.2 - 3.0: a car, 10-20 people",
        "0.0 - 1.2\ndog barks\n\n1.2 - 3.0\na car, 10-20 people",
        "[0.0]dog barks[1.2][1.2]a car, 10-20 people[3.0]",
        '[{"start": 0.0, "end": 1.2, "event": "dog barks"}, '
        '{"start": 1.2, "end": "3.0", "event": "a car, 10-20 people"}]',
        '{"events": [{"start": 0, "end": 1.2, "event": "dog barks"}, '
        '{"start": "00:01.2", "end": 3, "event": "a car, 10-20 people"}]}',
    ],
)
def test_the_forms_of_a_timeline_are_read_the_same(written: str):
    parsed = parse_events(written, 5.0)
    assert parsed.value == DOG_CAR
    assert parsed.dropped == ()


def test_several_ranges_of_one_sound_are_several_events():
    assert parse_events("dog: 0.0-1.2, 3.0-4.0", 5).value == (Event(0, 1.2, "dog"), Event(3, 4, "dog"))


def test_lines_without_a_time_are_reported():
    parsed = parse_events("Here are the events:\n0 - 1: dog\n3 dogs bark\nHope this helps.", 5)
    assert parsed.value == (Event(0, 1, "dog"),)
    assert findings(parsed) == [
        ("explanation", "Here are the events:"),
        ("explanation", "3 dogs bark"),
        ("explanation", "Hope this helps."),
    ]


def test_a_single_time_is_a_moment():
    parsed = parse_events("[3.20] door\n00:04 bell\n4.5s: knock", 5)
    assert parsed.value == (Event(3.2, 3.2, "door"), Event(4, 4, "bell"), Event(4.5, 4.5, "knock"))
    assert parsed.kinds == {"no end tag"}


def test_a_time_without_an_event_is_reported():
    parsed = parse_events("0 - 1: dog\n2.0 - 3.0:", 5)
    assert parsed.value == (Event(0, 1, "dog"),) and parsed.kinds == {"empty"}


def test_events_listed_by_kind_are_sorted_and_none_is_lost():
    parsed = parse_events("0 - 1: dog\n4 - 5: dog\n2 - 3: car\n3 - 4: car", 5)
    assert [part.start for part in parsed.value] == [0, 2, 3, 4]
    assert parsed.kinds == {"out of order"}


def test_swapped_times_are_turned_and_reported():
    parsed = parse_events("3.0 - 1.0: dog", 5)
    assert parsed.value == (Event(1, 3, "dog"),) and parsed.kinds == {"out of order"}


def test_events_beyond_the_clip_are_clamped_or_dropped_and_reported():
    parsed = parse_events("0 - 20: wind\n11 - 12: dog", 10)
    assert parsed.value == (Event(0, 10, "wind"),)
    assert findings(parsed) == [
        ("beyond the clip", "0 - 20: wind"),
        ("beyond the clip", "11 - 12: dog"),
    ]


def test_a_dog_may_bark_often_but_a_machine_pace_is_a_loop():
    barks = "\n".join(f"{2 * i}.{i % 7} - {2 * i + 1}.0: dog barks" for i in range(20))
    assert len(parse_events(barks, 60).value) == 20
    loop = "\n".join(f"{i}.0 - {i + 1}.0: dog barks" for i in range(20))
    parsed = parse_events(loop, 60)
    assert len(parsed.value) <= 2 and parsed.kinds == {"loop"}


def test_an_event_listed_twice_stands_once():
    parsed = parse_events("0 - 1: dog\n0 - 1: dog", 5)
    assert parsed.value == (Event(0, 1, "dog"),) and parsed.kinds == {"loop"}


def test_half_a_json_list_gives_its_whole_events():
    parsed = parse_events('```json\n[{"start": 0.0, "end": 1.2, "event": "dog"}, {"start": 2.0, "en', 5)
    assert parsed.value == (Event(0, 1.2, "dog"),)
    assert "cut off" in parsed.kinds


def test_events_are_shown_in_the_form_the_task_asks_for():
    value = parse_events("0 - 1.5: dog", 5).value
    assert value.to_text() == "0.00 - 1.50: dog"
    assert value.to_json() == [{"start": 0.0, "end": 1.5, "text": "dog"}]
