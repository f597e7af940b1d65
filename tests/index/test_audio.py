"""Any media in, on the clock of the player."""

from __future__ import annotations

import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from index.audio.decode import decode_to_flac, file_id, read_range
from index.audio.vad import detect_speech
from index.pipeline.transcribe_file import transcribe_file
from index.recording_errors import Cancelled, MediaError
from index.records import NoteKind
from index.transcription.whisper import WhisperTranscriber
from moss_audio.audio import SAMPLE_RATE, AudioStream
from tests.support.media import CLICK_RATE, click_track, cut, encode, find_clicks

CLICKS = click_track()


def decoded(path: Path) -> np.ndarray:
    with AudioStream(path) as stream:
        return np.concatenate(list(stream.blocks()))


FORMATS = {
    "a.mp3": {"codec": "libmp3lame"},
    "a.m4a": {"codec": "aac"},
    "a.aac": {"codec": "aac"},
    "a.flac": {"codec": "flac"},
    "a.ogg": {"codec": "libopus", "out_rate": 48_000},
    "a.opus": {"codec": "libopus", "out_rate": 48_000},
    "a.webm": {"codec": "libopus", "out_rate": 48_000},
    "a.mp4": {"codec": "aac", "video": True},
    "a.mkv": {"codec": "aac", "video": True},
    "a.mov": {"codec": "aac", "video": True},
    "a.wav": {"codec": "pcm_s16le"},
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_keeps_the_clock_of_its_clicks(name: str, tmp_path: Path):
    options = dict(FORMATS[name])
    path = encode(tmp_path / name, CLICKS, CLICK_RATE, **options)
    clicks = find_clicks(decoded(path))
    # Raw ADTS has neither timestamps nor a record of the encoder's delay (1,024 samples); players share that.
    slack = 0.03 if name == "a.aac" else 0.005
    assert clicks == pytest.approx(range(1, 12), abs=slack)


def test_ogg_vorbis_keeps_the_clock_of_its_clicks(tmp_path: Path):
    soundfile.write(tmp_path / "v.ogg", CLICKS, CLICK_RATE, format="OGG", subtype="VORBIS")
    assert find_clicks(decoded(tmp_path / "v.ogg")) == pytest.approx(range(1, 12), abs=0.005)


@pytest.mark.parametrize("xing", ["0", "1"])
def test_variable_bit_rate_mp3_keeps_the_clock(xing: str, tmp_path: Path, sample: Path):
    # Speech between silences makes frames of very different sizes, which is what misleads seeking by bytes.
    speech, rate = cut(sample, 60, 72)
    audio = np.concatenate([np.zeros(10 * rate, np.float32), 0.5 * speech, np.zeros(10 * rate, np.float32)])
    for second in (1, 9, 31):
        audio[second * rate : second * rate + rate // 1000] = 0.95
    path = encode(
        tmp_path / "v.mp3", audio, rate, "libmp3lame", quality=2, container_options={"write_xing": xing}
    )
    assert len({packet.size for packet in _packets(path)}) > 5, "the test needs a file of variable bit rate"
    found = decoded(path)
    # Without the Xing header nothing records the encoder's delay of 1,105 samples; it is the same everywhere.
    slack = 0.005 if xing == "1" else 1105 / rate + 0.005
    for second in (1, 9, 31):
        near = found[int((second - 0.3) * SAMPLE_RATE) : int((second + 0.3) * SAMPLE_RATE)]
        assert second - 0.3 + np.argmax(np.abs(near)) / SAMPLE_RATE == pytest.approx(second, abs=slack)


def _packets(path: Path):
    import av

    with av.open(str(path)) as container:
        return [packet for packet in container.demux(audio=0) if packet.size]


@pytest.mark.parametrize("name,codec,rate", [("l.mp4", "aac", 44_100), ("l.mkv", "libopus", 48_000)])
def test_a_stream_that_starts_late_is_preceded_by_silence(name: str, codec: str, rate: int, tmp_path: Path):
    path = encode(tmp_path / name, CLICKS, CLICK_RATE, codec, late=2.5, video=True, out_rate=rate)
    audio = decoded(path)
    assert find_clicks(audio) == pytest.approx(np.arange(1, 12) + 2.5, abs=0.01)
    assert np.abs(audio[: 2 * SAMPLE_RATE]).max() < 0.01


def test_a_hole_in_the_stream_is_filled_so_that_later_times_stay_true(tmp_path: Path):
    path = encode(tmp_path / "h.mkv", CLICKS, CLICK_RATE, "flac", video=True, hole=(4.2, 6.7))
    clicks = find_clicks(decoded(path))
    assert clicks == pytest.approx([1, 2, 3, 4, 7, 8, 9, 10, 11], abs=0.03)


def test_stereo_with_speech_in_one_channel_only_is_heard(tmp_path: Path, sample: Path):
    speech, rate = cut(sample, 0, 4)
    soundfile.write(tmp_path / "s.wav", np.stack([np.zeros_like(speech), speech], axis=1), rate)
    audio = decoded(tmp_path / "s.wav")
    assert len(audio) == 4 * SAMPLE_RATE
    assert np.abs(audio).max() > 0.2 * np.abs(speech).max()


def test_speech_at_minus_60_decibels_is_written_down_as_at_full_level(
    tmp_path: Path, models: Path, sample: Path
):
    speech, rate = cut(sample, 30, 42)
    whisper = WhisperTranscriber("tiny.en", models, threads=1)
    said = []
    for name, gain in (("loud", 1.0), ("quiet", 0.001)):
        (tmp_path / name).mkdir()
        file = tmp_path / name / "call.wav"
        soundfile.write(file, speech * gain, rate, subtype="PCM_16")
        *heard, _ = transcribe_file(file, whisper, "en", threading.Event())
        said.append([word.casefold() for part in heard for segment in part for word in segment.text.split()])
    loud, quiet = said
    assert len(loud) > 20
    assert len(set(loud) & set(quiet)) > 0.75 * len(set(loud))


@pytest.mark.parametrize("level", [1e-5, 1e-3, 1e-1])
def test_hiss_of_any_level_is_no_speech(level: float, tmp_path: Path):
    hiss = np.random.default_rng(0).normal(scale=level, size=10 * SAMPLE_RATE)
    soundfile.write(tmp_path / "hiss.flac", hiss, SAMPLE_RATE)
    assert detect_speech(tmp_path / "hiss.flac") == []


def test_telephone_sound_comes_up_to_16_khz(tmp_path: Path):
    tone = np.sin(2 * np.pi * 1000 * np.arange(8000 * 3) / 8000).astype(np.float32)
    soundfile.write(tmp_path / "t.wav", tone, 8000, subtype="ULAW")
    audio = decoded(tmp_path / "t.wav")
    assert len(audio) == 3 * SAMPLE_RATE
    spectrum = np.abs(np.fft.rfft(audio))
    assert np.argmax(spectrum) * SAMPLE_RATE / len(audio) == pytest.approx(1000, abs=1)


def test_the_copy_is_written_whole_and_read_back_by_seconds(tmp_path: Path):
    path = encode(tmp_path / "a.m4a", CLICKS, CLICK_RATE, "aac")
    copy = tmp_path / "audio" / "a.flac"
    seen: list[float] = []
    assert decode_to_flac(path, copy, progress=seen.append).duration == pytest.approx(12, abs=0.05)
    assert seen == sorted(seen) and len(seen) > 3
    assert find_clicks(read_range(copy, 2.5, 5.5)) == pytest.approx([0.5, 1.5, 2.5], abs=0.01)
    assert len(read_range(copy, 100, 200)) == 0


@settings(max_examples=30, deadline=None)
@given(start=st.floats(0, 15), length=st.floats(0, 15))
def test_a_range_has_as_many_samples_as_its_part_of_the_recording(tmp_path_factory, start, length):
    copy = tmp_path_factory.getbasetemp() / "range.flac"
    if not copy.exists():
        soundfile.write(copy, np.zeros(10 * SAMPLE_RATE, np.float32), SAMPLE_RATE, subtype="PCM_16")
    expected = max(0.0, min(10.0, start + length) - min(10.0, start))
    assert len(read_range(copy, start, start + length)) == pytest.approx(expected * SAMPLE_RATE, abs=1)


def test_cancelling_leaves_no_file_behind(tmp_path: Path):
    path = encode(tmp_path / "a.mp3", CLICKS, CLICK_RATE, "libmp3lame")
    with pytest.raises(Cancelled):
        decode_to_flac(path, tmp_path / "out" / "a.flac", cancelled=lambda: True)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_long_file_is_never_in_memory_whole(tmp_path: Path):
    long = tmp_path / "long.wav"
    with soundfile.SoundFile(long, "w", 48_000, 2, subtype="PCM_16") as file:
        for _ in range(10 * 60):
            file.write(np.zeros((48_000, 2), np.float32))
    tracemalloc.start()
    decode_to_flac(long, tmp_path / "long.flac")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6, "ten minutes of float32 at 16 kHz alone would be 38 MB"


BROKEN = {
    "empty": (lambda path: path.write_bytes(b""), "empty"),
    "text": (
        lambda path: path.write_text("Dear diary, this is no music at all.\n" * 200),
        "not a media file",
    ),
    "zeros": (lambda path: path.write_bytes(bytes(100_000)), "not a media file|no audio|damaged"),
    "missing": (lambda path: None, "no file"),
    "folder": (lambda path: path.mkdir(), "folder"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_media_file_ends_in_one_clear_sentence(kind: str, tmp_path: Path):
    make, expected = BROKEN[kind]
    path = tmp_path / f"{kind}.mp3"
    make(path)
    with pytest.raises(MediaError, match=expected) as caught:
        file_id(path)
        decode_to_flac(path, tmp_path / "out.flac")
    assert "\n" not in str(caught.value) and kind in str(caught.value)
    assert not (tmp_path / "out.flac").exists()


def test_a_film_without_sound_says_so(tmp_path: Path):
    import av

    from tests.support.media import _paint, _video_stream

    path = tmp_path / "silent film.mp4"
    with av.open(str(path), "w") as container:
        _paint(container, _video_stream(container), 2)
    with pytest.raises(MediaError, match="has no audio track"):
        decode_to_flac(path, tmp_path / "out.flac")


def test_an_mp4_cut_short_before_its_index_says_so(tmp_path: Path):
    whole = encode(tmp_path / "whole.mp4", CLICKS, CLICK_RATE, "aac", video=True).read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MediaError, match="cut short"):
        decode_to_flac(path, tmp_path / "out.flac")


def test_an_mp4_cut_short_behind_its_index_gives_what_there_is_and_says_how_much(tmp_path: Path):
    whole = encode(
        tmp_path / "whole.mp4", CLICKS, CLICK_RATE, "aac", container_options={"movflags": "faststart"}
    )
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.6)])
    result = decode_to_flac(path, tmp_path / "out.flac")
    assert 2 < result.duration < 11
    (note,) = result.notes
    assert note.kind == NoteKind.CUT_SHORT and int(note.spans[0].end) == 12


def test_a_playlist_cannot_make_the_decoder_open_other_files(tmp_path: Path):
    encode(tmp_path / "secret.mp3", CLICKS, CLICK_RATE, "libmp3lame")
    for name, text in {
        "a.mp3": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nsecret.mp3\n#EXT-X-ENDLIST\n",
        "b.mp3": "ffconcat version 1.0\nfile secret.mp3\n",
    }.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(MediaError):
            decode_to_flac(tmp_path / name, tmp_path / "out.flac")


def test_the_id_is_the_hash_of_the_bytes(tmp_path: Path):
    (tmp_path / "a.bin").write_bytes(b"abc")
    assert file_id(tmp_path / "a.bin") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
