"""Labels of a model and voices together: labels help where voices are unclear, and harm nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.audio.decode import decode_to_flac, read_range
from index.diarization.clustering import (
    SpeakerLabels,
    constrained_clusters,
    estimate_clusters,
    incremental_clusters,
    known_clusters,
)
from index.diarization.diarize_stage import assign_remaining_speakers, assign_speakers
from index.diarization.moss_speakers import VoiceLabel, align_labels
from index.diarization.voice_embeddings import SpeechChunks
from index.records import Segment
from moss_audio.tasks import TimedText
from tests.index.test_speakers import lay_out, other_voice, spans


@pytest.fixture(scope="module")
def voices(sample: Path, script: list[dict], tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Sentences of more than two seconds of each speaker of the sample."""
    path = tmp_path_factory.mktemp("voices") / "sample.flac"
    decode_to_flac(sample, path)
    cut: dict[str, list[np.ndarray]] = {}
    for sentence in script:
        if sentence["end"] - sentence["start"] > 2:
            found = read_range(path, sentence["start"] - 0.05, sentence["end"] + 0.05)
            cut.setdefault(sentence["speaker"], []).append(found)
    return cut


class Talk:
    """Sentences one after another, six to a window, and how they are told apart."""

    def __init__(self, path: Path, said: Sequence[tuple[str, np.ndarray]]) -> None:
        self.path = path
        self.segments, self.who = lay_out(list(said), path)

    def names(self, labels: Sequence[str | None], speakers: int | None = None) -> list[str | None]:
        told: list[VoiceLabel | None] = [
            None if label is None else VoiceLabel(at // 6, 0, label) for at, label in enumerate(labels)
        ]
        return assign_speakers(self.path, self.segments, spans(self.segments), speakers, told)

    def alone(self, speakers: int | None = None) -> list[str | None]:
        return assign_speakers(self.path, self.segments, spans(self.segments), speakers)

    def is_right(self, names: Sequence[str | None]) -> bool:
        return len(set(zip(names, self.who, strict=True))) == len(set(names)) == len(set(self.who))


@pytest.fixture(scope="module", params=[("Ben", 11, 12), ("Callum", 12, 11)], ids=["lower", "higher"])
def like_voices(request, voices, tmp_path_factory) -> Talk:
    """A speaker and the same one in another pitch, in turns: the vectors alone take them for one."""
    name, up, down = request.param
    own, others = voices[name][:6], other_voice(voices[name][6:12], up, down)
    said = [turn for pair in zip(own, others, strict=True) for turn in (("own", pair[0]), ("other", pair[1]))]
    return Talk(tmp_path_factory.mktemp("like") / "talk.flac", said)


def by_turns(talk: Talk, *labels: str | None) -> list[str | None]:
    return [labels[at % len(labels)] for at in range(len(talk.who))]


def test_labels_part_two_voices_that_are_too_alike_for_the_vectors(like_voices):
    assert set(like_voices.alone()) == {"Speaker 1"}
    # The second window numbers its voices the other way round.
    labels = ["S01", "S02"] * 3 + ["S02", "S01"] * 3
    assert like_voices.is_right(like_voices.names(labels))


def test_labels_of_half_the_sentences_place_the_others(like_voices):
    labels = ["S01", "S02"] * 3 + [None] * 6
    assert set(like_voices.names(labels)) == {"Speaker 1", "Speaker 2"}


def test_a_number_of_speakers_goes_before_what_labels_say(like_voices):
    assert set(like_voices.names(by_turns(like_voices, "S01", "S02"), speakers=1)) == {"Speaker 1"}


@pytest.fixture(scope="module")
def three(voices, tmp_path_factory) -> Talk:
    said = [(name, voices[name][at]) for at in range(4) for name in ("Anna", "Ben", "Callum")]
    return Talk(tmp_path_factory.mktemp("three") / "talk.flac", said)


@pytest.mark.parametrize("speakers", [None, 3])
@pytest.mark.parametrize(
    "labels",
    [("S01",), ("S01", "S02"), ("S01", "S01", "S02", "S02"), (None,), ("S01", None, None, None)],
    ids=["one for all", "in turns", "in pairs", "none", "one now and then"],
)
def test_labels_that_the_voices_contradict_change_nothing(three, labels, speakers):
    assert three.is_right(three.alone(speakers))
    assert three.names(by_turns(three, *labels), speakers) == three.alone(speakers)


def test_one_speaker_under_two_labels_is_one(voices, tmp_path):
    talk = Talk(tmp_path / "talk.flac", [("Anna", sentence) for sentence in voices["Anna"][:12]])
    assert set(talk.names(by_turns(talk, "S01", "S02"))) == {"Speaker 1"}


def test_a_sentence_under_the_wrong_label_goes_to_its_voice(three):
    labels = by_turns(three, "S01", "S02", "S03")
    labels[3] = "S02"
    assert three.is_right(three.names(labels))


def test_more_speakers_than_labels_are_found_when_their_number_is_known(three):
    labels = by_turns(three, "S01", "S02", "S02")
    assert three.is_right(three.names(labels, speakers=3))


# --- heard later -------------------------------------------------------------------------------------------


def rest(talk: Talk, known: dict[int, str], speakers: int | None = None, labels=()) -> list[str | None]:
    segments = [
        Segment(segment.start, segment.end, segment.text, speaker=known.get(at))
        for at, segment in enumerate(talk.segments)
    ]
    return assign_remaining_speakers(talk.path, segments, spans(segments), speakers, labels)


def test_later_sentences_get_the_nearest_speaker_and_new_ones_a_new_name(three):
    known = {0: "Mum", 1: "Speaker 2", 3: "Mum", 4: "Speaker 2"}
    names = {"Anna": "Mum", "Ben": "Speaker 2", "Callum": "Speaker 3"}
    assert rest(three, known) == [names[who] for who in three.who]


def test_a_new_name_is_one_that_nobody_has(three):
    found = rest(three, {0: "Speaker 3", 1: "Ben", 3: "Speaker 3", 4: "Ben"})
    assert found[2] == "Speaker 4" and len(set(found)) == 3


def test_two_speakers_that_the_user_made_one_stay_one(three):
    found = rest(three, {0: "Both", 1: "Both", 3: "Both", 4: "Both"})
    assert {(who, name) for who, name in zip(three.who, found, strict=True)} == {
        ("Anna", "Both"),
        ("Ben", "Both"),
        ("Callum", "Speaker 2"),
    }


def test_there_are_no_more_speakers_than_their_known_number(three):
    found = rest(three, {0: "Anna", 1: "Ben"}, speakers=2)
    assert set(found) == {"Anna", "Ben"} and found[3::3] == ["Anna"] * 3


def test_labels_help_later_sentences_too(like_voices):
    labels: list[VoiceLabel | None] = [VoiceLabel(9, 0, "S01" if at % 2 else "S02") for at in range(12)]
    found = rest(like_voices, {0: "One", 1: "Other", 2: "One", 3: "Other"}, labels=labels)
    assert found == ["One", "Other"] * 6


def unit_rows(count: int, seed: int) -> np.ndarray:
    rows = np.abs(np.random.default_rng(seed).standard_normal((count, 16))).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@settings(max_examples=60)
@given(st.data(), st.integers(1, 14), st.sampled_from([None, 1, 2, 5]))
def test_whatever_is_told_every_chunk_gets_a_cluster_and_known_numbers_are_kept(data, count, speakers):
    groups = np.array(data.draw(st.lists(st.integers(-1, 4), min_size=count, max_size=count)))
    scopes = np.array(data.draw(st.lists(st.integers(0, 2), min_size=5, max_size=5)))
    seconds = np.array(data.draw(st.lists(st.floats(0.2, 4), min_size=count, max_size=count)))
    chunks = SpeechChunks(unit_rows(count, data.draw(st.integers(0, 9))), seconds, np.arange(count))
    found = constrained_clusters(chunks, SpeakerLabels(groups, scopes), speakers)
    assert len(found) == count and found.min() == 0
    if speakers is not None:
        assert len(set(found.tolist())) <= speakers
    nothing = SpeakerLabels(np.full(count, -1), scopes)
    alone = known_clusters if speakers else estimate_clusters
    expected = alone(chunks.vectors, seconds, *([speakers] if speakers else []))
    assert constrained_clusters(chunks, nothing, speakers).tolist() == expected.tolist()
    named = np.array(data.draw(st.lists(st.integers(-1, 2), min_size=count, max_size=count)))
    later = incremental_clusters(chunks, named, 3, SpeakerLabels(groups, scopes), speakers)
    assert (later[named >= 0] == named[named >= 0]).all() and later.min() >= 0
    if speakers is not None and (named >= 0).any():
        assert later.max() < max(3, speakers)


# --- labels on sentences -----------------------------------------------------------------------------------


S01, S02 = VoiceLabel(7, 0, "S01"), VoiceLabel(7, 0, "S02")


def sentence(start: float, end: float, text: str) -> Segment:
    return Segment(start, end, text)


def test_words_tell_the_label_where_times_are_off_and_times_where_words_are():
    sentences = [sentence(0, 2, "Where are we now?"), sentence(2, 4, "Nearly there."), sentence(5, 6, "Yes.")]
    late = [TimedText(20, 22, "where are we now", "S01"), TimedText(22, 24, "Nearly there", "S02")]
    assert align_labels(sentences, [late], 7) == [S01, S02, None]
    others = [TimedText(0, 2, "Wo sind wir", "S01"), TimedText(2, 6, "Fast da. Ja.", "S02")]
    assert align_labels(sentences, [others], 7) == [S01, S02, S02]


def test_a_sentence_shared_by_two_labels_has_none():
    halves = [TimedText(0, 2, "we pay for", "S01"), TimedText(2, 4, "the ferry crew", "S02")]
    assert align_labels([sentence(0, 4, "We pay for the ferry crew.")], [halves], 7) == [None]


def test_labels_of_two_parts_of_a_window_are_two():
    parts = [[TimedText(0, 2, "hello there", "S01")], [TimedText(4, 6, "good morning", "S01")]]
    sentences = [sentence(0, 2, "Hello there."), sentence(4, 6, "Good morning.")]
    first, second = align_labels(sentences, parts, 7)
    assert (first, second) == (S01, VoiceLabel(7, 1, "S01")) and first.scope != second.scope


WORDS = ["we", "pay", "for", "the", "ferry", "crew", "now", "好", "的"]
words = st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join)
times = st.tuples(st.floats(0, 60), st.floats(0, 9)).map(lambda drawn: (drawn[0], drawn[0] + drawn[1]))


@given(
    st.lists(st.tuples(times, words), max_size=8),
    st.lists(st.tuples(times, words, st.sampled_from(["S01", "S02"])), max_size=8),
)
def test_whatever_turns_say_a_sentence_has_one_of_their_labels_or_none(said, told):
    sentences = [sentence(*span, text) for span, text in said]
    turns = [TimedText(*span, text, label) for span, text, label in told]
    found = align_labels(sentences, [turns], 7)
    assert len(found) == len(sentences)
    assert set(found) <= {None, *(VoiceLabel(7, 0, turn.speaker) for turn in turns)}
