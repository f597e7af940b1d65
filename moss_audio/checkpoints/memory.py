"""How much memory a checkpoint needs, and how much there is, before anything is loaded.

What needs no tensor imports no torch, so that a list of checkpoints does not wait for it.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moss_audio.checkpoints.files import read_header, weight_files
from moss_audio.checkpoints.hub import RELEASED_BYTES
from moss_audio.errors import NotEnoughMemory

if TYPE_CHECKING:
    import torch

GB = 1_000_000_000

WORKING_BYTES = GB // 2
"""Kept free for what is computed in between; a reserve that was chosen, not measured."""

PROMPT_TOKENS_PER_SECOND = 14.0
"""Upper bound of tokens a second of audio takes in a prompt: 12.5 of audio and the digits of its markers."""


@dataclass(frozen=True)
class Need:
    """Bytes a run needs at least."""

    weights: int
    cache: int

    @property
    def total(self) -> int:
        """Weights, keys and values of all tokens, and a reserve for what is computed in between.

        The reserve is never more than the weights, so that it does not decide for small models.
        """
        return self.weights + self.cache + min(WORKING_BYTES, self.weights)


def need_of(folder: Path, dtype: torch.dtype, seconds: float = 0.0, new_tokens: int = 0) -> Need:
    """What a checkpoint in a folder needs.

    Args:
        folder: Its ``config.json`` and weights; only their headers are read.
        dtype: What the weights are loaded as, whatever they are stored as.
        seconds: Audio in the prompt.
        new_tokens: Tokens of the answer.

    Raises:
        CheckpointError: The weights are missing or damaged.
    """
    numbers = 0
    for file in weight_files(folder):
        for shape in read_header(file).values():
            size = 1
            for length in shape:
                size *= length
            numbers += size
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    tokens = round(seconds * PROMPT_TOKENS_PER_SECOND) + new_tokens + 100
    return Need(numbers * dtype.itemsize, tokens * _cache_bytes(config, dtype))


def available(device: torch.device) -> int:
    """Bytes free on a device: a GPU's own memory, else what this process may still take of the machine's."""
    import torch

    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return max(0, torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    return available_here()


def available_here() -> int:
    """Bytes that this process may still take of the machine's memory."""
    return min(_machine(), _container())


def check(name: str, need: Need, device: torch.device) -> None:
    """Refuse to begin what cannot end well.

    Raises:
        NotEnoughMemory: Says how much is needed and what is there.
    """
    there = available(device)
    if there >= need.total:
        return
    where = "this machine has" if device.type == "cpu" else f"{device} has"
    raise NotEnoughMemory(
        f"{name} needs at least {need.total / GB:.1f} GB of memory, {need.weights / GB:.1f} GB of it for "
        f"weights, and {where} {there / GB:.1f} GB free; close other programs, or choose a smaller model, a "
        "shorter part of the audio or another device."
    )


@dataclass(frozen=True)
class Place:
    """Where weights are to be loaded, and as what.

    Attributes:
        device: The one device; None where they are spread over several, or cannot be measured.
        dtype: None means as the checkpoint says.
    """

    device: torch.device | None
    dtype: torch.dtype | None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Place:
        """What the keyword arguments of ``from_pretrained`` ask for."""
        import torch

        kind = options.get("dtype", options.get("torch_dtype"))
        if isinstance(kind, str):
            kind = getattr(torch, kind, None)
        # Quantised weights take less than their numbers say.
        quantised = options.get("quantization_config") is not None
        device = None if quantised else _one_device(options.get("device_map"))
        return cls(device, kind if isinstance(kind, torch.dtype) else None)

    def check_released(self, name: str) -> None:
        """Before a released checkpoint is downloaded, see whether its weights would fit.

        Raises:
            NotEnoughMemory: They would not.
        """
        import torch

        if self.device is not None and name in RELEASED_BYTES and not Path(name).exists():
            kind = self.dtype or torch.bfloat16
            published = RELEASED_BYTES[name] // torch.bfloat16.itemsize * kind.itemsize
            check(name, Need(weights=published, cache=0), self.device)

    def check(self, name: str, folder: Path, seconds: float = 0.0, new_tokens: int = 0) -> None:
        """See whether a checkpoint fits; see ``need_of``.

        Raises:
            NotEnoughMemory: It does not.
            CheckpointError: Its weights are missing or damaged.
        """
        if self.device is not None:
            check(name, need_of(folder, self.dtype or _saved_dtype(folder), seconds, new_tokens), self.device)

    def used_up(self, name: str, folder: Path) -> NotEnoughMemory:
        """The error for memory that ran out while a checkpoint was being loaded."""
        need = need_of(folder, self.dtype or _saved_dtype(folder))
        where = "The memory" if self.device is None else f"The memory of {self.device}"
        return NotEnoughMemory(
            f"{where} was used up while {name} was loaded: it needs at least {need.total / GB:.1f} GB, "
            f"{need.weights / GB:.1f} GB of it for weights; close other programs, or choose a smaller model "
            "or another device."
        )


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory was used up: a GPU's, or the machine's (no type of its own)."""
    import torch

    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        words in str(error) for words in ("DefaultCPUAllocator: ", "MPS backend out of memory")
    )


def _one_device(device_map: Any) -> torch.device | None:
    import torch

    if device_map is None:
        device = torch.get_default_device()
    else:
        places = set(device_map.values()) if isinstance(device_map, Mapping) else {device_map}
        try:
            (place,) = places
            device = torch.device(place)
        except (ValueError, TypeError, RuntimeError):
            return None  # several, or a word such as "auto"
    if device.type == "cuda" and not torch.cuda.is_available():
        return None
    return device if device.type in ("cpu", "cuda", "mps") else None


def _saved_dtype(folder: Path) -> torch.dtype:
    """What a checkpoint's configuration says its weights are."""
    import torch

    content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind = getattr(torch, str(content.get("dtype") or content.get("torch_dtype")), None)
    return kind if isinstance(kind, torch.dtype) else torch.bfloat16


def _cache_bytes(config: dict[str, Any], dtype: torch.dtype) -> int:
    """Bytes of keys and values of one token in all layers of the decoder."""
    language = config.get("language_config") or {}
    heads = language.get("num_key_value_heads", 8)
    width = language.get("head_dim", 128)
    return 2 * language.get("num_hidden_layers", 36) * heads * width * dtype.itemsize


def _machine() -> int:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return _installed()


def _installed() -> int:
    """Where the system does not say what is free, all of its memory (macOS); else no limit is known."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 1 << 62


def _container(root: Path = Path("/sys/fs/cgroup")) -> int:
    """What a container's limit (cgroup v2) leaves; file cache is given back on demand and does not count."""
    try:
        limit = (root / "memory.max").read_text(encoding="ascii").strip()
        if limit == "max":
            return 1 << 62
        used = int((root / "memory.current").read_text(encoding="ascii"))
        cache = 0
        for line in (root / "memory.stat").read_text(encoding="ascii").splitlines():
            if line.startswith("inactive_file "):
                cache = int(line.split()[1])
        return max(0, int(limit) - used + cache)
    except (OSError, ValueError):
        return 1 << 62
