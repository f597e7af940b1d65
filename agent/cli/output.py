"""What the command line prints: tables and answers for people, JSON for programs."""

from __future__ import annotations

import json
import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from agent.cli import streams
from index.language_names import LANGUAGE_NAMES, name_languages
from index.notes import coverage_percent, describe_all, notes_json
from index.recording_errors import MossAgentError
from index.records import Hit, Recording
from moss_audio.timestamps import clock, clock_range, parse_clock

if TYPE_CHECKING:
    from agent.answer import Answer
    from agent.cli.doctor import Check
    from agent.engines.released_models import Machine, Model
    from agent.workspace import SpeakerFacts
    from index.diarization.known_voices import KnownVoice, Likeness
    from index.pipeline.ingest import Progress as IngestProgress
    from index.store.library import Library

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


def parse_language(text: str) -> str:
    """The code of a language, in small letters.

    Raises:
        typer.BadParameter: No language has it.
    """
    code = text.strip().lower()
    if code not in LANGUAGE_NAMES:
        raise typer.BadParameter(f"“{text}” is not a language code; use ISO 639-1, such as en or de.")
    return code


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
def ingest_progress(quiet: bool) -> Iterator[Callable[[str], Callable[[IngestProgress], None]]]:
    """A progress bar on stderr for each file that is begun: stage, percent, × realtime, time left."""
    with _bar(quiet) as bar:

        def begin(name: str) -> Callable[[IngestProgress], None]:
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
        "coverage": recording.coverage,
        "gaps": [[gap.start, gap.end] for gap in recording.gaps],
        "segments": segments,
        "speakers": len(recording.speakers),
        "seconds_taken": round(recording.seconds_taken, 2),
        **notes_json(recording.problems),
    }


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
    spoken = document["language"] or "unknown"
    # A model for English alone writes English, whatever is spoken; Whisper's names of these end so.
    only = " (the recogniser understands English only)" if engine.endswith(".en") else ""
    return f"language {spoken}{only}"


def listed_json(recording: Recording) -> dict[str, Any]:
    """A recording as `list --json` prints it."""
    return {
        "id": recording.id,
        "title": recording.title,
        "duration": round(recording.duration, 3),
        "status": recording.status,
        "coverage": recording.coverage,
        "added_at": recording.added_at,
        **notes_json(recording.problems),
    }


def show_list(recordings: Sequence[Recording]) -> None:
    """The library as a table."""
    if not recordings:
        say("There are no recordings yet; add one with `moss-agent add FILE`.")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("id", "title", "length", "status", "coverage", "added"):
        table.add_column(column, no_wrap=column != "title")
    for recording in recordings:
        cells = (
            recording.id[:12],
            recording.title,
            clock(recording.duration),
            recording.status,
            coverage_percent(recording) or ("see below" if recording.problems else "–"),
            recording.added_at,
        )
        table.add_row(*(Text(_plain(cell)) for cell in cells))
    with streams.writing():
        _console.print(table)
    for recording in recordings:
        if recording.problems:
            say(f"{recording.id[:12]}: {describe_all(recording.problems)}")


def hit_json(hit: Hit) -> dict[str, Any]:
    """A hit as `search --json` prints it; times in seconds."""
    return {
        "recording": hit.recording,
        "start": hit.start,
        "end": hit.end,
        "text": hit.text,
        "score": round(hit.score, 6),
    }


def show_hits(hits: Sequence[Hit], library: Library) -> None:
    """Search results, best first."""
    if not hits:
        say("Nothing was found.")
    for hit in hits:
        title = library.recording(hit.recording).title
        say(f"{title} [{clock(hit.start)}–{clock(hit.end)}]\n  {hit.text}\n")


def show_answer(answer: Answer, library: Library) -> None:
    """An answer, and what its citations rest on."""
    say(answer.text)
    titles = {cited.recording: library.recording(cited.recording).title for cited in answer.citations}
    if len(titles) > 1:
        say("")
        for citation in answer.citations:
            say(f"  [{clock(citation.start)}] {titles[citation.recording]}")


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
