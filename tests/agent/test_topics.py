"""Topics begin where the subject changes, cover everything, and are named with words that were said."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.records import Segment
from index.search.embeddings import Embedder
from index.summary import topics
from index.text import words
from tests.conftest import DATA
from tests.support.talks import TALKS, script

FACTS = json.loads((DATA / "harbour_meeting.facts.json").read_text())


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder()


def heard() -> list[Segment]:
    rows = json.loads((DATA / "harbour_heard.json").read_text())
    return [
        Segment(row["start"], row["end"], row["text"], speaker=row["speaker"], id=at)
        for at, row in enumerate(rows)
    ]


def topics_of(segments: list[Segment], embedder: Embedder):
    return topics(segments, embedder.encode_passages([segment.text for segment in segments]))


def about(subjects: int, each: int, seconds: float, noise: float = 0.7) -> tuple[list[Segment], np.ndarray]:
    """Sentences whose vectors lie around one of several directions, one subject after the other."""
    rng = np.random.default_rng(subjects)
    middles = rng.standard_normal((subjects, 64))
    middles /= np.linalg.norm(middles, axis=1, keepdims=True)
    vectors = np.repeat(middles, each, axis=0) + noise * rng.standard_normal((subjects * each, 64)) / 8
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    length = seconds / (subjects * each)
    segments = [
        Segment(
            at * length, at * length + length * 0.9, f"subject{at // each} has a part called thing{at}", id=at
        )
        for at in range(subjects * each)
    ]
    return segments, vectors.astype(np.float32)


def test_topics_hold_every_segment_once_and_in_order(embedder: Embedder):
    segments = heard()
    found = topics_of(segments, embedder)
    assert [number for topic in found for number in topic.segments] == [segment.id for segment in segments]


def test_topics_of_the_sample_begin_where_people_change_the_subject(embedder: Embedder):
    found = topics_of(heard(), embedder)
    for fact in FACTS["topics"]:
        assert min(abs(topic.start - fact["span"][0]) for topic in found) < 6, fact["title"]
    assert len(found) <= 9


@pytest.mark.parametrize(
    "subjects,each,seconds", [(2, 20, 200.0), (5, 40, 1800.0), (8, 150, 7200.0), (10, 300, 10800.0)]
)
def test_subjects_without_any_announcement_are_told_apart(subjects: int, each: int, seconds: float):
    segments, vectors = about(subjects, each, seconds)
    begins = [topic.start for topic in topics(segments, vectors)]
    length = seconds / subjects
    assert len(begins) <= 12
    for number in range(subjects):
        assert min(abs(begin - number * length) for begin in begins) < length * 0.06


def test_a_recording_with_many_announcements_is_still_divided_into_no_more_than_twelve():
    segments, vectors = about(30, 20, 7200.0)
    said = [
        Segment(
            segment.start, segment.end, f"Next topic, the {segment.text.split()[0]} report.", id=segment.id
        )
        if at % 20 == 0
        else segment
        for at, segment in enumerate(segments)
    ]
    found = topics(said, vectors)
    assert 6 <= len(found) <= 12
    assert all(said[topic.segments[0]].text.startswith("Next topic") for topic in found[1:])


@pytest.mark.parametrize(
    "said,title",
    [
        ("Second topic, the sound stage.", "Sound stage"),
        ("First item on the agenda is the onboarding flow.", "Onboarding flow"),
        ("Great, next up is pricing.", "Pricing"),
        ("Let's move on to respiration.", "Respiration"),
        ("What about the weather plan?", "Weather plan"),
        ("Any other business?", "Any other business"),
        ("Moving on to hiring.", "Hiring"),
    ],
)
def test_an_announcement_names_the_topic(said: str, title: str):
    segments = script(
        f"A: {said}\nA: We have looked at this for a while and it is fine.\nB: That is good to hear."
    )
    assert topics(segments, np.eye(3, dtype=np.float32))[0].title == title


@pytest.mark.parametrize(
    "said", ["We go with the blue one.", "We move the stage to Sunday.", "I started to sing."]
)
def test_what_announces_nothing_begins_no_topic(said: str):
    lines = ["A: We have looked at the harbour plan."] * 9
    alike = np.full((19, 8), 1 / np.sqrt(8), dtype=np.float32)
    for middle, begins in ((said, False), ("Next topic, the roof.", True)):
        segments = script("\n".join([*lines, f"A: {middle}", *lines]))
        found = topics(segments, alike)
        assert (segments[9].start in [topic.start for topic in found]) == begins


@pytest.mark.parametrize("name", TALKS)
def test_a_title_is_made_of_words_said_in_the_topic(name: str, embedder: Embedder):
    segments = script(TALKS[name].lines)
    for topic in topics_of(segments, embedder):
        own = {word for segment in segments if segment.id in topic.segments for word in words(segment.text)}
        assert set(words(topic.title)) <= own
        assert topic.title and len(topic.title) <= 80


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.floats(0.2, 400), st.integers(0, 1000))
def test_any_recording_is_divided_without_gap_or_error(count: int, length: float, seed: int):
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((count, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    text = rng.choice(
        ["Next topic.", "Okay.", "", "What about the plan for the harbour?", "你好 世界"], count
    )
    segments = [Segment(at * length, (at + 1) * length, str(text[at]), id=at) for at in range(count)]
    found = topics(segments, vectors)
    assert [number for topic in found for number in topic.segments] == list(range(count))
    assert len(found) <= 12
    assert all(topic.start < topic.end for topic in found)
