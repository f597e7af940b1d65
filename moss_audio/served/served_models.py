"""Which model a server serves, and how to tell whether it hears."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from moss_audio.errors import ServerError

PROBE_SECONDS = 4
"""Length of the silence with which hearing is tried."""

PROBE_TOKENS = 16
"""A prompt with that silence is longer by at least so many tokens, if the model hears: audio models write 6
to 25 of them a second, MOSS-Audio 12.5. Servers of models that do not hear may drop audio without a word."""


@dataclass(frozen=True)
class Served:
    """What a server serves.

    Attributes:
        model: The name that requests carry.
        software: Who serves: ``vllm``, ``sglang``, ``moss-agent``, or what else its list of models says.
        context: Tokens of the longest conversation, or None where the server does not say.
        others: Other models that it serves.
    """

    model: str
    software: str = ""
    context: int | None = None
    others: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What people are shown: of a folder on the server only the last part."""
        return PurePath(self.model.rstrip("/")).name or self.model


def choose(document: Any, wanted: str | None, host: str) -> Served:
    """Find a model in an answer of ``/v1/models``.

    Args:
        document: The answer.
        wanted: A name, or None where the server serves one model.
        host: How the server is named.

    Raises:
        ServerError: The model is not there, or none was named and it is not clear which is meant.
    """
    listed = document.get("data") if isinstance(document, dict) else None
    entries = listed if isinstance(listed, list) else ()
    found = [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)]
    names = tuple(entry["id"] for entry in found)
    if not names:
        raise ServerError(f"The server at {host} lists no model; is it still loading?", "unknown-model")
    chosen = _match(names, wanted) if wanted else _obvious(found)
    if chosen is None:
        few = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        problem = f"does not serve {wanted!r}" if wanted else "serves several models; name one of them"
        raise ServerError(f"The server at {host} {problem}: {few}.", "unknown-model")
    entry = found[names.index(chosen)]
    context, owner = entry.get("max_model_len"), entry.get("owned_by")
    if context is None and isinstance(entry.get("meta"), dict):
        context = entry["meta"].get("n_ctx")  # llama.cpp's
    return Served(
        chosen,
        owner if isinstance(owner, str) else "",
        context if isinstance(context, int) else None,
        tuple(name for name in names if name != chosen),
    )


def _obvious(found: list[dict[str, Any]]) -> str | None:
    """The only model; the only MOSS-Audio; the first of this program's server, whose next is a recogniser."""
    names = [entry["id"] for entry in found]
    likely = [name for name in names if "moss-audio" in name.lower()]
    ours = all(entry.get("owned_by") == "moss-agent" for entry in found)
    return names[0] if len(names) == 1 or ours else likely[0] if len(likely) == 1 else None


def _match(names: tuple[str, ...], wanted: str) -> str | None:
    """The name itself, or the only one that ends in it: servers name a model after its folder."""
    if wanted in names:
        return wanted
    last = [name for name in names if PurePath(name.rstrip("/")).name == PurePath(wanted.rstrip("/")).name]
    return last[0] if len(last) == 1 else None
