"""The middle column: what is known about a recording, its player, and its sentences, as HTML.

Every text that comes from a recording or a person passes through ``html.escape``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from html import escape
from itertools import groupby
from operator import itemgetter

from index.language_names import name_languages
from index.notes import coverage_percent, describe_all
from index.records import Comment, Recording, Segment, Span
from index.speaker_names import is_label
from index.timeline import TalkTime, VoiceTime
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


def render_head(
    recording: Recording | None,
    spoken: bool = True,
    problem: str = "",
    shares: bool = False,
    edits: bool = True,
    until: date | None = None,
) -> str:
    """Title, coverage, speakers and the export menu.

    Args:
        recording: The one that is open.
        spoken: Whether there are any sentences.
        problem: Why the link that opened it, or was to open one, could not be followed.
        shares: Whether whoever looks may share it.
        edits: Whether they may change it.
        until: The day on which it will be deleted, if it will.
    """
    told = f'<p class="note" role="status">{escape(problem)}</p>' if problem else ""
    if recording is None and problem:
        return f'<div class="hollow tall"><h2>Nothing to open</h2>{told}</div>'
    if recording is None:
        return (
            '<div class="hollow tall"><h2>Open a recording</h2>'
            "<p>Choose one in the library, or add a file. Then ask what was said at minute 2, "
            "what was decided, or who took on what: every answer cites moments you can play.</p></div>"
        )
    share = f'<a class="btn" href="share/{escape(recording.id)}">Share</a>' if shares else ""
    tools = share + (_again(recording) if edits else "") + _export_menu(recording)
    return (
        f'<div class="head-line"><h2>{escape(recording.title)}</h2>{tools}</div>'
        f'<div class="facts">{_facts(recording, spoken, edits, until)}</div>{told}{_note(recording)}'
        f"{_speakers(recording, edits)}"
    )


def render_player(
    recording: Recording | None, ready: bool, at: float | None = None, edits: bool = True
) -> str:
    """The lane, which ``static/timeline.js`` draws, and the player over the copy, the transcript's clock.

    Args:
        recording: The one that is open.
        ready: Whether its audio copy is there.
        at: Second to stand at, when a link to a moment opened it.
        edits: Whether whoever looks may change it.
    """
    moment = (COMMENT if edits else "") + COPY_MOMENT
    if recording is None or (recording.has_media and not ready):
        return ""
    name = escape(recording.id)
    stand = "" if at is None else f' data-at="{at:.3f}"'
    lane = f'<div id="lane" data-recording="{name}" data-duration="{recording.duration:.3f}"'
    if not recording.has_media:
        attach = f' <button type="button" class="btn" data-attach="{name}">Add the media file</button>'
        return (
            f'{lane} data-silent{stand}></div><div class="controls">'
            f'<p class="hint" role="note" data-unplayable="{name}">This transcript was imported without its '
            f"media file, so it cannot be played.{attach if edits else ''}</p>{TOPICS}{moment}</div>"
        )
    return (
        f"{lane}></div>"
        f'<div class="controls"><audio id="player" preload="metadata" data-recording="{name}" '
        f'data-duration="{recording.duration:.3f}"{stand} src="audio/{name}" '
        f'aria-label="Player of {escape(recording.title)}"></audio>'
        '<button type="button" class="round" data-toggle aria-label="Play">'
        f"{icon('play')}{icon('pause')}</button>"
        f'<span class="at"><span data-now>0:00</span> / {clock(recording.duration)}</span>'
        '<label class="volume" title="Volume"><span class="sr-only">Volume</span>'
        f'{icon("volume")}<input type="range" min="0" max="1" step="0.05" value="1" data-volume></label>'
        '<button type="button" class="btn" data-speed title="Playback speed (&lt; and &gt;)" '
        'aria-label="Playback speed">1×</button>'
        '<button type="button" class="btn" data-follow aria-pressed="true" '
        f'title="Scroll along while it plays">Follow</button>{TOPICS}{moment}'
        '<button type="button" class="quiet" data-help title="Keys (?)" '
        f'aria-label="Keys for playing">{icon("keys")}</button></div>'
    )


TOPICS = (
    '<details class="menu topics" data-topics hidden><summary class="btn">Topics</summary>'
    '<div class="sheet"><ol aria-label="Topics"></ol></div></details>'
)
"""What ``static/timeline.js`` fills."""

COMMENT = (
    '<button type="button" class="quiet" data-comment title="Comment at this moment (C)" '
    f'aria-label="Comment at this moment">{icon("comment")}</button>'
)

COPY_MOMENT = (
    '<button type="button" class="quiet" data-copy-moment title="Copy link to this moment" '
    f'aria-label="Copy link to this moment">{icon("link")}</button>'
)


def render_transcript(
    recording: Recording | None,
    segments: Sequence[Segment],
    comments: Sequence[Comment] = (),
    edits: bool = True,
) -> str:
    """Every sentence as a row, grouped by who speaks; gaps and comments stand between.

    Where whoever looks may not change it (``edits``), nothing offers to.
    """
    if recording is None:
        return ""
    if not segments and not recording.gaps and not comments:
        return f'<div class="hollow"><p>{_nothing_yet(recording)}</p></div>'
    rows: list[Row] = [*segments, *recording.gaps, *comments]
    # A comment follows the sentence that it is in.
    rows.sort(key=lambda row: (row.at, math.inf) if isinstance(row, Comment) else (row.start, row.end))
    looks = _looks(recording)
    turns = "".join(
        _turn(voice, [row for _, row in turn], looks, recording.id, edits)
        for voice, turn in groupby(_voices(rows), key=itemgetter(0))
    )
    fixed = "" if edits else " data-fixed"
    return (
        f'<div class="rows" role="group" aria-label="Transcript" data-recording="{escape(recording.id)}" '
        f'data-revision="{recording.revision}"{fixed}>{turns}</div>'
    )


def render_revision(recording: Recording | None) -> str:
    """How often a recording was corrected, for ``static/edit.js``, which fetches what changed."""
    if recording is None:
        return ""
    return f'<i data-recording="{escape(recording.id)}" data-revision="{recording.revision}"></i>'


def render_talk(talk: TalkTime | None, recording: Recording | None) -> str:
    """How a recording's time is divided, one bar a voice; a voice's name shows what it says."""
    if talk is None or recording is None:
        return ""
    if not talk.voices:
        return '<div class="hollow"><p>Nobody speaks in this recording.</p></div>'
    looks = _looks(recording)
    parts = [
        f"{clock(talk.speech)} of talk",
        f"{clock(talk.silence)} without ({_percent(talk.silence / max(talk.duration, 1e-9))})",
    ]
    if talk.overlap >= 1:
        parts.append(f"{clock(talk.overlap)} at the same time")
    rows = "".join(_voice_row(voice, looks.get(voice.name or "", "")) for voice in talk.voices)
    return (
        f'<p class="talk-sum">{" · ".join(parts)}</p><ul class="voices" aria-label="Talk time">{rows}</ul>'
        '<p class="hint">Speakers are estimated. Choose one to read only what they say.</p>'
    )


def _voice_row(voice: VoiceTime, look: str) -> str:
    name = f"<span>{NAMELESS}</span>"
    if voice.name:
        shown = escape(voice.name)
        name = f'<button type="button" data-only="{shown}" title="Read only what they say">{shown}</button>'
    facts = [clock(voice.seconds), f"{voice.turns} turn{'' if voice.turns == 1 else 's'}"]
    if voice.words is not None:
        facts.append(f"{voice.words:,} words")
    if voice.words_per_minute is not None:
        facts.append(f"{voice.words_per_minute:.0f} a minute")
    return (
        f'<li class="{look}">{name}'
        f'<span class="share">{_percent(voice.share)}</span>'
        f'<span class="bar"><i style="width:{100 * voice.share:.1f}%"></i></span>'
        f'<span class="facts">{"".join(f"<span>{fact}</span>" for fact in facts)}</span></li>'
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


NAMELESS = "Unknown speaker"

VOICES = 8
"""Colours of voices (``static/timeline.css``); from then on they come again."""


def _looks(recording: Recording) -> dict[str, str]:
    """The class that gives a voice its colour, the same in the transcript, on the lane and in the panel."""
    return {name: f"v{at % VOICES}" for at, name in enumerate(recording.speakers)}


Row = Segment | Span | Comment


def _voices(rows: Iterable[Row]) -> Iterator[tuple[str, Row]]:
    """Each row with whose turn it belongs to; a comment does not end one."""
    voice = ""
    for row in rows:
        if not isinstance(row, Comment):
            voice = (row.speaker or "") if isinstance(row, Segment) else "\0gap"
        yield voice, row


def _turn(speaker: str, rows: list[Row], looks: dict[str, str], recording: str, edits: bool) -> str:
    lines = "".join(_row(row, recording, edits) for row in rows)
    if any(isinstance(row, Span) for row in rows):
        return lines
    name = f'<div class="who">{escape(speaker)}</div>' if speaker else ""
    return f'<div class="turn {looks.get(speaker, "")}">{name}{lines}</div>'


def _row(row: Row, recording: str, edits: bool) -> str:
    if isinstance(row, Span):
        return _gap(row)
    if isinstance(row, Comment):
        return _remark(row, recording, edits)
    # Tab stops at one row only; the arrow keys go on from there (static/transcript.js).
    return (
        f'<div class="line" role="button" tabindex="-1" data-start="{row.start:.3f}" '
        f'data-end="{row.end:.3f}" data-id="{row.id}" data-version="{row.version}">'
        f"<time>{clock(row.start)}</time>"
        f'<span class="text {row.kind}">{escape(row.text)}</span></div>'
    )


def _remark(comment: Comment, recording: str, edits: bool) -> str:
    when, who = clock(comment.at), escape(comment.by)
    by = f'<span class="by">{who}</span>' if who else ""
    label = f"Comment at {when}" + (f" by {who}" if who else "")
    tools = (
        f'<button type="button" class="quiet" data-recomment="{comment.id}" title="Change" '
        f'aria-label="Change the comment at {when}">{icon("edit")}</button>'
        f'<button type="button" class="quiet" data-uncomment="{comment.id}" title="Delete" '
        f'aria-label="Delete the comment at {when}">{icon("close")}</button>'
    )
    return (
        f'<div class="remark" role="group" aria-label="{label}">{icon("comment")}'
        f'<button type="button" class="cite" data-play="{comment.at:.3f}" data-until="{comment.at:.3f}" '
        f'data-recording="{escape(recording)}" aria-label="Play from {when}">{when}</button>'
        f"<div>{by}<p>{escape(comment.text)}</p></div>{tools if edits else ''}</div>"
    )


def _gap(gap: Span) -> str:
    return (
        f'<div class="line gap" role="button" tabindex="-1" data-start="{gap.start:.3f}" '
        f'data-end="{gap.end:.3f}"><time>{clock(gap.start)}</time>'
        f'<span class="text">not transcribed, {gap.duration:.1f} s</span></div>'
    )


def _facts(recording: Recording, spoken: bool, edits: bool, until: date | None) -> str:
    parts = [f"<span>{clock(recording.duration)}</span>"]
    if len(recording.languages) > 1:
        parts.append(f"<span>{escape(name_languages(recording.languages))}</span>")
    elif recording.language:
        parts.append(f"<span>{escape(recording.language.upper())}</span>")
    parts.append(f"<span>added {escape(recording.added_at[:10])}</span>")
    if not edits:
        parts.append("<span>shared with you, to read</span>")
    if until is not None:
        parts.append(f"<span>kept until {until.isoformat()}</span>")
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


def _speakers(recording: Recording, edits: bool) -> str:
    if not recording.speakers:
        return ""
    looks = _looks(recording)
    is_named = recording.imported is not None and not any(map(is_label, recording.speakers))
    known = "named in the transcript" if is_named else "estimated"
    if not edits:
        names = "".join(
            f'<span class="chip {looks[name]}">{escape(name)}</span>' for name in recording.speakers
        )
        return (
            f'<div class="speakers" role="group" aria-label="Speakers, {known}">{names}'
            f'<span class="hint">{known}</span></div>'
        )
    chips = "".join(
        f'<button type="button" class="chip {looks[name]}" data-rename="{escape(name)}" '
        f'title="Rename or merge">{escape(name)}{icon("edit")}</button>'
        for name in recording.speakers
    )
    return (
        f'<div class="speakers" role="group" aria-label="Speakers, {known}">{chips}'
        f'<span class="hint">{known}; click to rename or merge</span></div>'
    )


def _again(recording: Recording) -> str:
    if recording.status != "ready" or not recording.has_media:
        return ""
    imported = " data-imported" if recording.imported is not None else ""
    return (
        f'<button type="button" class="quiet" data-again="{escape(recording.id)}"{imported} '
        f'data-title="{escape(recording.title)}" title="Hear again" aria-label="Hear this recording again">'
        f"{icon('again')}</button>"
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
