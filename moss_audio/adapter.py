"""The gated MLP between encoder and decoder: one for the audio tokens, one for each DeepStack tap."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class GatedMLP(nn.Module):
    """``down(silu(gate(x)) * up(x))``, without biases (SwiGLU, https://arxiv.org/abs/2002.05202).

    Args:
        width_in: Width of the encoder's output.
        width_inner: ``adapter_hidden_size``.
        width_out: Width of the decoder.
    """

    def __init__(self, width_in: int, width_inner: int, width_out: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width_in, width_inner, bias=False)
        self.up_proj = nn.Linear(width_in, width_inner, bias=False)
        self.down_proj = nn.Linear(width_inner, width_out, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[..., width_in]`` to ``[..., width_out]``."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
