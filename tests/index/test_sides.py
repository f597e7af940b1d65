"""Two sides of a call are told from everything else with two channels, and each is heard on its own."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile

from agent.settings import Settings
from agent.workspace import Workspace, open_workspace
from index.audio.decode import SAMPLE_RATE, decode_to_flac, read_range
from index.audio.sides import Comparison, frame_levels, own_speech
from index.audio.vad import detect_speech
from index.pipeline.transcribe_file import Transcript, load_window, transcribe_file
from index.progress import Progress
from index.recording_errors import Cancelled, MossAgentError
from index.records import Segment, Span
from index.transcription.coverage import coverage, find_gaps
from tests.support.media import cut

CASES = Path(__file__).parent.parent / "data" / "field_cases"
SECONDS = 24


@pytest.fixture(scope="module")
def voices(sample: Path) -> tuple[np.ndarray, np.ndarray]:
    """Two speakers of the sample, each without pause for 24 s."""
    said = json.loads((Path(__file__).parent.parent / "data" / "harbour_meeting.json").read_text())
    found = []
    for name in ("Anna", "Ben"):
        turns = [one for one in said["segments"] if one.get("speaker") == name]
        parts = [cut(sample, turn["start"], turn["end"] + 0.3)[0] for turn in turns]
        found.append(np.concatenate(parts)[: SECONDS * SAMPLE_RATE])
    return found[0], found[1]


@pytest.fixture(scope="module")
def turns(voices: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The same two who speak in turn, four seconds each."""
    times = np.arange(len(voices[0])) // (4 * SAMPLE_RATE) % 2
    return np.where(times == 0, voices[0], 0.0), np.where(times == 1, voices[1], 0.0)


def noise(level: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=level, size=SECONDS * SAMPLE_RATE)


def late(sound: np.ndarray, samples: int) -> np.ndarray:
    return np.concatenate([np.zeros(samples), sound])[: len(sound)]


def room(sound: np.ndarray, seed: int, seconds: float = 0.4) -> np.ndarray:
    """Sound as it comes to a place in a room, reverberation as loud as half of it."""
    length = round(seconds * SAMPLE_RATE)
    echo = np.random.default_rng(seed).normal(size=length) * 10 ** (-3 * np.arange(length) / length)
    response = np.concatenate([[1.0], 0.5 * echo / np.sqrt(np.square(echo).sum())])
    size = 2 * len(sound)
    return np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(response, size))[: len(sound)]


def apart(left: np.ndarray, right: np.ndarray) -> bool:
    compared = Comparison(2)
    rows = np.stack([left, right]).astype(np.float32)
    for start in range(0, rows.shape[1], 50_000):
        compared.add(rows[:, start : start + 50_000])
    compared.finish()
    return not compared.idle() and compared.are_apart(0, 1)


def test_speakers_in_turn_or_at_once_are_sides(voices, turns):
    for left, right in (voices, turns):
        assert apart(left, right)
        assert apart(left, 0.1 * right)
        assert apart(room(left, 1), room(right, 2))


@pytest.mark.parametrize("decibels", [-20, -30, -40])
@pytest.mark.parametrize("delay", [30, 2400])
def test_crosstalk_and_echo_of_the_other_side_keep_them_apart(decibels, delay, voices, turns):
    copy = 10 ** (decibels / 20)
    for left, right in (voices, turns):
        assert apart(left + copy * late(right, delay), right + copy * late(left, delay + 20))


@pytest.mark.parametrize("level", [0.003, 0.01, 0.03])
def test_noise_of_its_own_on_each_side_keeps_them_apart(level, voices, turns):
    for left, right in (voices, turns):
        assert apart(left + noise(level, 1), right + noise(level, 2))


def test_mono_twice_is_one_side_however_it_is_delayed_or_inverted(voices):
    talk = voices[0]
    for other in (talk, -talk, late(talk, 300), 0.03 * late(talk, 3200) + noise(0.0005, 1)):
        assert not apart(talk, other)


@pytest.mark.parametrize(("near", "delay"), [(0.1, 12), (0.3, 0), (0.5, 8), (0.9, 4)])
def test_a_speaker_near_one_side_of_a_stereo_microphone_is_one_side(near, delay, voices):
    talk = voices[0]
    assert not apart(talk + noise(0.001, 1), near * late(talk, delay) + noise(0.001, 2))


@pytest.mark.parametrize(("across", "delay"), [(0.3, 10), (0.5, 8), (0.7, 90)])
def test_two_speakers_before_two_microphones_in_a_room_are_one_side(across, delay, voices, turns):
    for left, right in (voices, turns):
        first = room(left, 1) + across * room(late(right, delay), 2) + noise(0.001, 1)
        second = room(right, 3) + across * room(late(left, delay), 4) + noise(0.001, 2)
        assert not apart(first, second)


def test_speech_in_the_middle_of_wide_sound_is_one_side(turns):
    talk = turns[0] + turns[1]
    for level in (0.005, 0.03):
        assert not apart(talk + noise(level, 1), talk + noise(level, 2))


def test_a_copy_has_a_channel_for_each_side_only_where_both_speak(voices, tmp_path):
    def channels(left: np.ndarray, right: np.ndarray) -> int:
        soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), SAMPLE_RATE)
        decode_to_flac(tmp_path / "a.wav", tmp_path / "a.flac")
        return soundfile.info(tmp_path / "a.flac").channels

    left, right = voices
    swell = np.sin(2 * np.pi * 0.5 * np.arange(len(left)) / SAMPLE_RATE) ** 2
    assert channels(left, right) == 2
    assert channels(left, noise(0.05, 1) * swell) == 1
    assert np.allclose(read_range(tmp_path / "a.flac"), (left + noise(0.05, 1) * swell) / 2, atol=1e-3)
    assert not list(tmp_path.glob("*.partial")) and not list(tmp_path.glob("*.sides"))


def test_a_channel_without_sound_or_with_hiss_alone_is_left_out(voices, tmp_path):
    talk = voices[0]
    hum = 0.1 * np.sin(2 * np.pi * 50 * np.arange(len(talk)) / SAMPLE_RATE)
    for dead in (np.zeros_like(talk), noise(0.02, 1), hum, np.full_like(talk, 0.1)):
        for pair in ([talk, dead], [dead, talk]):
            soundfile.write(tmp_path / "a.wav", np.stack(pair, axis=1), SAMPLE_RATE)
            decode_to_flac(tmp_path / "a.wav", tmp_path / "a.flac")
            assert np.allclose(read_range(tmp_path / "a.flac"), talk, atol=1e-3)


@pytest.mark.parametrize("course", ["switched on", "swelling", "buzzing", "clicking"])
def test_a_noise_that_comes_and_goes_on_a_channel_of_its_own_is_left_out(course, voices, tmp_path):
    talk = voices[0]
    time = np.arange(len(talk)) / SAMPLE_RATE
    hum = 0.1 * np.sin(2 * np.pi * 50 * time) + 0.05 * np.sin(2 * np.pi * 150 * time)
    sound = {
        "switched on": hum * (time > time[-1] / 2),
        "swelling": hum * (1 + np.sin(2 * np.pi * 0.5 * time)),
        "buzzing": 0.4 * ((time * 217 % 1 < 0.15) & (time % 3 < 0.8)),
        "clicking": 0.9 * (np.arange(len(talk)) % (SAMPLE_RATE // 2) == 0),
    }[course]
    for pair in ([talk, sound], [sound, talk]):
        soundfile.write(tmp_path / "a.wav", np.stack(pair, axis=1), SAMPLE_RATE)
        decode_to_flac(tmp_path / "a.wav", tmp_path / "a.flac")
        assert np.allclose(read_range(tmp_path / "a.flac"), talk, atol=1e-3)


@pytest.mark.parametrize("channels", [4, 6, 8])
def test_what_is_said_in_one_of_many_channels_is_as_loud_as_it_was(channels, voices, tmp_path):
    rows = np.zeros((channels, len(voices[0])))
    rows[2] = voices[0]
    soundfile.write(tmp_path / "a.wav", rows.T, SAMPLE_RATE)
    decode_to_flac(tmp_path / "a.wav", tmp_path / "a.flac")
    assert np.allclose(read_range(tmp_path / "a.flac"), voices[0], atol=1e-3)


def copied(rows: list[np.ndarray], folder: Path) -> np.ndarray:
    """The channels of the copy of a file with these channels, float32 ``[n_channels, n_samples]``."""
    soundfile.write(folder / "a.wav", np.stack(rows, axis=1), SAMPLE_RATE)
    decode_to_flac(folder / "a.wav", folder / "a.flac")
    return soundfile.read(folder / "a.flac", dtype="float32", always_2d=True)[0].T


@pytest.fixture(scope="module")
def people(sample: Path) -> list[np.ndarray]:
    """Stretches of the sample in which somebody speaks nearly all the time, as if each were a person."""
    starts = (0.5, 33, 60, 87, 119, 145, 172, 202)
    return [cut(sample, start, start + 12)[0] for start in starts]


@pytest.mark.parametrize("count", [3, 4, 5, 6, 7])
def test_a_recorder_with_a_channel_for_each_person_is_heard_side_by_side(count, people, tmp_path):
    copy = copied(people[:count], tmp_path)
    heard = [row for row in copy if row.any()]
    assert len(heard) == count and len(copy) == (count if count <= 5 else count + 1)
    # Players leave the fourth of six and more channels out.
    assert count <= 5 or not copy[3].any()
    assert all(np.allclose(row, said, atol=1e-3) for row, said in zip(heard, people, strict=False))


def test_of_eight_sides_two_share_a_channel(people, tmp_path):
    copy = copied(people, tmp_path)
    assert len(copy) == 8 and not copy[3].any()
    for said in people:
        assert max(np.corrcoef(row, said)[0, 1] for row in copy if row.any()) > 0.6


def test_channels_that_nobody_uses_and_a_mix_of_the_others_are_no_sides(people, tmp_path):
    first, second, third = people[:3]
    idle, mix = np.zeros_like(first), 0.4 * (first + second + third)
    for rows in ([first, idle, idle, second, idle, third], [mix, first, second, mix, third, idle]):
        copy = copied(rows, tmp_path)
        assert len(copy) == 3
        for row, said in zip(copy, people, strict=False):
            assert np.allclose(row, said, atol=1e-3)


def test_a_microphone_into_which_others_speak_a_little_joins_no_sides(voices, turns, tmp_path):
    left, right = (turn + 0.03 * late(other, 90) for turn, other in (turns, turns[::-1]))
    unused = 0.05 * late(turns[0], 60) + 0.04 * late(turns[1], 70) + noise(0.0003, 1)
    copy = copied([left + noise(0.0003, 2), right + noise(0.0003, 3), unused], tmp_path)
    assert len(copy) == 2
    assert all(np.corrcoef(row, turn)[0, 1] > 0.95 for row, turn in zip(copy, turns, strict=True))


def test_a_film_and_microphones_in_one_room_are_one_side(voices, turns, tmp_path):
    music = noise(0.05, 1) * np.sin(2 * np.pi * 0.5 * np.arange(len(voices[0])) / SAMPLE_RATE) ** 2
    film = [
        music,
        0.9 * late(music, 30),
        voices[0],
        0 * music,
        0.3 * late(music, 300),
        0.3 * late(music, 350),
    ]
    rooms = [room(turns[0] + level * turns[1], number) for number, level in enumerate((1.0, 0.8, 0.6))]
    for rows in (film, rooms, [voices[0]] * 6):
        assert len(copied(rows, tmp_path)) == 1


@pytest.mark.parametrize("delay", [800, 11_200, 24_000])
def test_mono_twice_is_heard_once_and_without_an_echo(delay, voices, tmp_path):
    talk = voices[0]
    for rows in ([talk, 0.5 * late(talk, delay)], [0.5 * late(talk, delay), talk]):
        copy = copied(rows, tmp_path)
        assert len(copy) == 1 and np.allclose(copy[0], talk, atol=1e-3)


def test_a_late_copy_in_which_somebody_else_speaks_is_not_dropped(voices, tmp_path):
    other, talk = voices
    times = np.arange(len(talk)) / SAMPLE_RATE
    said = np.where((times >= 12) & (times < 15), other, 0.0)
    copy = copied([talk, late(talk, 24_000) + said], tmp_path)
    second = slice(12 * SAMPLE_RATE, 15 * SAMPLE_RATE)
    assert max(np.corrcoef(row[second], other[second])[0, 1] for row in copy) > 0.4


def test_of_channels_that_are_left_when_idle_ones_are_not_heard_none_cancels_another(voices, tmp_path):
    talk = voices[0]
    copy = copied([talk, -talk, 0 * talk, 0 * talk], tmp_path)
    assert len(copy) == 1 and np.corrcoef(copy[0], talk)[0, 1] > 0.99


def test_a_side_that_is_far_quieter_than_the_other_is_heard_as_well(turns, tmp_path):
    copied([turns[0], 10 ** (-50 / 20) * turns[1]], tmp_path)
    found = {0: 0.0, 1: 0.0}
    for span in detect_speech(tmp_path / "a.flac"):
        found[span.channel] += span.duration
    assert min(found.values()) > 7


@pytest.mark.parametrize("delay", [30, 2400])
def test_speech_that_comes_through_from_the_other_side_is_not_a_sides_own(delay, turns):
    rows = np.stack([turns[0] + 0.05 * late(turns[1], delay), turns[1] + 0.05 * late(turns[0], delay)])
    levels = frame_levels(np.diff(rows, axis=1, prepend=0.0))
    whole = [[Span(start, start + 4.0) for start in range(0, SECONDS, 4)] for _ in rows]
    for side, spans in enumerate(own_speech(levels, whole)):
        other = sum(span.duration for span in spans if int((span.start + span.end) / 8) % 2 != side)
        assert sum(span.duration for span in spans) > 9 and other < 1


def own_seconds(rows: np.ndarray, side: int, start: int, end: int) -> float:
    """Seconds that are a side's own speech in a part of each eight seconds, where all might be."""
    whole = [[Span(start, start + 1.0) for start in range(SECONDS)] for _ in rows]
    spans = own_speech(frame_levels(np.diff(rows, axis=1, prepend=0.0)), whole)[side]
    return sum(span.duration for span in spans if start <= (span.start + span.end) / 2 % 8 < end)


def test_a_copy_that_comes_later_than_an_echo_is_not_a_sides_own_speech(turns):
    first, second = turns
    for rows in ([first, second + 0.7 * late(first, 32_000)], [first, 0.15 * second + late(first, 32_000)]):
        assert own_seconds(np.stack(rows), 0, 0, 4) > 9
        # The copy is heard from 2 to 6 s, the second voice from 4 to 8 s.
        assert own_seconds(np.stack(rows), 1, 2, 4) < 1
        assert own_seconds(np.stack(rows), 1, 6, 8) > 4


def test_loud_crosstalk_is_not_the_own_speech_of_a_quieter_side(turns):
    rows = np.stack([turns[0], 0.4 * turns[1] + 0.25 * late(turns[0], 300)])
    assert own_seconds(rows, 1, 0, 4) < 1 and own_seconds(rows, 1, 4, 8) > 9


@pytest.mark.parametrize("delay", [4800, 32_000])
def test_somebody_who_is_far_quieter_than_a_late_copy_is_heard_as_well(delay, turns, tmp_path):
    first, second = turns
    copied([first, 0.9 * late(first, delay) + 0.1 * second + noise(0.00003, 1)], tmp_path)
    speech = detect_speech(tmp_path / "a.flac")
    alone = [Span(start + 6.0, start + 8.0) for start in (0, 8, 16)]
    found = sum(
        max(0.0, min(span.end, part.end) - max(span.start, part.start)) for span in speech for part in alone
    )
    assert found > 4


def test_speech_has_its_channel_and_a_window_softens_what_is_not_its_own(turns, tmp_path):
    soundfile.write(tmp_path / "a.flac", np.stack(turns, axis=1), SAMPLE_RATE)
    speech = detect_speech(tmp_path / "a.flac")
    assert {span.channel for span in speech} == {0, 1}
    assert speech == sorted(speech, key=lambda span: span.start)
    assert all(int((span.start + span.end) / 8) % 2 == span.channel for span in speech)
    own = [span for span in speech if span.channel == 1]
    window = load_window(tmp_path / "a.flac", Span(0, SECONDS, 1), speech, None, threading.Event())
    assert [(span.start, span.end) for span in window.speech] == [(span.start, span.end) for span in own]
    assert np.abs(window.audio).max() == pytest.approx(np.abs(turns[1]).max(), rel=0.01)


def test_coverage_counts_each_side_by_itself():
    speech = [Span(0, 10, 0), Span(0, 10, 1)]
    one = [Segment(0, 10, "All of it.", channel=0)]
    assert coverage(speech, one) == pytest.approx(0.5)
    assert find_gaps(speech, one) == [Span(0, 10, 1)]
    assert coverage(speech, [*one, Segment(0, 10, "And this.", channel=1)]) == 1.0


@pytest.fixture
def workspace(home: Path, models: Path):
    home.mkdir()
    (home / "models").symlink_to(models)
    opened = open_workspace(Settings(home=home, transcriber="tiny.en"))
    yield opened
    opened.close()


def test_both_sides_of_a_call_are_heard_whole(workspace: Workspace):
    recording = workspace.add(CASES / "two_channel_call.flac")
    segments = workspace.library.segments(recording.id)
    assert segments == sorted(segments, key=lambda segment: segment.start)
    assert recording.coverage is not None and recording.coverage > 0.95 and not recording.notes
    said = {
        name: " ".join(segment.text for segment in segments if segment.speaker == name).lower()
        for name in recording.speakers
    }
    assert len(said) == 2
    (first,) = (text for text in said.values() if "decision" in text)
    (second,) = (text for text in said.values() if "midnight" in text)
    assert "contract" in first and "20 minutes" in second and "crew" in second
    assert any(one.span.overlaps(two.span) for one in segments for two in segments if one.id < two.id)

    with pytest.raises(MossAgentError):
        workspace.add(CASES / "two_channel_call.flac", speakers=99)
    workspace.relabel_speakers(recording.id, 3)
    segments = workspace.library.segments(recording.id)
    of = [{segment.speaker for segment in segments if segment.channel == side} for side in (0, 1)]
    assert len(of[0] | of[1]) <= 3 and not of[0] & of[1]
    workspace.relabel_speakers(recording.id, 1)
    assert workspace.library.recording(recording.id).speakers == ("Speaker 1",)


def test_a_call_that_was_stopped_goes_on_with_each_side_on_its_channel(workspace: Workspace) -> None:
    cancel = threading.Event()

    def stop_after_first_window(progress: Progress) -> None:
        if progress.speed is not None:
            cancel.set()

    with suppress(Cancelled):
        workspace.add(CASES / "two_channel_call.flac", progress=stop_after_first_window, cancel=cancel)
    assert workspace.library.recordings()[0].status == "cancelled"
    recording = workspace.add(CASES / "two_channel_call.flac")
    said = {segment.channel: "" for segment in workspace.library.segments(recording.id)}
    for segment in workspace.library.segments(recording.id):
        said[segment.channel] += segment.text.lower()
    assert "contract" in said[0] and "midnight" in said[1] and len(recording.speakers) == 2


def test_another_track_of_a_recording_that_is_there_is_not_heard_without_a_word(workspace: Workspace) -> None:
    file = CASES / "tracks_default_is_second.mkv"
    recording = workspace.add(file)
    assert len(recording.speakers) == 2 and recording.duration > 15
    for track in (1, 2):
        with pytest.raises(MossAgentError, match=rf"1 and 2 .* track {track} "):
            workspace.add(file, track=track)
    assert workspace.add(file) == recording


def test_a_call_that_is_not_stored_is_transcribed_side_by_side_in_time_order(workspace, tmp_path):
    path = tmp_path / "call.flac"
    path.write_bytes((CASES / "two_channel_call.flac").read_bytes())
    *parts, last = transcribe_file(path, workspace.ingest.transcriber, "en", threading.Event())
    assert isinstance(last, Transcript)
    streamed = [segment for part in parts for segment in part]
    assert streamed == list(last.segments) == sorted(streamed, key=lambda segment: segment.start)
    text = " ".join(segment.text for segment in streamed).lower()
    assert "decision" in text and "midnight" in text and last.coverage > 0.95
