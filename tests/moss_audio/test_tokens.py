"""How a recording is laid out in token ids."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moss_audio.model.mel import HOP_LENGTH, frame_count, token_count
from moss_audio.model.processor import RELEASED, AudioTokens, audio_span
from tests.support.moss_tokenizer import PARITY, SMALL

RECORDED = json.loads((PARITY / "v2_processor" / "meta.json").read_text())["placeholders"]
QUARTER_HOUR = 15 * 60 * 16_000
digit_of = {number: str(digit) for digit, number in enumerate(RELEASED.digits)}


def seconds_written(span: list[int]) -> list[tuple[int, int]]:
    """Every marker of a span as (audio tokens before it, the second it says)."""
    markers, before, digits = [], 0, ""
    for number in [*span, RELEASED.audio]:
        if number != RELEASED.audio:
            digits += digit_of[number]
            continue
        if digits:
            markers.append((before, int(digits)))
            digits = ""
        before += 1
    return markers


@pytest.mark.parametrize("n_tokens", [int(item) for item in RECORDED])
def test_a_span_is_what_the_official_processor_wrote(n_tokens: int) -> None:
    recorded = RECORDED[str(n_tokens)]
    span = audio_span(n_tokens)
    assert span == [number for number, times in recorded["with_markers"] for _ in range(times)]
    assert len(span) == recorded["total"]


def tokens_of_encoder(frames: int) -> int:
    """Three convolutions of stride 2, each of ceil(n / 2), over every window of 400 frames."""
    last = frames % 400
    for _ in range(3):
        last = (last + 1) // 2
    return 50 * (frames // 400) + last


@given(st.integers(HOP_LENGTH, QUARTER_HOUR), st.booleans())
def test_placeholders_equal_the_encoders_tokens_for_any_number_of_samples(
    samples: int, markers: bool
) -> None:
    frames = frame_count(samples)
    span = audio_span(token_count(frames), time_markers=markers)
    assert span.count(RELEASED.audio) == tokens_of_encoder(frames)


def test_placeholders_equal_the_encoders_tokens_for_every_length_to_a_quarter_of_an_hour() -> None:
    every = range(1, frame_count(QUARTER_HOUR) + 1)
    wrong = [frames for frames in every if token_count(frames) != tokens_of_encoder(frames)]
    assert not wrong
    counts = range(1, token_count(every[-1]) + 1)
    assert all(audio_span(count).count(RELEASED.audio) == count for count in counts)


@given(st.integers(0, 15 * 750))
def test_every_second_second_is_written_after_25_tokens_each(n_tokens: int) -> None:
    markers = seconds_written(audio_span(n_tokens))
    assert markers == [(25 * k, 2 * k) for k in range(1, n_tokens // 25 + 1)]


@pytest.mark.parametrize(
    ("samples", "tokens", "ids"),
    [
        (160, 1, 1),
        (30_400, 24, 24),
        (30_720, 24, 24),
        (30_879, 24, 24),
        (30_880, 25, 26),
        (32_000, 25, 26),
        (32_640, 26, 27),
        (160_000, 125, 131),
        (1_598_400, 1249, 1343),
        (1_600_000, 1250, 1347),
    ],
)
def test_the_known_lengths_around_a_marker(samples: int, tokens: int, ids: int) -> None:
    n_tokens = token_count(frame_count(samples))
    assert (n_tokens, len(audio_span(n_tokens))) == (tokens, ids)


def test_without_markers_only_audio_is_left() -> None:
    assert audio_span(60, time_markers=False) == [RELEASED.audio] * 60


def test_other_numbers_are_written_where_a_model_has_them() -> None:
    other = AudioTokens(audio=300, digits=tuple(range(900, 910)))
    assert audio_span(126, other)[-4:] == [300, 901, 900, 300]
    assert audio_span(25, SMALL)[-1] == 17


def test_a_negative_length_and_nine_digits_are_refused() -> None:
    with pytest.raises(ValueError, match="-1 audio tokens"):
        audio_span(-1)
    with pytest.raises(ValueError, match="got 9"):
        AudioTokens(digits=tuple(range(9)))
