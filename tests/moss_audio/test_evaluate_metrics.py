"""Error rates, AAS and intervals against values worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moss_audio.errors import DataError
from moss_audio.evaluate.cases import Timed
from moss_audio.evaluate.scoring import (
    Errors,
    Normaliser,
    count_errors,
    interval,
    rate_name,
    read_spellings,
    slot_errors,
)

PLAIN = Normaliser()


def english(text: str) -> list[str]:
    return list(PLAIN.units(text, "en"))


def errors(reference: str, predicted: str, language: str) -> Errors:
    return count_errors(PLAIN.units(reference, language), PLAIN.units(predicted, language))


def test_word_errors_are_the_fewest_edits():
    # "yes" is too much, "sat" for "sits" is a substitution, "the" is missing: 3 errors over 6 words.
    found = errors("the cat sits on the mat", "yes the cat sat on mat", "en")
    assert (found.substitutions, found.deletions, found.insertions, found.reference) == (1, 1, 1, 6)
    assert found.total == 3


def test_chinese_is_counted_in_characters_whatever_the_spaces_and_signs():
    # 今天天气很好 has 6 characters; 汽 stands for 气 and nothing else differs.
    found = errors("今天天气很好。", "今天 天汽,很好", "zh")
    assert (found.total, found.reference) == (1, 6)
    assert (rate_name("zh"), rate_name("en"), rate_name("de")) == ("CER", "WER", "WER")


def test_case_signs_contractions_and_numbers_are_no_errors_in_english():
    assert errors("Mr. Brown won't pay twenty-one dollars!", "mister brown will not pay $21", "en").total == 0


def test_fillers_and_bracketed_asides_do_not_count_in_english():
    assert english("Um, well [laughter] yes (inaudible)") == ["well", "yes"]


def test_other_languages_keep_their_accents_and_lose_signs():
    assert PLAIN.units("«Où est-elle ?»", "fr") == ("où", "est", "elle")


def test_without_a_table_british_spelling_differs_and_with_one_it_does_not(tmp_path):
    assert errors("my favourite colour", "my favorite color", "en").total == 2
    table = tmp_path / "normalizer.json"
    table.write_text('{"favourite": "favorite", "colour": "color"}')
    both = Normaliser(read_spellings(table))
    assert both.units("my favourite colour", "en") == both.units("my favorite color", "en")


@pytest.mark.parametrize("content", ["[1]", '{"colour": 1}', "nonsense"])
def test_a_table_that_is_none_is_refused_by_name(tmp_path, content):
    path = tmp_path / "normalizer.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"normalizer\.json"):
        read_spellings(path)


def test_a_loop_of_digits_is_normalised_too():
    assert english("1" * 6000) == ["1" * 6000]


@given(st.text(max_size=60), st.text(max_size=60), st.sampled_from(["en", "zh", "ja", "fr", None]))
def test_any_two_texts_can_be_compared(reference: str, predicted: str, language: str | None):
    true, heard = PLAIN.units(reference, language), PLAIN.units(predicted, language)
    found = count_errors(true, heard)
    assert found.reference == len(true)
    assert abs(len(true) - len(heard)) <= found.total <= max(len(true), len(heard))
    assert (found.total == 0) == (true == heard)


def test_aas_is_the_mean_over_starts_and_ends_in_milliseconds():
    reference = [Timed(0.0, 2.0, "Hello there."), Timed(2.0, 4.3, "The weather is nice.")]
    predicted = [Timed(0.1, 2.05, "hello there"), Timed(2.0, 4.0, "the weather is nice")]
    found = slot_errors(reference, predicted, "en", PLAIN)
    # |0.1 - 0| = 100 ms, |2.05 - 2| = 50 ms, 0 ms and |4 - 4.3| = 300 ms: AAS 450 / 4 = 112.5 ms.
    assert found.slots == 4
    assert sorted(found.milliseconds) == pytest.approx([0, 50, 100, 300])


def test_a_missed_word_leaves_its_slots_unmatched_and_shifts_no_other():
    reference = [Timed(0.0, 0.4, "one"), Timed(0.5, 0.9, "cat"), Timed(1.0, 1.4, "runs")]
    predicted = [Timed(0.0, 0.4, "one"), Timed(1.1, 1.5, "runs")]
    found = slot_errors(reference, predicted, "en", PLAIN)
    assert found.slots == 6
    assert sorted(found.milliseconds) == pytest.approx([0, 0, 100, 100])


def test_a_misheard_word_has_no_slot_to_compare():
    found = slot_errors([Timed(0, 1, "weather")], [Timed(0, 1, "whether")], "en", PLAIN)
    assert (found.milliseconds, found.slots) == ((), 2)


def test_sentences_run_together_lose_only_the_slots_between_them():
    reference = [Timed(0.0, 2.0, "hello there"), Timed(2.0, 4.0, "nice day")]
    found = slot_errors(reference, [Timed(0.5, 3.9, "hello there nice day")], "en", PLAIN)
    # The first start (500 ms) and the last end (100 ms) are there; the end and start inside are not.
    assert found.slots == 4
    assert sorted(found.milliseconds) == pytest.approx([100, 500])


def test_chinese_words_cut_differently_are_matched_where_their_edges_meet():
    reference = [Timed(0.0, 0.4, "今天"), Timed(0.4, 0.8, "天气")]
    predicted = [Timed(0.0, 0.2, "今"), Timed(0.2, 0.42, "天"), Timed(0.42, 0.8, "天气")]
    found = slot_errors(reference, predicted, "zh", PLAIN)
    # 今天 starts with 今 (0 ms) and ends with 天 (20 ms); 天气 starts 20 ms late and ends right.
    assert sorted(found.milliseconds) == pytest.approx([0, 0, 20, 20])


def test_a_word_that_is_normalised_away_has_no_slots():
    found = slot_errors([Timed(0, 1, "um"), Timed(1, 2, "yes")], [Timed(1, 2, "yes")], "en", PLAIN)
    assert (found.milliseconds, found.slots) == ((0.0, 0.0), 2)


pieces = st.lists(
    st.builds(
        lambda start, length, text: Timed(start, start + length, text),
        st.floats(0, 100),
        st.floats(0, 5),
        st.sampled_from(["one", "two cats", "red", "uh", "21", "…"]),
    ),
    max_size=8,
)


@given(pieces, pieces)
def test_no_more_slots_are_matched_than_either_side_has(reference: list[Timed], predicted: list[Timed]):
    found = slot_errors(reference, predicted, "en", PLAIN)
    assert len(found.milliseconds) <= found.slots <= 2 * len(reference)
    assert len(found.milliseconds) <= 2 * len(predicted)
    same = slot_errors(reference, reference, "en", PLAIN)
    assert len(same.milliseconds) == same.slots and not any(same.milliseconds)


def test_the_interval_is_the_same_each_time_and_holds_the_mean():
    right = [1.0] * 70 + [0.0] * 30
    found = interval(right, [1.0] * 100)
    assert found == interval(right, [1.0] * 100)
    assert found is not None
    # The normal approximation gives 0.70 ± 1.96 × √(0.7 × 0.3 / 100) = 0.610 to 0.790.
    assert found == pytest.approx((0.61, 0.79), abs=0.02)


def test_equal_cases_leave_no_doubt_and_one_case_gives_no_interval():
    assert interval([1, 2, 3], [10, 20, 30]) == pytest.approx((0.1, 0.1))
    assert interval([1], [10]) is None
    assert interval([0, 0], [0, 0]) is None
