"""What goes wrong with a request, as a status and the error document that OpenAI's clients read."""

from __future__ import annotations

import errno
import logging
from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

from index.recording_errors import MediaError, MossAgentError
from moss_audio.errors import (
    AudioError,
    MemoryUsedUp,
    MossAudioError,
    NotEnoughMemory,
    PromptError,
    QueueFull,
    ServerError,
)

log = logging.getLogger(__name__)

RETRY_SECONDS = 5
"""When to come back, where nothing better is known."""

_KINDS = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
}


class ApiError(Exception):
    """A refusal.

    Args:
        status: HTTP status.
        message: One sentence for whoever sent the request.
        code: A word for programs.
        param: The field that is meant.
        headers: Sent along.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.headers = dict(headers or {})

    def document(self) -> dict[str, Any]:
        """The body of the response."""
        kind = _KINDS.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """The response."""
        return JSONResponse(self.document(), self.status, self.headers)


def bad_request(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """Something that cannot be done for anyone: status 400."""
    return ApiError(400, message, code or "invalid_request", param)


def unusable(message: str, param: str | None = None) -> ApiError:
    """A field of the wrong type or out of its range: status 422."""
    return ApiError(422, message, "invalid_value", param)


def too_much(message: str, param: str | None = None) -> ApiError:
    """More than the server takes: status 413."""
    return ApiError(413, message, "too_large", param)


def queue_full(message: str, seconds: int = RETRY_SECONDS) -> ApiError:
    """Come back later: status 429."""
    return ApiError(429, message, "queue_full", headers={"Retry-After": str(seconds)})


def as_api_error(error: BaseException) -> ApiError:
    """What to answer to an error of the rooms below.

    Sentences about the request itself go out. Others may name folders and servers that are nobody's
    business; they go to the log.
    """
    match error:
        case ApiError():
            return error
        case QueueFull():
            return queue_full(str(error))
        case NotEnoughMemory():
            return bad_request(str(error), code="context_length_exceeded")
        case ServerError(trouble="too-long"):
            return bad_request(
                "The request is longer than the model's context.", code="context_length_exceeded"
            )
        case ServerError(trouble="deaf"):
            return bad_request("The model behind this server takes no audio; send text only.", "messages")
        case ServerError(trouble="busy"):
            return queue_full("The model behind this server is busy; try again later.")
        case AudioError() | MediaError():
            return ApiError(415, str(error), "unusable_audio")
        case PromptError():
            return bad_request(str(error))
        case OSError(errno=errno.ENOSPC):
            log.warning("the disk is full: %s", error)
            return ApiError(
                503, "The server's disk is full; try again later.", "unavailable",
                headers={"Retry-After": str(RETRY_SECONDS)},
            )  # fmt: skip
        case MemoryUsedUp():
            log.warning("a request failed: %s", error)
            return ApiError(
                503, "The server ran out of memory; try again later.", "out_of_memory",
                headers={"Retry-After": str(RETRY_SECONDS)},
            )  # fmt: skip
        case MossAudioError() | MossAgentError():
            log.warning("a request failed: %s", error)
            return ApiError(
                503, "The model cannot answer now; see the server's log.", "unavailable",
                headers={"Retry-After": str(RETRY_SECONDS)},
            )  # fmt: skip
    log.error("a request failed unexpectedly", exc_info=error)
    return ApiError(500, "Unexpected error; see the server's log.", "internal_error")
