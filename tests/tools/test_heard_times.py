"""Times between two clocks, a recording's and a clip's: each form moved, nothing else touched."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moss_audio.timestamps import clock
from tools.clip_times import ROUNDING_S, on_the_clips_clock, on_the_recordings_clock
from tools.listen import LONGEST_S

SOME = settings(max_examples=40)

WAYS = [
    "A dog barks at {} s.", "[{}] a dog", "at {} seconds, a dog", "around {} seconds",
    "after {} secs there is", "at the {}-second mark", "It is heard {} seconds into the recording.",
    "- {}s: a bell", "（{}秒）", "{}: a dog", "**{}**: a dog", "- {} – a dog", "a dog ({})",
    "It barks at {}.", "at about {}, somebody laughs", "t={}s", "t={}, a dog", "start: {}",
    '{{"start": {}, "text": "dog"}}', "timestamp: {}", "a dog, second {}",
    "at second {}, a dog", "The dog barks {} s in.", "<{}>", "<|{}|>",
    "狗在{}秒叫", "第{}秒", "at {} seconds from the start", "at a time of {} s", "a dog @ {} s", "(≈ {} s)",
]  # fmt: skip
"""Ways to write a moment in seconds."""
RANGES = [
    "[{}-{}]", "from {} to {} seconds", "{}-{} seconds", "between {} and {} s", "{}s–{}s", "({} - {} s)",
    "from {} s until {} s", "{} - {}: a dog barks", "[{}, {}]", "[{},{}]", "[{}; {}]", "({}–{})",
    "It lasts from {} s to {} s.", "lasting {} s to {} s", "during {} s – {} s", "从{}秒到{}秒",
    "seconds {} to {}", "start: {}, end: {}", "at {} and {} s", "at {} s and {} s", "at {} or {} seconds",
    "from {} to {}, a dog barks", "{}s: a dog; {}s: a bell",
]  # fmt: skip
"""Ways to write two moments in seconds, the first no later than the second."""
MINUTES = [
    "at {m}m{s}s", "{m}m{s}s: a dog", "at {m} min {s} s", "after {m} minutes and {s} seconds", "{m}分{s}秒",
    "在{m}分{s}秒处", "at {m}'{s}\"", "at {m}′{s}″", "at {m}:{s:02d}", "00:{m:02d}:{s:02d}", "[{m}:{s:02d}]",
    "00:{m:02d}:{s:02d},000", "at the {m}m {s}s mark",
]  # fmt: skip
"""Ways to write a moment in whole minutes and seconds."""
NO_TIMES = [
    "for {} seconds", "a {} second pause", "a pause of {} seconds", "every {} seconds", "{} seconds later",
    "for {} s", "It lasts {} seconds.", "the first {} seconds", "a {}-second silence", "{} seconds long",
    "The silence is {} seconds.", "a {} minute break", "for {} minutes", "up to {} seconds", "持续{}秒",
    "{}秒的停顿", "{}秒后", "{} dogs and 4 cats", "in {}", "a ratio of {} to 5", "{} bpm", "at {} bpm",
    "{} euros", "at {} euros", "$ {}", "at ${}", "costs €{} each", "({} €)", "{} °C", "at {} degrees",
    "at {}°", "at {} °C", "about {} percent", "at {}%", "({}%)", "at {} Hz", "at {} dB", "version {}",
    "{} of them", "MP{}", "a score of {}", "room {}", "at {} km/h", "It rises by {} Hz",
]  # fmt: skip
"""What a number can stand in that is no time."""
ODDITIES = [
    "for 3 seconds", "It lasts 3-5 seconds.", "3.5 seconds later", "music of the 80s", "80s and 90s music",
    "see [3]", "[1, 2]", "in 2024", "4.50 euros", "at 10:30 am", "1,200 people", "for about 3 to 5 seconds",
    "at 4.50 euros", "between 1.5 and 2.5 million", "from 1.5 to 2.5 kHz", "3.5-4.5 kHz hum",
    "a ratio of 16:10",
    "4.50-5.50 euros each", "The second one is louder.", "He is 5'11\" tall.", "for 1 min 5 s", "lasts 1m23s",
    "持续1分23秒", "a score of 3:02", "at 9.81 m/s", "a 3- to 5-second pause", "one second later",
    "from one second to the next", "at 3 second intervals", "a 1.5 minute song", "two minutes of silence",
    "delayed by 3 seconds", "silence (3 s long)", "pause: 3 seconds", "duration: 3.5 s", "every 5th second",
]  # fmt: skip


def hundredths(text: st.SearchStrategy[float]) -> st.SearchStrategy[str]:
    return text.map(lambda seconds: f"{seconds:.2f}")


def labels(text: str) -> list[str]:
    return re.findall(r"\d+:[\d:]+\d", text)


@pytest.mark.parametrize("way", WAYS)
@SOME
@given(
    start=st.floats(0, 20_000),
    written=hundredths(st.floats(0, LONGEST_S - 1)),
    behind=st.floats(0, LONGEST_S),
)
def test_a_moment_is_moved_to_the_recordings_clock(
    way: str, start: float, written: str, behind: float
) -> None:
    heard = on_the_recordings_clock(way.format(written), start, start + float(written) + behind)
    assert heard.times == [pytest.approx(start + float(written))]
    assert labels(heard.text) == [clock(heard.times[0])]
    assert written not in heard.text
    assert heard.beyond == []


@pytest.mark.parametrize("way", RANGES)
@SOME
@given(start=st.floats(0, 20_000), times=st.tuples(st.floats(0, 290), st.floats(0, 290)))
def test_two_moments_are_moved(way: str, start: float, times: tuple[float, float]) -> None:
    first, last = (f"{time:.2f}" for time in sorted(times))
    heard = on_the_recordings_clock(way.format(first, last), start, start + 300)
    assert heard.times == [pytest.approx(start + float(first)), pytest.approx(start + float(last))]
    assert labels(heard.text) == [clock(time) for time in heard.times]


@pytest.mark.parametrize("way", MINUTES)
@SOME
@given(start=st.integers(0, 20_000), time=st.integers(0, 599))
def test_minutes_and_seconds_count_from_the_clip(way: str, start: int, time: int) -> None:
    heard = on_the_recordings_clock(way.format(m=time // 60, s=time % 60), start, start + 600)
    assert heard.times == [start + time]
    assert labels(heard.text) == [clock(start + time)]
    assert not re.search(r"[ms分秒'′]\d|\d[ms分秒'′\"]", heard.text)


@pytest.mark.parametrize(
    ("answer", "moved"),
    [
        ("A dog barks at 1.5 minutes.", "A dog barks at 3:30."),
        ("1.5 minutes in, a dog barks.", "3:30, a dog barks."),
        ("at the one-minute mark", "at the 3:00 mark"),
        ("Twenty-five seconds in, a bell.", "2:25, a bell."),
        ("at 0:83", "at 3:23"),
        ("around 83,5 seconds", "around 3:23"),
        ("A bell rings around the 5 second mark.", "A bell rings around the 2:05 mark."),
        ("at the 83rd second", "at 3:23"),
        ("It starts at second 83.", "It starts at 3:23."),
        ("A dog in minute 1.", "A dog from 3:00 to 3:30."),
        ("from 3 to 5 minutes", "from 3 to 5 minutes"),
        ("00:00:05,200 --> 00:00:07,000", "2:05–2:07"),
        ("dog at 3, 5 and 9 seconds", "dog at 2:03, 2:05 and 2:09"),
        ("The sound lasts from 3.0 s to 5.0 s.", "The sound lasts from 2:03 to 2:05."),
        ("at 0:05, 0:10 and 9:00", "at 2:05, 2:10 and 9:00"),
    ],
)
def test_other_forms_are_moved(answer: str, moved: str) -> None:
    assert on_the_recordings_clock(answer, 120.0, 210.0).text == moved


@pytest.mark.parametrize("text", NO_TIMES)
@SOME
@given(number=st.integers(0, 299).map(str) | hundredths(st.floats(0, 299)), start=st.floats(0, 300))
def test_lengths_counts_prices_and_degrees_stay_as_they_are(text: str, number: str, start: float) -> None:
    written = text.format(number)
    heard = on_the_recordings_clock(written, start, start + 300)
    assert (heard.text, heard.times, heard.beyond) == (written, [], [])
    assert on_the_clips_clock(written, 0.25, 600) == written


def test_a_fraction_in_brackets_is_a_time_and_a_whole_number_is_a_footnote() -> None:
    assert on_the_recordings_clock("see [3] there", 120.0, 1000.0).times == []
    assert on_the_recordings_clock("see [3.50] there", 120.0, 1000.0).times == [123.5]


def test_a_clock_time_that_stands_alone_is_a_time() -> None:
    assert on_the_recordings_clock("16:10", 120.0, 1200.0).times == [120.0 + 970.0]


@pytest.mark.parametrize("text", ODDITIES)
def test_other_numbers_stay_as_they_are(text: str) -> None:
    heard = on_the_recordings_clock(text, 120.0, 1000.0)
    assert (heard.text, heard.times, heard.beyond) == (text, [], [])


@pytest.mark.parametrize("way", WAYS)
@SOME
@given(length=st.floats(1, 300), over=st.floats(ROUNDING_S + 0.02, 300))
def test_a_time_beyond_the_clip_stays_and_is_told(way: str, length: float, over: float) -> None:
    text = way.format(f"{length + over:.2f}")
    heard = on_the_recordings_clock(text, 50.0, 50.0 + length)
    assert (heard.text, heard.times) == (text, [])
    assert len(heard.beyond) == 1


PIECES = st.sampled_from([*WAYS, *RANGES, *NO_TIMES, *ODDITIES, "3:", "[", "]", "0:0", "12", "s", "#12", "–"])


@given(st.lists(PIECES | st.text()), st.floats(0, 10_000), st.floats(0, 600))
def test_any_answer_names_only_times_within_the_clip(parts: list[str], start: float, length: float) -> None:
    text = " ".join(parts).replace("{}", "7.25")
    heard = on_the_recordings_clock(text, start, start + length)
    assert all(start <= time <= start + length + 1e-6 for time in heard.times)
    on_the_clips_clock(text, start, start + length)


@pytest.mark.parametrize(
    "text", ["1", "[1.0, ", "1 m ", "3.5, ", "3 to ", "five ", " \n", "~", "1:", "start = "]
)
def test_long_answers_of_any_kind_are_read_in_no_time(text: str) -> None:
    heard = on_the_recordings_clock(text * 3000, 0.0, 600.0)
    assert len(heard.text) <= 2 * len(text) * 3000


def test_times_of_many_forms_in_one_answer_are_all_moved() -> None:
    heard = "[0.00]Hello[2.01]. A dog at 3.5 s, bells at 4.0, 5.0 and 6.0 seconds, "
    answer = heard + "music from 0:10 to 1:05 for 55 s."
    assert on_the_recordings_clock(answer, 3600.0, 3700.0).text == (
        "(1:00:00)Hello(1:00:02). A dog at 1:00:03, bells at 1:00:04, 1:00:05 and 1:00:06, "
        "music from 1:00:10 to 1:01:05 for 55 s."
    )


def test_a_listener_cannot_cite() -> None:
    assert on_the_recordings_clock("A dog [#12] barks [#3-#9].", 0, 10).text == "A dog barks."


# --- questions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["at {}", "Is somebody laughing at {}?", "[{}]", "around {}, what is it?"])
@given(cut=hundredths(st.floats(0, 20_000)), ahead=st.floats(0, 500), behind=st.floats(1, 100))
def test_a_question_and_an_answer_that_repeats_it_name_the_same_second(
    way: str, cut: str, ahead: float, behind: float
) -> None:
    start = float(cut)
    asked = clock(start + ahead)
    end = start + ahead + behind
    put = on_the_clips_clock(way.format(asked), start, end)
    echo = on_the_recordings_clock(put, start, end)
    assert labels(echo.text) == [asked]
    assert echo.beyond == []


@pytest.mark.parametrize("way", [*WAYS, *MINUTES])
@SOME
@given(start=st.integers(0, 300), ahead=st.integers(0, 290))
def test_every_form_is_moved_there_and_back(way: str, start: int, ahead: int) -> None:
    time = start + ahead
    text = way.format(f"{time:.2f}", m=time // 60, s=time % 60)
    put = on_the_clips_clock(text, start, start + 300)
    assert labels(put) == [clock(ahead)]
    assert on_the_recordings_clock(put, start, start + 300).times == [time]


@pytest.mark.parametrize(
    ("question", "put"),
    [
        ("Is somebody laughing at 2:15?", "Is somebody laughing at 0:15?"),
        ("between 2:05 and 2:10?", "between 0:05 and 0:10?"),
        ("from 1:50 to 2:10?", "from 0:00 to 0:10?"),
        ("what plays in minute 2?", "what plays from 0:00 to 0:30?"),
        ("who is it after 2 minutes and 5 seconds?", "who is it after 0:05?"),
        ("at 1:23?", "at 1:23?"),
        ("from 10:00 to 12:00?", "from 10:00 to 12:00?"),
        ("Is 2:05 louder than 9:00?", "Is 0:05 louder than 9:00?"),
        ("in the last 30 seconds?", "in the last 30 seconds?"),
        ("Does it last for 125 seconds?", "Does it last for 125 seconds?"),
    ],
)
def test_times_of_a_question_are_put_on_the_clips_clock_where_they_lie_in_it(question: str, put: str) -> None:
    assert on_the_clips_clock(question, 120.0, 150.0) == put
