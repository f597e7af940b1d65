"""What is asked, in the form that every server takes.

One user turn holds the audio, as a WAV data URL, before the text: vLLM, SGLang and this program's server all
take ``audio_url`` so; SGLang takes nothing else, and rebuilds the prompt of an audio request from that turn.
"""

from __future__ import annotations

import base64
import io
import json
import re
import wave
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from moss_audio.errors import AudioError, PromptError
from moss_audio.generation.requests import Request
from moss_audio.model.chat_template import (
    AFTER_AUDIO,
    ANSWER_OPEN,
    NO_THOUGHT,
    SPAN,
    SYSTEM_TURN,
    USER_OPEN,
    Prompt,
    clean_messages,
    defused_json,
)

if TYPE_CHECKING:
    from moss_audio.model.processor import Wave

AudioPart = Literal["audio_url", "input_audio"]

_CONTROL = re.compile(r"<\|(?=[\w.-]{1,40}\|>)")
"""How a control string begins; which of them a served model knows cannot be seen from here."""


def defuse(text: str) -> str:
    """Text in which no control string (``<|im_end|>``, an audio span) is left to steer the prompt."""
    return _CONTROL.sub("< |", text)


def question(request: Request, part: AudioPart = "audio_url") -> list[dict[str, Any]]:
    """Messages that ask one question, about recordings or about nothing.

    Raises:
        PromptError: The prompt has turns of its own.
        AudioError: A recording cannot be used, or is longer than the model takes.
    """
    text = defuse(_bare_question(request.prompt))
    heard = [_audio_part(audio, part) for audio in request.audios]
    content = [*heard, {"type": "text", "text": text}] if heard else text
    return [{"role": "user", "content": content}]


def conversation(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A conversation of text in OpenAI's form, with nothing in it that could steer the prompt.

    Thoughts are kept only behind the last question, the one place where Qwen3's template reads them.

    Raises:
        PromptError: A message cannot be used, or holds audio.
    """
    cleaned = clean_messages(messages, defuse)
    if any(SPAN in turn["content"] for turn in cleaned):
        raise PromptError("A conversation is text alone; ask about a recording in a request of its own.")
    last = max((at for at, turn in enumerate(cleaned) if turn["role"] == "user"), default=-1)
    waiting: list[str] = []
    names = _call_names()
    ready = []
    for at, (turn, given) in enumerate(zip(cleaned, messages, strict=True)):
        message = {"role": turn["role"], "content": turn["content"]}
        if turn.get("reasoning_content") and at > last:
            message["reasoning_content"] = turn["reasoning_content"]
        if turn.get("tool_calls"):
            message["tool_calls"] = _calls(turn["tool_calls"], given["tool_calls"], names)
            waiting = [call["id"] for call in message["tool_calls"]]
        if turn["role"] == "tool":
            said = given.get("tool_call_id")
            match = said if said in waiting else waiting[0] if waiting else said or next(names)
            waiting = [call for call in waiting if call != match]
            message["tool_call_id"] = str(match)
        ready.append(message)
    return ready


def definitions(tools: Sequence[Mapping[str, Any]] | None) -> list[Any] | None:
    """Definitions of tools, defused."""
    return defused_json(list(tools), defuse) if tools else None


def wav(audio: Wave) -> bytes:
    """A recording as a WAV file: mono, 16 kHz, 16 bits; what comes from 16 bits arrives without a loss.

    Raises:
        AudioError: It is none, or longer than the model takes.
    """
    # Here, because they load torch and FFmpeg, which a conversation of text does not need.
    from moss_audio.audio import MODEL_SECONDS
    from moss_audio.model.mel import SAMPLE_RATE, as_waveform

    samples = as_waveform(audio)
    seconds = len(samples) / SAMPLE_RATE
    if seconds > MODEL_SECONDS + 1:
        raise AudioError(
            f"The audio is {seconds / 60:.1f} minutes long; a served model is given at most"
            f" {MODEL_SECONDS / 60:.0f} minutes. Ask about a shorter stretch."
        )
    whole = (samples * 32768.0).round().clamp(-32768, 32767).cpu().numpy().astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(SAMPLE_RATE)
        out.writeframes(whole.tobytes())
    return file.getvalue()


def _audio_part(audio: Wave, part: AudioPart) -> dict[str, Any]:
    encoded = base64.b64encode(wav(audio)).decode("ascii")
    if part == "input_audio":
        return {"type": part, part: {"data": encoded, "format": "wav"}}
    return {"type": part, part: {"url": f"data:audio/wav;base64,{encoded}"}}


def _bare_question(prompt: str) -> str:
    """The question alone: servers write the turns around it themselves."""
    if not isinstance(prompt, Prompt):
        return prompt
    opening = SYSTEM_TURN + USER_OPEN
    text = str(prompt).removesuffix(NO_THOUGHT)
    bare = text.removeprefix(opening).removeprefix(SPAN + AFTER_AUDIO).removesuffix(ANSWER_OPEN)
    if not text.startswith(opening) or not text.endswith(ANSWER_OPEN) or "<|im_" in bare:
        raise PromptError("A server writes the turns of a prompt itself; give it the question alone.")
    return bare


def _calls(
    cleaned: Sequence[Mapping[str, Any]], given: Sequence[Mapping[str, Any]], names: Iterator[str]
) -> list[dict[str, Any]]:
    calls = []
    for message, original in zip(cleaned, given, strict=True):
        function = message["function"]
        name, arguments = function["name"], _json_object(function["arguments"])
        calls.append(
            {
                "id": str(original.get("id") or next(names)),
                "type": "function",
                "function": {"name": name, "arguments": arguments},
            }
        )
    return calls


def _json_object(arguments: Any) -> str:
    """Arguments as the JSON text that servers parse; broken text would have them refuse the conversation."""
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            arguments = {"text": arguments}
    return json.dumps(arguments if isinstance(arguments, dict) else {"value": arguments}, ensure_ascii=False)


def _call_names() -> Iterator[str]:
    number = 0
    while True:
        yield f"call_{number}"
        number += 1
