"""The middle column: what is known about a recording, its player, and its sentences, as HTML.

Every text that comes from a recording or a person passes through ``html.escape``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby

from index.language_names import name_languages
from index.notes import coverage_percent, describe_all
from index.records import Recording, Segment, Span
from index.speaker_names import is_label
from moss_audio.timestamps import clock, clock_range
from web.page.theme import icon

EXPORTS = (
    ("txt", "Plain text"),
    ("md", "Markdown"),
    ("docx", "Word"),
    ("srt", "Subtitles, SRT"),
    ("vtt", "Subtitles, WebVTT"),
    ("json", "JSON"),
)


def render_head(recording: Recording | None, spoken: bool = True) -> str:
    """Title, coverage, speakers and the export menu; ``spoken`` says whether there are any sentences."""
    if recording is None:
        return (
            '<div class="hollow tall"><h2>Open a recording</h2>'
            "<p>Choose one in the library, or add a file. Then ask what was said at minute 2, "
            "what was decided, or who took on what: every answer cites moments you can play.</p></div>"
        )
    return (
        f'<div class="head-line"><h2>{escape(recording.title)}</h2>{_export_menu(recording)}</div>'
        f'<div class="facts">{_facts(recording, spoken)}</div>{_note(recording)}{_speakers(recording)}'
    )


def render_player(recording: Recording | None, ready: bool) -> str:
    """One plain audio element over the 16 kHz copy, whose clock is the transcript's."""
    if recording is not None and not recording.has_media:
        return (
            f'<p class="hint" role="note" data-unplayable="{escape(recording.id)}">This transcript was '
            "imported without its media file, so it cannot be played. To add the file: "
            f"<code>moss-agent attach {escape(recording.id[:12])} FILE</code></p>"
        )
    if recording is None or not ready:
        return ""
    name = escape(recording.id)
    return (
        f'<audio id="player" controls preload="metadata" data-recording="{name}" '
        f'data-duration="{recording.duration:.3f}" src="audio/{name}" '
        f'aria-label="Player of {escape(recording.title)}"></audio>'
        '<button type="button" class="btn" data-speed aria-label="Playback speed">1×</button>'
        '<button type="button" class="btn" data-follow aria-pressed="true" '
        'title="Scroll along while it plays">Follow</button>'
    )


def render_transcript(recording: Recording | None, segments: Sequence[Segment]) -> str:
    """Every sentence as a row, grouped by who speaks; stretches that were not transcribed stand between."""
    if recording is None:
        return ""
    if not segments and not recording.gaps:
        return f'<div class="hollow"><p>{_nothing_yet(recording)}</p></div>'
    rows: list[Segment | Span] = [*segments, *recording.gaps]
    rows.sort(key=lambda row: (row.start, row.end))
    turns = "".join(_turn(speaker, list(turn)) for speaker, turn in groupby(rows, key=_voice))
    return (
        f'<div class="rows" role="group" aria-label="Transcript" data-recording="{escape(recording.id)}" '
        f'data-revision="{recording.revision}">{turns}</div>'
    )


def render_revision(recording: Recording | None) -> str:
    """How often a recording was corrected, for ``static/edit.js``, which fetches what changed."""
    if recording is None:
        return ""
    return f'<i data-recording="{escape(recording.id)}" data-revision="{recording.revision}"></i>'


def _voice(row: Segment | Span) -> str:
    return (row.speaker or "") if isinstance(row, Segment) else "\0gap"


def _turn(speaker: str, rows: list[Segment | Span]) -> str:
    if isinstance(rows[0], Span):
        return "".join(_gap(row) for row in rows if isinstance(row, Span))
    name = f'<div class="who">{escape(speaker)}</div>' if speaker else ""
    return f'<div class="turn">{name}{"".join(_rows(rows))}</div>'


def _rows(rows: Sequence[Segment | Span]) -> Iterator[str]:
    for row in rows:
        if isinstance(row, Segment):
            # Tab stops at one row only; the arrow keys go on from there (static/transcript.js).
            yield (
                f'<div class="line" role="button" tabindex="-1" data-start="{row.start:.3f}" '
                f'data-end="{row.end:.3f}" data-id="{row.id}" data-version="{row.version}">'
                f"<time>{clock(row.start)}</time>"
                f'<span class="text {row.kind}">{escape(row.text)}</span></div>'
            )


def _gap(gap: Span) -> str:
    return (
        f'<div class="line gap" role="button" tabindex="-1" data-start="{gap.start:.3f}" '
        f'data-end="{gap.end:.3f}"><time>{clock(gap.start)}</time>'
        f'<span class="text">not transcribed, {gap.duration:.1f} s</span></div>'
    )


def _facts(recording: Recording, spoken: bool) -> str:
    parts = [f"<span>{clock(recording.duration)}</span>"]
    if len(recording.languages) > 1:
        parts.append(f"<span>{escape(name_languages(recording.languages))}</span>")
    elif recording.language:
        parts.append(f"<span>{escape(recording.language.upper())}</span>")
    parts.append(f"<span>added {escape(recording.added_at[:10])}</span>")
    share = coverage_percent(recording)
    if share and (spoken or recording.gaps):
        parts.append(_coverage(recording, share))
    return "".join(parts)


def _coverage(recording: Recording, share: str) -> str:
    text = f"{share} of detected speech accounted for"
    if not recording.gaps:
        return f'<span class="coverage">{text}</span>'
    gaps = "".join(
        f'<li><button type="button" class="cite" {_play(recording.id, gap)}>'
        f"{clock_range(gap.start, gap.end)}</button></li>"
        for gap in recording.gaps
    )
    return (
        f'<details class="menu coverage"><summary>{text}</summary>'
        '<div class="sheet"><p>Stretches that could not be transcribed:</p>'
        f'<ul class="gaps">{gaps}</ul></div></details>'
    )


def _play(recording: str, span: Span) -> str:
    return f'data-play="{span.start:.3f}" data-until="{span.end:.3f}" data-recording="{escape(recording)}"'


def _note(recording: Recording) -> str:
    if recording.problems:
        return f'<p class="note" role="status">{escape(describe_all(recording.problems))}</p>'
    if recording.status == "listening":
        return '<p class="note" role="status">Still being transcribed; the finished part is below.</p>'
    if recording.status == "cancelled":
        return '<p class="note" role="status">Stopped before the end; add the file again to resume.</p>'
    return ""


def _speakers(recording: Recording) -> str:
    if not recording.speakers:
        return ""
    is_named = recording.imported is not None and not any(map(is_label, recording.speakers))
    known = "named in the transcript" if is_named else "estimated"
    chips = "".join(
        f'<button type="button" class="chip" data-rename="{escape(name)}" '
        f'title="Rename or merge">{escape(name)}{icon("edit")}</button>'
        for name in recording.speakers
    )
    return (
        f'<div class="speakers" role="group" aria-label="Speakers, {known}">{chips}'
        f'<span class="hint">{known}; click to rename or merge</span></div>'
    )


def _export_menu(recording: Recording) -> str:
    links = "".join(
        f'<a href="export/{escape(recording.id)}.{format}" download>{label}<kbd>.{format}</kbd></a>'
        for format, label in EXPORTS
    )
    return (
        f'<details class="menu"><summary class="btn">{icon("export")}Export</summary>'
        f'<div class="sheet links">{links}</div></details>'
    )


def _nothing_yet(recording: Recording) -> str:
    if recording.status == "listening":
        return "The first sentences appear here in a moment."
    if recording.status == "ready":
        return "No speech was found in this recording."
    return "Nothing has been transcribed yet; add the file again to resume."
