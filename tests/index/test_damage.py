"""Damaged, cut and joined files: decoding goes on, times stay true, what is missing is said and counted."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks import fuzz
from benchmarks.media import Form, write
from index.audio.decode import Decoded, decode_to_flac, file_id, read_range
from index.notes import describe
from index.recording_errors import MediaError
from index.records import Note, NoteKind, Segment, Span
from index.transcription.coverage import coverage, find_gaps
from moss_audio.audio import SAMPLE_RATE, AudioStream
from moss_audio.media_structure import joined_parts, promised_bytes, repairs
from moss_audio.track_decoder import MAX_HOLE_SECONDS
from tests.support.media import CLICK_RATE, click_track, encode, find_clicks

CASES = Path(__file__).parent.parent / "data" / "field_cases"


def copy_of(path: Path, folder: Path) -> tuple[Decoded, np.ndarray]:
    result = decode_to_flac(path, folder / "copy.flac")
    return result, read_range(folder / "copy.flac")


def noise(seconds: float, rate: int = CLICK_RATE) -> np.ndarray:
    return np.random.default_rng(0).normal(scale=0.1, size=round(seconds * rate)).astype(np.float32)


@pytest.mark.parametrize(("name", "read", "promised"), [("wav", 7.2, 14.0), ("avi", 21.5, 40.0)])
def test_a_header_that_promises_more_than_there_is_is_noted(
    name: str, read: float, promised: float, tmp_path: Path
) -> None:
    result, _ = copy_of(CASES / f"cut_short.{name}", tmp_path)
    (note,) = result.notes
    assert note.kind is NoteKind.CUT_SHORT and result.duration == pytest.approx(read, abs=0.1)
    assert note.spans == (Span(result.duration, pytest.approx(promised, rel=0.01)),)
    share = coverage([Span(0, read)], [Segment(0, read, "All of it.")], result.notes)
    assert share == pytest.approx(read / promised, abs=0.05)


@pytest.mark.parametrize(
    "name",
    [
        "a.wav",
        "a.aiff",
        "a.caf",
        "a.w64",
        "a.au",
        "a.mka",
        "a.webm",
        "a.flac",
        "a.mp3",
        "a.flv",
        "a.wv",
        "v.mkv",
    ],
)
def test_every_container_that_says_its_length_is_held_to_it(name: str, tmp_path: Path) -> None:
    codec = {
        "aiff": "pcm_s16be", "au": "pcm_s16be", "webm": "libopus", "mka": "flac", "flac": "flac",
        "mp3": "libmp3lame", "flv": "aac", "wv": "wavpack", "mkv": "aac",
    }.get(name[2:], "pcm_s16le")  # fmt: skip
    rate = 48_000 if codec == "libopus" else CLICK_RATE
    whole = encode(tmp_path / name, noise(16), CLICK_RATE, codec, out_rate=rate, video=name[0] == "v")
    assert copy_of(whole, tmp_path)[0].notes == ()
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    result, _ = copy_of(whole, tmp_path)
    assert [note.kind for note in result.notes] == [NoteKind.CUT_SHORT]
    assert 5 < result.duration < 12 and result.notes[0].spans[0].end == pytest.approx(16, abs=1.0)


def test_a_cut_windows_media_file_is_held_to_the_size_in_its_header(tmp_path: Path) -> None:
    path = tmp_path / "a.wma"
    write(path, noise(16), CLICK_RATE, Form("wma", "wmav2", container="asf", bit_rate=128_000))
    assert copy_of(path, tmp_path)[0].notes == ()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 16])
    (note,) = copy_of(path, tmp_path)[0].notes
    assert note.kind is NoteKind.CUT_SHORT and note.spans[0].end == pytest.approx(16, rel=0.3)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF024])
def test_a_size_that_only_holds_a_place_promises_nothing(size: int, tmp_path: Path) -> None:
    path = tmp_path / "piped.wav"
    soundfile.write(path, noise(3, SAMPLE_RATE), SAMPLE_RATE)
    data = path.read_bytes()
    path.write_bytes(data[:4] + struct.pack("<I", size) + data[8:])
    assert promised_bytes(path) is None
    assert copy_of(path, tmp_path)[0] == Decoded(3.0)


def test_decoding_goes_on_behind_damage_and_the_holes_are_gaps(tmp_path: Path) -> None:
    result, _ = copy_of(CASES / "damaged_middle.m4a", tmp_path)
    (note,) = result.notes
    assert result.duration == pytest.approx(40.0, abs=0.1)
    assert note.kind is NoteKind.DAMAGED and note.numbers["packets"] == 6 == len(note.spans)
    sound = result.duration - sum(span.duration for span in note.spans)
    assert sound == pytest.approx(39.6, abs=0.1)
    heard = [Segment(0, 40, "All that is there.")]
    assert 0.9 < coverage([Span(0, 40)], heard, result.notes) < 1.0
    assert find_gaps([Span(0, 40)], heard, result.notes) == list(note.spans)


def test_pages_that_are_lost_without_an_error_are_holes(tmp_path: Path) -> None:
    result, audio = copy_of(CASES / "damaged_middle.opus", tmp_path)
    (note,) = result.notes
    assert note.kind is NoteKind.DAMAGED and sum(span.duration for span in note.spans) == pytest.approx(12)
    assert 15 < note.spans[0].start < 16 and 37 < note.spans[-1].end < 39
    assert "12.0 s" in describe(note) and "0:15" in describe(note)
    for hole in note.spans:
        inside = audio[round((hole.start + 0.1) * SAMPLE_RATE) : round((hole.end - 0.1) * SAMPLE_RATE)]
        assert not inside.any()
    assert coverage([Span(0, 15), Span(38, 40)], [Segment(0, 40, "Rest.")], result.notes) < 0.75


@pytest.mark.parametrize(
    "name", ["a.mp3", "a.ac3", "a.flac", "a.mkv", "a.ts", "a.m4a", "a.opus", "a.flv", "a.aac"]
)
def test_sound_behind_zeroed_bytes_keeps_its_times(name: str, tmp_path: Path) -> None:
    codec = {"mp3": "libmp3lame", "ac3": "ac3", "flac": "flac", "opus": "libopus"}.get(name[2:], "aac")
    audio = noise(24) * 0.1 + click_track(24)
    rate = 48_000 if codec == "libopus" else CLICK_RATE
    path = encode(tmp_path / name, audio, CLICK_RATE, codec, out_rate=rate)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + len(data) // 12] = bytes(len(data) // 12)
    path.write_bytes(data)
    result, decoded = copy_of(path, tmp_path)
    (note,) = result.notes
    assert note.kind is NoteKind.DAMAGED and 0.5 < sum(span.duration for span in note.spans) < 8
    last = decoded[round(20.5 * SAMPLE_RATE) : round(23.5 * SAMPLE_RATE)]
    assert find_clicks(last) == pytest.approx([0.5, 1.5, 2.5], abs=0.1)


@pytest.mark.parametrize("places", [(0.5,), (0.3, 0.6)])
@pytest.mark.parametrize("seconds", [0.1, 3.0])
def test_an_mp3_file_that_counts_its_frames_keeps_its_times_where_bytes_are_left_out(
    seconds: float, places: tuple[float, ...], tmp_path: Path
) -> None:
    path = encode(tmp_path / "a.mp3", noise(24) * 0.1 + click_track(24), CLICK_RATE, "libmp3lame")
    data = bytearray(path.read_bytes())
    size = round(seconds * len(data) / 24) + 5
    for place in places:
        start = round(place * len(data))
        del data[start : start + size]
    path.write_bytes(data)
    result, decoded = copy_of(path, tmp_path)
    (note,) = result.notes
    assert note.kind is NoteKind.DAMAGED and result.duration == pytest.approx(24, abs=0.05)
    missing = sum(span.duration for span in note.spans)
    assert missing == pytest.approx(seconds * len(places), abs=0.1 * len(places))
    last = decoded[round(20.5 * SAMPLE_RATE) : round(23.5 * SAMPLE_RATE)]
    assert find_clicks(last) == pytest.approx([0.5, 1.5, 2.5], abs=0.1)


def test_pieces_of_an_avi_file_that_hold_nothing_are_not_missing(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.avi", noise(4), CLICK_RATE, "libmp3lame", video=True, late=1.5)
    assert copy_of(path, tmp_path)[0].notes == ()


@pytest.mark.parametrize("fault", ["zeroed", "left out"])
@pytest.mark.parametrize("codec", ["libmp3lame", "pcm_s16le", "ac3"])
def test_an_avi_file_is_held_to_its_index(codec: str, fault: str, tmp_path: Path) -> None:
    audio = noise(16) * 0.1 + click_track(16)
    path = encode(tmp_path / "a.avi", audio, CLICK_RATE, codec, video=True, out_rate=48_000)
    whole, undamaged = copy_of(path, tmp_path)
    assert whole.notes == ()
    data = bytearray(path.read_bytes())
    for middle in (len(data) // 2, len(data) * 2 // 3):
        size = len(data) // 16
        data[middle : middle + size] = bytes(size if fault == "zeroed" else 0)
    path.write_bytes(data)
    result, decoded = copy_of(path, tmp_path)
    assert [note.kind for note in result.notes] == [NoteKind.DAMAGED]
    assert result.duration == pytest.approx(whole.duration, abs=0.1)
    end = round(13.8 * SAMPLE_RATE)
    assert find_clicks(decoded[end:]) == pytest.approx(find_clicks(undamaged[end:]), abs=0.05)


@pytest.mark.parametrize(
    ("codec", "name", "container", "rate"),
    [
        ("aac", "a.aac", None, CLICK_RATE),
        ("aac", "a.latm", "latm", CLICK_RATE),
        ("ac3", "a.ac3", None, 48_000),
        ("eac3", "a.eac3", None, 48_000),
        ("mp2", "a.mp2", None, CLICK_RATE),
        ("libopencore_amrnb", "a.amr", None, 8_000),
    ],
)
def test_a_stream_of_frames_is_told_to_lack_some_and_keeps_its_times_where_they_are_overwritten(
    codec: str, name: str, container: str | None, rate: int, tmp_path: Path
) -> None:
    path = tmp_path / name
    write(path, noise(12), CLICK_RATE, Form(path.suffix[1:], codec, rate, container=container))
    whole = path.read_bytes()
    middle, second = len(whole) // 2, len(whole) // 12
    duration = copy_of(path, tmp_path)[0].duration
    path.write_bytes(whole[:middle] + bytes(2 * second) + whole[middle + 2 * second :])
    result, _ = copy_of(path, tmp_path)
    (note,) = result.notes
    assert note.kind is NoteKind.DAMAGED and result.duration == pytest.approx(duration, abs=0.1)
    assert sum(span.duration for span in note.spans) == pytest.approx(2.0, abs=0.25)
    # How much is lost is said nowhere, where it is less than it was.
    path.write_bytes(whole[:middle] + whole[middle + 2 * second + 7 :])
    assert [note.kind for note in copy_of(path, tmp_path)[0].notes] == [NoteKind.DAMAGED]


@pytest.mark.parametrize("fault", ["zeroed", "left out"])
@pytest.mark.parametrize(
    ("name", "codec", "link", "flags"),
    [
        ("a.mp4", "aac", b"moof", "frag_keyframe+empty_moov+default_base_moof"),
        # Each fragment says where in the file it is.
        ("b.mp4", "aac", b"moof", "frag_keyframe+empty_moov"),
        ("a.wv", "wavpack", b"wvpk", ""),
    ],
)
def test_a_broken_link_does_not_end_a_chain(
    name: str, codec: str, link: bytes, flags: str, fault: str, tmp_path: Path
) -> None:
    options = {"movflags": flags, "frag_duration": "1000000"} if flags else None
    audio = noise(16) * 0.1 + click_track(16)
    path = encode(tmp_path / name, audio, CLICK_RATE, codec, container_options=options)
    data = bytearray(path.read_bytes())
    assert repairs(path, 0, len(data)) == {}
    broken = data.find(link, len(data) // 2) - 100
    data[broken : broken + 200] = bytes(200 if fault == "zeroed" else 0)
    path.write_bytes(data)
    result, decoded = copy_of(path, tmp_path)
    (note,) = result.notes
    assert note.kind is NoteKind.DAMAGED and 0.8 < sum(span.duration for span in note.spans) < 3.5
    last = decoded[round(12.5 * SAMPLE_RATE) : round(15.5 * SAMPLE_RATE)]
    assert find_clicks(last) == pytest.approx([0.5, 1.5, 2.5], abs=0.05)


@pytest.mark.timeout(60)
def test_a_fragment_that_is_cut_off_in_its_header_is_the_end(tmp_path: Path) -> None:
    in_fragments = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "1000000"}
    path = encode(tmp_path / "a.mp4", noise(8), CLICK_RATE, "aac", container_options=in_fragments)
    data = path.read_bytes()
    middle = data.find(b"moof", len(data) // 2)
    for behind in (12, 40, 90):
        path.write_bytes(data[: middle + behind])
        assert 3 < copy_of(path, tmp_path)[0].duration < 6


def test_a_short_hole_in_a_format_without_pauses_is_noted(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.flac", noise(8), CLICK_RATE, "flac")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 100] = bytes(100)
    path.write_bytes(data)
    (note,) = copy_of(path, tmp_path)[0].notes
    assert note.kind is NoteKind.DAMAGED and note.spans[0].start == pytest.approx(4.0, abs=0.2)
    assert sum(span.duration for span in note.spans) == pytest.approx(4608 / CLICK_RATE, abs=0.05)


def ogg_pages(data: bytes) -> list[bytes]:
    starts = [at for at in range(len(data)) if data[at : at + 5] == b"OggS\0"]
    return [data[start:end] for start, end in zip(starts, [*starts[1:], len(data)], strict=True)]


@pytest.mark.parametrize("codec", ["libopus", "flac"])
def test_an_ogg_file_whose_first_or_last_page_is_damaged_misses_that(codec: str, tmp_path: Path) -> None:
    path = encode(tmp_path / "a.ogg", noise(10) * 0.1 + click_track(10), CLICK_RATE, codec, out_rate=48_000)
    pages = ogg_pages(path.read_bytes())
    assert copy_of(path, tmp_path)[0].notes == ()
    headers = next(number for number, page in enumerate(pages) if int.from_bytes(page[6:14], "little") > 0)
    for kind, spoilt in ((NoteKind.DAMAGED, pages[headers]), (NoteKind.CUT_SHORT, pages[-2])):
        zeroed = spoilt[:60] + bytes(len(spoilt) - 60)
        rest = pages[-1:] if kind is NoteKind.DAMAGED else []
        path.write_bytes(b"".join(zeroed if page is spoilt else page for page in [*pages[:-1], *rest]))
        result, audio = copy_of(path, tmp_path)
        (note,) = result.notes
        assert note.kind is kind and note.spans[-1].duration == pytest.approx(1.0, abs=0.1)
        assert find_clicks(audio)[-4:-1] == pytest.approx([6, 7, 8] if rest else [5, 6, 7], abs=0.05)


def test_a_recording_of_a_running_broadcast_misses_nothing(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.ogg", noise(60), CLICK_RATE, "libopus", out_rate=48_000)
    pages = ogg_pages(path.read_bytes())
    path.write_bytes(b"".join(pages[:2] + pages[32:]))
    result, _ = copy_of(path, tmp_path)
    assert result == Decoded(pytest.approx(30, abs=1.1))


def test_a_promise_that_nothing_can_keep_is_no_promise(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.sox", noise(4), CLICK_RATE, "pcm_s32le")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert copy_of(path, tmp_path)[0].notes[0].spans[0].end == pytest.approx(4, abs=0.1)
    path.write_bytes(data[:8] + b"\xff" * 7 + data[15:])
    assert copy_of(path, tmp_path)[0].notes == ()


def test_a_chain_with_another_sample_rate_is_read_to_its_end(tmp_path: Path) -> None:
    assert len(joined_parts(CASES / "chained_rates.ogg")) == 2
    result, audio = copy_of(CASES / "chained_rates.ogg", tmp_path)
    assert result == Decoded(pytest.approx(10.1, abs=0.05))
    assert np.abs(audio[round(6 * SAMPLE_RATE) :]).max() > 0.1


@pytest.mark.parametrize(
    "name",
    [
        "wav",
        "aiff",
        "caf",
        "w64",
        "flac",
        "mka",
        "webm",
        "m4a",
        "avi",
        "flv",
        "opus",
        "mp3",
        "wv",
        "tta",
    ],
)
def test_files_joined_to_one_are_heard_one_after_the_other(name: str, tmp_path: Path) -> None:
    codec = {
        "aiff": "pcm_s16be", "webm": "libopus", "opus": "libopus", "mka": "flac", "flac": "flac",
        "flv": "aac", "mp3": "libmp3lame", "avi": "libmp3lame", "m4a": "aac", "wv": "wavpack", "tta": "tta",
    }.get(name, "pcm_s16le")  # fmt: skip
    rate = 48_000 if codec == "libopus" else 44_100
    other = 22_050 if rate == 44_100 and name != "mp3" else rate
    first = encode(tmp_path / f"1.{name}", click_track(4), CLICK_RATE, codec, out_rate=rate)
    second = encode(tmp_path / f"2.{name}", click_track(4), CLICK_RATE, codec, out_rate=other)
    path = tmp_path / f"joined.{name}"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    _, audio = copy_of(path, tmp_path)
    assert find_clicks(audio) == pytest.approx([1, 2, 3, 5, 6, 7], abs=0.15)


@pytest.mark.parametrize("rates", [(44_100, 22_050), (16_000, 48_000), (8_000, 8_000)])
def test_joined_mp3_files_each_begin_where_the_one_before_ends(
    rates: tuple[int, int], tmp_path: Path
) -> None:
    paths = []
    for number, rate in enumerate(rates):
        audio = noise(4) * 0.1 + click_track(4)
        paths.append(encode(tmp_path / f"{number}.mp3", audio, CLICK_RATE, "libmp3lame", out_rate=rate))
        assert joined_parts(paths[-1]) == [(0, paths[-1].stat().st_size)]
    path = tmp_path / "joined.mp3"
    path.write_bytes(b"".join(each.read_bytes() for each in paths))
    assert joined_parts(path)[1:] == [(paths[0].stat().st_size, path.stat().st_size)]
    result, audio = copy_of(path, tmp_path)
    assert result == Decoded(pytest.approx(8.0, abs=0.03))
    assert find_clicks(audio) == pytest.approx([1, 2, 3, 5, 6, 7], abs=0.03)


def test_a_joined_part_that_cannot_be_read_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "two.wav"
    soundfile.write(path, noise(2, SAMPLE_RATE), SAMPLE_RATE)
    path.write_bytes(path.read_bytes() + b"RIFF\x24\x00\x00\x00WAVE" + bytes(32))
    (note,) = copy_of(path, tmp_path)[0].notes
    assert note.kind is NoteKind.PARTS_LEFT_OUT and note.numbers == {"parts": 1}


def test_samples_that_are_no_number_become_silence(tmp_path: Path) -> None:
    result, audio = copy_of(CASES / "not_finite.wav", tmp_path)
    assert result.duration == pytest.approx(3.75) and np.abs(audio).max() > 0.1
    sound = noise(1, 44_100)
    sound[[100, 20_000, 30_000]] = [np.inf, -np.inf, np.nan]
    soundfile.write(tmp_path / "inf.wav", np.stack([sound, sound], axis=1), 44_100, subtype="FLOAT")
    with AudioStream(tmp_path / "inf.wav") as stream:
        found = np.concatenate(list(stream.blocks()))
    assert np.isfinite(found).all() and np.abs(found).max() < 1.0


@pytest.mark.parametrize("peak", [1.9, 30.0, 32_768.0])
@pytest.mark.parametrize("channels", [1, 2])
def test_samples_beyond_full_scale_are_turned_down_and_not_cut_off(
    peak: float, channels: int, tmp_path: Path
) -> None:
    sound = noise(2, SAMPLE_RATE).astype(np.float64)
    loud = np.stack([sound * peak / np.abs(sound).max()] * channels, axis=1)
    loud[9_000] = 1e30
    soundfile.write(tmp_path / "a.wav", loud, SAMPLE_RATE, subtype="FLOAT")
    result, audio = copy_of(tmp_path / "a.wav", tmp_path)
    assert result == Decoded(2.0) and 0.4 < np.percentile(np.abs(audio), 99.99) <= 1.0
    assert np.corrcoef(np.delete(audio, 9_000), np.delete(sound, 9_000))[0, 1] > 0.999


def test_what_encoders_overshoot_turns_nothing_down(tmp_path: Path) -> None:
    sound = np.clip(noise(2, SAMPLE_RATE) * 4, -1.0, 1.0)
    sound[::1_000] = 1.1
    sound[:2] = 7.0
    soundfile.write(tmp_path / "a.wav", sound, SAMPLE_RATE, subtype="FLOAT")
    _, audio = copy_of(tmp_path / "a.wav", tmp_path)
    assert np.allclose(audio, np.clip(sound, -1.0, 1.0), atol=1e-3)


@pytest.mark.parametrize("hole", [(3.0, 5.5), (4.0, 4.9)])
def test_a_hole_in_a_whole_container_is_noted_where_it_is(hole: tuple[float, float], tmp_path: Path) -> None:
    path = encode(tmp_path / "h.mkv", noise(9), CLICK_RATE, "flac", video=True, hole=hole)
    (note,) = copy_of(path, tmp_path)[0].notes
    assert note.spans == (Span(pytest.approx(hole[0], abs=0.1), pytest.approx(hole[1], abs=0.1)),)


def test_sound_that_begins_late_misses_nothing(tmp_path: Path) -> None:
    path = encode(tmp_path / "late.mkv", noise(4), CLICK_RATE, "aac", late=2.5, video=True)
    assert copy_of(path, tmp_path)[0].notes == ()


def test_raw_aac_whose_timestamps_are_estimated_has_no_holes(tmp_path: Path) -> None:
    # Silence and noise make frames of very different sizes, which misleads an estimate by bytes.
    audio = np.concatenate(
        [np.zeros(10 * CLICK_RATE, np.float32), noise(10), np.zeros(10 * CLICK_RATE, np.float32)]
    )
    no_count = {"quality": 2, "container_options": {"write_xing": "0"}}
    for name, codec, options in (("a.aac", "aac", {}), ("a.mp3", "libmp3lame", no_count)):
        path = encode(tmp_path / name, audio, CLICK_RATE, codec, **options)
        result, _ = copy_of(path, tmp_path)
        assert result.notes == () and result.duration == pytest.approx(30, abs=0.1)


@pytest.mark.parametrize("wild", [50.0, 3_000.0, 90_000.0])
def test_a_wild_timestamp_fills_no_silence(wild: float, tmp_path: Path) -> None:
    import av

    source = encode(tmp_path / "a.mkv", noise(6), CLICK_RATE, "aac")
    path = tmp_path / "wild.mkv"
    with av.open(str(source)) as read, av.open(str(path), "w") as written:
        stream = written.add_stream_from_template(read.streams.audio[0])
        for number, packet in enumerate(read.demux(audio=0)):
            if packet.dts is not None:
                if number == 100:
                    packet.pts += round(wild / packet.time_base)
                packet.stream = stream
                written.mux(packet)
    result, _ = copy_of(path, tmp_path)
    assert result.duration < 8


def test_timestamps_that_jump_for_good_fill_a_bounded_silence(tmp_path: Path) -> None:
    import av

    source = encode(tmp_path / "a.mkv", noise(6), CLICK_RATE, "aac")
    path = tmp_path / "jump.mkv"
    with av.open(str(source)) as read, av.open(str(path), "w") as written:
        stream = written.add_stream_from_template(read.streams.audio[0])
        for number, packet in enumerate(read.demux(audio=0)):
            if packet.dts is not None:
                ahead = round(90_000 / packet.time_base) if number > 100 else 0
                packet.pts = packet.dts = packet.pts + ahead
                packet.stream = stream
                written.mux(packet)
    assert copy_of(path, tmp_path)[0].duration < MAX_HOLE_SECONDS + 10


@pytest.mark.parametrize(("name", "codec", "rate"), [("a.nut", "flac", 44_100), ("a.g722", "g722", 16_000)])
def test_formats_that_the_decoder_reads_are_taken(name: str, codec: str, rate: int, tmp_path: Path) -> None:
    path = encode(tmp_path / name, click_track(4), CLICK_RATE, codec, out_rate=rate)
    assert find_clicks(copy_of(path, tmp_path)[1]) == pytest.approx([1, 2, 3], abs=0.05)


def test_the_formats_of_cameras_are_taken(tmp_path: Path) -> None:
    import av

    with av.open(str(tmp_path / "a.mxf"), "w") as container:
        film = container.add_stream("mpeg2video", rate=25)
        film.width, film.height, film.pix_fmt = 720, 576, "yuv420p"
        stream = container.add_stream("pcm_s16le", rate=48_000)
        stream.layout = "mono"
        for number in range(50):
            picture = av.VideoFrame.from_ndarray(np.zeros((576, 720, 3), np.uint8), format="rgb24")
            picture.pts = number
            container.mux(film.encode(picture))
            sound = (noise(0.04, 48_000) * 10_000).astype(np.int16).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(sound, format="s16", layout="mono")
            frame.sample_rate, frame.pts = 48_000, number * 1_920
            container.mux(stream.encode(frame))
        container.mux(film.encode(None))
        container.mux(stream.encode(None))
    assert copy_of(tmp_path / "a.mxf", tmp_path)[0] == Decoded(pytest.approx(2.0, abs=0.05))


@pytest.mark.parametrize("name", ["14:30 call.wav", "Re:budget.wav", "file:x.wav", "http:x?y#z%20.wav"])
def test_a_path_is_never_an_address(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    soundfile.write(tmp_path / "x.wav", np.zeros(100), SAMPLE_RATE)
    soundfile.write(tmp_path / name, noise(2, SAMPLE_RATE), SAMPLE_RATE)
    assert copy_of(Path(name), tmp_path)[0].duration == 2.0


@pytest.mark.timeout(20)
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "live.wav")
    for use in (file_id, lambda path: decode_to_flac(path, tmp_path / "out.flac")):
        with pytest.raises(MediaError, match="pipe"):
            use(tmp_path / "live.wav")
    with pytest.raises(MediaError, match="no file"):
        file_id(Path("-"))


@pytest.mark.parametrize(
    "name", ["a.flv", "a.ts", "a.mkv", "a.mp3", "a.flac", "a.opus", "a.wav", "v.avi", "v.mkv"]
)
def test_whatever_is_damaged_ends_in_a_copy_or_in_one_sentence(name: str, tmp_path: Path) -> None:
    codec = {
        "flv": "aac", "ts": "aac", "mkv": "aac", "mp3": "libmp3lame", "flac": "flac", "opus": "libopus",
        "avi": "libmp3lame",
    }.get(name[2:], "pcm_s16le")  # fmt: skip
    rate = 48_000 if codec == "libopus" else CLICK_RATE
    path = encode(tmp_path / name, noise(3), CLICK_RATE, codec, out_rate=rate, video=name[0] == "v")
    whole, rng = path.read_bytes(), np.random.default_rng(7)
    for _ in range(5):
        data = np.frombuffer(whole, np.uint8).copy()
        places = rng.integers(0, rng.choice([300, len(data)]), rng.choice([1, 12, 200]))
        data[places] = rng.integers(0, 256, len(places))
        path.write_bytes(data[: rng.integers(len(data) // 3, len(data))].tobytes())
        try:
            assert copy_of(path, tmp_path)[0].duration < MAX_HOLE_SECONDS + 60
        except MediaError as error:
            assert str(error).endswith(".") and "\n" not in str(error)


def test_what_is_missing_counts_as_speech_that_nobody_heard() -> None:
    notes = (
        Note(NoteKind.DAMAGED, spans=(Span(10, 12), Span(11, 15))),
        Note(NoteKind.CUT_SHORT, spans=(Span(20, 25),)),
    )
    heard = [Segment(0, 10, "All."), Segment(15, 20, "Of it.")]
    assert coverage([Span(0, 10), Span(15, 20)], heard, notes) == pytest.approx(0.6)
    assert coverage([], [], notes) == 0.0
    assert find_gaps([Span(0, 10)], heard, notes) == [Span(10, 15)]


@pytest.mark.slow
def test_files_of_many_containers_damaged_at_random_end_in_a_copy_or_in_one_sentence(tmp_path: Path) -> None:
    for form, how, _, result in fuzz.runs(16, seed=3, folder=tmp_path):
        assert result.outcome not in ("decoder died", "slow", "failed"), f"{form.name}, {how}: {result}"
