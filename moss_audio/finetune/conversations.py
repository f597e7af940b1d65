"""Conversations to learn from, one JSON object a line.

    {"conversation": [
        {"role": "user", "message_type": "audio", "content": "clips/one.wav"},
        {"role": "user", "message_type": "text", "content": "Transcribe the audio."},
        {"role": "assistant", "message_type": "text", "content": "Hello there."}]}

This is the format of the published training script. Of a conversation, the first recording, the user's
texts and the assistant's texts are used; texts are joined with newlines and stripped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moss_audio.errors import DataError


@dataclass(frozen=True)
class Conversation:
    """One recording, one question, one answer.

    Attributes:
        audio: A media file, or samples as the processor takes them.
        prompt: What the user writes; may be empty.
        answer: What is learned; empty means to learn to say nothing.
        name: Where it comes from, for error messages: file and line.
    """

    audio: Any
    prompt: str
    answer: str
    name: str = "the conversation"


def read_conversations(
    path: str | Path, prompt_default: str = "", on_error: Callable[[DataError], None] | None = None
) -> list[Conversation]:
    """All conversations of a file.

    Recordings are looked for beside the file, then in the working directory.

    Args:
        path: A JSONL file, UTF-8; empty lines are skipped.
        prompt_default: Prompt of a conversation whose user writes nothing.
        on_error: Told of each line that cannot be used, which is then left out; by default the first is
            raised.

    Raises:
        DataError: The file or a line of it cannot be used; names file and line.
    """
    path = Path(path)
    found: list[Conversation] = []
    for number, line in _lines(path):
        name = f"{path}, line {number}"
        try:
            found.append(_resolved(parse(_record(line, name), name, prompt_default), path.parent))
        except DataError as error:
            if on_error is None:
                raise
            on_error(error)
    if not found and on_error is None:
        raise DataError(f"{path} holds no conversation; write one JSON object a line.")
    return found


def parse(record: object, name: str = "the conversation", prompt_default: str = "") -> Conversation:
    """One conversation of its JSON object, or of its list of messages.

    Roles and kinds of messages that are not known (a system message, say) are left out, as in the published
    script.

    Raises:
        DataError: A message is malformed, there is no recording, or no answer.
    """
    messages = record.get("conversation") if isinstance(record, Mapping) else record
    if not isinstance(messages, Sequence) or isinstance(messages, str | bytes):
        raise DataError(f'{name}: there is no list of messages under "conversation".')
    audio: list[Any] = []
    texts: dict[str, list[str]] = {"user": [], "assistant": []}
    for place, message in enumerate(messages, start=1):
        role, kind, content = _message(message, f"{name}, message {place}")
        if kind == "audio" and role == "user":
            audio.append(content)
        elif kind == "text" and role in texts:
            texts[role].append(content)
    if not audio:
        raise DataError(f'{name}: the user gives no recording (a message of "message_type": "audio").')
    if not texts["assistant"]:
        raise DataError(f"{name}: the assistant says nothing, so there is nothing to learn.")
    prompt, answer = ("\n".join(texts[role]).strip() for role in ("user", "assistant"))
    return Conversation(audio[0], prompt or prompt_default.strip(), answer, name)


def _message(message: object, name: str) -> tuple[str, str, Any]:
    if not isinstance(message, Mapping):
        raise DataError(f"{name}: must be an object with role, message_type and content.")
    role, kind, content = (message.get(key) for key in ("role", "message_type", "content"))
    if not isinstance(role, str) or not isinstance(kind, str):
        raise DataError(f"{name}: role and message_type must be texts.")
    if content is None or (kind == "text" and not isinstance(content, str)):
        raise DataError(f"{name}: content must be {'a text' if kind == 'text' else 'given'}.")
    if kind == "audio" and (isinstance(content, int | float | Mapping) or content == ""):
        raise DataError(f"{name}: content must be the path of a recording.")
    return role, kind, content


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8-sig") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield number, line
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason}, byte {error.start}).") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def _record(line: str, name: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name}: not valid JSON: {error}.") from error


def _resolved(conversation: Conversation, folder: Path) -> Conversation:
    """The same, with the path of an existing recording."""
    given = conversation.audio
    if not isinstance(given, str):
        raise DataError(f"{conversation.name}: the recording must be a path.")
    for candidate in (folder / Path(given).expanduser(), Path(given).expanduser()):
        try:
            if candidate.is_file():
                return Conversation(candidate, conversation.prompt, conversation.answer, conversation.name)
        except (OSError, ValueError):  # too long a name, or a zero byte in it
            break
    raise DataError(f"{conversation.name}: there is no recording {given!r}, beside the file or here.")
