"""Notes and failures as data: the sentences that were stored until now become kinds, times and numbers.

The regular expressions read what versions before this one wrote, and nothing that the program writes today. A
sentence that none of them knows is kept as it is.
"""

import re
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_BEFORE = sa.table(
    "recordings",
    sa.column("id", sa.String),
    sa.column("source_name", sa.String),
    sa.column("status", sa.String),
    sa.column("error", sa.String),
    sa.column("note", sa.String),
    sa.column("failure", sa.JSON(none_as_null=True)),
    sa.column("notes", sa.JSON),
)

_TIME = r"(?:\d+:)?\d+:\d\d"
_FIRST = (
    ("cut_short", rf"(?P<file>.*?) is cut short: (?P<start>{_TIME}) of (?P<end>{_TIME}) could be read\."),
    ("damaged", r"(?P<file>.*?) is damaged: (?P<packets>\d+) of its audio packets were unreadable\."),
)
"""What begins with the name of the file, and therefore can only be told at the very beginning."""

_LATER = (
    (
        "windows_failed",
        r"(?P<failed>\d+) of (?P<total>\d+) stretches could not be heard "
        r"\((?P<detail>.*?)\); add the file again to try them again\.",
    ),
    ("not_heard_again", r"What is missing could not be heard again \((?P<detail>.*?)\)\."),
    ("speakers_by_voice_only", r"Who speaks was told by the voices alone in places \((?P<detail>.*?)\)\."),
    (
        "sounds_failed",
        r"Sounds were not listened for everywhere \((?P<detail>.*?)\); add the file again to go on\.",
    ),
    ("not_diarized", r"The speakers were not told apart: (?P<detail>.+)"),
    ("no_speech", r"No speech was found in this recording\."),
)
_BEGINNING = re.compile(
    r"(?:^|(?<=\s))(?:\d+ of \d+ stretches could not be heard \(|What is missing could not be heard again \("
    r"|Who speaks was told by the voices alone in places \(|Sounds were not listened for everywhere \("
    r"|The speakers were not told apart: |No speech was found in this recording\.)"
)
_STAGES = {
    "cut_short": "reading",
    "damaged": "reading",
    "no_speech": "finding speech",
    "windows_failed": "transcribing",
    "not_heard_again": "transcribing",
    "speakers_by_voice_only": "identifying speakers",
    "not_diarized": "identifying speakers",
    "sounds_failed": "listening for sounds",
}
_STOPPED = re.compile(
    rf"The engine stopped answering at (?P<start>{_TIME}): (?P<detail>.*) "
    r"What was heard is kept; add the file again to go on from there\.",
    re.DOTALL,
)
_UNEXPECTED = "It failed: "


def upgrade() -> None:
    op.add_column("recordings", sa.Column("failure", sa.JSON))
    op.add_column("recordings", sa.Column("notes", sa.JSON, nullable=False, server_default="[]"))
    connection = op.get_bind()
    for row in connection.execute(sa.select(_BEFORE)).all():
        # The first version kept notes of recordings that are ready among the errors.
        failed = row.error and row.status != "ready"
        sentences = (row.note,) if failed else (row.error, row.note)
        notes = [note for text in sentences if text for note in notes_in(text, row.source_name)]
        values = {"notes": notes, "failure": failure_in(row.error) if failed else None}
        connection.execute(sa.update(_BEFORE).where(_BEFORE.c.id == row.id).values(**values))
    op.drop_column("recordings", "note")
    op.drop_column("recordings", "error")


def downgrade() -> None:
    op.add_column("recordings", sa.Column("error", sa.String))
    op.add_column("recordings", sa.Column("note", sa.String))
    connection = op.get_bind()
    for row in connection.execute(sa.select(_BEFORE)).all():
        values = {
            "note": " ".join(_sentence(note, row.source_name) for note in row.notes) or None,
            "error": _sentence(row.failure, row.source_name) if row.failure else None,
        }
        connection.execute(sa.update(_BEFORE).where(_BEFORE.c.id == row.id).values(**values))
    op.drop_column("recordings", "notes")
    op.drop_column("recordings", "failure")


def notes_in(text: str, file: str) -> list[dict[str, Any]]:
    """The notes that an old text holds, in order; what is not recognised is of the kind ``other``.

    A note about the file begins with its name, which is kept only where the recording has another one.
    """
    notes: list[dict[str, Any]] = []
    rest = text.strip()
    for kind, pattern in _FIRST:
        if found := re.match(pattern, rest, re.DOTALL):
            name = found["file"]
            notes.append(_note(kind, found) | ({"detail": name} if name != file else {}))
            rest = rest[found.end() :].strip()
            break
    edges = [found.start() for found in _BEGINNING.finditer(rest)]
    starts = [0, *(edge for edge in edges if edge > 0)]
    for start, end in zip(starts, [*starts[1:], len(rest)], strict=True):
        notes += _notes_in_part(rest[start:end].strip())
    return notes


def failure_in(text: str) -> dict[str, Any]:
    """The failure that an old text tells of."""
    if found := _STOPPED.fullmatch(text):
        return _note("engine_stopped", found)
    if text.startswith(_UNEXPECTED):
        return {"kind": "unexpected", "detail": text.removeprefix(_UNEXPECTED)}
    return {"kind": "failed", "detail": text}


def _notes_in_part(part: str) -> list[dict[str, Any]]:
    """A part holds one sentence that is recognised, at its start, or none; the engine's words may hold both
    parentheses and full stops, so the longest reading goes first."""
    for way in (re.fullmatch, re.match):
        for kind, pattern in _LATER:
            if found := way(pattern, part, re.DOTALL):
                rest = part[found.end() :].strip()
                return [_note(kind, found), *_other(rest)]
    return _other(part)


def _other(text: str) -> list[dict[str, Any]]:
    return [{"kind": "other", "detail": text}] if text else []


def _note(kind: str, found: re.Match[str]) -> dict[str, Any]:
    parts = found.groupdict()
    note: dict[str, Any] = {"kind": kind}
    if kind in _STAGES:
        note["stage"] = _STAGES[kind]
    if "start" in parts:
        note["spans"] = [[_seconds(parts["start"]), _seconds(parts.get("end") or parts["start"])]]
    if numbers := {name: int(parts[name]) for name in ("failed", "total", "packets") if name in parts}:
        note["numbers"] = numbers
    if detail := parts.get("detail"):
        note["detail"] = detail
    return note


def _seconds(time: str) -> float:
    seconds = 0
    for part in time.split(":"):
        seconds = 60 * seconds + int(part)
    return float(seconds)


def _time(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _sentence(note: dict[str, Any], file: str) -> str:
    """A note as the old version worded it, and would recognise it; newer kinds are sentences to it."""
    detail, numbers = note.get("detail", ""), note.get("numbers", {})
    start, end = (_time(time) for time in (note.get("spans") or [[0.0, 0.0]])[0])
    why, name = detail.rstrip("."), detail or file
    return {
        "cut_short": f"{name} is cut short: {start} of {end} could be read.",
        "damaged": f"{name} is damaged: {numbers.get('packets')} of its audio packets were unreadable.",
        "no_speech": "No speech was found in this recording.",
        "windows_failed": f"{numbers.get('failed')} of {numbers.get('total')} stretches could not be heard "
        f"({why}); add the file again to try them again.",
        "not_heard_again": f"What is missing could not be heard again ({why}).",
        "speakers_by_voice_only": f"Who speaks was told by the voices alone in places ({why}).",
        "not_diarized": f"The speakers were not told apart: {detail}",
        "sounds_failed": f"Sounds were not listened for everywhere ({why}); add the file again to go on.",
        "engine_stopped": f"The engine stopped answering at {start}: {detail} What was heard is kept; "
        "add the file again to go on from there.",
        "unexpected": f"{_UNEXPECTED}{detail}",
        "parts_left_out": f"{name} also holds {numbers.get('parts')} more that could not be read.",
        "tracks_not_heard": f"Of {name} only track {numbers.get('heard')} was heard; "
        f"{numbers.get('others')} more have another sound.",
    }.get(note["kind"], detail or f"{note['kind'].replace('_', ' ').capitalize()}.")
