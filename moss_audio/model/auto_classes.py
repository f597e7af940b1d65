"""transformers' Auto classes know MOSS-Audio after ``import moss_audio`` alone.

Registering a class needs the class, and importing that loads torch and transformers: seconds, for programs
that may never use them. So what is made known here are names, in the tables in which transformers keeps the
names of its own models: it looks such a name up in the module ``transformers.models.<model type>`` when it is
asked for, and there it finds the package ``moss_audio``, which imports its classes when they are asked for.

The tables are filled right after transformers' module with them has been imported, whenever that is. In the
modules that define them the classes are registered too, in transformers' documented way, so that they are
known once they are imported, wherever a later version keeps its tables.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

MODEL_TYPE = "moss_audio"
"""As in ``config.json``."""

_AUTO = "transformers.models.auto"

TABLES = {
    f"{_AUTO}.configuration_auto": {"CONFIG_MAPPING_NAMES": "MossAudioConfig"},
    f"{_AUTO}.modeling_auto": {
        "MODEL_MAPPING_NAMES": "MossAudioModel",
        "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES": "MossAudioModel",
        "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES": "MossAudioModel",
    },
    f"{_AUTO}.processing_auto": {"PROCESSOR_MAPPING_NAMES": "MossAudioProcessor"},
}
"""transformers' modules, the tables in them, and the name of ours that belongs there."""


def register_with_auto_classes() -> None:
    """Make the names known, now or as soon as transformers' Auto classes are imported."""
    # Under the name under which transformers looks for the module of a model type.
    sys.modules[f"transformers.models.{MODEL_TYPE}"] = sys.modules["moss_audio"]
    if not any(isinstance(finder, _AutoModuleFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AutoModuleFinder())
    for name in TABLES:
        if name in sys.modules:
            _fill(sys.modules[name])


class _AutoModuleFinder(MetaPathFinder):
    """Finds the modules with the tables as Python does, and has the tables filled after their import."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The usual specification of one of these modules; None for every other module."""
        if fullname not in TABLES:
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
    for table, name in TABLES[module.__name__].items():
        if (names := getattr(module, table, None)) is not None:
            names[MODEL_TYPE] = name
    # Mappings that were built before the configuration's name was known have to learn it.
    for mapping in vars(module).values():
        known = getattr(mapping, "_reverse_config_mapping", None)
        if isinstance(known, dict):
            known["MossAudioConfig"] = MODEL_TYPE
