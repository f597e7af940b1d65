"""Any media file, or a stretch of it, becomes what the model hears."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from moss_audio.audio import SAMPLE_RATE, AudioStream, load_audio
from moss_audio.errors import AudioError
from tests.support.media import CLICK_RATE, click_track, encode, find_clicks


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [
        ("a.mp3", "libmp3lame", 44_100),
        ("a.m4a", "aac", 48_000),
        ("a.webm", "libopus", 48_000),
        ("a.flac", "flac", 8_000),
    ],
)
def test_clicks_of_any_format_come_at_their_seconds(tmp_path: Path, name: str, codec: str, rate: int) -> None:
    path = encode(tmp_path / name, click_track(6), CLICK_RATE, codec, out_rate=rate)
    audio = load_audio(path)
    assert audio.dtype == np.float32 and audio.ndim == 1
    assert find_clicks(audio) == pytest.approx([1, 2, 3, 4, 5], abs=0.03)


def test_a_stretch_is_the_same_samples_as_in_the_whole(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp3", click_track(6), CLICK_RATE, "libmp3lame")
    whole, part = load_audio(path), load_audio(path, 1.25, 3.5)
    assert np.array_equal(part, whole[20_000:56_000])
    assert np.array_equal(load_audio(path, 5.0, 99.0), whole[80_000:])


def test_sound_that_begins_late_in_a_video_is_preceded_by_silence(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", click_track(4), CLICK_RATE, "aac", late=1.5, video=True)
    assert find_clicks(load_audio(path)) == pytest.approx([2.5, 3.5, 4.5], abs=0.03)


def test_a_hole_in_the_stream_is_filled_so_that_later_times_stay_true(tmp_path: Path) -> None:
    path = encode(tmp_path / "h.mkv", click_track(9), CLICK_RATE, "flac", video=True, hole=(3.2, 5.7))
    assert find_clicks(load_audio(path)) == pytest.approx([1, 2, 3, 6, 7, 8], abs=0.03)


def test_channels_are_averaged_and_samples_at_16_khz_are_untouched(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    sound = rng.integers(-20_000, 20_000, (4_000, 2)).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", sound, SAMPLE_RATE, subtype="PCM_16")
    expected = sound.astype(np.float32).mean(axis=1) / 32_768
    assert np.allclose(load_audio(tmp_path / "a.wav"), expected, atol=1e-7)


def test_six_channels_count_alike(tmp_path: Path) -> None:
    sound = np.zeros((16_000, 6), dtype=np.float32)
    sound[:, 3] = 0.6  # the low-frequency channel, which a cinema downmix would drop
    soundfile.write(tmp_path / "a.wav", sound, SAMPLE_RATE, subtype="FLOAT")
    assert np.allclose(load_audio(tmp_path / "a.wav")[1_000:-1_000], 0.1, atol=1e-3)


@pytest.mark.parametrize("channels", [7, 8, 9, 16])
def test_any_number_of_channels_becomes_one(tmp_path: Path, channels: int) -> None:
    soundfile.write(tmp_path / "a.wav", np.full((4_000, channels), 0.1), SAMPLE_RATE, subtype="FLOAT")
    with AudioStream(tmp_path / "a.wav") as stream:
        audio = np.concatenate(list(stream.blocks()))
    assert audio.shape == (4_000,) and np.allclose(audio, 0.1)


def test_the_report_says_what_was_read_what_was_declared_and_what_was_damaged(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(scale=0.1, size=12 * CLICK_RATE).astype(np.float32)
    index_first = {"movflags": "faststart"}
    whole = encode(tmp_path / "a.m4a", noise, CLICK_RATE, "aac", container_options=index_first)
    data = bytearray(whole.read_bytes())
    cut, damaged = tmp_path / "cut.m4a", tmp_path / "damaged.m4a"
    cut.write_bytes(data[: round(len(data) * 0.6)])
    data[len(data) // 2 : len(data) // 2 + 1_000] = np.random.default_rng(1).bytes(1_000)
    damaged.write_bytes(data)
    reports = {}
    for path in (whole, cut, damaged):
        with AudioStream(path) as stream:
            decoded = sum(len(block) for block in stream.blocks())
        reports[path] = stream.report
        assert stream.report.decoded_seconds == pytest.approx(decoded / SAMPLE_RATE)
        assert stream.report.declared_seconds == pytest.approx(12, abs=0.1)
    assert reports[whole].damaged_packets == 0 < reports[damaged].damaged_packets
    assert reports[cut].cut_short and not reports[whole].cut_short
    assert reports[cut].decoded_seconds < 9


def test_the_decoder_is_loaded_with_the_first_file_and_torch_never() -> None:
    code = "import sys, moss_audio.audio; sys.exit(bool({'av', 'torch', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_damaged_file_gives_what_can_be_heard(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp3", click_track(6), CLICK_RATE, "libmp3lame")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 2_000] = bytes(2_000)
    path.write_bytes(data)
    assert find_clicks(load_audio(path))[:2] == pytest.approx([1, 2], abs=0.03)


def test_what_cannot_be_heard_is_said_in_a_sentence(tmp_path: Path) -> None:
    wav = tmp_path / "a.wav"
    soundfile.write(wav, np.zeros(16_000), SAMPLE_RATE)
    (tmp_path / "empty.mp3").touch()
    (tmp_path / "text.mp3").write_text("This is not music. " * 100)
    (tmp_path / "list.m3u8").write_text(f"#EXTM3U\n#EXTINF:1,\n{wav}\n#EXT-X-ENDLIST\n")
    soundfile.write(tmp_path / "none.wav", np.zeros(0), SAMPLE_RATE)
    said = {
        (tmp_path / "missing.mp3", 0.0, None): "no file",
        (tmp_path, 0.0, None): "folder",
        (tmp_path / "empty.mp3", 0.0, None): "0 bytes",
        (tmp_path / "text.mp3", 0.0, None): "not a media file",
        (tmp_path / "list.m3u8", 0.0, None): "not a media file",
        (tmp_path / "none.wav", 0.0, None): "no audio",
        (wav, 3.0, None): "1.0 s long",
        (wav, 3.0, 2.0): "end must come later",
        (wav, float("nan"), None): "end must come later",
        (wav, 0.0, 9_000.0): "2.5 hours",
    }
    for (path, start, end), words in said.items():
        with pytest.raises(AudioError, match=words):
            load_audio(path, start, end)


def test_a_video_without_sound_is_refused(tmp_path: Path) -> None:
    import av

    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(AudioError, match="no audio track"):
        load_audio(tmp_path / "a.mp4")


def test_more_than_two_hours_are_refused_before_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    with soundfile.SoundFile(path, "w", 8_000, 1, subtype="PCM_U8") as file:
        for _ in range(121):
            file.write(np.zeros(60 * 8_000, np.float32))
    with pytest.raises(AudioError, match="hours"):
        load_audio(path)
    assert len(load_audio(path, 1_000.0, 1_001.0)) == SAMPLE_RATE
