"""What goes wrong with a server, in one sentence: where, what it said, and what to do."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai

from moss_audio.errors import MossAudioError, ServerError, ServerTrouble

_DATA_URL = re.compile(r"data:[\w/.+-]{0,60};base64,\S*|[A-Za-z0-9+/]{80,}={0,2}")
_LONGEST = 300
"""Characters of a server's own words that are repeated."""

_DEAF = re.compile(
    "|".join(
        (
            r"at most 0 audio",  # vLLM
            r"not a multimodal model",  # vLLM
            r"audio input is not supported",  # llama.cpp
            r"unsupported content\[\]\.type",  # llama.cpp, older
            r"no endpoints found that support input audio",  # OpenRouter
            r"do(?:es)? not support (?:\w+ )?audio",
            r"(?:audio_url|input_audio).{0,80}(?:not supported|unsupported|invalid)",
            r"(?:unsupported|invalid|unknown|unexpected).{0,80}(?:audio_url|input_audio)",
            r"content.{0,40}(?:must be|should be|expected) (?:a )?(?:valid )?string",
            r"allowed values: \['text'\]",
        )
    ),
    re.IGNORECASE,
)
_KNOWN: tuple[tuple[str, ServerTrouble, str], ...] = (
    (
        r"pre-allocated encoder cache",
        "too-long",
        "vLLM has no room for so much audio at once: start it with `--max-num-batched-tokens 8192`, which is"
        " enough for ten minutes, or ask about a shorter stretch",
    ),
    (
        r"tool choice requires",
        "refused",
        "it was started without tools: add `--enable-auto-tool-choice --tool-call-parser hermes` in vLLM",
    ),
    (
        r"maximum (?:context|model) length|context length|context_length|context window|too many tokens",
        "too-long",
        "ask about a shorter stretch, or start the server with more context (`--max-model-len` in vLLM,"
        " `--context-length` in SGLang)",
    ),
    (r"vllm\[audio\]", "refused", "install `vllm[audio]` where the server runs"),
)


@dataclass(frozen=True)
class Faults:
    """Maps what libraries raise to errors for people.

    Attributes:
        host: How the server is named.
        base: Its address.
        secret: What must not be shown.
    """

    host: str
    base: str
    secret: str | None = None

    def error_for(self, error: BaseException, audio: bool = False) -> MossAudioError:
        """The error for people.

        Args:
            error: Whatever was raised.
            audio: Whether the request held a recording.
        """
        if isinstance(error, MossAudioError):
            return error
        if isinstance(error, openai.APIStatusError):
            return self._status(error, audio)
        if isinstance(error, openai.APITimeoutError | httpx2.TimeoutException):
            return self._timeout(error)
        if isinstance(error, openai.APIConnectionError | httpx2.TransportError):
            return self._connection(error)
        if isinstance(error, openai.APIError):  # an error document within a stream
            return self._refusal(error, 500, audio)
        if isinstance(error, ValueError | TypeError | KeyError):
            return self.broken("sent something that is not an answer")
        return self.broken(f"sent an answer that could not be read ({type(error).__name__})")

    def broken(self, what: str) -> ServerError:
        """The server answered, but not as it should."""
        return ServerError(f"The server at {self.host} {what}; try again, or look at its log.", "broken")

    def shown(self, text: str) -> str:
        """A server's words, short, on one line, without recordings and secrets."""
        if self.secret:
            text = text.replace(self.secret, "…")
        text = _DATA_URL.sub("…", text)
        text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
        return text if len(text) <= _LONGEST else text[:_LONGEST].rstrip() + "…"

    def _status(self, error: openai.APIStatusError, audio: bool) -> ServerError:
        status, words = error.status_code, said(error)
        if 300 <= status < 400:
            target = urlsplit(error.response.headers.get("location", "")).hostname or "another address"
            return ServerError(
                f"The server at {self.host} redirects to {self.shown(target)}. Nothing was sent there; set"
                " that address if it is the right one.",
                "address",
            )
        if status in (401, 403):
            given = "the API key was not accepted" if self.secret else "it asks for an API key"
            return ServerError(
                f"The server at {self.host} refused ({status}): {given}. Set the right key.", "unauthorised"
            )
        if status == 404 and not (audio and _DEAF.search(words)):
            return self._not_found(words)
        if status == 429:
            return ServerError(f"The server at {self.host} is overloaded (429); try again later.", "busy")
        if status == 413:
            return ServerError(
                f"The request was too large for the server at {self.host} (413): ask about a shorter stretch,"
                " or raise the limit of the proxy in front of it.",
                "too-long",
            )
        return self._refusal(error, status, audio)

    def _refusal(self, error: openai.APIError, status: int, audio: bool) -> ServerError:
        words = said(error)
        shown = self.shown(words) or "no reason given"
        if audio and _DEAF.search(words):
            return ServerError(
                f"The model at {self.host} does not accept audio ({shown});"
                " serve a MOSS-Audio checkpoint there.",
                "deaf",
            )
        for pattern, trouble, advice in _KNOWN:
            if re.search(pattern, f"{words} {error.code}", re.IGNORECASE):
                return ServerError(
                    f"The server at {self.host} refused: {shown}. What to do: {advice}.", trouble
                )
        if status >= 500:
            kind: ServerTrouble = "busy" if status == 503 else "failed"
            return ServerError(
                f"The server at {self.host} failed ({status}): {shown}. Look at its log.", kind
            )
        return ServerError(f"The server at {self.host} refused the request ({status}): {shown}.", "refused")

    def _not_found(self, words: str) -> ServerError:
        if re.search(r"\bmodel\b", words, re.IGNORECASE):
            return ServerError(f"The server at {self.host} says: {self.shown(words)}.", "unknown-model")
        return ServerError(
            f"There is no OpenAI-compatible API at {self.base} (404); the address usually ends in /v1.",
            "address",
        )

    def _timeout(self, error: BaseException) -> ServerError:
        if isinstance(_root(error), httpx2.ConnectTimeout):
            return ServerError(
                f"The server at {self.host} did not accept the connection in time; check the"
                " address, and that the machine is on.",
                "unreachable",
            )
        return ServerError(
            f"The server at {self.host} sent nothing for too long; it may be overloaded or stuck.",
            "slow",
        )

    def _connection(self, error: BaseException) -> ServerError:
        root = _root(error)
        if isinstance(root, httpx2.RemoteProtocolError | httpx2.ReadError | httpx2.WriteError):
            return self.broken("closed the connection in the middle of an answer")
        why = self.shown(str(root)) or type(root).__name__
        return ServerError(
            f"There is no server at {self.host} ({why}); start it, or correct the address.", "unreachable"
        )


def said(error: openai.APIError) -> str:
    """What a server said about an error, in any of the forms that are in use.

    vLLM and OpenAI nest it under ``error``, SGLang does not, FastAPI calls it ``detail``.
    """
    body: Any = error.body
    for name in ("error", "detail", "message"):
        if isinstance(body, dict) and name in body:
            body = body[name]
    if isinstance(body, dict | list):
        return json.dumps(body, ensure_ascii=False)
    if not isinstance(body, str):
        return "" if isinstance(error, openai.APIStatusError) else error.message
    meant = f" ({error.param})" if error.param and error.param not in body else ""
    return "" if "<html" in body[:1000].lower() else body + meant


def _root(error: BaseException) -> BaseException:
    """The error of the connection under the library's own."""
    while not isinstance(error, httpx2.TransportError) and error.__cause__ is not None:
        error = error.__cause__
    return error
