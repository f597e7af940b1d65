"""Timed transcripts: the official form, and what models make of it."""

from __future__ import annotations

import pytest

from moss_audio.tasks import TimedText, TimedTexts, official, parse_sentences, parse_speakers, parse_words
from tests.support.parsed_answers import findings

OFFICIAL = "[0.00]hello there[2.01][2.01]the weather is nice today[4.32]"


def spans(parsed) -> list[tuple[float, float, str]]:
    return [(part.start, part.end, part.text) for part in parsed.value]


def test_the_official_example_is_read_whole():
    parsed = parse_sentences(OFFICIAL, 4.4)
    assert spans(parsed) == [(0.0, 2.01, "hello there"), (2.01, 4.32, "the weather is nice today")]
    assert parsed.dropped == ()
    assert official(parsed.value) == OFFICIAL


@pytest.mark.parametrize(
    "written",
    [
        "[0.00]hello there[2.01]\n[2.01]the weather is nice today[4.32]\n",
        "- [0.00] hello there [2.01]\n- [2.01] the weather is nice today [4.32]",
        "[00:00.00]hello there[00:02.01][00:02.01]the weather is nice today[0:04.32]",
        "[0:00:00]hello there[00:00:02,010][0:00:02.01]the weather is nice today[0:00:04.320]",
        "【0.00】hello there【2.01】【2.01】the weather is nice today【4.32】",
        "［０．００］hello there［２．０１］[2.01s]the weather is nice today[4.32 sec]",
        "[0.00 - 2.01] hello there\n[2.01 - 4.32] the weather is nice today",
        "[0.00] --> [2.01] hello there\n[2.01] --> [4.32] the weather is nice today",
        "0.00 - 2.01: hello there\n2.01 - 4.32: the weather is nice today",
    ],
)
def test_the_same_times_in_other_forms_are_read_the_same_and_nothing_is_dropped(written: str):
    parsed = parse_sentences(written, 4.4)
    assert spans(parsed) == [(0.0, 2.01, "hello there"), (2.01, 4.32, "the weather is nice today")]
    assert parsed.dropped == ()


def test_subtitles_are_read():
    written = (
        "1\n00:00:00,000 --> 00:00:02,010\nhello there\n\n2\n00:00:02,010 --> 00:00:04,320\nnice today\n"
    )
    assert spans(parse_sentences(written, 5)) == [(0.0, 2.01, "hello there"), (2.01, 4.32, "nice today")]


def test_a_missing_end_tag_becomes_the_next_start_or_an_estimate_and_is_reported():
    parsed = parse_sentences("[0.00]hello there[2.01]the weather is nice", 60)
    assert [(part.start, part.text) for part in parsed.value] == [
        (0.0, "hello there"),
        (2.01, "the weather is nice"),
    ]
    assert parsed.value[0].end == 2.01
    assert 2.01 < parsed.value[1].end < 6, "an estimate from the words, not the end of the clip"
    assert "no end tag" in parsed.kinds


def test_an_estimated_end_stays_within_the_clip():
    parsed = parse_sentences("[9.00]many words are said at the very end of it", 9.5)
    assert parsed.value[0].end == 9.5


def test_a_stamp_cut_in_two_by_the_token_limit_is_reported():
    parsed = parse_sentences("[0.00]hello there[2.01][2.", 60)
    assert spans(parsed) == [(0.0, 2.01, "hello there")]
    assert findings(parsed) == [("cut off", "[2.")]


def test_times_beyond_the_clip_are_dropped_and_reported():
    parsed = parse_sentences("[0.00]hello[2.00][9.50]almost[10.70][30.00]never heard[31.00]", 10.0)
    assert spans(parsed) == [(0.0, 2.0, "hello"), (9.5, 10.0, "almost")]
    found = [finding for finding in parsed.dropped if finding.kind == "beyond the clip"]
    assert [part.text for part in found] == ["[9.50]almost[10.70]", "[30.00]never heard[31.00]"]
    assert "10.70 s" in found[0].reason and "10.00 s" in found[0].reason


def test_an_end_far_beyond_the_clip_claims_no_more_than_its_words_take():
    parsed = parse_sentences("[1.00]hello there[500.00]", 60.0)
    assert parsed.value[0].end < 3
    assert parsed.kinds == {"beyond the clip"}


def test_the_rounding_of_the_format_itself_is_no_finding():
    parsed = parse_sentences("[0.00]hello[1.24]", 1.2361)
    assert parsed.value[0].end == 1.2361 and parsed.dropped == ()


def test_without_a_duration_no_time_is_beyond_the_clip():
    assert spans(parse_sentences("[0.00]a b[99999.00]")) == [(0.0, 99999.0, "a b")]


@pytest.mark.parametrize("duration", [-1.0, float("nan")])
def test_a_duration_that_is_none_is_refused(duration: float):
    with pytest.raises(ValueError, match="length of a clip"):
        parse_sentences(OFFICIAL, duration)


def test_one_wild_time_costs_one_part_not_those_after_it():
    parsed = parse_sentences("[0]one[1][50]two[51][2]three[3][3]four[4][4]five[5]", 60)
    assert [part.text for part in parsed.value] == ["one", "three", "four", "five"]
    assert findings(parsed) == [("out of order", "[50]two[51]")]


def test_a_start_a_little_out_of_order_is_moved_and_reported():
    parsed = parse_sentences("[0]one[2][1.5]two[3][1.2]three[4][4]four[5]", 60)
    assert [piece.text for piece in parsed.value] == ["one", "two", "three", "four"]
    starts = [part.start for part in parsed.value]
    assert starts == sorted(starts) and parsed.kinds == {"out of order"}


def test_an_end_before_its_start_is_mended_and_reported():
    parsed = parse_sentences("[0]one[1][9]two[2][2]three[3]", 60)
    assert spans(parsed) == [(0, 1, "one"), (1, 2, "two"), (2, 3, "three")]
    assert parsed.kinds == {"out of order"}


def test_a_phrase_over_and_over_with_advancing_times_is_a_loop():
    loop = "".join(f"[{i}.00]thank you for watching[{i + 1}.00]" for i in range(3, 30))
    parsed = parse_sentences(f"[0.00]we begin[3.00]{loop}[30.00]and we end[31.00]", 60)
    assert spans(parsed) == [(0, 3, "we begin"), (3, 4, "thank you for watching"), (30, 31, "and we end")]
    assert len([finding for finding in parsed.dropped if finding.kind == "loop"]) == 26


def test_the_same_part_with_stuck_times_is_a_loop_from_the_second_on():
    parsed = parse_sentences("[0.00]we begin[3.00]" * 3, 60)
    assert spans(parsed) == [(0, 3, "we begin")]
    assert findings(parsed) == [("loop", "[0.00]we begin[3.00]")] * 2


def test_a_loop_within_one_part_is_cut():
    parsed = parse_sentences(f"[0.00]so {'I said ' * 20}no[9.00]", 10)
    assert spans(parsed) == [(0, 9, "so I said no")]
    assert parsed.kinds == {"loop"}


def test_a_chinese_loop_without_spaces_is_cut():
    parsed = parse_sentences(f"[0.00]他说{'谢谢大家' * 10}[9.00]", 10)
    assert spans(parsed) == [(0, 9, "他说谢谢大家")]


def test_what_people_do_repeat_stays():
    text = "[0.00]no, no, no, no, no[2.00][2.00]very, very, very good, ha ha ha[4.00]"
    assert parse_sentences(text, 5).dropped == ()


def test_thinking_fences_tokens_and_explanations_are_set_apart():
    written = (
        f"<think>two sentences, [0.00]maybe[9.00]</think>Here you go:\n```text\n{OFFICIAL}\n```\n"
        "I hope this helps!<|im_end|>"
    )
    parsed = parse_sentences(written, 5)
    assert official(parsed.value) == OFFICIAL
    assert parsed.kinds == {"thinking", "fence", "special token", "explanation"}
    texts = " ".join(finding.text for finding in parsed.dropped)
    assert "maybe" in texts and "Here you go" in texts and "I hope this helps!" in texts


def test_an_invented_turn_is_cut_off():
    parsed = parse_sentences(f"{OFFICIAL}<|im_end|>\n<|im_start|>user\n[0.00]more[1.00]<|im_end|>", 5)
    assert official(parsed.value) == OFFICIAL and "invented turn" in parsed.kinds


def test_a_thought_without_end_leaves_no_answer():
    parsed = parse_sentences(f"<think>let me see {OFFICIAL}", 5)
    assert parsed.value == () and parsed.kinds == {"thinking"}


def test_a_thought_whose_opening_tag_was_in_the_prompt_is_set_apart():
    parsed = parse_sentences(f"let me see [0.00]x[1.00]</think>{OFFICIAL}", 5)
    assert official(parsed.value) == OFFICIAL


def test_text_without_any_time_gets_no_made_up_times():
    parsed = parse_sentences("hello there, the weather is nice", 5)
    assert parsed.value == () and parsed.kinds == {"no times"}
    assert parsed.dropped[0].text == "hello there, the weather is nice"


def test_times_without_words_are_reported_as_empty():
    parsed = parse_sentences("[0.00][2.00][3.00]hello[4.00][5.00]", 6)
    assert spans(parsed) == [(3, 4, "hello")]
    assert [finding.kind for finding in parsed.dropped] == ["empty", "empty", "empty"]


def test_words_have_times_of_their_own():
    parsed = parse_words("[0.00]hello[0.40][0.52]there[0.90]", 2)
    assert parsed.value == (TimedText(0.0, 0.4, "hello"), TimedText(0.52, 0.9, "there"))
    assert parsed.dropped == ()


def test_several_words_between_two_stamps_share_their_time_by_length():
    parsed = parse_words("[1.00]to be clear[2.00][2.00]yes[2.50]", 3)
    assert [part.text for part in parsed.value] == ["to", "be", "clear", "yes"]
    first, second, third, _ = parsed.value
    assert first.start == 1.0 and third.end == pytest.approx(2.0)
    assert first.end == second.start and second.end == third.start
    assert third.end - third.start > first.end - first.start
    assert parsed.kinds == {"several words"}


@pytest.mark.parametrize(
    "written",
    [
        "[0.00][S01]hi Bob[1.00][1.00][S02]hi Ann[2.00]",
        "[S1][0.00]hi Bob[1.00]\n[S2][1.00]hi Ann[2.00]",
        "[Speaker 1][0.00 - 1.00] hi Bob\n[SPEAKER_02][1.00 - 2.00] hi Ann",
        "[0.00]Speaker 1: hi Bob[1.00][1.00]S02: hi Ann[2.00]",
        "【0.00】【说话人1】hi Bob【1.00】【1.00】【说话人2】hi Ann【2.00】",
        "0.00 - 1.00 Speaker 1: hi Bob\n1.00 - 2.00 Speaker 2: hi Ann",
    ],
)
def test_speaker_labels_are_read_in_the_forms_models_use(written: str):
    parsed = parse_speakers(written, 3)
    assert parsed.value == (TimedText(0.0, 1.0, "hi Bob", "S01"), TimedText(1.0, 2.0, "hi Ann", "S02"))
    assert parsed.dropped == ()


def test_a_part_without_a_label_is_reported_and_given_to_nobody():
    parsed = parse_speakers("[0.00][S01]hi Bob[1.00][1.00]hi Ann[2.00]", 3)
    assert [part.speaker for part in parsed.value] == ["S01", None]
    assert findings(parsed) == [("no speaker", "hi Ann")]


def test_a_change_of_speaker_without_times_parts_the_turns():
    parsed = parse_speakers("[0.00][S01]hi Bob [S02]hi Ann[4.00]", 5)
    assert [(part.speaker, part.text) for part in parsed.value] == [("S01", "hi Bob"), ("S02", "hi Ann")]
    assert parsed.value[0].end == parsed.value[1].start and parsed.value[1].end == 4.0
    assert parsed.kinds == {"no end tag", "no start tag"}


def test_timed_texts_are_shown_as_lines_and_as_json():
    value = TimedTexts([TimedText(0, 1.5, "hi Bob", "S01"), TimedText(61.25, 62, "hi Ann")])
    assert value.to_text() == "0.00 - 1.50  S01: hi Bob\n61.25 - 62.00  hi Ann"
    assert value.to_json() == [
        {"start": 0, "end": 1.5, "text": "hi Bob", "speaker": "S01"},
        {"start": 61.25, "end": 62, "text": "hi Ann"},
    ]
