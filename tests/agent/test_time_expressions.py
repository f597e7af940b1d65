"""Time expressions: each form of the documentation, each kind that people type, and lookalikes."""

from __future__ import annotations

import json
import math
import re
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from agent.planning.time_expressions import TimeRange, TopicRange, find_time
from tests.conftest import ROOT

DOCUMENT = (ROOT / "docs" / "time-expressions.md").read_text()
FIELD = json.loads((Path(__file__).parents[1] / "data" / "field_cases" / "time_expressions.json").read_text())
TEN_MINUTES, DAY = 600.0, 86_400.0
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


# --- the documentation, and what people met ------------------------------------------------------------

ROWS = re.findall(r"^\| `(.+)` \| ([\d:]+)–([\d:]+) \|$", DOCUMENT, re.MULTILINE)
TOPIC_ROWS = re.findall(r"^\| `(.+)` \| (before|after): (.+) \|$", DOCUMENT, re.MULTILINE)
LOOKALIKES = re.findall(r"`([^`]+)`", DOCUMENT.partition("## What is not a time expression")[2])


def test_every_row_of_the_documentation_is_run():
    rows = [line for line in DOCUMENT.splitlines() if line.startswith("| `")]
    assert len(rows) == len(ROWS) + len(TOPIC_ROWS) > 80
    assert len(LOOKALIKES) > 25


@pytest.mark.parametrize("phrase,start,end", ROWS)
def test_a_documented_expression_means_what_the_table_says(phrase: str, start: str, end: str):
    assert span(phrase) == (seconds(start), seconds(end))


@pytest.mark.parametrize("frame", ["What did Anna say {}?", "{}: who spoke", "  {}  ", "So, {}…"])
@pytest.mark.parametrize(
    "phrase,start,end", [row for row in ROWS if row[0][-1] not in '?]"' and "[" not in row[0]]
)
def test_expressions_are_found_inside_questions_in_any_case(phrase: str, start: str, end: str, frame: str):
    if phrase[0].isdigit() and not re.search(r"[-–]| in\b|before|onwards", phrase):
        pytest.skip("a time without a word beside it must stand alone")
    assert span(frame.format(phrase)) == (seconds(start), seconds(end))
    assert span(frame.format(phrase).upper()) == (seconds(start), seconds(end))


@pytest.mark.parametrize("phrase,direction,topic", TOPIC_ROWS)
def test_a_documented_topic_is_read(phrase: str, direction: str, topic: str):
    found = find_time(phrase, TEN_MINUTES)
    assert isinstance(found, TopicRange)
    assert (found.direction, found.topic) == (direction, topic)
    ((start, end),) = found.taken
    assert found.phrase == phrase[start:end]


@pytest.mark.parametrize("phrase", LOOKALIKES)
def test_a_documented_lookalike_is_left_alone(phrase: str):
    assert find_time(phrase, TEN_MINUTES) is None


@pytest.mark.parametrize("case", FIELD["cases"], ids=lambda case: case["question"])
def test_what_people_met_is_read_right(case: dict):
    found = find_time(case["question"], FIELD["duration"])
    if found is None:
        assert None in case["accepted"]
    else:
        assert isinstance(found, TimeRange)
        near = [pytest.approx(stretch, abs=1) for stretch in case["accepted"] if stretch]
        assert [found.start, found.end] in near


# --- the kinds, a table each ---------------------------------------------------------------------------

FORMS = """
# misspelt
120-180: mintue 2 | at mintue 2 | the thrid minute
120-240: minuts 2 to 4
105-135: 2 mintues in | at 2 minuts
60-120: at the secnd minute
570-600: the last 30 secodns | the last 30 secconds
75-105: at 90 seonds
0-60: in the begining | at the beggining | at the beginnig | the frist minute | at the satrt
200-400: in the midle
450-600: the last quater
0-120: the first 20 precent
180-240: miunte 3 | minutte 3 | at minite 3
270-330: halfwya through
0-300: what was said in the fisrt half
0-600: the first huor
60-180: betwen 1 and 3 minutes
0-150: untill 2:30
240-300: in minnute 4
# glued
120-180: min2 | at min2 | minute2 | mintue2
105-135: at 2minutes | at 2mins | 2m | 2min
135-165: at 150sec | at 150seconds | 2min30 | 2min30s | 150s | at2:30
7185-7215: at 2h
120-240: min2-min4
60-180: 1min-3min | from 60s to 180s | 60-180s
0-120: first2minutes
480-600: last 2min
570-600: last30s
# ordinal
60-120: second minute
120-180: the third minute | the 3rd min
540-600: the tenth minute
240-300: in the fifth minute of the meeting
1200-1260: twenty-first minute
1260-1320: the twenty second minute
180-240: 4th min
135-165: at the 150th second
0-180: from the 1st to the 3rd minute
60-240: between the second and the fourth minute
# percent
0-120: the first 20%
0-150: first 25 %
540-600: last 10 percent | the last ten per cent
270-330: at 50% | half way through the meeting | half-way | at the halfway point | halfway in |
    the half-way mark
120-180: at the 25% mark | 25% in | a quarter of the way through
420-480: 75 percent of the way through | three quarters of the way through | three-quarters through
300-600: the final 50%
370-430: two thirds of the way in
170-230: one third of the way through
# for
150-180: from 2:30 for 30 seconds | at 2:30 for 30 seconds | for 30 seconds from 2:30 |
    for 30 seconds after 2:30 | 30 seconds starting at 2:30 | the 30 seconds after 2:30 | 30 s from 2:30 |
    the half minute after 2:30 | from 2:30 for half a minute
150-210: 2:30 for a minute | one minute from 2:30 | the next minute after 2:30 | the minute following 2:30 |
    the first minute after 2:30
150-270: for two minutes starting at 2:30
120-150: minute 2 for 30 seconds
120-210: from minute 2 for 90 seconds
90-150: the minute before 2:30 | the last minute before 2:30
180-300: the two minutes after minute 2
120-180: the minute after the second
60-120: the minute after the first
105-135: 30 seconds before 2:30
480-600: the two minutes before the end
# penultimate
480-540: penultimate minute | the second to last minute | the second-to-last minute |
    the last minute but one | the last but one minute | next to last minute |
    the minute before the last one | the second last minute
# spelled
1260-1320: minute twenty-one
135-165: at two and a half minutes | at 2½ minutes | at 2 1/2 minutes | at two point five minutes
15-45: half a minute in
105-135: at one hundred and twenty seconds | a couple of minutes in | two minutes into it
85-115: at a hundred seconds
75-105: a minute and a half in | one minute thirty seconds in
30-60: at three quarters of a minute
885-915: a quarter of an hour in
45-75: at one minute
0-120: the first couple of minutes
0-3: the first few seconds
420-600: the last few minutes
# clock formats
135-165: at 2:30. | at “2:30” | (2:30) | ２：３０ | 2：30 | at 2′30″ | at 2’30” | at 2:30mins | t=2:30 |
    t=2m30s | time=150s | @2:30 | at 2.5 min | at 2,5 min | at 150,000 ms | timestamp 2:30 | skip to 2:30 |
    show me 2:30 | what is at 2:30 | and at 2:30? | how about 2:30 | read 2:30 | 2:30 please |
    at 2:30 min. | 2 m 30 s | 2 min. 30 sec. | 2 minutes and 30 seconds in | minute 2:30 | at second 150 |
    sec 150
105-135: at ２ minutes | 2 min from the beginning
150-180: 2:30 — 3:00 | 2:30--3:00 | 2:30 -> 3:00 | 2:30→3:00 | 2:30..3:00 | 2:30 to 3:00 | 2:30-3 |
    play 2:30 to 3:00
150.5-155: 00:02:30,500 --> 00:02:35,000
120-180: around 2:30 min | jump to minute 2 | at minute #2 | at minute number two | minute no 2 |
    at minute: 2
135.5-165.5: at 0:02:30.5
150-600: 2:30+ | 2:30 and later | 2:30 on | from 2:30 on | from 2:30 to the end | beginning at 2:30 |
    starting from 2:30 | past 2:30 | the rest from 2:30 | what comes after 2:30? | play from 2:30
0-150: from the start to 2:30 | up until 2:30 | up to 2:30 | all before 2:30 | everything until 2:30 |
    before the 2:30 mark
90-600: after 90 seconds
120-600: after two minutes | after minute 2
540-600: go to the end | near the end | at the very end | toward the end | last minute |
    in the last minute
0-60: go to the beginning | right at the beginning | at the beginning of the recording |
    in the first tenth
200-400: the middle of the meeting | around the middle
450-600: 4th quarter
300-450: the third quarter | third quarter of the recording
0-300: first half
400-600: the final third
300-600: last half
480-600: the last fifth | final 2 minutes
510-600: the last 1:30
0-90: first 90 s
0-30: first 30 secs
0-120: the opening two minutes | within the first two minutes
0-180: opening minutes | from the first to the third minute
575-600: ten seconds before the end
555-585: 30s from the end
15-45: 30 seconds into the recording
465-495: two minutes to the end
60-180: min 1 to min 3 | min. 1 - 3 | minutes one to three | between minute 1 and 3 |
    between 1:00 and 3:00 | between 1 min and 3 min | 1 to 3 minutes | 1-3 min |
    from 1 minute to 3 minutes | between one and three minutes | between 60 and 180 seconds |
    minutes 1 and 2
60-240: minute 1 through 3
# more of each
180-240: minute nr. 3
195-600: 3:15 and on | the part after 3:15
195-225: from 3:15, for 30 seconds
180-210: minute 3, second 15 | minute 3 second 15
0-450: first three quarters
0-400: the first two thirds
420-480: three quarters in | at 75 % of the recording
45-75: at the minute mark
120-180: ca. 2:30 | ~2:30 | at approx. 2:30 | at around 2:30
135-165: at exactly 2:30 | at the time 2:30 | at position 2:30 | timestamp: 2:30 | 2:30 into the meeting
0-60: the very first minute
180-300: minute three to five | min 3 - min 5
120-300: 3rd to 5th minute
30-60: 30-60 seconds
"""
"""Seconds, and what means them in a recording of 600 s."""
OTHER_TALK = """
at minuet 2 | growth of 20% | 20% of the people | the first 20% of sales | at 5% interest |
half of the people | for 30 seconds | the minute after | the minute after that | at one thirty |
at 9:30 pm | 9:30am | at 9:30 a.m. | at half past two | at ten to three | at a quarter past two |
at 2 o'clock | at 21:30 | which train leaves at 21:40? | 12:30 | from 10:30 to 11:30 | after 18:00 |
the opening hours | what are the opening hours | closing hours | in 20 minutes |
what will happen in 20 minutes? | who leaves in five minutes? | minutes of the meeting |
send me the minutes | are there minutes from the last meeting? | second option | the second question |
the first decision | the third party | a minute ago | five minutes ago | last week | last month |
next hour | every 5 minutes | a five minute break | the 5 minute rule | ten minutes late |
how many minutes | one minute please | wait a second | just a second | give me a minute | minute hand |
a minute detail | the minute taker | in a minute | within the hour | rush hour | happy hour |
the hour of truth | 24 hours | for two hours | the last 24 hours | half an hour |
the second half of the year | in the first quarter of 2024 | the last quarter's results |
Q4 sales in the fourth quarter | the 3:2 majority | 16:9 | a ratio of 1:20 | 3:16 in the bible |
end of May | the end of the project | by the end of the day | at the end of the day | the end result |
the start date | start time | the starting point | from scratch | the beginning of the war |
the middle east | in the middle of nowhere | middle management | before noon | until tomorrow | since 2019 |
in 2019 | at 100 km/h | chapter 2 | page 2 | item 3 | slide 12 | room 2.30 | version 2.3 | 10.12.2024 |
on 12/05 | the 30th | at 2 | around 3 | 5 minus 2 | the mine 2 | at 2 miles | 2 mines | the 2nd floor |
S3 bucket | H2 hydrogen | M5 motorway | at 5 m | 3m tape | who has half of the shares? | percent of people |
20 percent | a quarter of the budget | two quarters | third quarter revenue | secondly | to the point |
the point | mark | at mark's | Mark 2 | who came last? | at last | at first | in the first place |
first of all | in the last place | finally | end to end | start to finish | 5 to 10 people |
from 3 to 5 people | 3-5 people | it takes 1-3 minutes | 2-3 minute walk | a walk of 2-3 minutes |
within 5 minutes | less than 5 minutes | more than an hour | the hours | hourly | midnight |
the meeting at 9:30 tomorrow | on Friday at 2:30 | tomorrow 2:30 | 2:30 tomorrow | 2:30 in the afternoon |
this morning at 9:30 | on 4 July at 2:15 | score 3:02 | first time | for the second time | half time |
part time | a third time | the third of May | the fourth of July | the ferry leaves every half hour |
half an hour later | an hour and a half | last one | the last one | the final decision |
the closing remarks | the opening | opening ceremony | opening hour | closing time |
until the end of the month | towards the end of the year | the finish line | in the end we agreed |
the 9:30 meeting | a 5:30 start | at 0730 hours | at 1900 hours | last-second change | happy ending |
John 3:16 | psalm 23:4 | platform 9 3/4 | 44.1 kHz | 192.168.0.1 | 2024-05-01 | from the beginning |
to the end | from start to finish | two minutes' silence | 15 minutes of fame | 5 minutes each | once a minute
"""


def forms() -> list[tuple[str, float, float]]:
    lines = re.sub(r"\|\n +", "| ", FORMS).strip().splitlines()
    rows = (re.match(r"([\d.]+)-([\d.]+): (.*)", line) for line in lines if line[0] != "#")
    return [(form, float(row[1]), float(row[2])) for row in rows if row for form in row[3].split(" | ")]


@pytest.mark.parametrize("text,start,end", forms())
def test_more_ways_to_say_it(text: str, start: float, end: float):
    assert span(text) == (pytest.approx(start), pytest.approx(end))


@pytest.mark.parametrize("text", re.sub(r" \|\n", " | ", OTHER_TALK).strip().split(" | "))
def test_other_talk_of_time_is_left_to_the_search(text: str):
    assert find_time(text, TEN_MINUTES) is None


def test_a_clock_time_beyond_the_recording_is_none_and_within_it_is_for_the_caller_to_judge():
    assert find_time("which train leaves at 9:40?", 500.0) is None
    found = find_time("which train leaves at 9:40?", TEN_MINUTES)
    assert isinstance(found, TimeRange)
    assert [found.phrase, "which train leaves at 9:40?"[slice(*found.taken[0])]] == ["at 9:40", "at 9:40"]
    assert isinstance(find_time("what was said at 9:40?", None), TimeRange)


def test_what_names_a_place_beyond_the_recording_is_returned_as_it_was_asked():
    assert span("at minute 20") == (1200.0, 1260.0)
    assert span("at 1:05:00") == (3885.0, 3915.0)
    assert span("the first hour") == (0.0, 600.0)


@pytest.mark.parametrize(
    "text,taken",
    [
        ("What did she say Between 1:00 – 2:30, please?", "Between 1:00 – 2:30"),
        ("What did Anna say around the two-minute mark about ferries?", "around the two-minute mark"),
        (
            "what was decided in the first half of the harbour meeting?",
            "in the first half of the harbour meeting",
        ),
        ("who spoke at (２：３０)?", "at (２：３０)"),
        ("was there music from minute 2 on?", "from minute 2 on"),
    ],
)
def test_what_is_taken_are_the_characters_of_the_expression_with_its_prepositions(text: str, taken: str):
    found = find_time(text, TEN_MINUTES)
    assert isinstance(found, TimeRange)
    ((start, end),) = found.taken
    assert text[start:end] == found.phrase == taken


def test_a_moment_is_told_from_a_stretch_and_one_at_the_end_is_cut_to_a_stretch():
    kinds = [find_time(text, TEN_MINUTES) for text in ("at 2:15", "minute 2", "around minute 2", "at 9:50")]
    assert [found.kind for found in kinds if isinstance(found, TimeRange)] == [
        "moment",
        "range",
        "moment",
        "range",
    ]
    assert span("at 9:50") == (575.0, 600.0)


def test_a_time_wins_over_a_topic():
    assert span("after the vote, at 2:15") == (120.0, 150.0)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "and after that?",
            "what came before this?",
            "after it",
            "before and after",
            "what is due after Wednesday",
        ),
        *(
            "what must be done before the opening?",
            "who looks after the money?",
            "day after tomorrow",
            "look after us",
        ),
        *("after the meeting", "before the end", "what happened before 5 people came?"),
    ],
)
def test_pointers_dates_and_duties_are_no_topics(text: str):
    assert find_time(text, TEN_MINUTES) is None


@pytest.mark.parametrize(
    "text",
    [
        "the end",
        "the last 30 seconds",
        "the second half",
        "after 2:30",
        "halfway through",
        "two minutes before the end",
    ],
)
def test_what_counts_from_the_end_is_open_where_the_duration_is_unknown(text: str):
    unknown, known = span(text, None), span(text)
    assert unknown[0] in (0, known[0]) and unknown[1] == math.inf


# --- arithmetic ----------------------------------------------------------------------------------------

SMALL = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
sixteen seventeen eighteen nineteen"""
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"


def spell(number: int) -> str:
    """A number below 200 in words."""
    if number >= 100:
        return "one hundred" + (f" and {spell(number - 100)}" if number > 100 else "")
    if number < 20:
        return SMALL.split()[number]
    tens, ones = divmod(number, 10)
    return TENS.split()[tens - 2] + (f"-{spell(ones)}" if ones else "")


def spell_ordinal(number: int) -> str:
    """“Third”, “twenty-first”, “fortieth”, below 100."""
    *tens, last = spell(number).split("-")
    irregular = {"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth"}
    irregular |= {"nine": "ninth", "twelve": "twelfth"}
    ending = irregular.get(last) or (last[:-1] + "ieth" if last.endswith("y") else last + "th")
    return "-".join([*tens, ending])


hours, sixties = st.integers(0, 23), st.integers(0, 59)


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
        ways += [f"{spell(m)} minutes {spell(s)}", f"minute {m}:{s:02d}", f"{m}'{s:02d}\"", f"({m}:{s:02d})"]
        ways += [f"{m}min{s}s", f"{m} mintues {s} secodns", f"the {m}:{s:02d} mark"]
    if s == 0:
        ways += [f"{h}h{m:02d}", f"{h} hours {m} minutes", f"{h} hours {m}"]
    return ways


@given(hours, sixties, sixties)
@example(0, 0, 0)
@example(0, 2, 15)
@example(1, 5, 0)
def test_a_time_in_any_notation_is_read_back(h: int, m: int, s: int):
    moment = h * HOUR + m * MINUTE + s
    for way in notations(h, m, s):
        for text in (way, way.translate(str.maketrans("0123456789:", "０１２３４５６７８９："))):
            assert span(f"what was said at {text}?", DAY) == (max(0, moment - 15), min(DAY, moment + 15)), (
                text
            )
            assert span(f"around {text}, what was said?", DAY) == (
                max(0, moment - 30),
                min(DAY, moment + 30),
            ), text


@given(st.integers(0, 120))
@example(120)
def test_a_minute_is_the_one_that_starts_at_its_number(minute: int):
    for form in (
        "at minute {}",
        "in min {}",
        "what was said in min. {}?",
        "minute: {}",
        "mintue {}",
        "minute no. {}",
    ):
        for number in (str(minute), spell(minute)):
            assert span(form.format(number), DAY) == (minute * 60, minute * 60 + 60)
    assert span(f"at min{minute}", DAY) == span(f"minute{minute}?", DAY) == (minute * 60, minute * 60 + 60)


@given(st.integers(1, 99))
@example(1)
@example(2)
@example(22)
def test_an_ordinal_minute_is_counted_from_the_first(place: int):
    ending = {1: "st", 2: "nd", 3: "rd"}.get(place % 10 if place // 10 != 1 else 0, "th")
    for number in (f"{place}{ending}", spell_ordinal(place)):
        assert span(f"what was said in the {number} minute?", DAY) == (place * 60 - 60, place * 60)


@given(hours, sixties, sixties, hours, sixties, sixties)
def test_a_range_runs_between_its_two_times_in_any_notation_and_order(h1, m1, s1, h2, m2, s2):
    one, other = h1 * HOUR + m1 * MINUTE + s1, h2 * HOUR + m2 * MINUTE + s2
    assume(one != other)
    expected = (min(one, other), max(one, other))
    for left in notations(h1, m1, s1)[1:6:2]:
        for right in notations(h2, m2, s2)[:5:2]:
            assert span(f"from {left} to {right}", DAY) == expected, (left, right)
            assert span(f"between {left} and {right}, who spoke?", DAY) == expected, (left, right)


@given(st.integers(0, 200), st.integers(0, 200))
def test_minutes_may_share_their_unit(one: int, other: int):
    assume(one != other)
    expected = (min(one, other) * 60, max(one, other) * 60)
    texts = (
        "between {} and {} minutes",
        "minutes {}-{}",
        "from minute {} to {}",
        "minute {} to minute {}",
        "{}–{} min",
    )
    for text in texts:
        assert span(text.format(one, other), DAY) == expected, text


@given(st.integers(1, 3000), st.sampled_from(["seconds", "s", "sec", "secs"]), st.floats(1, 10_000))
def test_first_and_last_are_cut_from_their_sides(length: int, unit: str, duration: float):
    assert span(f"the first {length} {unit}", duration) == (0.0, min(length, duration))
    assert span(f"the last {length} {unit}", duration) == (max(0.0, duration - length), duration)


@given(st.sampled_from([2, 3, 4, 5]), st.floats(1, 100_000), st.data())
def test_fractions_tile_the_recording(parts: int, duration: float, data: st.DataObject):
    name = {2: "half", 3: "third", 4: "quarter", 5: "fifth"}[parts]
    ordinals = ["first", "second", "third", "fourth", "fifth"][:parts]
    spans = [span(f"the {ordinal} {name}", duration) for ordinal in ordinals]
    assert spans[0][0] == 0 and spans[-1][1] == pytest.approx(duration)
    assert all(left[1] == pytest.approx(right[0]) for left, right in pairwise(spans))
    assert span(f"the last {name}", duration) == pytest.approx(spans[-1])
    share = data.draw(st.integers(1, 100))
    assert span(f"the first {share} percent", duration) == (0.0, pytest.approx(duration * share / 100))
    assert span(f"the last {share}%", duration) == (
        pytest.approx(duration * (1 - share / 100), abs=1e-6),
        duration,
    )


# --- whatever is typed ---------------------------------------------------------------------------------

VOCABULARY = """at in from between to until and the first last minute minutes second seconds hour half third
quarter end beginning middle of a an before after about around mark 2 3 10 2:15 1h05 90s 2m30 - – , ? . [ ]
3rd two twenty five hundred and a half few couple onwards on it that meeting month ferry into pm $ 0 0:00
99:59:59 through halfway point % percent for next penultimate but one mintue ½ ' \" 1/2 t= way min2"""
WORDS = st.sampled_from(VOCABULARY.split())
WITHOUT_TIME = [
    word
    for word in VOCABULARY.split()
    if not re.search(
        r"\d:|sec|min|mintue|hour|\dh|\ds|\dm|half|third|3rd|\dth|quarter|end|beg|middle|%|percent|'|way",
        word,
    )
]


@given(st.lists(st.sampled_from(WITHOUT_TIME), max_size=14).map(" ".join))
def test_without_a_unit_a_clock_time_or_a_part_there_is_no_time(text: str):
    assert not isinstance(find_time(text, TEN_MINUTES), TimeRange)


@pytest.mark.parametrize(
    "word", ["at ", "before the ", "first ", "minutes 2, ", "2 ", "a half ", "1h", "9", "2:1 "]
)
def test_a_pasted_page_is_read_in_a_moment(word: str):
    started = time.process_time()
    find_time(word * 3000, TEN_MINUTES)
    assert time.process_time() - started < 2.0


@given(st.one_of(st.text(), st.lists(WORDS, max_size=14).map(" ".join)), st.none() | st.floats(0, 1e6))
def test_no_text_breaks_it_and_every_range_lies_in_the_recording_or_beyond_it(
    text: str, duration: float | None
):
    found = find_time(text, duration)
    if found is None:
        return
    ((start, end),) = found.taken
    assert found.phrase and found.phrase == text[start:end]
    if isinstance(found, TopicRange):
        assert found.topic and found.topic in found.phrase
        return
    assert 0 <= found.start < found.end
    assert duration is None or found.end <= duration or found.start >= duration
