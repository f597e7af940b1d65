"""MOSS-Audio: the audio-understanding model, usable alone.

    from moss_audio import MossAudio, load_audio, reply

    model = MossAudio.from_pretrained("OpenMOSS-Team/MOSS-Audio-4B-Instruct")
    print(reply(model, "Describe this audio.", [load_audio("harbour.mp3")]).text)

After ``import moss_audio``, transformers' Auto classes know configuration, model and processor as well:

    from transformers import AutoModelForMultimodalLM, AutoProcessor

Names are imported when they are first used: torch and transformers take seconds to load, and most of the
program never needs them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from moss_audio.model.auto_classes import register_with_auto_classes

if TYPE_CHECKING:
    from moss_audio.audio import load_audio
    from moss_audio.backend import Listener
    from moss_audio.generation.generate import replies, reply, stream
    from moss_audio.generation.requests import Options, Reply, Request
    from moss_audio.model.config import MossAudioConfig
    from moss_audio.model.modeling import MossAudio, MossAudioModel
    from moss_audio.model.processor import MossAudioProcessor

_HOMES = {
    "Listener": "backend",
    "MossAudio": "model.modeling",
    "MossAudioConfig": "model.config",
    "MossAudioModel": "model.modeling",
    "MossAudioProcessor": "model.processor",
    "Options": "generation.requests",
    "Reply": "generation.requests",
    "Request": "generation.requests",
    "load_audio": "audio",
    "replies": "generation.generate",
    "reply": "generation.generate",
    "stream": "generation.generate",
}

__all__ = [
    "Listener",
    "MossAudio",
    "MossAudioConfig",
    "MossAudioModel",
    "MossAudioProcessor",
    "Options",
    "Reply",
    "Request",
    "load_audio",
    "replies",
    "reply",
    "stream",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


register_with_auto_classes()
