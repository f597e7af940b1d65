"""Read a stretch of one recording's transcript, exactly."""

from __future__ import annotations

from langchain_core.tools import BaseTool
from pydantic import BaseModel, Field

from index.recording_errors import InvalidInput
from index.records import Recording, Segment, Span
from index.speaker_names import find_voices
from index.text import folded_name
from moss_audio.timestamps import clock
from tools.result import (
    MOST_EVIDENCE,
    RecordingInfo,
    Transcript,
    evidence,
    notes,
    span_text,
    unfinished,
)
from tools.toolbox import OWN, Seconds, Toolbox, make_tool

DESCRIPTION = "Read what was said from start to end, in seconds."


class ReadTranscript(BaseModel):
    """Arguments of ``read_transcript``."""

    recording: str
    start: Seconds
    end: Seconds
    speaker: str | None = Field(default=None, json_schema_extra=OWN)


def read_transcript(
    toolbox: Toolbox, recording: str, start: float, end: float, speaker: str | None = None
) -> Transcript:
    """Segments overlapping ``[start, end)`` seconds, as evidence.

    Raises:
        MossAgentError: No such recording or speaker, or the stretch is empty.
    """
    found = toolbox.library.resolve(recording)
    if end <= start:
        raise InvalidInput("The end of the stretch must lie after its start.")
    if start >= found.duration:
        note = f"“{found.title}” is {clock(found.duration)} long; nothing lies at {clock(start)}."
        return Transcript(recording=RecordingInfo.of(found), range=(start, end), total=0, notes=(note,))
    end = min(end, found.duration)
    segments = toolbox.library.segments(found.id, start, end)
    if speaker is not None:
        name = known_speaker(found, speaker)
        segments = [segment for segment in segments if segment.speaker == name]
    return Transcript(
        recording=RecordingInfo.of(found),
        range=(round(start, 3), round(end, 3)),
        evidence=evidence(segments),
        total=len(segments),
        notes=notes(unfinished(found), _gaps(found, start, end), _cut(segments)),
    )


def known_speaker(recording: Recording, name: str) -> str:
    """The speaker's name as the recording has it; a part that is theirs alone will do, in any case.

    Raises:
        MossAgentError: Nobody in the recording has this name.
    """
    for known in recording.speakers:
        if folded_name(known) == folded_name(name):
            return known
    partly = {voice for start, end, voice in find_voices(name, recording.speakers) if name[start:end] == name}
    if len(partly) == 1:
        return partly.pop()
    there = ", ".join(recording.speakers) or "none"
    raise InvalidInput(f"There is no speaker “{name}” in “{recording.title}”; it has: {there}.")


def _gaps(recording: Recording, start: float, end: float) -> str | None:
    gaps = [gap for gap in recording.gaps if gap.overlaps(Span(start, end))]
    if not gaps:
        return None
    where = ", ".join(span_text(gap.start, gap.end) for gap in gaps[:5])
    return f"Speech {where} could be heard but not transcribed."


def _cut(segments: list[Segment]) -> str | None:
    if len(segments) <= MOST_EVIDENCE:
        return None
    last = segments[MOST_EVIDENCE - 1]
    more = len(segments) - MOST_EVIDENCE
    return f"{more} more segments follow {clock(last.end)}; ask for a shorter stretch to read them."


def read_transcript_tool(toolbox: Toolbox) -> BaseTool:
    """The tool over one toolbox."""

    def run(recording: str, start: float, end: float, speaker: str | None = None) -> Transcript:
        return read_transcript(toolbox, recording, start, end, speaker)

    return make_tool("read_transcript", DESCRIPTION, ReadTranscript, run)
