"""Transcript files of other programs and of this one are read as sentences with times and speakers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.export.formats import export
from index.imports.transcript_files import ImportedTranscript, read_transcript
from index.recording_errors import TranscriptError
from index.records import NoteKind, Recording, Segment, Status, Word
from index.text import one_line

Row = tuple[float, str | None, str]


def read(folder: Path, name: str, content: str | bytes, **options) -> ImportedTranscript:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_transcript(path, **options)


def rows(transcript: ImportedTranscript) -> list[Row]:
    return [(one.start, one.speaker, one.text) for one in transcript.segments]


# --- the usual forms ----------------------------------------------------------------------------------

ANNA, BEN = "We meet at 10:30. Is that early?", "Not at all, I think."
TEXTS = {
    "a name behind a time in brackets": f"[00:01:02] Anna: {ANNA}\n[00:01:12] Ben: {BEN}\n",
    "a time and a dash": f"01:02 - Anna: {ANNA}\n01:12 - Ben: {BEN}\n",
    "a range": f"[01:02.000 --> 01:08.000] Anna: {ANNA}\n[01:12.000 --> 01:14.000] Ben: {BEN}\n",
    "a name, a time in brackets, a colon": f"Anna (00:01:02): {ANNA}\nBen (00:01:12): {BEN}\n",
    "a heading with the name first": f"Anna  1:02\n{ANNA}\n\nBen  1:12\n{BEN}\n",
    "a heading with a bar": f"Anna | 01:02\n{ANNA}\nBen | 01:12\n{BEN}\n",
    "a heading with the time first": f"[00:01:02.000] - Anna\n{ANNA}\n\n[00:01:12.000] - Ben\n{BEN}\n",
    "a name below a range": f"00:01:02:00 - 00:01:08:12\nAnna\n{ANNA}\n\n"
    f"00:01:12:00 - 00:01:14:00\nBen\n{BEN}\n",
    "lines below a lone time": f"0:01:02\n\nAnna: {ANNA}\n\n0:01:12\n\nBen: {BEN}\n",
    "tabs": f"00:01:02\tAnna:\t{ANNA}\r\n00:01:12\tBen:\t{BEN}\r\n",
    "full stops in times": f"[1:02,0] Anna: {ANNA}\n[1:12,0] Ben: {BEN}\n",
}  # fmt: skip


@pytest.mark.parametrize("form", TEXTS)
def test_text_with_times_gives_who_said_what_and_when(form, tmp_path):
    found = rows(read(tmp_path, "talk.txt", TEXTS[form]))
    assert [row[1:] for row in found] == [
        ("Anna", "We meet at 10:30."),
        ("Anna", "Is that early?"),
        ("Ben", "Not at all, I think."),
    ]
    assert (found[0][0], found[2][0]) == (62.0, 72.0) and 62 < found[1][0] < 72


def test_times_of_day_before_captions_become_times_of_the_recording(tmp_path):
    found = read(tmp_path, "zoom.txt", f"[Anna] 14:03:22\n{ANNA}\n\n[Ben] 14:03:32\n{BEN}\n")
    assert [found.segments[0].start, found.segments[-1].start] == [0.0, 10.0]


def test_a_clock_that_began_earlier_is_moved_where_one_says_so(tmp_path):
    text = f"[10:00:05] Anna: {BEN}\n[10:00:15] Ben: {BEN}\n"
    assert rows(read(tmp_path, "a.txt", text))[0][0] == 36005.0
    assert rows(read(tmp_path, "a.txt", text, offset=36000.0))[0][0] == 5.0
    with pytest.raises(TranscriptError):
        read(tmp_path, "a.txt", text, offset=40000.0)


def test_lines_before_the_first_time_are_counted_and_a_bare_word_is_no_speaker(tmp_path):
    found = read(
        tmp_path, "a.txt", "Team meeting\nJan 5\n\n0:03 Remember: no dogs.\n0:09 We go.\n0:12 Soon.\n"
    )
    assert [(note.kind, dict(note.numbers)) for note in found.notes] == [
        (NoteKind.LINES_LEFT_OUT, {"lines": 2})
    ]
    assert rows(found)[0] == (3.0, None, "Remember: no dogs.")


VTT = """WEBVTT - a talk

STYLE
::cue { color: red }

NOTE 00:00:01.000 --> is no cue

1
00:01.000 --> 00:04.000 align:start
<v.loud Anna &amp; Co>We <i>should</i> &lt;b&gt;</v> <v Ben>No.</v>

NOTE behind it
of two lines

last
01:00:00.500 --> 01:00:02.500
<v Anna &amp; Co>Begin now.
"""


def test_voices_of_webvtt_are_speakers_and_comments_are_not_said(tmp_path):
    assert rows(read(tmp_path, "a.vtt", VTT)) == [
        (1.0, "Anna & Co", "We should <b>"),
        (1.0, "Ben", "No."),
        (3600.5, "Anna & Co", "Begin now."),
    ]


def test_captions_that_roll_up_are_said_once_with_the_times_of_their_words(tmp_path):
    lines = ["hello big world", "and more", "things here", "are said"]
    cues, before = ["WEBVTT\n"], " "
    for at, line in enumerate(lines):
        first, *rest = line.split()
        timed = first + "".join(f"<00:00:0{2 * at + 1}.{n}00><c> {word}</c>" for n, word in enumerate(rest))
        cues.append(f"00:00:0{2 * at}.000 --> 00:00:0{2 * at + 1}.990 align:start\n{before}\n{timed}\n")
        cues.append(f"00:00:0{2 * at + 1}.990 --> 00:00:0{2 * at + 2}.000\n{line}\n \n")
        before = line
    found = read(tmp_path, "auto.vtt", "\n".join(cues))
    words = [word for segment in found.segments for word in segment.words]
    assert [word.text.strip() for word in words] == " ".join(lines).split()
    assert [(word.start, word.probability) for word in words if word.text.strip() == "big"] == [(1.0, 1.0)]
    assert [word.start for word in words] == sorted(word.start for word in words)


def test_speakers_of_subtitles_hold_until_the_next_and_sentences_go_across_cues(tmp_path):
    said = ["ANNA: Good morning, I think", "we should begin. Ben?", "BEN: Yes: let us.", "(door closes)",
            "ANNA: <i>Fine.</i>", "BEN: {\\an8}In the year", "ANNA: 1984"]  # fmt: skip
    cues = [
        f"{n + 1}\n00:00:{2 * n:02},000 --> 00:00:{2 * n + 1:02},500\n{text}\n" for n, text in enumerate(said)
    ]
    found = read(tmp_path, "film.en.srt", "\n".join(cues))
    assert [(one.speaker, one.kind, one.text) for one in found.segments] == [
        ("ANNA", "speech", "Good morning, I think we should begin."),
        ("ANNA", "speech", "Ben?"),
        ("BEN", "speech", "Yes: let us."),
        (None, "sound", "door closes"),
        ("ANNA", "speech", "Fine."),
        ("BEN", "speech", "In the year"),
        ("ANNA", "speech", "1984"),
    ]
    assert found.title == "film" and found.format == "srt"


WHISPER = {
    "text": "Hello there, my friend. Bye.",
    "language": "en",
    "segments": [
        {"id": 0, "start": 0.0, "end": 2.5, "text": " Hello there, my", "words": [
            {"word": " Hello", "start": 0.0, "end": 0.5, "probability": 0.9},
            {"word": " there,", "start": 0.5, "end": 1.0, "probability": 0.8},
            {"word": " my", "start": 1.0, "end": 2.5, "probability": 0.7}]},
        {"id": 1, "start": 2.5, "end": 4.0, "text": " friend. Bye."},
    ],
}  # fmt: skip
WHISPERX = {
    "language": "de",
    "segments": [
        {"start": 0.0, "end": 2.5, "text": " Um 14 Uhr. Gut.", "speaker": "SPEAKER_00", "words": [
            {"word": "Um", "start": 0.0, "end": 0.5, "score": 0.9, "speaker": "SPEAKER_00"},
            {"word": "14"},
            {"word": "Uhr.", "start": 1.0, "end": 1.5, "score": 0.9, "speaker": "SPEAKER_00"},
            {"word": "Gut.", "start": 2.0, "end": 2.5, "score": 0.9, "speaker": "SPEAKER_01"}]},
    ],
    "word_segments": [],
}  # fmt: skip


def test_whisper_keeps_its_word_times_and_those_it_lacks_are_interpolated(tmp_path):
    found = read(tmp_path, "w.json", json.dumps(WHISPER))
    assert [one.text for one in found.segments] == ["Hello there, my friend.", "Bye."]
    assert found.language == "en"
    words = found.segments[0].words
    assert words[1] == Word(0.5, 1.0, " there,", 0.8)
    assert words[3].probability == 0.0 and 2.5 <= words[3].start < words[3].end <= 4.0


def test_whisperx_divides_a_segment_between_its_speakers(tmp_path):
    found = read(tmp_path, "x.json", json.dumps(WHISPERX))
    assert rows(found) == [(0.0, "SPEAKER_00", "Um 14 Uhr."), (2.0, "SPEAKER_01", "Gut.")]
    assert [(word.start, word.end) for word in found.segments[0].words] == [(0, 0.5), (0.5, 1.0), (1.0, 1.5)]


@pytest.mark.parametrize(
    "document",
    [
        WHISPER["segments"],
        {"result": {"language": "en"}, "transcription": [
            {"offsets": {"from": 0, "to": 2500}, "text": " Hello there, my"},
            {"offsets": {"from": 2500, "to": 4000}, "text": " friend. Bye."}]},
        {"language": "english", "duration": 9.0, "text": "Hello there, my friend. Bye.", "words": [
            {"word": word, "start": at, "end": at + 1}
            for at, word in enumerate(["Hello", "there", "my", "friend", "Bye"])]},
        {"text": " Hello there, my friend. Bye.", "chunks": [
            {"timestamp": [0.0, 2.5], "text": " Hello there, my"},
            {"timestamp": [2.5, None], "text": " friend. Bye."}]},
        {"text": " Hello there, my friend. Bye.", "chunks": [
            {"timestamp": [at, at + 1], "text": f" {word}"}
            for at, word in enumerate(["Hello", "there,", "my", "friend.", "Bye."])]},
        {"segments": [{**one, "start": str(one["start"])} for one in WHISPER["segments"]]},
    ],
)  # fmt: skip
def test_other_jsons_of_the_family_say_the_same(document, tmp_path):
    found = read(tmp_path, "other.json", json.dumps(document))
    assert [one.text for one in found.segments] == ["Hello there, my friend.", "Bye."]
    assert found.segments[0].start == 0.0


def test_segments_that_do_not_say_when_are_left_out_with_a_note(tmp_path):
    said = [{"start": 0, "end": 1, "text": "Hello."}, {"text": "When?"}, {"start": "soon", "text": "Then."}]
    for kind in ({}, {"kind": "speech"}):
        document = json.dumps({"segments": [one | kind for one in said]})
        found = read(tmp_path, "x.json", document)
        assert [one.text for one in found.segments] == ["Hello."]
        assert [note.numbers for note in found.notes] == [{"segments": 2}]


# --- bad input ----------------------------------------------------------------------------------------

CUE = "1\n00:00:01,000 --> 00:00:02,000\nGrüße aus Köln\n"


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_unicode_is_read_in_any_of_its_forms(codec, tmp_path):
    assert rows(read(tmp_path, "a.srt", CUE.encode(codec)))[0][2] == "Grüße aus Köln"


def test_another_encoding_is_read_where_it_is_named_and_never_guessed(tmp_path):
    with pytest.raises(TranscriptError, match="cp1252"):
        read(tmp_path, "a.srt", CUE.encode("cp1252"))
    assert rows(read(tmp_path, "a.srt", CUE.encode("cp1252"), encoding="cp1252"))[0][2] == "Grüße aus Köln"
    for wrong in ("no-such", "ascii", "base64"):
        with pytest.raises(TranscriptError):
            read(tmp_path, "a.srt", CUE.encode("cp1252"), encoding=wrong)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.srt", ""),
        ("blank.vtt", " \n\n"),
        ("none.vtt", "WEBVTT\n\n00:00.000 --> 00:02.000\n\n"),
        ("notes.txt", "We talked about 10:30 and more.\nNo times here.\n"),
        ("cut.json", '{"segments": ['),
        ("other.json", '{"a": [1, 2]}'),
        ("text.json", "[0:05] Anna: Hello\n"),
        ("silent.json", '{"segments": [{"start": 0, "end": 1, "text": " "}]}'),
        ("huge.json", '{"segments": [{"start": 1e300, "end": 1, "text": "x"}]}'),
        ("nan.json", '{"segments": [{"start": NaN, "end": 1, "text": "x"}]}'),
        ("deep.json", '{"segments": ' + "[" * 100_000),
        ("talk.mp3", b"ID3\x04\x00\x00\x00\x00\x00" + b"\xff\xfb\x90\x64\x00" * 400),
        ("talk.docx", b"PK\x03\x04\x14\x00\x06\x00" + bytes(100)),
    ],
)
def test_a_file_of_another_kind_is_refused_in_one_sentence(name, content, tmp_path):
    with pytest.raises(TranscriptError) as failed:
        read(tmp_path, name, content)
    assert name in str(failed.value) and "\n" not in str(failed.value)


def test_what_is_no_file_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "missing.srt"):
        with pytest.raises(TranscriptError):
            read_transcript(path)


def test_times_that_run_back_or_overlap_are_put_in_order_and_counted(tmp_path):
    times = [(5, 6), (2, 1), (7, 9), (8, 9)]
    cues = [f"{n}\n00:00:0{a},000 --> 00:00:0{b},000\nLine {n}.\n" for n, (a, b) in enumerate(times)]
    found = read(tmp_path, "a.srt", "\n".join(cues))
    assert [(one.start, one.text) for one in found.segments] == [
        (2.0, "Line 1."), (5.0, "Line 0."), (7.0, "Line 2."), (8.0, "Line 3."),
    ]  # fmt: skip
    assert found.segments[0].end > 2.0
    assert [dict(note.numbers) for note in found.notes] == [{"backwards": 1, "ends": 1, "overlapping": 1}]


def test_two_transcripts_in_one_file_are_not_mixed(tmp_path):
    talk = "".join(f"[{at}:00] Anna: Something.\n" for at in range(10))
    with pytest.raises(TranscriptError, match="9:00"):
        read(tmp_path, "a.txt", talk + talk)


# --- round trips --------------------------------------------------------------------------------------

_TEXT = ["we", "go", "to", "Köln", "and", "42", "10:30", "C:\\New", "{x}", "<b>", "a&b", "-->", "音楽", "(x)"]
_WORDS = st.lists(st.sampled_from(_TEXT), min_size=1, max_size=9)
_SAID = st.builds(lambda words, end: " ".join(words) + end, _WORDS, st.sampled_from(".?!"))
_SPEAKERS = st.sampled_from(["Anna", "Ben Jones", "Speaker 1", "Dr. Özil-Maß"])


@st.composite
def talks(draw) -> list[Segment]:
    """Sentences that do not overlap, each with a speaker, on a grid of seconds."""
    segments, at = [], 0
    for speaker, text in draw(st.lists(st.tuples(_SPEAKERS, _SAID), min_size=2, max_size=8)):
        at += draw(st.integers(2, 6))
        length = draw(st.integers(2, 10))
        segments.append(Segment(at, at + length, text, speaker=speaker))
        at += length
    return segments


def recording_of(segments: list[Segment]) -> Recording:
    return Recording("0" * 64, "A talk", "a.mp3", segments[-1].end + 3.0, Status.READY, "2026-01-01")


def words_of(segments) -> list[tuple[str | None, str]]:
    return [(one.speaker, word) for one in segments for word in one.text.split()]


@pytest.mark.parametrize("format", ["srt", "vtt", "txt", "md"])
@settings(max_examples=20)
@given(segments=talks())
def test_words_and_speakers_survive_export_and_import(format, segments, tmp_path_factory):
    if format == "srt":
        # SubRip has no escapes: what looks like a tag is one, and the export writes another arrow.
        plain = [one.text.replace("<b>", "b").replace("-->", "→") for one in segments]
        segments = [replace(one, text=text) for one, text in zip(segments, plain, strict=True)]
    written = export(recording_of(segments), segments, format)
    found = read(tmp_path_factory.getbasetemp(), f"talk.{format}", written)
    assert words_of(found.segments) == words_of(segments)
    for segment in found.segments:
        assert 0 <= segment.start <= segment.end and segment.text == one_line(segment.text)
        assert "".join(word.text for word in segment.words) == segment.text
    starts = {(one.speaker, one.start) for one in found.segments}
    if format == "vtt":
        assert {(one.speaker, one.start) for one in segments} <= starts


@settings(max_examples=20)
@given(segments=talks(), kind=st.sampled_from(["speech", "sound", "music"]), text=st.text(min_size=1))
def test_this_programs_json_comes_back_as_it_was(segments, kind, text, tmp_path_factory):
    last = segments[-1].end
    if one_line(text):
        word = Word(last, last + 1, " word", 0.25)
        segments = [*segments, Segment(last, last + 1, one_line(text), kind, None, (word,), language="de")]
    written = export(recording_of(segments), segments, "json")
    found = read(tmp_path_factory.getbasetemp(), "own.json", written)
    shown = [(s.start, s.end, s.text, s.kind, s.speaker, s.words, s.language) for s in segments]
    assert [(s.start, s.end, s.text, s.kind, s.speaker, s.words, s.language) for s in found.segments] == shown
    assert found.title == "A talk" and found.duration >= max(one.end for one in segments)


_ANY = st.binary(max_size=300) | st.text(max_size=300).map(str.encode)


@settings(max_examples=50)
@given(content=_ANY, suffix=st.sampled_from(["srt", "vtt", "txt", "json"]))
def test_any_bytes_are_read_or_refused(content, suffix, tmp_path_factory):
    try:
        found = read(tmp_path_factory.getbasetemp(), f"any.{suffix}", content)
    except TranscriptError:
        return
    assert found.segments and all(0 <= one.start <= one.end for one in found.segments)


_PARTS = st.sampled_from(
    ["1", "", " ", "00:01", "00:00:01,000 --> 00:00:02,000", "WEBVTT", "<v A>", "</v>", "[0:05]", "Anna:",
     "(0:01–0:02)", "<00:01.000>", "-->", "Anna 0:03", "♪", "(x)", "\\N", "é"]
)  # fmt: skip


@settings(max_examples=50)
@given(text=st.lists(st.lists(_PARTS, max_size=4).map(" ".join), max_size=12).map("\n".join))
def test_pieces_of_transcripts_in_any_order_are_read_or_refused(text, tmp_path_factory):
    try:
        found = read(tmp_path_factory.getbasetemp(), "pieces.txt", text)
    except TranscriptError:
        return
    assert all(0 <= one.start <= one.end and one.text for one in found.segments)
