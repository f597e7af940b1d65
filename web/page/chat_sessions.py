"""The conversations of this run of the server, so that a reloaded page finds its messages again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

from gradio import ChatMessage

KEPT = 200
"""Conversations whose messages are kept; older ones lose them, not the agent's memory of them."""


@dataclass
class Conversation:
    """Messages as the page shows them, and the recordings they quote."""

    messages: list[ChatMessage] = field(default_factory=list)
    recordings: set[str] = field(default_factory=set)


class Conversations:
    """Messages by thread; safe to use from several threads of the server."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Conversation] = OrderedDict()
        self._lock = threading.Lock()
        self._stops: dict[str, threading.Event] = {}
        self._left: set[str] = set()

    def messages(self, thread: str | None) -> list[ChatMessage]:
        """A copy of a conversation's messages; empty for one that is not known."""
        with self._lock:
            found = self._kept.get(thread or "")
            return list(found.messages) if found else []

    def keep(self, thread: str, messages: list[ChatMessage], recordings: set[str]) -> None:
        """Store the messages of a conversation, and add the recordings that it quotes by now."""
        with self._lock:
            found = self._kept.setdefault(thread, Conversation())
            found.messages = list(messages)
            found.recordings |= recordings
            self._kept.move_to_end(thread)
            while len(self._kept) > KEPT:
                gone, _ = self._kept.popitem(last=False)
                self._stops.pop(gone, None)

    def begin(self, thread: str) -> threading.Event:
        """An answer begins, which an earlier wish to stop does not concern; returns what will stop it."""
        with self._lock:
            self._left.discard(thread)
            self._stops[thread] = threading.Event()
            return self._stops[thread]

    def stop(self, thread: str | None) -> None:
        """The user wants no more of the answer that is being written."""
        with self._lock:
            self._stop(thread)

    def is_stopped(self, thread: str) -> bool:
        """Whether the user stopped the answer since it began."""
        with self._lock:
            return thread in self._stops and self._stops[thread].is_set()

    def leave(self, thread: str | None) -> None:
        """The user went on to another conversation; what is still being written is not drawn any more."""
        with self._lock:
            if self._stop(thread):
                self._left.add(str(thread))

    def _stop(self, thread: str | None) -> bool:
        """Stop what is being written in a conversation that is known."""
        if thread is None or thread not in self._kept:
            return False
        self._stops.setdefault(thread, threading.Event()).set()
        return True

    def is_left(self, thread: str) -> bool:
        """Whether the user went on to another conversation since the answer began."""
        with self._lock:
            return thread in self._left

    def forget_recording(self, recording: str) -> None:
        """Drop every conversation that quotes a recording."""
        with self._lock:
            for thread in [name for name, one in self._kept.items() if recording in one.recordings]:
                del self._kept[thread]
