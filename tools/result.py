"""What tools hand back: evidence with ids, as JSON, so that every chat model cites the same way.

How a wish to stop reaches what works on a question: an event in the run's configuration.

What the tools work with.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

from pydantic import BeforeValidator, Field, ValidationError

from index.recording_errors import MossAgentError
from index.records import Recording, Segment
from index.store.library import Library
from moss_audio.listener import Listener
from moss_audio.timestamps import clock, parse_clock

if TYPE_CHECKING:
    from index.search.searching import Search

CANCEL = "cancel"
"""Where the event lies in a run's ``configurable``."""


def cancel_of(config: Mapping[str, Any] | None) -> threading.Event | None:
    """The event that stops a run; None where nobody can stop it."""
    event = ((config or {}).get("configurable") or {}).get(CANCEL)
    return event if isinstance(event, threading.Event) else None


@dataclass(frozen=True)
class Toolbox:
    """The stores and the ear behind the tools.

    Attributes:
        library: Recordings and segments.
        search: Keyword and vector search over them.
        listener: Something that can listen to audio again; None where nothing can.
    """

    library: Library
    search: Search
    listener: Listener | None = None


MOST_EVIDENCE = 60
"""Segments one tool result carries at most; about ten minutes of talk, and what a reader can take in."""

P = ParamSpec("P")


def evidence(segment: Segment, **more: Any) -> dict[str, Any]:
    """One segment as citable evidence; ``more`` adds keys such as ``relevance``."""
    return {
        "id": segment.id,
        "recording": segment.recording,
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "speaker": segment.speaker,
        "kind": segment.kind,
        "text": segment.text,
        **more,
    }


def about(recording: Recording) -> dict[str, Any]:
    """Which recording a result belongs to."""
    return {"id": recording.id, "title": recording.title, "duration": round(recording.duration, 3)}


def unfinished(recording: Recording) -> str | None:
    """One sentence when the transcript is not whole, else None."""
    if recording.status == "listening":
        return f"“{recording.title}” is still being transcribed; this is what there is so far."
    if recording.status in ("failed", "cancelled"):
        return (
            f"The transcription of “{recording.title}” was not finished ({recording.status}); "
            "add the file again to go on where it stopped."
        )
    return None


def joined(notes: Iterable[str | None]) -> dict[str, str]:
    """``{"note": …}`` of the notes that are there, or nothing."""
    there = [note for note in notes if note]
    return {"note": " ".join(there)} if there else {}


def as_json(run: Callable[P, dict[str, Any]]) -> Callable[P, str]:
    """Turn a tool's result into JSON text, and an error meant for users into ``{"error": sentence}``."""

    @wraps(run)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> str:
        try:
            result = run(*args, **kwargs)
        except MossAgentError as error:
            result = {"error": str(error)}
        return json.dumps(result, ensure_ascii=False, separators=(",", ":"), allow_nan=False)

    return wrapped


def invalid_arguments(error: Any) -> str:
    """The tool message for arguments that do not fit the schema."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "arguments"
        problem = f"{where}: {first['msg']}"
    else:
        problem = str(error)
    return json.dumps({"error": f"The arguments do not fit ({problem})."}, ensure_ascii=False)


def _seconds(value: Any) -> Any:
    """Accept ``"2:05"`` and ``"1:02:05"`` beside numbers; language models write times either way."""
    if not isinstance(value, str) or ":" not in value:
        return value
    return parse_clock(value)


Seconds = Annotated[float, BeforeValidator(_seconds), Field(ge=0, allow_inf_nan=False)]
"""A time on the recording's clock: seconds, or ``m:ss`` text."""


def span_text(start: float, end: float) -> str:
    """``from 2:00 to 3:00``."""
    return f"from {clock(start)} to {clock(end)}"
