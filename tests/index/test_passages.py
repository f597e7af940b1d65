"""Passages hold every segment once and stay within what the embedder reads."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from index.records import Segment
from index.search.passages import LONGEST_SECONDS, MOST_PIECES, cut_passages, estimated_pieces
from tests.support.indexed import embedder, heard, sentences

_WORDS = st.lists(st.sampled_from(["so", "harbour", "we", "4,200", "渡轮", "unbelievably", "é"]), max_size=40)


@st.composite
def talks(draw: st.DrawFn) -> list[Segment]:
    """Segments as they come: with pauses, crosstalk, very long ones, silence of minutes."""
    found, clock = [], 0.0
    for number in range(draw(st.integers(0, 60))):
        clock = max(0.0, clock + draw(st.floats(-3.0, 8.0)) + draw(st.sampled_from([0.0, 0.0, 0.0, 300.0])))
        length = draw(st.floats(0.05, 15.0)) + draw(st.sampled_from([0.0, 0.0, 0.0, 80.0]))
        text = " ".join(draw(_WORDS)) or "Yes."
        speaker = draw(st.sampled_from(["A", "B", None]))
        found.append(Segment(clock, clock + length, text, speaker=speaker, id=number + 1, recording="r"))
        clock += length
    return found


@given(talks())
@settings(max_examples=60, deadline=None)
def test_every_segment_is_in_exactly_one_passage_in_time_order(segments: list[Segment]) -> None:
    passages = cut_passages(segments)
    ordered = sorted(segments, key=lambda segment: (segment.start, segment.end, segment.id))
    assert [number for passage in passages for number in passage.segment_ids] == [
        segment.id for segment in ordered
    ]


@given(talks())
@settings(max_examples=60, deadline=None)
def test_a_passage_of_several_segments_is_never_too_long(segments: list[Segment]) -> None:
    by_id = {segment.id: segment for segment in segments}
    for passage in cut_passages(segments):
        inside = [by_id[number] for number in passage.segment_ids]
        assert passage.start == min(segment.start for segment in inside)
        assert passage.end == max(segment.end for segment in inside)
        if len(inside) > 1:
            assert passage.end - passage.start <= LONGEST_SECONDS
            assert sum(estimated_pieces(segment.text) for segment in inside) <= MOST_PIECES


@given(talks(), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_the_order_in_which_segments_come_does_not_matter(segments: list[Segment], random) -> None:
    shuffled = list(segments)
    random.shuffle(shuffled)
    assert cut_passages(shuffled) == cut_passages(segments)


def test_passages_of_steady_talk_last_between_thirty_and_sixty_seconds() -> None:
    talk = sentences(*["We meet at the pier at six."] * 200, seconds=3.7)
    lengths = [passage.end - passage.start for passage in cut_passages(talk)]
    assert all(30 <= value <= 60 for value in lengths)


def test_passages_of_quick_talk_have_110_to_150_words() -> None:
    talk = sentences(*["We meet at the old pier at six and walk home."] * 200, seconds=3.85)
    counts = [len(passage.text.split()) for passage in cut_passages(talk)]
    assert all(110 <= count <= 150 for count in counts)


def test_a_cut_moves_to_the_long_pause() -> None:
    before = [Segment(at * 4.0, at * 4.0 + 3.8, "First subject.", id=at + 1) for at in range(9)]
    after = [Segment(39.5 + at * 4.0, 43.3 + at * 4.0, "Second subject.", id=at + 10) for at in range(11)]
    assert cut_passages([*before, *after])[0].segment_ids == tuple(range(1, 10))


def test_silence_of_minutes_is_never_inside_a_passage() -> None:
    talk = [Segment(0, 4, "Before.", id=1), Segment(600, 604, "After.", id=2)]
    assert [passage.segment_ids for passage in cut_passages(talk)] == [(1,), (2,)]


def test_no_segments_make_no_passages() -> None:
    assert cut_passages([]) == []


def test_the_embedder_reads_every_passage_of_the_sample_to_its_end() -> None:
    tokenizer = embedder().load().tokenizer
    for passage in cut_passages(heard()):
        assert len(tokenizer(passage.text)["input_ids"]) <= 256


def test_word_pieces_are_not_underestimated_whatever_the_language() -> None:
    tokenizer = embedder().load().tokenizer
    for text in (
        "Without it, the last boat leaves at 10.30 and the fireworks only start at 10.",
        "Das überprüfte Donaudampfschifffahrtsgesellschaftskapitänspatent wurde verlängert.",
        "Привет, как дела сегодня? Мы говорили о пароме и о бюджете.",
        "今天我们讨论了渡轮时刻表和舞台的预算。",
        "오늘 우리는 여객선 시간표에 대해 이야기했습니다.",
        "مرحبا بالعالم اليوم نتحدث عن العبارة",
        "Call 0044 20 7946 0958 or 12,345,678.90 at 10:30.",
    ):
        pieces = len(tokenizer(text)["input_ids"]) - 2  # without the two marks around the text
        assert estimated_pieces(text) >= 0.75 * pieces, text
