"""How a wish to stop reaches what works on a question: an event in the run's configuration."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

CANCEL = "cancel"
"""Where the event lies in a run's ``configurable``."""


def cancel_of(config: Mapping[str, Any] | None) -> threading.Event | None:
    """The event that stops a run; None where nobody can stop it."""
    event = ((config or {}).get("configurable") or {}).get(CANCEL)
    return event if isinstance(event, threading.Event) else None
