"""What the tools work with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from index.library import Library
from moss_audio.listener import Listener

if TYPE_CHECKING:
    from index.search import Search


@dataclass(frozen=True)
class Toolbox:
    """The stores and the ear behind the tools.

    Attributes:
        library: Recordings and segments.
        search: Keyword and vector search over them.
        listener: Something that can listen to audio again; None where nothing can.
    """

    library: Library
    search: Search
    listener: Listener | None = None
