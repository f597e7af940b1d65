"""transformers' Auto classes learn of MOSS-Audio by ``import moss_audio`` alone.

The classes are registered by the modules that define them. Importing these at ``import moss_audio`` would
load torch and transformers, which takes seconds, for programs that never use them. So they are imported right
after the module of transformers that defines the Auto class: nobody can use an Auto class before that.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

REGISTERED_BY = {
    "transformers.models.auto.configuration_auto": "moss_audio.model.config",
    "transformers.models.auto.modeling_auto": "moss_audio.model.modeling",
    "transformers.models.auto.processing_auto": "moss_audio.model.processor",
}
"""transformers' modules with Auto classes, and the module here whose import registers something with each."""


def register_with_auto_classes() -> None:
    """Register configuration, model and processor as soon as transformers' Auto classes are imported."""
    if not any(isinstance(finder, _AutoModuleFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AutoModuleFinder())
    for auto_module in REGISTERED_BY:
        if auto_module in sys.modules:
            _register(auto_module)


class _AutoModuleFinder(MetaPathFinder):
    """Finds the modules with Auto classes as Python does, and registers after their import."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's usual specification; None for every other module."""
        if fullname not in REGISTERED_BY:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            _register(fullname)

        spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


def _register(auto_module: str) -> None:
    module = REGISTERED_BY[auto_module]
    # A module that is being imported registers at its end. Where ours cannot be imported (there is no torch),
    # that is for its own users to learn, not for those of any other model.
    if module not in sys.modules:
        with suppress(ImportError):
            import_module(module)
