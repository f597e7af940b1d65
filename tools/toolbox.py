"""What the tools work with, and how a wish to stop reaches them: an event in the run's configuration."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from index.store.library import Library
from moss_audio.backend import Listener

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
    """The stores and the listener behind the tools.

    Attributes:
        library: Recordings and segments.
        search: Keyword and vector search over them.
        listener: Something that can listen to audio again; None where nothing can.
    """

    library: Library
    search: Search
    listener: Listener | None = None
