"""What the parity runner knows of a case, and what it says about it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

FEATURES = (5e-5, 1e-5)
LOGITS = (1e-4, 1e-5)
MEL = (1e-4, 0.0)
LOSS = (1e-5, 1e-5)
GRADIENT = (1e-6, 1e-3)
BFLOAT16_FLIPS = 1 / 1000
"""Share of bfloat16 features that may be one step off; the recording's own two paths differ in 1 of 2,700."""

ABOUT_THE_RECORDING = {"weight_seed", "measured", "ids_format", "min", "max"}
"""Numbers about how a case was recorded, which no implementation can be compared with."""


@dataclass
class Report:
    """What was compared, a line each."""

    quiet: bool = False
    compared: int = 0
    failed: list[str] = field(default_factory=list)

    def close(self, name: str, found: Any, wanted: Any, tolerance: tuple[float, float]) -> None:
        """Compare numbers within atol + rtol · |wanted|."""
        found, wanted = (torch.as_tensor(item).detach().double() for item in (found, wanted))
        atol, rtol = tolerance
        if found.shape != wanted.shape:
            self._line(
                False, name, f"shape {list(found.shape)} instead of {list(wanted.shape)}", wanted.numel()
            )
            return
        off = (found - wanted).abs()
        holds = bool((off <= atol + rtol * wanted.abs()).all())
        largest = float(off.max()) if off.numel() else 0.0
        self._line(
            holds,
            name,
            f"largest difference {largest:.2e}, tolerance {atol:g} + {rtol:g}·|x|",
            wanted.numel(),
        )

    def same(self, name: str, found: Any, wanted: Any) -> None:
        """Compare what must be equal: ids, masks, counts, hashes."""
        found, wanted = (
            item.tolist() if isinstance(item, torch.Tensor) else item for item in (found, wanted)
        )
        count = len(wanted) if isinstance(wanted, list) else 1
        holds = found == wanted
        said = "equal" if holds else f"{_short(found)} instead of {_short(wanted)}"
        self._line(holds, name, said, count)

    def bfloat16(self, name: str, found: torch.Tensor, wanted: torch.Tensor) -> None:
        """Compare rounded features: few values may be one step (2^-8 of them) off."""
        if found.shape != wanted.shape:
            self._line(
                False, name, f"shape {list(found.shape)} instead of {list(wanted.shape)}", wanted.numel()
            )
            return
        off = (found.float() - wanted.float()).abs()
        flipped = float((off > 0).float().mean())
        holds = flipped <= BFLOAT16_FLIPS and bool((off <= 2**-7 * wanted.float().abs() + 1e-6).all())
        self._line(
            holds, name, f"{flipped:.1e} of the values differ, tolerance {BFLOAT16_FLIPS:g}", wanted.numel()
        )

    def error(self, name: str, what: str) -> None:
        """Something that is wrong whatever its numbers."""
        self._line(False, name, what, 0)

    def _line(self, holds: bool, name: str, what: str, count: int) -> None:
        self.compared += count
        if not holds:
            self.failed.append(name)
        if not (holds and self.quiet):
            print(f"{'ok  ' if holds else 'FAIL'} {name}: {what}")


class Case:
    """A folder's contents, which knows what nobody has asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tensors = load_file(folder / "io.safetensors")
        self.meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        self.used: set[str] = set()

    def take(self, name: str) -> torch.Tensor | None:
        """A stored tensor, or None; it counts as compared or used from here on."""
        if name in self.tensors:
            self.used.add(name)
        return self.tensors.get(name)

    def unknown(self) -> list[str]:
        """Stored tensors nobody asked for."""
        return sorted(self.tensors.keys() - self.used)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 200 else f"{text[:200]}…"
