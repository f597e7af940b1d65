"""What the command line prints: tables and answers for people, JSON for programs."""

from __future__ import annotations

import json
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from agent.cli import streams
from index.language_names import LANGUAGE_NAMES, language_name, name_languages
from index.notes import coverage_percent, describe_all, notes_json, told_coverage
from index.recording_errors import MossAgentError
from index.records import Comment, Hit, Recording
from moss_audio.timestamps import clock, clock_range, parse_clock

if TYPE_CHECKING:
    from agent.answer import Answer
    from agent.cli.doctor import Check
    from agent.engines.released_models import Machine, Model
    from agent.instructed_summary import InstructedSummary
    from agent.moving import Moved
    from agent.workspace import SpeakerFacts
    from index.cluster.desk import Machine as ClusterMachine
    from index.corrections.correcting import Changed, Correction
    from index.diarization.known_voices import KnownVoice, Likeness
    from index.export.vault import Synced
    from index.pipeline.ingest import Progress as IngestProgress
    from index.store.library import Library
    from index.timeline import TalkTime
    from tools.result import Outline

_errors = Console(stderr=True, highlight=False, markup=False)
_console = Console(highlight=False, markup=False)


def write_json(document: object) -> None:
    """One JSON document on stdout."""
    streams.write(json.dumps(document, ensure_ascii=False, indent=2) + "\n", json=True)


def write_text(text: str) -> None:
    """A text on stdout, as it is, with a line break at its end."""
    streams.write(text if text.endswith("\n") else f"{text}\n")


def say(line: str) -> None:
    """One line for a person, on stdout."""
    with streams.writing():
        _console.print(_plain(line), soft_wrap=True)


def complain(line: str) -> None:
    """One line on stderr: what went wrong and what to do."""
    streams.complain(f"moss-agent: {_plain(line)}")


def one_line(error: BaseException) -> str:
    """An error's text without line breaks."""
    return " ".join(str(error).split())[:300]


def parse_time(text: str) -> float:
    """Seconds of ``95``, ``95.5``, ``1:35`` or ``1:02:03``.

    Raises:
        typer.BadParameter: It is no time.
    """
    match = re.fullmatch(r"((?:(?:\d+:)?\d{1,2}:)?\d+(?:\.\d+)?)s?", text.strip())
    if not match:
        raise typer.BadParameter(
            f"“{text}” is not a time; write seconds (95), minutes (1:35) or hours (1:02:03)."
        )
    return parse_clock(match[1])


def parse_number(text: str) -> int:
    """The number of a sentence, written ``#48``.

    Raises:
        typer.BadParameter: It is none.
    """
    match = re.fullmatch(r"#(\d{1,18})", text.strip())
    if not match:
        raise typer.BadParameter(f"“{text}” is not the number of a sentence; write #48.")
    return int(match[1])


def parse_language(text: str) -> str:
    """The code of a language, in small letters.

    Raises:
        typer.BadParameter: No language has it.
    """
    code = text.strip().lower()
    if code not in LANGUAGE_NAMES:
        raise typer.BadParameter(f"“{text}” is not a language code; use ISO 639-1, such as en or de.")
    return code


def parse_folder(text: str) -> Path:
    """The folder of a name, which need not exist yet.

    Raises:
        typer.BadParameter: The name is empty, as that of a variable that is not set, or a file's.
    """
    if not text.strip():
        raise typer.BadParameter("The name is empty; name a folder, or leave the option out.")
    path = Path(text)
    if path.is_file():
        raise typer.BadParameter(f"“{text}” is a file; name a folder.")
    return path


def write_file(path: Path, data: bytes) -> None:
    """Write an export.

    Raises:
        MossAgentError: The file cannot be written.
    """
    try:
        path.write_bytes(data)
    except OSError as error:
        raise MossAgentError(f"{path} cannot be written ({error.strerror}); choose another place.") from error


@contextmanager
def ingest_progress(
    quiet: bool, keep: bool = True
) -> Iterator[Callable[[str], Callable[[IngestProgress], None]]]:
    """A progress bar on stderr for each file that is begun: stage, percent, × realtime, time left.

    Without ``keep``, the bar of a file goes when the next one is begun.
    """
    with _bar(quiet) as bar:

        def begin(name: str) -> Callable[[IngestProgress], None]:
            for shown in () if keep else bar.task_ids:
                bar.remove_task(shown)
            task = bar.add_task(_plain(name), total=1.0, detail="")

            def report(progress: IngestProgress) -> None:
                detail = ", ".join(part for part in (progress.stage, progress.detail) if part)
                if progress.speed is not None and progress.seconds_left is not None:
                    detail += f" · {progress.speed:.1f}× realtime · {clock(progress.seconds_left)} left"
                bar.update(task, completed=progress.fraction, detail=detail)

            return report

        yield begin


@contextmanager
def plain_progress(name: str, quiet: bool) -> Iterator[Callable[[float], None]]:
    """A progress bar on stderr over a fraction in [0, 1]."""
    with _bar(quiet) as bar:
        task = bar.add_task(name, total=1.0, detail="")
        yield lambda fraction: bar.update(task, completed=fraction)


@contextmanager
def staged_progress(quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar on stderr for each stage: how much of how much is done."""
    with _bar(quiet) as bar:
        tasks: dict[str, TaskID] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=1.0, detail="")
            bar.update(tasks[stage], completed=done / total if total else 1.0)

        yield report


def _bar(quiet: bool) -> Progress:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TaskProgressColumn(markup=False),
        TextColumn("{task.fields[detail]}", markup=False),
    )
    return Progress(*columns, console=_errors, disable=quiet or not _errors.is_terminal)


def added_json(recording: Recording, segments: int) -> dict[str, Any]:
    """A recording as `add --json` prints it; times in seconds."""
    return {
        "id": recording.id,
        "title": recording.title,
        "duration": round(recording.duration, 3),
        "language": recording.language,
        "languages": list(recording.languages),
        "status": recording.status,
        "coverage": told_coverage(recording.coverage, recording.problems),
        "gaps": [[gap.start, gap.end] for gap in recording.gaps],
        "segments": segments,
        "speakers": len(recording.speakers),
        "seconds_taken": round(recording.seconds_taken, 2),
        **_origin_json(recording),
        **notes_json(recording.problems),
    }


def _origin_json(recording: Recording) -> dict[str, Any]:
    """Format of the file that a transcript was imported from (null: it was heard), and whether it plays."""
    return {"imported": recording.imported, "has_media": recording.has_media}


def show_imported(recording: Recording, segments: int) -> None:
    """A transcript that was imported, for a person."""
    share = coverage_percent(recording)
    covered = f", {share} of detected speech accounted for" if share else ""
    media = f"with media{covered}" if recording.has_media else "without media, so nothing of it can be played"
    say(
        f"“{recording.title}” ({recording.id[:12]}): {clock(recording.duration)} long, "
        f"{_counted(segments, 'sentence')}, {_counted(len(recording.speakers), 'speaker')}, "
        f"imported from {recording.imported} {media}."
    )
    if not recording.has_media:
        say(f"  To add the media file: moss-agent attach {recording.id[:12]} FILE")
    for gap in recording.gaps:
        say(f"  not in the transcript: {clock_range(gap.start, gap.end)}")
    for sentence in notes_json(recording.problems)["notes"]:
        say(f"  {sentence}")


def show_added(recording: Recording, segments: int) -> None:
    """A recording that was added, for a person."""
    document = added_json(recording, segments)
    accounted = coverage_percent(recording)
    covered = f"{accounted} of detected speech accounted for, " if accounted else ""
    taken = max(document["seconds_taken"], 0.01)
    sentences, speakers = document["segments"], document["speakers"]
    say(
        f"“{document['title']}” ({document['id'][:12]}): {clock(document['duration'])} long, "
        f"{_counted(sentences, 'sentence')}, {_counted(speakers, 'speaker')} (estimated), "
        f"{_languages(document, recording.engine)}, "
        f"{covered}processed in {taken:.0f} s ({document['duration'] / taken:.1f}× realtime)."
    )
    for start, end in document["gaps"]:
        say(f"  not transcribed: {clock_range(start, end)}")
    for sentence in document["notes"]:
        say(f"  {sentence}")


def _languages(document: dict[str, Any], engine: str) -> str:
    if len(document["languages"]) > 1:
        return f"languages {name_languages(document['languages'])}"
    spoken = language_name(document["language"]) if document["language"] else "unknown"
    # A model for English alone writes English, whatever is spoken; Whisper's names of these end so.
    only = " (the recogniser understands English only)" if engine.endswith(".en") else ""
    return f"language {spoken}{only}"


def listed_json(recording: Recording, until: date | None = None) -> dict[str, Any]:
    """A recording as `list --json` prints it; ``until`` is the day on which it will be deleted, if any."""
    return {
        "id": recording.id,
        "title": recording.title,
        "duration": round(recording.duration, 3),
        "status": recording.status,
        "coverage": told_coverage(recording.coverage, recording.problems),
        "added_at": recording.added_at,
        **({"kept_until": until.isoformat()} if until else {}),
        **_origin_json(recording),
        **notes_json(recording.problems),
    }


def show_list(recordings: Sequence[Recording], until: Sequence[date | None] = ()) -> None:
    """The library as a table; ``until`` has the day on which each will be deleted, where any will."""
    if not recordings:
        say("There are no recordings yet; add one with `moss-agent add FILE`.")
        return
    table = Table(box=None, pad_edge=False)
    columns = ("id", "title", "length", "status", "coverage", "added")
    for column in (*columns, "kept until") if any(until) else columns:
        table.add_column(column, no_wrap=column != "title")
    for recording, day in zip_longest(recordings, until if any(until) else ()):
        cells = [
            recording.id[:12],
            recording.title,
            clock(recording.duration),
            recording.status,
            _covered(recording),
            recording.added_at,
            *([day.isoformat()] if day else []),
        ]
        table.add_row(*(Text(_plain(cell)) for cell in cells))
    with streams.writing():
        _console.print(table)
    for recording in recordings:
        if recording.problems:
            say(f"{recording.id[:12]}: {describe_all(recording.problems)}")


def _covered(recording: Recording) -> str:
    if not recording.has_media:
        return "no media"
    return coverage_percent(recording) or ("see below" if recording.problems else "–")


def synced_json(note: Synced) -> dict[str, Any]:
    """A note as `sync --json` prints it."""
    return {
        "recording": note.recording,
        "path": str(note.path),
        "action": note.action.value,
        "told": note.told,
        "aside": str(note.aside) if note.aside else None,
    }


def synced_counts(notes: Sequence[Synced]) -> str:
    """How many notes there are, and what was done with how many."""
    counts = Counter(note.action.value for note in notes)
    parts = ", ".join(f"{count} {action}" for action, count in counts.items())
    return (
        f"{_counted(len(notes), 'note')}: {parts}." if notes else "There are no recordings to write notes of."
    )


def show_synced(note: Synced) -> None:
    """A note with which something was done, for a person."""
    if note.action not in ("unchanged", "left"):
        say(f"{note.action.value:8} {note.path}")
    if note.told:
        say(f"         {note.told}")


def hit_json(hit: Hit) -> dict[str, Any]:
    """A hit as `search --json` prints it; times in seconds."""
    return {
        "recording": hit.recording,
        "start": hit.start,
        "end": hit.end,
        "text": hit.text,
        "score": round(hit.score, 6),
    }


def show_changed(changed: Changed) -> None:
    """The sentences that a correction changed, as they are now."""
    if changed.correction is None:
        say("Nothing had to be changed.")
    elif changed.correction.kind == "rename":
        (name,) = {segment.speaker for segment in changed.segments} or {None}
        say(f"The speaker is called {name} now.")
    else:
        for segment in changed.segments:
            say(f"{clock(segment.start)} {_named(segment.speaker, segment.text)}")


def show_history(corrections: Sequence[Correction]) -> None:
    """What was corrected: when, through which door, what, and what it was before."""
    if not corrections:
        say("Nothing was corrected.")
    for entry in corrections:
        when = entry.at[:16].replace("T", " ")
        place = "" if entry.start is None else f" at {clock(entry.start)}"
        undone = ", undone" if entry.undone_at else ""
        say(f"{when} UTC, {entry.by or 'unknown'}: {entry.kind.value}{place}{undone}")
        for sign, states in (("-", entry.before), ("+", entry.after)):
            for line in dict.fromkeys(
                _named(state.get("speaker"), state.get("text", "")) for state in states
            ):
                say(f"  {sign} {line}")


def _named(speaker: str | None, text: str) -> str:
    return ": ".join(part for part in (speaker, text) if part)


def show_hits(hits: Sequence[Hit], library: Library) -> None:
    """Search results, best first."""
    if not hits:
        say("Nothing was found.")
    for hit in hits:
        title = library.recording(hit.recording).title
        say(f"{title} [{clock(hit.start)}–{clock(hit.end)}]\n  {hit.text}\n")


def show_outline(found: Outline) -> None:
    """The topics of a recording, in order."""
    for topic in found.topics:
        say(f"[{clock(topic.start)}–{clock(topic.end)}] {topic.title}")
        for point in topic.points:
            say(f"  {point}")
    if found.note:
        say(found.note)


def show_answer(answer: Answer, library: Library) -> None:
    """An answer, and what its citations rest on."""
    say(answer.text)
    titles = {cited.recording: library.recording(cited.recording).title for cited in answer.citations}
    if len(titles) > 1:
        say("")
        for citation in answer.citations:
            say(f"  [{clock(citation.start)}] {titles[citation.recording]}")


def show_written(written: InstructedSummary, title: str) -> None:
    """A summary by instruction, for a person."""
    from index.export.markdown import to_markdown

    if written.note:
        say(f"{written.note}\n")
    if written.text:
        write_text(written.text)
        return
    for one in written.fitting:
        say(f"[{clock(one.start)}] {f'{one.speaker}: ' if one.speaker else ''}{one.text}")
    if written.fitting:
        say("")
    write_text(to_markdown(written.summary, title))


def show_talk_time(found: TalkTime) -> None:
    """How a recording's time is divided, as a table."""
    table = Table(box=None, pad_edge=False)
    for column in ("speaker", "time", "share", "turns", "words", "words a minute"):
        table.add_column(column)
    for voice in found.voices:
        table.add_row(
            Text(_plain(voice.name or "unknown")),
            clock(voice.seconds),
            f"{voice.share:.0%}",
            str(voice.turns),
            "" if voice.words is None else str(voice.words),
            "" if voice.words_per_minute is None else f"{voice.words_per_minute:.0f}",
        )
    with streams.writing():
        _console.print(table)
    say(f"{clock(found.speech)} of talk, {clock(found.silence)} without. Speakers are estimated.")


def comment_json(comment: Comment) -> dict[str, Any]:
    """A comment as JSON."""
    return {
        "id": comment.id,
        "at": comment.at,
        "text": comment.text,
        "created_at": comment.created_at,
        **({"by": comment.by} if comment.by else {}),
    }


def show_comments(found: Sequence[Comment]) -> None:
    """Comments, one below the other, each with its number."""
    if not found:
        say("There are no comments.")
    for comment in found:
        by = f"{comment.by}: " if comment.by else ""
        say(f"{comment.id}  [{clock(comment.at)}] {by}{comment.text}")


def moved_json(moved: Moved) -> dict[str, Any]:
    """What was copied, as the command line's JSON."""
    return asdict(moved) | {"same": True}


def show_checks(checks: Sequence[Check]) -> None:
    """The checks of `doctor`, one a line."""
    for check in checks:
        mark = "ok" if check.ok else "NO" if check.required else "–"
        say(f"{mark:2} {check.name}: {check.detail}")


@contextmanager
def download_progress(name: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr: bytes of how many, speed, time left."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=_errors, disable=quiet) as bar:
        task = bar.add_task(_plain(name), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def stoppable() -> Iterator[threading.Event]:
    """An event that the first Ctrl+C sets, so that work ends in order; the second one ends it at once."""
    cancel = threading.Event()

    def stop(number: int, frame: object) -> None:
        if cancel.is_set():
            raise KeyboardInterrupt
        cancel.set()

    if threading.current_thread() is not threading.main_thread():
        yield cancel
        return
    before = signal.signal(signal.SIGINT, stop)
    try:
        yield cancel
    finally:
        signal.signal(signal.SIGINT, before)


def show_models(models: Sequence[Model], machine: Machine) -> None:
    """The released checkpoints as a table, and what this machine has."""
    table = Table(box=None, pad_edge=False)
    for column in ("checkpoint", "download", "memory, GPU", "memory, CPU", "here"):
        table.add_column(column, no_wrap=True)
    for model in models:
        cells = (
            model.name.rpartition("/")[2],
            *map(_gb, (model.download_bytes, model.gpu_bytes, model.cpu_bytes)),
            _verdict(model),
        )
        table.add_row(*(Text(cell) for cell in cells))
    with streams.writing():
        _console.print(table)
    gpu = f"{machine.gpu} with {_gb(machine.gpu_bytes)}" if machine.gpu else "no GPU"
    say("")
    say(
        f"Free on this machine: {gpu}, {_gb(machine.cpu_bytes)} of memory, {_gb(machine.disk_bytes)} of disk "
        f"in {machine.cache}."
    )
    say(
        "`moss-agent models download NAME` downloads one; MOSS_AGENT_MODEL sets which is used "
        "(docs/engines.md)."
    )


def show_cluster(machines: Sequence[ClusterMachine], workers: Sequence[Mapping[str, Any]]) -> None:
    """The machines of a cluster, and what their workers do."""
    table = Table(box=None, pad_edge=False)
    for column in ("machine", "processors", "GPUs"):
        table.add_column(column, no_wrap=True)
    for machine in machines:
        table.add_row(machine.id[:12], f"{machine.cpus:g}", f"{machine.gpus:g}")
    with streams.writing():
        _console.print(table)
    say("")
    if not workers:
        say("No worker is up: they start with the first file, and end ten minutes after the last program.")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("worker", "machine", "in hand", "waiting", ""):
        table.add_column(column)
    for worker in workers:
        hand = f"{worker['in_hand']} of {worker['at_once']}" if worker["at_once"] else "starting"
        cells = (worker["pool"], worker["machine"][:12], hand, str(worker["waiting"]), worker["problem"])
        table.add_row(*(Text(cell) for cell in cells))
    with streams.writing():
        _console.print(table)


def _verdict(model: Model) -> str:
    if model.fits_gpu:
        fits = "fits the GPU"
    elif model.fits_cpu:
        fits = "fits, slowly" if model.fits_gpu is None else "too large for the GPU"
    else:
        fits = "does not fit"
    if model.folder is not None:
        return f"{fits}, present"
    if model.there_bytes:
        fits += f", {100 * model.there_bytes // model.download_bytes} % downloaded"
    return fits if model.fits_disk else f"{fits}, not enough disk space"


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _plain(text: str) -> str:
    """Without control characters: a transcript or title must not steer the terminal."""
    return "".join(char for char in text if char in "\n\t" or (char.isprintable() or char == "\u200d"))


# --- speakers and known voices ---------------------------------------------------------------------------


def speaker_json(speaker: SpeakerFacts) -> dict[str, Any]:
    """A speaker as `speakers --json` prints it; times in seconds."""
    snippet, likeness = speaker.snippet, speaker.likeness
    return {
        "name": speaker.name,
        "seconds": round(speaker.seconds, 3),
        "snippet": [round(snippet.start, 3), round(snippet.end, 3)] if snippet else None,
        "likeness": likeness_json(likeness) if likeness else None,
    }


def show_speakers(speakers: Sequence[SpeakerFacts]) -> None:
    """The speakers of a recording, for a person."""
    if not speakers:
        say("No speakers were identified in this recording.")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("speaker", "speaks", "hear it at", "by voice"):
        table.add_column(column)
    for speaker in speakers:
        snippet, likeness = speaker.snippet, speaker.likeness
        place = f"{clock(snippet.start)} to {clock(snippet.end)}" if snippet else ""
        like = "" if likeness is None else likeness.voice if likeness.sure else f"{likeness.voice}?"
        table.add_row(*(Text(_plain(text)) for text in (speaker.name, clock(speaker.seconds), place, like)))
    with streams.writing():
        _console.print(table)


def likeness_json(likeness: Likeness) -> dict[str, Any]:
    """Who a speaker was named as, or may be, as JSON."""
    return {
        "speaker": likeness.speaker,
        "voice": likeness.voice,
        "sure": likeness.sure,
        "score": likeness.score,
    }


def show_likenesses(likenesses: Sequence[Likeness]) -> None:
    """Which known voices are in a recording, for a person."""
    for likeness in likenesses:
        if likeness.sure:
            say(f"  {likeness.voice} was known again by voice.")
        else:
            say(
                f"  {likeness.speaker} may be {likeness.voice}: `moss-agent voices confirm ID "
                f'"{likeness.speaker}"` or `voices reject` says whether it is.'
            )
    if not likenesses:
        say("Nobody there is like a known voice.")


def voices_json(known: Sequence[KnownVoice], consent: bool | None) -> dict[str, Any]:
    """The known voices as `voices --json` prints them; ``remembered`` is null until the user was asked."""
    voices = [
        {"name": voice.name, "recordings": list(voice.recordings), "seconds": voice.seconds}
        for voice in known
    ]
    return {"remembered": consent, "voices": voices}


def show_voices(known: Sequence[KnownVoice], consent: bool | None) -> None:
    """The known voices, for a person."""
    for voice in known:
        say(f"{voice.name}: {_counted(len(voice.recordings), 'recording')}, {voice.seconds:.0f} s of speech")
    if not known:
        say("Nobody is known by voice.")
    if not consent:
        say("Voices are not remembered or compared; `moss-agent voices on` switches that on.")
