"""What every tool is made of: the stores behind it, arguments as models write them, a result with its text.

A wish to stop reaches a tool as an event in the run's configuration.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

from langchain_core.tools import BaseTool, StructuredTool, ToolException
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError
from pydantic_core import PydanticCustomError

from index.invalid_values import sentence_of
from index.recording_errors import MossAgentError
from index.store.library import Library
from moss_audio.backend import Listener
from moss_audio.timestamps import parse_clock
from tools.result import ToolResult, text_of

if TYPE_CHECKING:
    from index.diarization.known_voices import KnownVoices
    from index.search.searching import Search

CANCEL = "cancel"
"""Where the event lies in a run's ``configurable``."""


def cancel_of(config: Mapping[str, Any] | None) -> threading.Event | None:
    """The event that stops a run; None where nobody can stop it."""
    event = ((config or {}).get("configurable") or {}).get(CANCEL)
    return event if isinstance(event, threading.Event) else None


@dataclass(frozen=True)
class Toolbox:
    """The stores and the listener behind the tools.

    Attributes:
        library: Recordings and segments.
        search: Keyword and vector search over them.
        listener: Something that can listen to audio again; None where nothing can.
        voices: Who speakers may be; None where nobody is known by voice.
    """

    library: Library
    search: Search
    listener: Listener | None = None
    voices: KnownVoices | None = None

    def may_be(self, recording: str | None = None) -> dict[str, dict[str, str]]:
        """Who speakers may be by their voices, which nobody has confirmed: names by speaker, by recording."""
        found = self.voices.all_likenesses(recording) if self.voices is not None else {}
        return {
            each: unsure
            for each, likenesses in found.items()
            if (unsure := {one.speaker: one.voice for one in likenesses if not one.sure})
        }


P = ParamSpec("P")

OWN: Any = {"own": True}
"""``json_schema_extra`` of an argument that language models are not told about."""


class _Tool(StructuredTool):
    """A tool whose schema is short, since a model reads it with every question."""

    @property
    def tool_call_schema(self) -> dict[str, Any]:
        """The names and types of the arguments; what else the schema says is still checked.

        An argument marked ``OWN`` is used by the program only.
        """
        assert isinstance(self.args_schema, type) and issubclass(self.args_schema, BaseModel)
        brief = self.args_schema.model_json_schema()
        brief["properties"] = {
            name: {"type": next(kind["type"] for kind in field.get("anyOf", [field]))}
            for name, field in brief.get("properties", {}).items()
            if not field.get("own")
        }
        return brief


def make_tool(
    name: str, description: str, arguments: type[BaseModel], run: Callable[..., ToolResult]
) -> BaseTool:
    """A LangChain tool that returns ``content_and_artifact``: text for the model, the result for the program.

    An error that is meant for users (``MossAgentError``), and arguments that do not fit the schema, become a
    message with status ``error`` and one sentence as its content. Other errors are raised.

    Args:
        name: The tool's name, a key of ``tools.result.RESULTS``.
        description: What a model is told about it.
        arguments: The schema of its arguments.
        run: Called with the arguments by name; with a parameter ``config`` it is given the run's.
    """
    return _Tool.from_function(
        _with_text(run),
        name=name,
        description=description,
        args_schema=arguments,
        response_format="content_and_artifact",
        handle_tool_error=True,
        handle_validation_error=_invalid_arguments,
    )


def _with_text(run: Callable[P, ToolResult]) -> Callable[P, tuple[str, ToolResult]]:
    @wraps(run)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> tuple[str, ToolResult]:
        try:
            result = run(*args, **kwargs)
        except MossAgentError as error:
            raise ToolException(str(error)) from error
        return text_of(result), result

    return wrapped


def _invalid_arguments(error: Any) -> str:
    """The sentence for arguments that do not fit the schema."""
    if isinstance(error, ValidationError):
        return sentence_of(error.errors(include_url=False, include_input=False)[0], "What was sent")
    return f"The arguments do not fit ({error})."


def _clock_seconds(value: Any) -> Any:
    """Accept ``"2:05"`` and ``"1:02:05"`` beside numbers; language models write times either way."""
    if not isinstance(value, str):
        return value
    try:
        return parse_clock(value)
    except ValueError:
        raise PydanticCustomError("not_a_time", "must be a time: seconds, or m:ss, such as 2:05") from None


LATEST = 366.0 * 86_400
"""Seconds, a year: no recording is as long. Models write ``1e12`` for the end, and sentences repeat times."""

Seconds = Annotated[
    float,
    Field(ge=0, allow_inf_nan=False),
    BeforeValidator(_clock_seconds),
    AfterValidator(lambda seconds: min(seconds, LATEST)),
]
"""A time on the recording's clock: seconds, or ``m:ss`` text; one beyond ``LATEST`` is that."""
