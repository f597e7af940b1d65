"""How much memory a checkpoint needs, and how much there is, before anything is loaded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from moss_audio.checkpoint import read_header, weight_files
from moss_audio.errors import NotEnoughMemory

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
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return max(0, torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
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
    import os

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
