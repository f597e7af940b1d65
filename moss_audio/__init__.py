"""MOSS-Audio: the audio-understanding model, usable alone.

    from moss_audio import MossAudio, load_audio, reply

    model = MossAudio.from_pretrained("OpenMOSS-Team/MOSS-Audio-4B-Instruct")
    print(reply(model, "Describe this audio.", [load_audio("harbour.mp3")]).text)

After ``import moss_audio``, transformers' Auto classes know configuration, model and processor as well:

    from transformers import AutoModelForMultimodalLM, AutoProcessor

Names are imported when they are first used: torch and transformers take seconds to load, and most of the
program never needs them.

Registering a class with the Auto classes needs the class. So what is made known to them are names, in the
tables in which transformers keeps those of its own models: it looks such a name up in the module
``transformers.models.<model type>`` when it is asked for, and there it finds this package, which imports its
classes when they are asked for.

The tables are filled right after transformers' module with them has been imported, whenever that is. In the
modules that define them the classes are registered too, in transformers' documented way, so that they are
known once they are imported, wherever a later version keeps its tables.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any

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


_MODEL_TYPE = "moss_audio"
"""As in ``config.json``."""

_AUTO = "transformers.models.auto"

_TABLES = {
    f"{_AUTO}.configuration_auto": {"CONFIG_MAPPING_NAMES": "MossAudioConfig"},
    f"{_AUTO}.modeling_auto": {
        "MODEL_MAPPING_NAMES": "MossAudioModel",
        "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES": "MossAudioModel",
        "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES": "MossAudioModel",
    },
    f"{_AUTO}.processing_auto": {"PROCESSOR_MAPPING_NAMES": "MossAudioProcessor"},
}
"""transformers' modules, the tables in them, and the name of ours that belongs there."""


def _register_with_auto_classes() -> None:
    """Make the names known, now or as soon as transformers' Auto classes are imported."""
    # Under the name under which transformers looks for the module of a model type.
    sys.modules[f"transformers.models.{_MODEL_TYPE}"] = sys.modules["moss_audio"]
    if not any(isinstance(finder, _AutoModuleFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AutoModuleFinder())
    for name in _TABLES:
        if name in sys.modules:
            _fill(sys.modules[name])


class _AutoModuleFinder(MetaPathFinder):
    """Finds the modules with the tables as Python does, and has the tables filled after their import."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The usual specification of one of these modules; None for every other module."""
        if fullname not in _TABLES:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_fill(module: ModuleType) -> None:
            execute(module)
            _fill(module)

        spec.loader.exec_module = execute_and_fill  # type: ignore[method-assign]
        return spec


def _fill(module: ModuleType) -> None:
    for table, name in _TABLES[module.__name__].items():
        if (names := getattr(module, table, None)) is not None:
            names[_MODEL_TYPE] = name
    # Mappings that were built before the configuration's name was known have to learn it.
    for mapping in vars(module).values():
        known = getattr(mapping, "_reverse_config_mapping", None)
        if isinstance(known, dict):
            known["MossAudioConfig"] = _MODEL_TYPE


_register_with_auto_classes()
