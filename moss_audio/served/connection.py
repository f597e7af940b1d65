"""The connection to a server: OpenAI's own client, on a thread with an event loop; and its failures in words.

The client brings retries with backoff and Retry-After, server-sent events however the network cuts them, and
connections that are kept; it is well kept, and its servers test against it. What it is not trusted with is
decided here: which headers leave, that no redirect is followed, how much an answer may hold. It is asked for
bare JSON, since a server may send anything, and it runs on an event loop, since there a request can be ended
at any moment, even while it connects or waits for the next try.

``Faults`` says what went wrong with a server in one sentence: where, what it said, and what to do.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import re
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from concurrent.futures import Future
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx2
import openai

from moss_audio.errors import MossAudioError, ServerError, ServerTrouble

_ENDS = ("/chat/completions", "/models")


@dataclass(frozen=True)
class Address:
    """A server's address.

    Attributes:
        base: What paths are appended to, e.g. ``http://gpu-box:8000/v1``.
        host: What people are shown, e.g. ``gpu-box:8000``.
        near: Whether it is this machine or one with a private address; no proxy stands before those.
    """

    base: str
    host: str
    near: bool

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read an address as people write it; one without a path gets ``/v1``.

        Raises:
            ServerError: It is none.
        """
        try:
            parts = urlsplit(url.strip())
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise ServerError(
                "The server's address cannot be read; write it as http://host:8000/v1.", "address"
            ) from error
        if parts.scheme not in ("http", "https") or not host:
            raise ServerError(
                "A server's address begins with http:// or https://, as in http://host:8000/v1.", "address"
            )
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ServerError(
                f"The address of {host} must hold only host and path; set the API key separately.",
                "address",
            )
        path = parts.path.rstrip("/")
        for end in _ENDS:
            path = path.removesuffix(end)
        shown = f"[{host}]" if ":" in host else host
        shown += f":{port}" if port else ""
        return cls(f"{parts.scheme}://{shown}{path or '/v1'}", shown, _is_near(host))


def _is_near(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.split("%")[0]).is_private
    except ValueError:
        return "." not in host


Result = TypeVar("Result")

CONNECT_SECONDS = 10.0
"""A machine that is there answers within this."""

MOST_BYTES = 64 * 2**20
"""The most bytes of one answer. A long one, with all that servers write around each token, takes a hundredth
of this."""

LINGER_SECONDS = 5.0
"""How long to wait for the count of tokens, once the answer itself has ended."""

_HEADERS = ("host", "connection", "accept", "content-type", "content-length", "transfer-encoding")


class Connection:
    """A server that requests are sent to.

    Args:
        address: Where it is.
        api_key: What it asks for, if it does.
        timeout: Seconds that it may say nothing.
        retries: Further tries where a failure may pass: 408, 409, 429, 5xx, connections that fail.
    """

    def __init__(self, address: Address, api_key: str | None, timeout: float, retries: int) -> None:
        self._host = address.host
        self._authorization = f"Bearer {api_key}" if api_key else None
        http = httpx2.AsyncClient(
            timeout=httpx2.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS), pool=None),
            limits=httpx2.Limits(max_connections=None),
            follow_redirects=False,
            # Certificates of one's own count everywhere; proxies only where one may stand in between.
            verify=httpx2.create_ssl_context(),
            trust_env=not address.near,
            event_hooks={"request": [self._only_ours], "response": [self._bounded]},
        )
        # A key must be given, or the client takes one from the environment that is meant for another server.
        self._client = openai.AsyncOpenAI(
            base_url=address.base, api_key=api_key or "none", max_retries=retries, http_client=http
        )
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def submit(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Run on the event loop; cancelling the future ends the request and its connection.

        Raises:
            ServerError: The connection was closed.
        """
        with self._lock:
            if self._closed:
                work.close()
                raise ServerError("The connection to the server was closed.", "closed")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="served-model", daemon=True
                )
                self._thread.start()
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def get(self, path: str) -> Any:
        """A JSON document; None where the answer is no JSON.

        Raises:
            openai.APIError: The request failed.
        """
        response = await self._client.get(path, cast_to=httpx2.Response)
        try:
            return response.json()
        except ValueError:
            return None

    @asynccontextmanager
    async def chat(self, body: dict[str, Any]) -> AsyncIterator[AsyncIterator[Any]]:
        """Send a request; inside, the server has taken it, and its documents can be read as they come.

        A server that streams nothing gives a single one. What fails before has been tried again.

        Raises:
            openai.APIError: The request failed, or its answer holds an error.
            httpx2.TransportError: The connection broke.
        """
        stream = await self._client.post(
            "/chat/completions", cast_to=object, body=body, stream=True, stream_cls=openai.AsyncStream[object]
        )
        async with aclosing(stream), aclosing(_documents(stream)) as documents:
            yield documents

    def close(self) -> None:
        """End every request and the thread; again does nothing."""
        with self._lock:
            already, self._closed = self._closed, True
            loop, thread = self._loop, self._thread
        if already or loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._shut(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        if thread is not threading.current_thread():
            thread.join()
            loop.close()

    async def _shut(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for other in others:
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.close()

    async def _only_ours(self, request: httpx2.Request) -> None:
        """Leave out what the client adds of its own accord or from the environment: about this machine,
        about accounts elsewhere. Compression would let a small answer become a huge one."""
        for name in [header for header in request.headers if header.lower() not in _HEADERS]:
            del request.headers[name]
        request.headers["accept-encoding"] = "identity"
        request.headers["user-agent"] = "moss-agent"
        if self._authorization:
            request.headers["authorization"] = self._authorization

    async def _bounded(self, response: httpx2.Response) -> None:
        if response.headers.get("content-encoding", "identity") != "identity":
            problem = "compressed its answer although it was asked not to"
            raise ServerError(f"The server at {self._host} {problem}.", "refused")
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Bounded(response.stream, self._host)


async def _documents(stream: openai.AsyncStream[object]) -> AsyncGenerator[Any, None]:
    if stream.response.headers.get("content-type", "").startswith("application/json"):
        yield json.loads(await stream.response.aread())
        return
    async for document in stream:
        yield document


class _Bounded(httpx2.AsyncByteStream):
    """A body that ends with an error when it grows beyond measure."""

    def __init__(self, stream: httpx2.AsyncByteStream, host: str) -> None:
        self._stream = stream
        self._host = host
        self._left = MOST_BYTES

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            self._left -= len(chunk)
            if self._left < 0:
                raise ServerError(
                    f"The server at {self._host} sent more than {MOST_BYTES:,} bytes.", "refused"
                )
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


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
