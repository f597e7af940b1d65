"""A transcript as a file: plain text, subtitles, Markdown, JSON, Word.

The words of the recording survive as they were written down: nothing in them is taken for a tag, a
time or a mark of the format. Times are the recording's own.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from io import BytesIO

from index.export.markdown import escape_markdown
from index.export.subtitles import Cue, make_cues
from index.language_names import language_name, name_languages
from index.notes import coverage_percent, describe, describe_all, notes_json, told_coverage
from index.recording_errors import InvalidInput, MossAgentError
from index.records import Comment, Recording, Segment
from index.text import one_line
from moss_audio.timestamps import clock, clock_range

PARAGRAPH_SECONDS = 60.0
"""A turn that goes on longer is cut into paragraphs of about this length, at a sentence's end."""
SUBTITLE_HOURS = 100
"""Subtitle files write hours with two digits."""


def export(
    recording: Recording, segments: Sequence[Segment], format: str, comments: Sequence[Comment] = ()
) -> bytes:
    """Write a transcript in one of ``FORMATS``, as the bytes of a file (UTF-8 where it is text).

    Args:
        recording: The recording that the transcript is of.
        segments: All of it or a part, in time order.
        comments: What was noted, in time order; ``md``, ``docx`` and ``json`` hold it.
        format: ``txt``, ``srt``, ``vtt``, ``md``, ``json`` or ``docx``, in any case.

    Raises:
        MossAgentError: There is no such format, or times are too late for it to hold.
    """
    write = _WRITERS.get(format.strip().lower().removeprefix("."))
    if write is None:
        raise InvalidInput(f"There is no export format “{format}”; choose from {', '.join(FORMATS)}.")
    return write(recording, segments, comments)


def _txt(recording: Recording, segments: Sequence[Segment], _comments: Sequence[Comment]) -> bytes:
    """One line a segment, ``[2:05] Speaker 1: text``, below what could not be done."""
    lines = [f"Note: {one_line(describe(note))}\n" for note in recording.problems]
    lines += [f"[{clock(segment.start)}] {_named(segment)}\n" for segment in _spoken(segments)]
    return _encode("".join(lines))


def _json(recording: Recording, segments: Sequence[Segment], comments: Sequence[Comment]) -> bytes:
    """The ``transcript`` document of the command line, words with their times included."""
    document = {
        "recording": recording.id,
        "title": recording.title,
        "duration": recording.duration,
        "language": recording.language,
        "languages": list(recording.languages),
        "coverage": told_coverage(recording.coverage, recording.problems),
        "gaps": [[gap.start, gap.end] for gap in recording.gaps],
        **notes_json(recording.problems),
        "segments": [
            {
                "start": segment.start,
                "end": segment.end,
                "speaker": segment.speaker,
                "kind": segment.kind,
                "language": segment.language,
                "text": segment.text,
                "words": [asdict(word) for word in segment.words],
            }
            for segment in segments
        ],
        "comments": [
            {"at": comment.at, "text": comment.text, "created_at": comment.created_at} for comment in comments
        ],
    }
    return _encode(json.dumps(document, ensure_ascii=False, indent=2) + "\n")


# --- subtitles ----------------------------------------------------------------------------------------

_TAG_MARKS, _STAND_INS = "\\{}", "\ufdd0\ufdd1\ufdd2"
"""pysubs2 reads these as tags of its own (and drops a line with ``{\\p1}``), so it sees noncharacters,
which ``one_line`` has removed from the text."""


NOTE_CUE_SECONDS = 6.0
"""Seconds for which the notes are shown behind the last subtitle."""


def _srt(recording: Recording, segments: Sequence[Segment], _comments: Sequence[Comment]) -> bytes:
    # SubRip has no comments, so that what could not be done is a last cue, behind all that was said.
    end = max([recording.duration, *(segment.end for segment in segments)])
    if notes := describe_all(recording.problems):
        segments = [*segments, Segment(end, end + NOTE_CUE_SECONDS, f"Note: {notes}", "sound")]
    # SubRip has no escapes; an arrow in the text must not look like the arrow between two times.
    return _subtitles(segments, "srt", lambda cue: [line.replace("-->", "→") for line in cue.lines])


def _vtt(recording: Recording, segments: Sequence[Segment], _comments: Sequence[Comment]) -> bytes:
    written = _subtitles(segments, "vtt", _voiced)
    if not (notes := one_line(describe_all(recording.problems))):
        return written
    head, _, cues = written.partition(b"\n")
    # A comment must not look like the times of a cue.
    return head + _encode("\n\nNOTE " + notes.replace("-->", "→") + "\n") + (cues or b"\n")


def _voiced(cue: Cue) -> list[str]:
    """WebVTT cue text: the speaker in a voice tag, the words with ``&``, ``<``, ``>`` as references."""
    voice = f"<v {html.escape(cue.speaker, quote=False)}>" if cue.speaker else ""
    first, *rest = (html.escape(line, quote=False) for line in cue.lines)
    return [voice + first, *rest]


def _subtitles(segments: Sequence[Segment], format: str, text: Callable[[Cue], list[str]]) -> bytes:
    from pysubs2 import SSAEvent, SSAFile

    shield = str.maketrans(_TAG_MARKS, _STAND_INS)
    latest = SUBTITLE_HOURS * 3_600_000 - 1
    ends = [segment.end if segment.kind == "speech" else segment.start for segment in _spoken(segments)]
    cues = make_cues(segments, named=format == "srt")
    if cues and (max(ends) * 1000 > latest or cues[-1].start >= latest):
        raise MossAgentError(
            f"Subtitles cannot hold times from {SUBTITLE_HOURS} hours; choose txt, md, json or docx."
        )
    subtitles = SSAFile()
    for cue in cues:
        lines = (line.translate(shield) for line in text(cue))
        subtitles.append(SSAEvent(start=cue.start, end=min(cue.end, latest), text="\\N".join(lines)))
    written = subtitles.to_string(format, keep_ssa_tags=True)
    return _encode(written.translate(str.maketrans(_STAND_INS, _TAG_MARKS)))


# --- documents ----------------------------------------------------------------------------------------


def _markdown(recording: Recording, segments: Sequence[Segment], comments: Sequence[Comment]) -> bytes:
    """Title, what is known of the recording, then paragraphs by speaker turn, comments as quotes between."""
    parts = [f"# {escape_markdown(recording.title)}"]
    parts += [escape_markdown(line) for line in _about(recording)]
    parts += markdown_turns(segments, lambda turn: f"({_times(turn)})", comments)
    return _encode("\n\n".join(parts) + "\n")


def markdown_turns(
    segments: Sequence[Segment],
    time: Callable[[Sequence[Segment]], str],
    comments: Sequence[Comment] = (),
) -> list[str]:
    """What is said as Markdown, two paragraphs for each turn: who speaks and when, and what.

    Args:
        segments: In time order.
        time: How the time of a turn's segments is shown, as Markdown.
        comments: In time order; each stands behind the turn that it is in.
    """
    parts = []
    for turn in _with_comments(_turns(segments), comments):
        if isinstance(turn, Comment):
            lines = [escape_markdown(line) for line in turn.text.splitlines()]
            lines[0] = f"**Comment** ({clock(turn.at)}) {lines[0]}"
            parts.append("  \n".join(f"> {line}" for line in lines))
            continue
        speaker = escape_markdown(turn[0].speaker or "")
        parts.append(f"**{speaker}** {time(turn)}" if speaker else time(turn))
        parts.append(escape_markdown(" ".join(_words(segment) for segment in turn)))
    return parts


def _docx(recording: Recording, segments: Sequence[Segment], comments: Sequence[Comment]) -> bytes:
    """The same as a Word document."""
    from docx import Document
    from docx.shared import RGBColor

    document = Document()
    title = one_line(recording.title)
    properties = document.core_properties
    properties.title, properties.author, properties.comments = title[:255], "moss-agent", ""
    properties.created = properties.modified = _added(recording)
    document.add_heading(title, level=0)
    for line in _about(recording):
        document.add_paragraph(one_line(line))
    for turn in _with_comments(_turns(segments), comments):
        if isinstance(turn, Comment):
            document.add_paragraph(
                f"Comment ({clock(turn.at)}): {one_line(turn.text)}", style="Intense Quote"
            )
            continue
        heading = document.add_paragraph()
        heading.paragraph_format.keep_with_next = True
        speaker = one_line(turn[0].speaker or "")
        if speaker:
            heading.add_run(speaker).bold = True
        times = heading.add_run(f" ({_times(turn)})" if speaker else f"({_times(turn)})")
        times.font.color.rgb = RGBColor(0x66, 0x66, 0x66)
        document.add_paragraph(" ".join(_words(segment) for segment in turn))
    file = BytesIO()
    document.save(file)
    return file.getvalue()


def _about(recording: Recording) -> list[str]:
    """What is known of the recording, and what of it is missing: a line or more."""
    facts = [f"Duration {clock(recording.duration)}"]
    if len(recording.languages) > 1:
        facts.append(f"languages: {name_languages(recording.languages)}")
    elif recording.language:
        facts.append(f"language: {language_name(recording.language)}")
    if recording.speakers:
        facts.append("speakers: " + ", ".join(recording.speakers))
    if share := coverage_percent(recording):
        facts.append(f"{share} of the speech transcribed")
    lines = [" · ".join(facts)]
    if recording.gaps:
        gaps = ", ".join(clock_range(gap.start, gap.end) for gap in recording.gaps)
        lines.append(f"Not transcribed: {gaps}")
    return lines + [describe(note) for note in recording.problems]


def _turns(segments: Sequence[Segment]) -> Iterator[list[Segment]]:
    """Neighbouring segments of one speaker and kind, cut where a paragraph gets long."""
    turn: list[Segment] = []
    for segment in _spoken(segments):
        same = turn and (turn[-1].speaker, turn[-1].kind) == (segment.speaker, segment.kind)
        if turn and not (same and segment.end - turn[0].start <= PARAGRAPH_SECONDS):
            yield turn
            turn = []
        turn.append(segment)
    if turn:
        yield turn


def _with_comments(
    turns: Iterable[list[Segment]], comments: Sequence[Comment]
) -> Iterator[list[Segment] | Comment]:
    """Turns, and each comment behind the turn that it is in or that it follows."""
    waiting = list(comments)
    for turn in turns:
        while waiting and waiting[0].at < turn[0].start:
            yield waiting.pop(0)
        yield turn
    yield from waiting


def _times(turn: Sequence[Segment]) -> str:
    return f"{clock(turn[0].start)}–{clock(max(segment.end for segment in turn))}"


def _added(recording: Recording) -> datetime:
    try:
        return datetime.fromisoformat(recording.added_at).replace(tzinfo=None)
    except ValueError:
        return datetime(1970, 1, 1)


# --- one segment --------------------------------------------------------------------------------------


def _spoken(segments: Sequence[Segment]) -> Iterator[Segment]:
    """Segments that have words; an empty subtitle or line says nothing."""
    return (segment for segment in segments if one_line(segment.text))


def _words(segment: Segment) -> str:
    """The text as one line; what is heard but not said stands in parentheses."""
    text = one_line(segment.text)
    return text if segment.kind == "speech" else f"({text})"


def _named(segment: Segment) -> str:
    """``Speaker 1: text``, or the text alone where nobody is known."""
    speaker = one_line(segment.speaker or "")
    return f"{speaker}: {_words(segment)}" if speaker else _words(segment)


def _encode(text: str) -> bytes:
    return text.encode("utf-8", errors="replace")


_WRITERS: dict[str, Callable[[Recording, Sequence[Segment], Sequence[Comment]], bytes]] = {
    "txt": _txt,
    "srt": _srt,
    "vtt": _vtt,
    "md": _markdown,
    "json": _json,
    "docx": _docx,
}
FORMATS = tuple(_WRITERS)
"""The formats of ``export``, each the suffix of its files."""

MEDIA_TYPES = {
    "txt": "text/plain; charset=utf-8",
    "md": "text/markdown; charset=utf-8",
    "srt": "application/x-subrip; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
    "json": "application/json",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
}
"""The media type of each format."""
