"""The left column: recordings and the files on their way in, as HTML.

Every text that comes from a file, a person or an error passes through ``html.escape``.

The foot of the left column: which engine hears and which answers, why, and how to get more.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from html import escape
from typing import TYPE_CHECKING

from index.notes import coverage_percent, describe_all
from index.pipeline.ingest import Progress
from index.records import Recording
from index.search.library_search import LibraryHits
from index.transcription.glossary import MOST_BYTES
from moss_audio.timestamps import clock
from web.jobs import Job
from web.page.theme import icon

if TYPE_CHECKING:
    from agent.engines.engine_choice import Engines

LOOKING = "Looking for engines…"


def render_engines(engines: Engines | None, problem: str = "") -> str:
    """Two lines that are always there, and the reasons behind a click.

    Args:
        engines: What was chosen; None while that goes on.
        problem: Why nothing could be chosen.
    """
    if engines is None:
        kind = ' class="bad"' if problem else ""
        return f'<div class="engines"><p{kind}>{escape(problem or LOOKING)}</p></div>'
    hears, thinks = escape(engines.hears), escape(engines.thinks_with)
    reasons = [engines.why, _sent(engines), engines.more]
    return (
        '<details class="engines"><summary>'
        f"<span>Hears: <b>{hears}</b></span><span>Answers: <b>{thinks}</b></span>{_progress(engines)}"
        "<u>Why, and how to get more</u></summary>"
        + "".join(f"<p>{_code(reason)}</p>" for reason in reasons if reason)
        + "</details>"
    )


def render_glossary(entries: Sequence[str]) -> str:
    """The field for words that must be spelled right, behind a click."""
    count = f" ({len(entries)})" if entries else ""
    words = escape("\n".join(entries))
    return (
        f'<details class="glossary"><summary>Words to spell right{count}</summary>'
        "<p>One name or term a line, the most important first; only what is said in your recordings. Whisper "
        "spells them like this in files that you add from now on.</p>"
        f'<textarea rows="4" maxlength="{MOST_BYTES}" spellcheck="false" aria-label="Words to spell right" '
        f"data-glossary>\n{words}</textarea>"
        '<button type="button" class="btn" data-spell>Save</button></details>'
    )


def _progress(engines: Engines) -> str:
    if not engines.progress:
        return ""
    kind = "bad" if engines.failed else "warn"
    return f'<span class="{kind}">{escape(engines.progress)}</span>'


def _sent(engines: Engines) -> str:
    if engines.elsewhere is None:
        return ""
    what = "Questions and recordings are" if engines.listener else "Questions, with what was said, are"
    return f"{what} sent to {engines.elsewhere}."


def _code(text: str) -> str:
    """A sentence, its commands set apart."""
    parts = escape(text if text.endswith(".") else f"{text}.").split("`")
    return "".join(f"<code>{one}</code>" if at % 2 else one for at, one in enumerate(parts))


STAGES = {
    "reading": "Reading the file",
    "finding speech": "Finding speech",
    "transcribing": "Transcribing",
    "identifying speakers": "Identifying speakers",
    "listening for sounds": "Listening for sounds",
    "indexing": "Indexing",
    "ready": "Finishing",
}


def render_library(
    recordings: Sequence[Recording],
    jobs: Sequence[Job],
    selected: str | None,
    elsewhere: str | None = None,
    edited: Collection[str] | None = None,
    owned: Collection[str] | None = None,
) -> str:
    """The list: files on their way in first, then recordings, newest first.

    Args:
        recordings: Newest first.
        jobs: First come first.
        selected: The one that is open.
        elsewhere: Host of a server that the user chose, where recordings or what is said in them are sent.
        edited: Ids of those that whoever looks may change; None for all.
        owned: Ids of those that they may delete; None for all.
    """
    known = {recording.id: recording for recording in recordings}
    rows = [_job(job, known, jobs) for job in jobs]
    busy = {job.recording for job in jobs}
    rows += [
        _recording(
            recording,
            recording.id == selected,
            edited is None or recording.id in edited,
            owned is None or recording.id in owned,
        )
        for recording in recordings
        if recording.id not in busy
    ]
    if not rows:
        stays = f"Models run on {escape(elsewhere)}" if elsewhere else "Everything stays on this machine"
        return (
            '<div class="hollow"><p>No recordings yet.</p>'
            f"<p>Add a file, drop one anywhere here, or record with the microphone. {stays}.</p></div>"
        )
    # One line each, because gr.HTML compares node by node when it updates.
    return f'<ul class="cards" aria-label="Recordings">{"".join(rows)}</ul>'


def render_problem(problem: str) -> str:
    """Why the library, or what was searched in it, cannot be shown, as one sentence."""
    return f'<div class="results"><p class="hint bad" role="status">{escape(problem)}</p></div>'


def render_found(query: str, found: LibraryHits | None, problem: str = "") -> str:
    """What a search over the whole library found, by recording; every place plays.

    Args:
        query: What was searched.
        found: None where it could not be searched; then ``problem`` is why.
        problem: One sentence.
    """
    if found is None:
        return render_problem(problem)
    count = sum(len(places) for _, places in found.places)
    if not count and not found.titled:
        nothing = f"Nothing was found for “{escape(query)}”."
        return f'<div class="results"><p class="hint" role="status">{nothing}</p></div>'
    told = f"{_count(count, 'place')} in {_count(len(found.places), 'recording')}" if count else "By title"
    if count and not found.is_sure:
        told += "; none surely is what you look for"
    words = [word for word in re.findall(r"\w+", query) if len(word) > 1]
    parts = [f'<p class="hint" role="status">{told}</p>']
    parts += [
        f'<button type="button" class="found-title" data-open="{escape(recording.id)}">'
        f"{_marked(recording.title, words)}</button>"
        for recording in found.titled
    ]
    for recording, places in found.places:
        rows = "".join(
            f'<li><button type="button" class="found-place" data-play="{place.start:.3f}" '
            f'data-until="{place.end:.3f}" data-recording="{escape(recording.id)}">'
            f"<time>{clock(place.start)}</time><span>{_marked(place.text, words)}</span></button></li>"
            for place in places
        )
        parts.append(f'<h3 class="found-in">{escape(recording.title)}</h3><ul class="places">{rows}</ul>')
    return f'<div class="results">{"".join(parts)}</div>'


def _marked(text: str, words: Sequence[str]) -> str:
    """A text, escaped, with the words that were searched marked."""
    if not words:
        return escape(text)
    parts = re.split("(" + "|".join(re.escape(word) for word in words) + ")", text, flags=re.IGNORECASE)
    return "".join(
        f"<mark>{escape(part)}</mark>" if at % 2 else escape(part) for at, part in enumerate(parts)
    )


def _recording(recording: Recording, selected: bool, edits: bool, owns: bool) -> str:
    title = escape(recording.title)
    remove = (
        f'<button type="button" class="quiet card-action" data-remove="{escape(recording.id)}" '
        f'data-title="{title}" aria-label="Remove {title}" title="Remove">{icon("close")}</button>'
    )
    current = ' aria-current="true"' if selected else ""
    return (
        f'<li class="card{" selected" if selected else ""}">'
        f'<button type="button" class="card-open" data-open="{escape(recording.id)}"{current}>'
        f'<span class="card-title">{title}</span><span class="card-meta">{_meta(recording)}</span></button>'
        f"{remove if owns else ''}{_go_on(recording) if edits else ''}</li>"
    )


def _go_on(recording: Recording) -> str:
    """A button that resumes what broke off, from the audio copy."""
    if recording.status not in ("listening", "cancelled") or not recording.has_media:
        return ""
    return (
        f'<button type="button" class="btn" data-again="{escape(recording.id)}" '
        f'aria-label="Resume {escape(recording.title)}">Resume</button>'
    )


def _meta(recording: Recording) -> str:
    problems = describe_all(recording.problems)
    if recording.status == "failed":
        return f'<span class="bad">{escape(problems or "It could not be transcribed.")}</span>'
    if recording.status != "ready":
        return f"{clock(recording.duration)} · <span class='warn'>stopped before the end</span>"
    parts = [clock(recording.duration)]
    if recording.speakers:
        parts.append(_count(len(recording.speakers), "speaker"))
    if share := coverage_percent(recording):
        parts.append(f"{share} covered")
    if problems:
        parts.append(escape(problems))
    return " · ".join(parts)


def _job(job: Job, known: dict[str, Recording], jobs: Sequence[Job]) -> str:
    recording = known.get(job.recording or "")
    title = escape(recording.title if recording else job.title)
    name = f'<span class="card-title">{title}</span>'
    if recording:
        name = f'<button type="button" class="card-open" data-open="{escape(recording.id)}">{name}</button>'
    if job.state == "running":
        body = _running(job.progress) + _button("cancel", job, f"Cancel {title}", "Cancel")
    elif job.state == "waiting":
        line = [waiting.id for waiting in jobs if waiting.state == "waiting"].index(job.id)
        place = "next in line" if line == 0 else f"{line} ahead of it"
        body = f'<span class="card-meta">Waiting · {place}</span>'
        body += _button("cancel", job, f"Cancel {title}", "Cancel")
    elif job.state == "stopped":
        kept = "the transcript is as it was" if job.is_attached else "what was transcribed is kept"
        body = f'<span class="card-meta warn">Stopped; {kept}.</span>'
        body += _button("resume", job, f"Resume {title}", "Resume")
        body += _button("dismiss", job, f"Forget {title}", "Forget")
    else:
        body = f'<span class="card-meta bad" role="alert">{escape(job.error or "It failed.")}</span>'
        if job.retry:
            body += _button("resume", job, f"Try {title} again", "Try again")
        body += _button("dismiss", job, f"Dismiss {title}", "Dismiss")
    return f'<li class="card job {job.state}" data-job="{job.id}">{name}{body}</li>'


def _button(action: str, job: Job, label: str, text: str) -> str:
    return f'<button type="button" class="btn" data-{action}="{job.id}" aria-label="{label}">{text}</button>'


def _running(progress: Progress | None) -> str:
    if progress is None:
        return f'{_bar(None, "Starting")}<span class="card-meta">Starting</span>'
    stage = STAGES[progress.stage]
    if progress.stage not in ("transcribing", "listening for sounds") and not progress.detail:
        share = progress.fraction if progress.stage == "finding speech" else None
        return f'{_bar(share, stage)}<span class="card-meta">{stage}</span>'
    parts = [f"{stage} {progress.fraction:.0%}".replace("%", " %")]
    if progress.detail:
        parts.append(progress.detail)
    if progress.speed is not None:
        parts.append(f"{progress.speed:.1f}× realtime")
    if progress.seconds_left is not None:
        parts.append(f"{time_left(progress.seconds_left)} left")
    return f'{_bar(progress.fraction, stage)}<span class="card-meta">{" · ".join(parts)}</span>'


def _bar(share: float | None, label: str) -> str:
    if share is None:
        return f'<span class="meter unknown" role="progressbar" aria-label="{label}"><i></i></span>'
    value = round(100 * share)
    return (
        f'<span class="meter" role="progressbar" aria-label="{label}" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{value}"><i style="width:{value}%"></i></span>'
    )


def time_left(seconds: float) -> str:
    """Seconds as a person says them: ``40 s``, ``2 min``, ``1 h 5 min``."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
