"""What ``import moss_audio`` does: it is quick, tells transformers of the model, and needs few packages."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support.tiny_moss import random_checkpoint

ROOT = Path(__file__).parents[2]
AUTO = "AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForMultimodalLM, AutoProcessor"

LOAD_WITH_EACH = """
for auto in (AutoConfig, AutoProcessor, AutoModel, AutoModelForCausalLM, AutoModelForMultimodalLM):
    print(type(auto.from_pretrained(sys.argv[1])).__name__)
"""
LOADED = ["MossAudioConfig", "MossAudioProcessor", *["MossAudioModel"] * 3]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_checkpoint(tmp_path_factory.mktemp("imports"))


def run(code: str, *arguments: str) -> list[str]:
    """The lines that a program prints which runs in an interpreter of its own."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}", *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_importing_it_loads_neither_torch_nor_transformers() -> None:
    assert run("import moss_audio; print({'torch', 'transformers'} & set(sys.modules))") == ["set()"]


@pytest.mark.parametrize(
    "imports",
    [
        f"import moss_audio\nfrom transformers import {AUTO}",
        f"from transformers import {AUTO}\nAutoModel._model_mapping.keys()\nimport moss_audio",
    ],
    ids=["before transformers", "after the Auto classes"],
)
def test_the_auto_classes_know_the_model_in_either_order(imports: str, checkpoint: Path) -> None:
    assert run(imports + LOAD_WITH_EACH, str(checkpoint)) == LOADED


PUBLIC = (
    "MossAudio, MossAudioConfig, MossAudioModel, MossAudioProcessor, Options, Reply, Request, "
    "load_audio, reply, replies, stream, Listener"
)


def test_whichever_part_is_imported_first_the_auto_classes_know_the_model_and_the_public_names_are_there():
    code = f"""
import moss_audio.model.encoder
from transformers import {AUTO}, MODEL_MAPPING, PROCESSOR_MAPPING
from moss_audio import MossAudioConfig, MossAudioModel, MossAudioProcessor
assert type(AutoConfig.for_model("moss_audio")) is MossAudioConfig
assert MODEL_MAPPING[MossAudioConfig] is MossAudioModel
assert PROCESSOR_MAPPING[MossAudioConfig] is MossAudioProcessor
from moss_audio import {PUBLIC}
"""
    run(code)


def test_other_models_are_none_of_its_business() -> None:
    code = """
import inspect
import moss_audio
from transformers import AutoConfig, AutoModel
import transformers.models.auto.modeling_auto as auto
assert type(AutoConfig.for_model("qwen3")).__name__ == "Qwen3Config"
assert "class AutoModel" in inspect.getsource(auto)
assert not any(name.startswith("moss_audio.model.modeling") for name in sys.modules)
"""
    run(code)


FEW = ("torch", "transformers", "safetensors", "tokenizers", "numpy")
"""All that model, generation and engine need, with what these bring along."""

IMPORT_WITH_FEW = """
import importlib, json, pkgutil
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder

allowed = set(json.loads(sys.argv[1])) | set(sys.stdlib_module_names) | {"moss_audio"}

class Few(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        top = name.partition(".")[0]
        here = top in allowed or top.startswith("_sysconfigdata")
        return super().find_spec(name, path, target) if here else None

sys.meta_path[:] = [BuiltinImporter, FrozenImporter, Few]
for room in ("model", "generation", "engine", "checkpoints"):
    package = importlib.import_module(f"moss_audio.{room}")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"moss_audio.{room}.{module.name}")
        print(f"{room}.{module.name}")
try:
    import av
except ImportError:
    print("nothing else could be imported")
"""


def test_model_generation_and_engine_need_few_packages() -> None:
    printed = run(IMPORT_WITH_FEW, json.dumps(sorted(importable_with(FEW))))
    assert {"model.modeling", "generation.generate", "engine.engine"} <= set(printed)
    assert printed[-1] == "nothing else could be imported"


def importable_with(packages: tuple[str, ...]) -> set[str]:
    """Top-level names of packages and of all that they require, without their extras."""
    pending, known = list(packages), set()
    while pending:
        name = canonical(pending.pop())
        if name in known:
            continue
        known.add(name)
        try:
            required = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        for line in required:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                pending.append(requirement.name)
    return {
        module
        for module, owners in metadata.packages_distributions().items()
        if known & {canonical(owner) for owner in owners}
    }


def canonical(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")
