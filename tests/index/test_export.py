"""Exports, each read back by a reader that shares no code with the writer."""

from __future__ import annotations

import html
import json
import re
from io import BytesIO

import pytest
from docx import Document
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token
from pysubs2 import SSAFile

from index.export.formats import FORMATS, export
from index.export.markdown import WORD_JOINER, escape_markdown
from index.export.subtitles import make_cues
from index.recording_errors import MossAgentError
from index.records import Recording, Segment, Span, Word
from index.text import one_line
from moss_audio.timestamps import clock

RECORDING = Recording(
    id="ab" * 32,
    title="Harbour *festival* <meeting>",
    source_name="harbour.mp3",
    duration=301.5,
    status="ready",
    added_at="2026-11-23T10:00:00+00:00",
    language="en",
    coverage=0.996,
    gaps=(Span(60.0, 65.0),),
    speakers=("Ana & Ben", "Speaker 2"),
)
SEGMENTS = [
    Segment(0.0, 2.5, "Good morning.", speaker="Ana & Ben", words=(Word(0.0, 1.0, " Good", 0.9),)),
    Segment(2.5, 6.0, "Tags like {\\b1}bold{\\b0} stay, <i>so</i> do these.", speaker="Ana & Ben"),
    Segment(5.0, 8.0, "I talk\nover you --> now.", speaker="Speaker 2"),
    Segment(9.0, 9.0, "{\\p1}Drawing or not?"),
    Segment(36_061.0, 36_062.25, "door slams", kind="sound"),
    Segment(36_063.0, 36_064.0, "  \n "),
]
HOSTILE = [
    "<script>alert(1)</script>",
    "{\\b1}",
    "{\\p1}",
    "\\N",
    "\\h",
    "-->",
    "&amp;",
    "&lt;b>",
    "</v>",
    "<v Eve>",
    "**bold**",
    "_it_",
    "`code`",
    "[a](http://b.c)",
    "![a](b.png)",
    "<http://b.c>",
    "www.example.org",
    "https://example.org/?a=b",
    "a@example.org",
    "# ",
    "- ",
    "1. ",
    "> ",
    "---",
    "===",
    "```",
    "~~~",
    "~~gone~~",
    "| a | b |",
    "\n",
    "\r\n\r\n",
    "\t",
    "\x00",
    "\x1b[0m",
    "\ufdd0",
    "\ufffe",
    "\u2028",
    "[x]: y",
    "$x$",
    "日本語",
    "word",
    " ",
    "WEBVTT",
    "NOTE",
    "7",
]
texts = st.lists(st.sampled_from(HOSTILE), max_size=8).map("".join) | st.text(max_size=60)
times = st.floats(0, 99 * 3600, allow_nan=False)
segment_lists = st.lists(
    st.builds(
        lambda start, length, text, speaker, kind: Segment(start, start + length, text, kind, speaker),
        times,
        st.floats(0, 30),
        texts,
        st.none() | texts,
        st.sampled_from(["speech", "sound", "music"]),
    ),
    max_size=6,
)


def spoken(segments: list[Segment]) -> list[Segment]:
    return [segment for segment in segments if one_line(segment.text)]


def shown(segment: Segment) -> str:
    """What a reader should see of a segment's words."""
    return one_line(segment.text) if segment.kind == "speech" else f"({one_line(segment.text)})"


def named(segment: Segment) -> str:
    speaker = one_line(segment.speaker or "")
    return f"{speaker}: {shown(segment)}" if speaker else shown(segment)


def read_cues(data: bytes, format: str) -> list[tuple[int, int, str]]:
    """Cues as (start ms, end ms, raw text), by a plain reading of the published syntax."""
    text = data.decode("utf-8")
    if format == "vtt":
        assert text.startswith("WEBVTT\n\n")
        text = text.removeprefix("WEBVTT\n\n")
    cues = []
    for number, block in enumerate(re.split(r"\n\n+", text.strip("\n")) if text.strip("\n") else [], start=1):
        counter, timing, content = block.split("\n", 2)
        assert counter == str(number)
        start, end = timing.split(" --> ")
        cues.append((milliseconds(start, format), milliseconds(end, format), content))
    return cues


def milliseconds(text: str, format: str) -> int:
    mark = "," if format == "srt" else "."
    hours, minutes, seconds, rest = re.fullmatch(rf"(\d\d):(\d\d):(\d\d)\{mark}(\d\d\d)", text).groups()
    return ((int(hours) * 60 + int(minutes)) * 60 + int(seconds)) * 1000 + int(rest)


# --- text -----------------------------------------------------------------------------------------------


def test_txt_has_one_line_a_segment_with_time_and_speaker():
    assert export(RECORDING, SEGMENTS, "txt").decode().splitlines() == [
        "[0:00] Ana & Ben: Good morning.",
        "[0:02] Ana & Ben: Tags like {\\b1}bold{\\b0} stay, <i>so</i> do these.",
        "[0:05] Speaker 2: I talk over you --> now.",
        "[0:09] {\\p1}Drawing or not?",
        "[10:01:01] (door slams)",
    ]


@given(segment_lists)
def test_txt_never_breaks_a_line_inside_a_segment(segments: list[Segment]):
    lines = export(RECORDING, segments, "txt").decode().split("\n")
    expected = [f"[{clock(segment.start)}] {named(segment)}" for segment in spoken(segments)]
    assert lines == [*expected, ""]


# --- subtitles ------------------------------------------------------------------------------------------


def test_subtitles_keep_text_that_looks_like_tags_and_hours_beyond_nine():
    cues = read_cues(export(RECORDING, SEGMENTS, "srt"), "srt")
    assert cues == [
        (0, 2500, "Ana & Ben: Good morning."),
        (2500, 5500, "Ana & Ben: Tags like {\\b1}bold{\\b0} stay,\n<i>so</i> do these."),
        (5500, 8000, "Speaker 2: I talk over you → now."),
        (9000, 10_000, "{\\p1}Drawing or not?"),
        (36_061_000, 36_062_250, "(door slams)"),
    ]


def test_vtt_names_speakers_in_voice_tags_and_escapes_the_words():
    cues = read_cues(export(RECORDING, SEGMENTS, "vtt"), "vtt")
    assert [text for _, _, text in cues][1:3] == [
        "<v Ana &amp; Ben>Tags like {\\b1}bold{\\b0} stay,\n&lt;i&gt;so&lt;/i&gt; do these.",
        "<v Speaker 2>I talk over you --&gt; now.",
    ]


@given(segment_lists)
def test_srt_reads_back_with_the_same_words_in_the_order_of_time(segments: list[Segment]):
    cues = read_cues(export(RECORDING, segments, "srt"), "srt")
    expected = make_cues(segments, named=True)
    lines = ["\n".join(cue.lines).replace("-->", "→") for cue in expected]
    assert cues == [(cue.start, cue.end, text) for cue, text in zip(expected, lines, strict=True)]


@given(segment_lists)
def test_vtt_reads_back_with_the_same_words_and_only_our_own_tags(segments: list[Segment]):
    cues = read_cues(export(RECORDING, segments, "vtt"), "vtt")
    expected = make_cues(segments, named=False)
    for (start, end, raw), cue in zip(cues, expected, strict=True):
        voice, words = re.fullmatch(r"(?:<v ([^<>]+)>)?([^<>]*)", raw).groups()
        assert html.unescape(words) == "\n".join(cue.lines)
        assert html.unescape(voice or "") == cue.speaker
        assert (start, end) == (cue.start, cue.end)


@pytest.mark.parametrize("format", ["srt", "vtt"])
def test_pysubs2_reads_our_subtitles(format: str):
    read = SSAFile.from_string(
        export(RECORDING, SEGMENTS, format).decode(), format_=format, keep_html_tags=True
    )
    assert [(event.start, event.end) for event in read][-1] == (36_061_000, 36_062_250)
    assert "{\\b1}bold{\\b0}" in read[1].text


@pytest.mark.parametrize("format", ["srt", "vtt"])
def test_subtitles_refuse_times_that_their_format_cannot_hold(format: str):
    with pytest.raises(MossAgentError, match="100"):
        export(RECORDING, [Segment(359_999.0, 360_001.0, "late")], format)


# --- Markdown -------------------------------------------------------------------------------------------

MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def inline_tokens(tokens: list[Token]) -> list[Token]:
    return [child for token in tokens for child in token.children or []]


def rendered_text(source: str) -> str:
    """The text a reader sees, invisible word joiners left out."""
    seen = "".join(token.content for token in inline_tokens(MARKDOWN.parse(source)))
    return seen.replace(WORD_JOINER, "")


@given(texts)
def test_escaped_text_is_one_paragraph_of_plain_text_that_reads_the_same(text: str):
    tokens = MARKDOWN.parse(escape_markdown(text))
    assert {token.type for token in inline_tokens(tokens)} <= {"text"}
    assert [token.type for token in tokens] in ([], ["paragraph_open", "inline", "paragraph_close"])
    assert rendered_text(escape_markdown(text)) == one_line(text).replace(WORD_JOINER, "")


@pytest.mark.parametrize(
    "link", ["www.example.org", "http://example.org", "ftp://example.org", "a.b@example.org", "example.org"]
)
def test_escaped_text_offers_nothing_that_renderers_link_by_themselves(link: str):
    # GitHub links bare addresses in the source, and e-mail addresses even in the text after escapes.
    escaped = escape_markdown(f"see {link}")
    assert link not in escaped
    seen = "".join(token.content for token in inline_tokens(MARKDOWN.parse(escaped)))
    assert not re.search(r"[\w.+-]@\w", seen)
    assert not re.search(r"www\.|://|(?<!\\)\.(?=org)", escaped)


def test_escaped_text_stays_readable():
    plain = "At 2:15 Ana said: it's 3.5 metres, isn't it? (Yes - really!)"
    assert escape_markdown(plain) == plain


@given(segment_lists, texts)
def test_markdown_shows_every_word_and_makes_nothing_of_them(segments: list[Segment], title: str):
    recording = Recording(**{**vars(RECORDING), "title": title})
    source = export(recording, segments, "md").decode()
    tokens = MARKDOWN.parse(source)
    assert {token.type for token in inline_tokens(tokens)} <= {"text", "strong_open", "strong_close"}
    kinds = {token.type for token in tokens}
    assert kinds <= {"heading_open", "heading_close", "paragraph_open", "paragraph_close", "inline"}
    speakers = [token for token in tokens if token.type == "inline" and token.content.startswith("**")]
    assert all([child.type for child in line.children][1:2] == ["strong_open"] for line in speakers)
    seen = rendered_text(source)
    position = 0
    for segment in spoken(segments):
        words = shown(segment).replace(WORD_JOINER, "")
        position = seen.index(words, position) + len(words)


def test_markdown_has_title_facts_gaps_and_turns_with_times():
    source = export(RECORDING, SEGMENTS, "md").decode()
    assert source.startswith("# Harbour \\*festival\\* \\<meeting\\>\n")
    seen = rendered_text(source)
    assert "Duration 5:01 · language: English · speakers: Ana & Ben, Speaker 2 · 99 % of the speech" in seen
    assert "Not transcribed: 1:00–1:05" in seen
    assert "**Ana & Ben** (0:00–0:06)" in source and "(10:01:01–10:01:02)" in source


def test_a_long_turn_is_cut_into_paragraphs():
    segments = [Segment(10.0 * n, 10.0 * n + 9, f"Sentence {n}.", speaker="Ana") for n in range(30)]
    source = export(RECORDING, segments, "md").decode()
    headings = re.findall(r"\*\*Ana\*\* \((.*)\)", source)
    assert headings[:2] == ["0:00–0:59", "1:00–1:59"] and len(headings) == 5


# --- JSON and Word --------------------------------------------------------------------------------------


@given(segment_lists)
def test_json_holds_every_segment_unchanged(segments: list[Segment]):
    document = json.loads(export(RECORDING, segments, "json"))
    assert document["recording"] == RECORDING.id
    read = [
        (segment["start"], segment["end"], segment["text"], segment["kind"], segment["speaker"])
        for segment in document["segments"]
    ]
    assert read == [
        (segment.start, segment.end, segment.text, segment.kind, segment.speaker) for segment in segments
    ]


def test_json_holds_words_with_their_times():
    document = json.loads(export(RECORDING, SEGMENTS, "json"))
    assert document["segments"][0]["words"] == [
        {"start": 0.0, "end": 1.0, "text": " Good", "probability": 0.9}
    ]


@given(segment_lists, texts)
def test_word_reads_back_with_title_and_every_turn(segments: list[Segment], title: str):
    recording = Recording(**{**vars(RECORDING), "title": title})
    document = Document(BytesIO(export(recording, segments, "docx")))
    paragraphs = [child.text for child in document.paragraphs]
    assert paragraphs[0] == one_line(title)
    assert paragraphs[1].startswith("Duration 5:01")
    body = paragraphs[3:]
    said = " ".join(body[1::2])
    assert said == " ".join(shown(segment) for segment in spoken(segments))
    for heading in body[::2]:
        assert re.search(r"\(\d+:[\d:]+–\d+:[\d:]+\)$", heading)


# --- all of them ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_a_recording_without_words_gives_a_valid_file(format: str):
    data = export(RECORDING, [], format)
    if format == "docx":
        assert Document(BytesIO(data)).paragraphs[0].text == RECORDING.title
    elif format == "json":
        assert json.loads(data)["segments"] == []
    elif format in ("srt", "vtt"):
        assert read_cues(data, format) == []
    else:
        assert data.decode().count("[0:00]") == 0


def test_an_unknown_format_is_answered_with_the_known_ones():
    with pytest.raises(MossAgentError) as raised:
        export(RECORDING, SEGMENTS, "pdf")
    assert all(name in str(raised.value) for name in ("pdf", *FORMATS))


def test_a_format_may_be_written_as_a_suffix():
    assert export(RECORDING, SEGMENTS, " .SRT") == export(RECORDING, SEGMENTS, "srt")
