"""Diarization: on the sample's real audio, on voices made from it, and at the edges."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import next_fast_len
from scipy.optimize import linear_sum_assignment
from scipy.signal import resample_poly

from index.audio.decode import decode_to_flac, read_range
from index.audio.vad import detect_speech
from index.diarization import voice_embeddings
from index.diarization.clustering import MAX_ESTIMATED, estimate_clusters, known_clusters
from index.diarization.diarize_stage import assign_speakers
from index.diarization.voice_embeddings import MIN_SPEECH_SECONDS, VoiceEncoder, own_speech
from index.recording_errors import WeightsError
from index.records import Segment, Span
from moss_audio.audio import SAMPLE_RATE

DATA = Path(__file__).parents[1] / "data"

Utterances = list[tuple[str, np.ndarray]]


@pytest.fixture(scope="module")
def audio(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("speakers") / "sample.flac"
    decode_to_flac(sample, path)
    return path


@pytest.fixture(scope="module")
def speech(audio: Path) -> list[Span]:
    return detect_speech(audio)


@pytest.fixture(scope="module")
def heard() -> list[dict]:
    """Segments as the recogniser cut them, with their true speakers under ideal labels."""
    return json.loads((DATA / "harbour_heard.json").read_text())


@pytest.fixture(scope="module")
def voices(audio: Path, script: list[dict]) -> dict[str, list[np.ndarray]]:
    """Every sentence of each speaker of the sample, cut by the true times."""
    cut: dict[str, list[np.ndarray]] = {}
    for sentence in script:
        found = read_range(audio, sentence["start"] - 0.05, sentence["end"] + 0.05)
        cut.setdefault(sentence["speaker"], []).append(found)
    return cut


def as_segments(rows: list[dict]) -> list[Segment]:
    return [Segment(row["start"], row["end"], row["text"]) for row in rows]


def lay_out(utterances: Utterances, path: Path) -> tuple[list[Segment], list[str]]:
    """Write utterances one after another with pauses of 0.4 s; their segments and true speakers."""
    pause = np.zeros(round(0.4 * SAMPLE_RATE), dtype=np.float32)
    blocks, segments, position = [pause], [], len(pause)
    for _, samples in utterances:
        segments.append(Segment(position / SAMPLE_RATE, (position + len(samples)) / SAMPLE_RATE, "…"))
        blocks += [samples, pause]
        position += len(samples) + len(pause)
    soundfile.write(path, np.clip(np.concatenate(blocks), -1, 1), SAMPLE_RATE, format="FLAC")
    return segments, [speaker for speaker, _ in utterances]


def spans(segments: list[Segment]) -> list[Span]:
    return [segment.span for segment in segments]


def confusion(labels: list[str | None], truth: list[str], segments: list[Segment]) -> float:
    """Share of the segments' time under a wrong label, labels matched to speakers at their best."""
    rows, columns = sorted(set(truth)), sorted({str(label) for label in labels})
    seconds = np.zeros((len(rows), len(columns)))
    for label, speaker, segment in zip(labels, truth, segments, strict=True):
        seconds[rows.index(speaker), columns.index(str(label))] += segment.span.duration
    matched = seconds[linear_sum_assignment(-seconds)].sum()
    return float(1 - matched / seconds.sum())


def with_noise(samples: np.ndarray, decibels: float) -> np.ndarray:
    """Pink noise added at this signal-to-noise ratio, the signal being what is louder than −60 dBFS."""
    # Of a length with large prime factors, the transform takes many times as long.
    count = next_fast_len(len(samples), real=True)
    spectrum = np.fft.rfft(np.random.default_rng(1).standard_normal(count))
    noise = np.fft.irfft(spectrum / np.sqrt(np.arange(1, len(spectrum) + 1)), count)[: len(samples)]
    power = np.mean(samples[np.abs(samples) > 1e-3] ** 2) / 10 ** (decibels / 10)
    return (samples + noise / noise.std() * np.sqrt(power)).astype(np.float32)


def other_voice(sentences: list[np.ndarray], up: int, down: int) -> list[np.ndarray]:
    """Played faster or slower: pitch and formants move by ``down / up``, another person to the ear."""
    return [resample_poly(sentence, up, down).astype(np.float32) for sentence in sentences]


@pytest.mark.parametrize("known", [None, 3])
def test_the_three_voices_of_the_sample_are_told_apart(
    audio: Path, speech: list[Span], heard: list[dict], known: int | None
) -> None:
    segments = as_segments(heard)
    labels = assign_speakers(audio, segments, speech, known)
    assert set(labels) == {"Speaker 1", "Speaker 2", "Speaker 3"}
    assert confusion(labels, [row["speaker"] for row in heard], segments) <= 0.05


def test_labels_are_numbered_by_first_appearance(audio: Path, speech: list[Span], heard: list[dict]) -> None:
    labels = assign_speakers(audio, as_segments(heard[:30]), speech)
    assert list(dict.fromkeys(labels)) == ["Speaker 1", "Speaker 2", "Speaker 3"]


@pytest.mark.parametrize("known", [None, 3])
def test_noise_at_20_db_does_not_change_who_speaks(
    audio: Path, speech: list[Span], heard: list[dict], tmp_path: Path, known: int | None
) -> None:
    noisy = tmp_path / "noisy.flac"
    soundfile.write(noisy, np.clip(with_noise(read_range(audio), 20), -1, 1), SAMPLE_RATE, format="FLAC")
    some = heard[:45]
    segments = as_segments(some)
    labels = assign_speakers(noisy, segments, speech, known)
    assert len(set(labels)) == 3
    assert confusion(labels, [row["speaker"] for row in some], segments) <= 0.05


@pytest.mark.parametrize("name", ["Anna", "Ben", "Callum"])
def test_one_speaker_alone_is_one_speaker(
    voices: dict[str, list[np.ndarray]], tmp_path: Path, name: str
) -> None:
    segments, _ = lay_out([(name, sentence) for sentence in voices[name][:20]], tmp_path / "alone.flac")
    assert set(assign_speakers(tmp_path / "alone.flac", segments, spans(segments))) == {"Speaker 1"}


@pytest.mark.parametrize("pair", [("Anna", "Ben"), ("Anna", "Callum"), ("Ben", "Callum")])
def test_two_speakers_in_turns_are_two(
    voices: dict[str, list[np.ndarray]], tmp_path: Path, pair: tuple[str, str]
) -> None:
    turns = [
        (name, said) for first in range(0, 12, 2) for name in pair for said in voices[name][first : first + 2]
    ]
    segments, truth = lay_out(turns, tmp_path / "pair.flac")
    labels = assign_speakers(tmp_path / "pair.flac", segments, spans(segments))
    assert len(set(labels)) == 2
    assert confusion(labels, truth, segments) <= 0.05


@pytest.mark.parametrize("known", [None, 5])
def test_five_speakers_are_five(
    voices: dict[str, list[np.ndarray]], tmp_path: Path, known: int | None
) -> None:
    five = voices | {
        "lower Anna": other_voice(voices["Anna"], 25, 22),
        "higher Ben": other_voice(voices["Ben"], 20, 23),
    }
    turns = [
        (name, said) for first in range(0, 9, 3) for name in five for said in five[name][first : first + 3]
    ]
    segments, truth = lay_out(turns, tmp_path / "five.flac")
    labels = assign_speakers(tmp_path / "five.flac", segments, spans(segments), known)
    assert len(set(labels)) == 5
    assert confusion(labels, truth, segments) <= 0.05


def test_one_word_of_a_speaker_does_not_make_a_new_one(
    voices: dict[str, list[np.ndarray]], tmp_path: Path
) -> None:
    shortest = min(voices["Ben"], key=len)[: round(0.4 * SAMPLE_RATE)]
    turns = [("Ben", sentence) for sentence in voices["Ben"][2:10]] + [("Ben", shortest)]
    segments, _ = lay_out(turns, tmp_path / "word.flac")
    assert set(assign_speakers(tmp_path / "word.flac", segments, spans(segments))) == {"Speaker 1"}


def test_a_recording_without_segments_has_no_labels(audio: Path, speech: list[Span]) -> None:
    assert assign_speakers(audio, [], speech) == []
    assert assign_speakers(audio, [], speech, speakers=2) == []


@pytest.mark.parametrize("known", [None, 1, 3])
def test_a_single_segment_is_speaker_1(
    audio: Path, speech: list[Span], heard: list[dict], known: int | None
) -> None:
    assert assign_speakers(audio, as_segments(heard[:1]), speech, known) == ["Speaker 1"]


def test_more_speakers_than_sentences_gives_each_sentence_a_label(
    audio: Path, speech: list[Span], heard: list[dict]
) -> None:
    labels = assign_speakers(audio, as_segments(heard[5:8]), speech, speakers=9)
    assert labels == ["Speaker 1", "Speaker 2", "Speaker 3"]


def test_silence_and_sounds_get_no_speaker(tmp_path: Path, voices: dict[str, list[np.ndarray]]) -> None:
    quiet = np.zeros(2 * SAMPLE_RATE, dtype=np.float32)
    segments, _ = lay_out([("", quiet), ("", voices["Anna"][1]), ("", voices["Ben"][2])], tmp_path / "q.flac")
    sound = Segment(segments[2].start, segments[2].end, "[door]", kind="sound")
    labels = assign_speakers(tmp_path / "q.flac", [segments[0], segments[1], sound], spans(segments))
    assert labels == [None, "Speaker 1", None]


def test_a_segment_beyond_the_end_of_the_audio_gets_no_speaker(audio: Path) -> None:
    assert assign_speakers(audio, [Segment(900.0, 903.0, "…")], []) == [None]


def test_a_whisper_is_the_same_voice_as_when_loud(voices: dict[str, list[np.ndarray]]) -> None:
    encoder = VoiceEncoder()
    loud, whisper = (encoder.mel(voices["Ben"][2] * gain)[:160] for gain in (0.01, 0.001))
    one, other = encoder.embed([loud, whisper])
    assert float(one @ other) > 0.999
    assert np.linalg.norm(one) == pytest.approx(1.0, abs=1e-5)


def test_missing_weights_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voice_embeddings, "package_folder", lambda _: None)
    with pytest.raises(WeightsError, match="pip install"):
        VoiceEncoder().load()


def test_other_weights_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "pretrained.pt").write_bytes(b"not the published weights")
    monkeypatch.setattr(voice_embeddings, "package_folder", lambda _: tmp_path)
    with pytest.raises(WeightsError, match="not the published ones; replace them with `pip install"):
        VoiceEncoder().load()


def test_importing_the_module_loads_neither_torch_nor_resemblyzer() -> None:
    loaded = "{'torch', 'resemblyzer', 'sklearn', 'av'} & set(sys.modules)"
    code = f"import index.diarization.diarize_stage, sys; sys.exit(bool({loaded}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def synthetic_voices(count: int, speakers: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors like the encoder's: non-negative, cosine about 0.82 within a voice and 0.68 between."""
    random = np.random.default_rng(0)
    base = np.abs(random.standard_normal((speakers, 256))) * (random.random((speakers, 256)) < 0.5)
    base /= np.linalg.norm(base, axis=1, keepdims=True)
    truth = random.integers(0, speakers, count)
    vectors = base[truth] + 0.1 * np.abs(random.standard_normal((count, 256)))
    return (0.9 * vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), truth


@pytest.mark.parametrize(
    "cluster", [estimate_clusters, lambda vectors, seconds: known_clusters(vectors, seconds, 8)]
)
def test_three_hours_are_clustered_in_seconds_and_every_chunk_is_right(
    cluster: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> None:
    vectors, truth = synthetic_voices(12_000, 8)
    began = time.monotonic()
    clusters = cluster(vectors, np.full(len(vectors), 3.2))
    assert time.monotonic() - began < 20
    assert len(set(zip(clusters.tolist(), truth.tolist(), strict=True))) == len(set(truth.tolist()))


def test_a_short_word_said_a_hundred_times_is_no_speaker() -> None:
    vectors, _ = synthetic_voices(300, 2)
    word = np.roll(vectors[:1], 7, axis=1)
    assert float((vectors @ word.T).max()) < 0.75
    clusters = estimate_clusters(
        np.concatenate([vectors, np.repeat(word, 100, axis=0)]),
        np.concatenate([np.full(300, 3.2), np.full(100, 0.6)]),
    )
    assert set(clusters.tolist()) == {0, 1}


def test_an_estimate_never_lists_speakers_by_the_dozen() -> None:
    vectors, _ = synthetic_voices(400, 60)
    assert 2 <= len(set(estimate_clusters(vectors, np.full(400, 4.0)).tolist())) <= MAX_ESTIMATED
    assert len(set(known_clusters(vectors, np.full(400, 4.0), 40).tolist())) > MAX_ESTIMATED


@settings(max_examples=40, deadline=None)
@given(count=st.integers(0, 12), speakers=st.integers(1, 12), seed=st.integers(0, 99))
def test_few_chunks_cluster_without_error_and_into_no_more_than_asked(
    count: int, speakers: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    vectors = np.abs(random.standard_normal((count, 256))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    seconds = random.uniform(0.3, 4.0, count)
    known = known_clusters(vectors, seconds, speakers)
    assert len(known) == len(estimate_clusters(vectors, seconds)) == count
    assert len(set(known.tolist())) <= min(speakers, count)


@given(
    bounds=st.lists(st.floats(0, 100, allow_nan=False), min_size=2, max_size=12, unique=True).map(sorted),
    start=st.floats(0, 99),
    duration=st.floats(0.01, 20),
)
def test_a_segments_own_speech_is_inside_both_the_segment_and_the_speech(
    bounds: list[float], start: float, duration: float
) -> None:
    speech = [Span(begin, stop) for begin, stop in zip(bounds[::2], bounds[1::2], strict=False)]
    segment = Segment(start, start + duration, "…")
    [parts] = list(own_speech([segment], speech))
    inside = [
        Span(max(span.start, segment.start), min(span.end, segment.end))
        for span in speech
        if span.overlaps(segment.span)
    ]
    enough = sum(span.duration for span in inside) >= MIN_SPEECH_SECONDS
    assert parts == (inside if enough else [segment.span])
