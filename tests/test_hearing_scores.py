"""The benchmark of hearing: how words are counted, and what is left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.hearing import cases, quietly, score, with_noise
from moss_audio.evaluate.scoring import Normaliser

BOTH = {"en": "Good morning", "de": "Guten Morgen"}


@pytest.mark.parametrize(
    ("said", "heard", "expected"),
    [
        ({"en": "We pay for it."}, [("en", "We pay"), ("en", "for it")], (0.0, 4, 4)),
        ({"en": "We pay for it."}, [("fr", "We pay for it.")], (0.0, 4, 4)),
        ({"en": "We pay for it."}, [], (1.0, 0, 4)),
        (
            {"en": "Good morning", "de": "Guten Morgen"},
            [("en", "Good morning"), ("de", "Guten")],
            (0.25, 3, 4),
        ),
        ({"en": "Good morning", "de": "Guten Morgen"}, [("en", "Good morning Goodn")], (0.75, 2, 4)),
    ],
)
def test_words_count_in_their_language_where_several_are_spoken(said, heard, expected) -> None:
    assert score(Normaliser(), said, heard) == expected


def test_what_is_made_from_the_sample_is_as_loud_as_it_says() -> None:
    tone = (0.3 * np.sin(np.arange(160_000) * 0.2)).astype(np.float32)
    assert 20 * np.log10(np.std(quietly(tone)) / np.std(tone)) == pytest.approx(-30, abs=0.01)
    noisy = with_noise(tone)
    scale = np.dot(noisy, tone) / np.dot(tone, tone)
    noise = noisy - scale * tone
    assert 20 * np.log10(scale * np.std(tone) / np.std(noise)) == pytest.approx(5, abs=0.1)


def test_files_that_are_not_there_are_left_out(tmp_path: Path) -> None:
    assert len(cases(None)) < len(cases(tmp_path))
    given = cases(tmp_path)[len(cases(None)) :]
    assert given and all(case.make(tmp_path) is None for case in given)
