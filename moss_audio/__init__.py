"""MOSS-Audio: the audio-understanding model, usable alone.

    from moss_audio import MossAudio

    model = MossAudio.from_pretrained("OpenMOSS-Team/MOSS-Audio-4B-Instruct")

Names are imported when they are first used: torch and transformers take seconds to load, and most of the
program never needs them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from moss_audio.listener import Listener

if TYPE_CHECKING:
    from moss_audio.config import MossAudioConfig
    from moss_audio.model import MossAudioModel
    from moss_audio.model import MossAudioModel as MossAudio
    from moss_audio.processor import MossAudioProcessor

_HOMES = {
    "MossAudio": ("moss_audio.model", "MossAudioModel"),
    "MossAudioModel": ("moss_audio.model", "MossAudioModel"),
    "MossAudioConfig": ("moss_audio.config", "MossAudioConfig"),
    "MossAudioProcessor": ("moss_audio.processor", "MossAudioProcessor"),
}

__all__ = ["Listener", "MossAudio", "MossAudioConfig", "MossAudioModel", "MossAudioProcessor"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)
