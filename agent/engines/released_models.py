"""The released checkpoints: what they need, whether that is here, and how to get one."""

from __future__ import annotations

import ctypes
import json
import math
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from index.recording_errors import MossAgentError
from moss_audio.errors import MossAudioError

GB = 1_000_000_000

OWNER = "OpenMOSS-Team"
NAMES = tuple(
    f"{OWNER}/MOSS-Audio-{size}-{kind}" for size in ("8B", "4B") for kind in ("Thinking", "Instruct")
)
"""The released checkpoints, the one to prefer first."""

CACHE_BYTES = 2 * 36 * 8 * 128 * 2
"""Bytes of keys and values per token in bfloat16: 36 layers × 8 KV heads × 128 in every checkpoint."""

LISTEN_S, ANSWER_TOKENS = 600.0, 4096
"""What must fit beside the weights: ten minutes of audio, a thought and an answer."""


@dataclass(frozen=True)
class Machine:
    """What there is here, in bytes that are free.

    Attributes:
        gpu: Name of the GPU; None without one.
        gpu_bytes: Of its memory.
        cpu_bytes: Of the machine's memory.
        disk_bytes: Where checkpoints are kept.
        cache: That place.
    """

    gpu: str | None
    gpu_bytes: int
    cpu_bytes: int
    disk_bytes: int
    cache: Path


@dataclass(frozen=True)
class Model:
    """A released checkpoint, and how it goes with a machine.

    Attributes:
        name: On the hub.
        download_bytes: Of all its weights, stored in bfloat16.
        gpu_bytes: Memory on a GPU: weights in bfloat16 and a cache for ten minutes of audio.
        cpu_bytes: Memory without one: the same in float32.
        folder: Where it is; None unless all of it is here.
        there_bytes: How much of it is here.
        fits_gpu: Whether it fits the GPU now; None without one.
        fits_cpu: Whether it fits the machine's memory now.
        fits_disk: Whether what is missing fits the disk.
    """

    name: str
    download_bytes: int
    gpu_bytes: int
    cpu_bytes: int
    folder: Path | None
    there_bytes: int
    fits_gpu: bool | None
    fits_cpu: bool
    fits_disk: bool

    @property
    def fits(self) -> bool:
        """Whether it could run here, however slowly."""
        return bool(self.fits_gpu) or self.fits_cpu

    def to_json(self) -> dict[str, Any]:
        """The model as the command line's JSON."""
        return {
            "name": self.name,
            "present": self.folder is not None,
            "folder": str(self.folder) if self.folder else None,
            "download_bytes": self.download_bytes,
            "downloaded_bytes": self.there_bytes,
            "memory_bytes": {"gpu": self.gpu_bytes, "cpu": self.cpu_bytes},
            "fits": {"gpu": self.fits_gpu, "cpu": self.fits_cpu, "disk": self.fits_disk},
        }


def cache_folder() -> Path:
    """Where checkpoints of the hub are kept."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser()


def this_machine() -> Machine:
    """Measure what is free; torch, which takes seconds to import, is asked only where there may be a GPU."""
    from moss_audio.checkpoints.memory import available_here

    gpu, gpu_bytes = _gpu() if _may_have_gpu() else (None, 0)
    cache = cache_folder()
    place = cache
    while not place.exists():
        place = place.parent
    return Machine(
        gpu=gpu,
        gpu_bytes=gpu_bytes,
        cpu_bytes=available_here(),
        disk_bytes=shutil.disk_usage(place).free,
        cache=cache,
    )


def _gpu() -> tuple[str | None, int]:
    """The GPU's name and its free bytes."""
    import torch

    from moss_audio.checkpoints.memory import available

    if not torch.cuda.is_available():
        return None, 0
    return torch.cuda.get_device_name(0), available(torch.device("cuda"))


def _may_have_gpu() -> bool:
    """Whether a driver is here that torch could use: NVIDIA's library, or the device of AMD's on Linux."""
    if sys.platform != "linux" or Path("/dev/kfd").exists():
        return True
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def memory_needed(weights: int, bytes_per_number: int) -> int:
    """Bytes a checkpoint needs that is stored as bfloat16 and loaded in another type's width.

    Args:
        weights: Bytes as stored.
        bytes_per_number: 2 for bfloat16, 4 for float32.
    """
    from moss_audio.checkpoints.memory import PROMPT_TOKENS_PER_SECOND, Need

    tokens = round(LISTEN_S * PROMPT_TOKENS_PER_SECOND) + ANSWER_TOKENS
    return Need(weights * bytes_per_number // 2, tokens * CACHE_BYTES * bytes_per_number // 2).total


def released(machine: Machine) -> list[Model]:
    """The released checkpoints on a machine, the one to prefer first."""
    from moss_audio.checkpoints.hub import RELEASED_BYTES, present

    models = []
    for name in NAMES:
        size = RELEASED_BYTES[name]
        folder, there = present(name, cache_dir=machine.cache)
        gpu, cpu = memory_needed(size, 2), memory_needed(size, 4)
        models.append(
            Model(
                name=name,
                download_bytes=size,
                gpu_bytes=gpu,
                cpu_bytes=cpu,
                folder=folder,
                there_bytes=there,
                fits_gpu=gpu <= machine.gpu_bytes if machine.gpu else None,
                fits_cpu=cpu <= machine.cpu_bytes,
                fits_disk=folder is not None or size - there <= machine.disk_bytes,
            )
        )
    return models


def full_name(name: str) -> str:
    """The name of a released checkpoint as the hub has it; “8b-thinking” will do.

    Raises:
        MossAgentError: There is none of this name, or several.
    """
    wanted = name.casefold().strip()
    found = [known for known in NAMES if known.casefold() == wanted]
    found = found or [known for known in NAMES if wanted and wanted in known.casefold()]
    if len(found) == 1:
        return found[0]
    names = ", ".join(known.removeprefix(f"{OWNER}/") for known in NAMES)
    matches = "more than one checkpoint" if found else "no checkpoint"
    raise MossAgentError(f"“{name}” matches {matches}; there are {names}.")


def download(name: str, progress: Callable[[int, int], None]) -> Path:
    """Download a released checkpoint, or resume it; returns its folder.

    Args:
        name: See ``full_name``.
        progress: Told of bytes that are there, and bytes in all.

    Raises:
        MossAgentError: No such checkpoint, no room, or the hub cannot be reached.
    """
    from moss_audio.checkpoints.hub import resolve

    try:
        return resolve(full_name(name), progress)
    except MossAudioError as error:
        raise MossAgentError(str(error)) from error


@dataclass(frozen=True)
class Own:
    """A checkpoint of the user's own.

    Attributes:
        folder: Where it is.
        weight_bytes: Of its numbers in bfloat16, however they are stored.
        thinks: Whether it thinks before it answers.
    """

    folder: Path
    weight_bytes: int
    thinks: bool


def own_checkpoints(folder: Path) -> list[Own]:
    """The whole MOSS-Audio checkpoints in the folders within a folder, the one to prefer first.

    The largest comes first; of two as large the one that thinks; then by name.
    """
    found = []
    for config in sorted(folder.glob("*/config.json")):
        if _json_object(config).get("model_type") == "moss_audio":
            found += _own(config.parent)
    return sorted(found, key=lambda own: (-own.weight_bytes, not own.thinks))


def _own(folder: Path) -> list[Own]:
    """The checkpoint in a folder; empty if it is incomplete."""
    from moss_audio.checkpoints.files import read_header, weight_files
    from moss_audio.generation.thinking import name_says_thinking

    try:
        shapes = [shape for file in weight_files(folder) for shape in read_header(file).values()]
    except MossAudioError:
        return []
    said = _json_object(folder / "generation_config.json").get("thinking")
    thinks = said if isinstance(said, bool) else name_says_thinking(folder.name)
    return [Own(folder, 2 * sum(math.prod(shape) for shape in shapes), thinks)]


def _json_object(file: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if it cannot be read."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
