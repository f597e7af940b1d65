"""What could not be done with a recording, in words: the one place that words notes and failures."""

from __future__ import annotations

from collections.abc import Iterable
from math import floor
from typing import Any

from index.records import Note, NoteKind, Recording
from moss_audio.timestamps import clock, clock_range


def describe(note: Note) -> str:
    """A note as one sentence or two for a user; ``detail`` in it is untrusted text."""
    numbers = note.numbers
    start = clock(note.spans[0].start) if note.spans else ""
    match note.kind:
        case NoteKind.CUT_SHORT:
            read, whole = note.spans[0].start, note.spans[-1].end
            tenths = int(clock(read) == clock(whole))
            return (
                f"{note.detail or 'The file'} is cut short: only {clock(read, tenths)} of "
                f"{clock(whole, tenths)} could be read."
            )
        case NoteKind.DAMAGED:
            return f"{note.detail or 'The file'} is damaged: {_damage(note)}."
        case NoteKind.PARTS_LEFT_OUT:
            parts = "another recording that" if numbers["parts"] == 1 else f"{numbers['parts']} more that"
            return f"{note.detail or 'The file'} also contains {parts} could not be read."
        case NoteKind.TRACKS_NOT_HEARD:
            return _tracks(note)
        case NoteKind.NO_SPEECH:
            return "No speech was found in this recording."
        case NoteKind.TIMES_MENDED:
            return _mended(note)
        case NoteKind.LINES_LEFT_OUT:
            lines = numbers["lines"]
            if lines == 1:
                return "The first line of the imported file has no time and was left out."
            return f"The first {lines} lines of the imported file have no time and were left out."
        case NoteKind.SEGMENTS_LEFT_OUT:
            segments = numbers["segments"]
            if segments == 1:
                return "In the imported file, 1 segment has no time and was left out."
            return f"In the imported file, {segments} segments have no time and were left out."
        case NoteKind.CLOCK_MOVED:
            return _clock(numbers["tenths"], numbers.get("millionths", 0))
        case NoteKind.WINDOWS_FAILED:
            failed, total = numbers["failed"], numbers["total"]
            return (
                f"The engine could not transcribe {failed} of {total} sections{_reason(note)}. "
                "Add the file again to retry them."
            )
        case NoteKind.NOT_HEARD_AGAIN:
            return f"Some speech is missing, and the attempt to transcribe it again failed{_reason(note)}."
        case NoteKind.SPEAKERS_BY_VOICE_ONLY:
            return f"In some sections, speakers were identified by voice only{_reason(note)}."
        case NoteKind.NOT_DIARIZED:
            return f"The speakers could not be identified: {_sentence(note)}"
        case NoteKind.SOUNDS_FAILED:
            return (
                f"Some sections were not checked for sounds{_reason(note)}. Add the file again to continue."
            )
        case NoteKind.ENGINE_STOPPED:
            return (
                f"The engine stopped answering at {start}: {_sentence(note)} "
                "What was transcribed so far is kept; add the file again to continue from there."
            )
        case NoteKind.UNEXPECTED:
            return f"It failed unexpectedly: {_sentence(note)}"
        case NoteKind.FAILED | NoteKind.OTHER:
            return note.detail


def describe_all(notes: Iterable[Note]) -> str:
    """Notes in a row, in the order given; empty where there are none."""
    return " ".join(describe(note) for note in notes)


def notes_json(notes: Iterable[Note]) -> dict[str, Any]:
    """Notes for a program: ``notes``, a sentence each, and ``note_spans``, the ``[start, end]`` of each."""
    notes = tuple(notes)
    return {
        "notes": [describe(note) for note in notes],
        "note_spans": [[[span.start, span.end] for span in note.spans] for note in notes],
    }


def percent(share: float) -> str:
    """A share as whole percent, cut and not rounded: 100 % only when nothing is missing."""
    return f"{floor(100 * min(share, 1.0))} %"


def told_coverage(coverage: float | None, notes: Iterable[Note]) -> float | None:
    """The share of speech that is transcribed; None where it is unknown or would look as if all were well.

    What is missing of the speech lowers the coverage. A note about something else, as that speakers could not
    be identified, does not, but all of the speech beside it would be read as "all is well", by people and by
    programs that look at no notes.
    """
    return None if coverage is None or (coverage >= 1.0 and any(notes)) else coverage


def coverage_percent(recording: Recording) -> str | None:
    """``told_coverage`` of a recording in percent."""
    share = told_coverage(recording.coverage, recording.problems)
    return None if share is None else percent(share)


def _tracks(note: Note) -> str:
    """Which audio tracks of a file were not heard, and why that matters."""
    numbers, file = note.numbers, note.detail or "the file"
    others = sorted(number for name, number in numbers.items() if name.partition("_")[0] == "other")
    if len(others) < numbers["others"]:
        # An older version named the first only.
        unheard, verb = f"{numbers['others']} others", "have"
    elif len(others) == 1:
        unheard, verb = f"track {others[0]}", "has"
    else:
        unheard, verb = f"tracks {', '.join(map(str, others[:-1]))} and {others[-1]}", "have"
    if "chosen" in numbers:
        was = "was" if verb == "has" else "were"
        return (
            f"Only audio track {numbers['heard']} of {file} was transcribed, as chosen; {unheard} {was} not."
        )
    if "heard_too" in numbers:
        was = "was" if verb == "has" else "were"
        return f"Audio {unheard} of {file} {was} not transcribed, but {verb} a different sound."
    return (
        f"Only audio track {numbers['heard']} of {file} was transcribed; {unheard} {verb} a different sound."
    )


def _was(count: int) -> str:
    return "was" if count == 1 else "were"


def _clock(tenths: int, millionths: int) -> str:
    way, pace = ("later" if tenths > 0 else "earlier"), ("slow" if millionths > 0 else "fast")
    moved = f"was moved {abs(tenths) / 10:.1f} s {way}" if tenths else ""
    drifted = f"its clock, which ran {abs(millionths) / 10_000:.2f} % too {pace}, was corrected"
    if millionths:
        moved = f"{moved}, and {drifted}" if moved else f"was fitted: {drifted}"
    return f"The imported transcript {moved or 'was moved'} to fit the media file."


def _mended(note: Note) -> str:
    """What was wrong with the times of an imported transcript."""
    said = []
    for kind, wrong in (
        ("backwards", "ran backwards and {was} put in order"),
        ("ends", "ended before {it} began, and {its} end was estimated"),
        ("overlapping", "{overlap} the one before and {was} kept as {it} {is}"),
    ):
        if count := note.numbers.get(kind, 0):
            one = count == 1
            words = {
                "was": _was(count),
                "is": "is" if one else "are",
                "it": "it" if one else "they",
                "its": "its" if one else "their",
                "overlap": "overlaps" if one else "overlap",
            }
            said.append(f"{count} {'line' if one else 'lines'} {wrong.format(**words)}")
    return f"In the imported transcript, {'; '.join(said)}."


def _damage(note: Note) -> str:
    """What of a file is unreadable, and how much sound that is."""
    packets = note.numbers.get("packets", 0)
    unread = [f"{packets} of its audio packets could not be read"] if packets else []
    seconds = sum(span.duration for span in note.spans)
    missing = f"{seconds:.1f} s" if seconds >= 0.1 else "less than 0.1 s"
    if len(note.spans) == 1:
        unread.append(f"{missing} of sound is missing at {clock(note.spans[0].start)}")
    elif note.spans:
        within = clock_range(note.spans[0].start, note.spans[-1].end)
        unread.append(f"{missing} of sound is missing in {len(note.spans)} places ({within})")
    return ", and ".join(unread)


def _reason(note: Note) -> str:
    """What the engine said, in parentheses."""
    return f" ({note.detail.rstrip('.')})" if note.detail else ""


def _sentence(note: Note) -> str:
    """What the engine said, with a full stop where it has none."""
    return note.detail if note.detail.endswith((".", "!", "?")) else f"{note.detail}."
