"""The audio encoder: log-mel frames in, one vector for every 80 ms out.

A recording is cut into windows of 400 mel frames (4 s). Every window goes alone through a stem of three
2-D convolutions, gets sinusoidal positions that start at 0, and passes pre-norm transformer layers in
which its 50 tokens see one another and nothing else. All windows of all clips run as one batch.

What a clip gives never depends on what it is batched with. One property of the published implementation
is kept, since released weights met it: the last window of a clip of several windows is filled up with zero
frames, and the stem's biases turn these into something its last token can see. A clip of one window has
no such neighbours, so there the stem's activations behind the end are put to zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from transformers.modeling_layers import GradientCheckpointingLayer

from moss_audio.model.config import AudioEncoderConfig
from moss_audio.model.mel import FRAMES_PER_TOKEN, N_MELS

LAYER_NORM_EPS = 1e-5
"""The epsilon of the norms inside the layers, whatever the configuration says about the last one."""

MAX_TIMESCALE = 10_000.0
"""Longest wavelength of the positions over 2π, in tokens (https://arxiv.org/abs/1706.03762)."""


@dataclass(frozen=True)
class EncoderOutput:
    """What the encoder found.

    Attributes:
        tokens: ``[sum of tokens, output_dim]``, clip after clip.
        taps: For each DeepStack layer the same shape, in the configuration's order.
    """

    tokens: torch.Tensor
    taps: tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Windows:
    """All windows of a batch of clips.

    Attributes:
        mel: ``[n_windows, 128, frames]``, zero behind a window's end.
        frames: int64 ``[n_windows]``, valid frames of each.
        alone: bool ``[n_windows]``, whether it is the only window of its clip.
    """

    mel: torch.Tensor
    frames: torch.Tensor
    alone: torch.Tensor


class AudioEncoder(nn.Module):
    """Stem, positions, layers, norm.

    Args:
        config: Its sizes.
    """

    def __init__(self, config: AudioEncoderConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.downsample_hidden_size
        self.conv1 = nn.Conv2d(1, channels, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.stem_proj = nn.Linear(channels * (N_MELS // FRAMES_PER_TOKEN), config.d_model)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.layer_norm = nn.LayerNorm(config.d_model, eps=config.layer_norm_eps)
        self.out_proj: nn.Module = nn.Identity()
        if config.output_dim != config.d_model:
            self.out_proj = nn.Linear(config.d_model, config.output_dim, bias=False)
        self.use_dropout = False
        """Whether training drops activations out, as the published training did."""

    def forward(self, mel: torch.Tensor, frames: torch.Tensor) -> EncoderOutput:
        """Encode clips.

        Args:
            mel: ``[n_clips, 128, most_frames]``.
            frames: int64 ``[n_clips]``, valid frames of each, at least 1.
        """
        return self.encode_windows(cut_windows(mel, frames, self.config.window_frames))

    def encode_windows(self, windows: Windows) -> EncoderOutput:
        """Encode windows, of whatever clips; each gives what it gives in any other batch."""
        counts = _ceil_div(windows.frames, FRAMES_PER_TOKEN)
        hidden = self._stem(windows)
        hidden = hidden + positions(hidden.shape[1], self.config.d_model, hidden.device).to(hidden.dtype)
        valid = torch.arange(hidden.shape[1], device=hidden.device) < counts[:, None]  # [n_windows, tokens]
        mask = None if bool(valid.all()) else valid[:, None, None, :]
        taps: dict[int, torch.Tensor] = {}
        for number, layer in enumerate(self.layers):
            hidden = layer(hidden, mask, self.use_dropout)
            if number in self.config.deepstack_encoder_layer_indexes:
                taps[number] = self.out_proj(hidden[valid])
        return EncoderOutput(
            tokens=self.out_proj(self.layer_norm(hidden[valid])),
            taps=tuple(taps[number] for number in self.config.deepstack_encoder_layer_indexes),
        )

    def _stem(self, windows: Windows) -> torch.Tensor:
        """``[n_windows, tokens, d_model]``; a bounded number of windows at a time."""
        size = self.config.conv_chunksize
        mel = windows.mel.to(self.conv1.weight.dtype)
        parts = zip(mel.split(size), windows.frames.split(size), windows.alone.split(size), strict=True)
        return torch.cat([self._convolve(*part) for part in parts])

    def _convolve(self, mel: torch.Tensor, frames: torch.Tensor, alone: torch.Tensor) -> torch.Tensor:
        x, length = mel[:, None], frames
        for convolution in (self.conv1, self.conv2, self.conv3):
            x = F.gelu(convolution(x))  # [n, channels, bands / 2, frames / 2]
            length = _ceil_div(length, 2)
            if convolution is not self.conv3:
                behind = torch.arange(x.shape[-1], device=x.device) >= length[:, None]
                x = x.masked_fill((behind & alone[:, None])[:, None, None, :], 0.0)
        return self.stem_proj(x.permute(0, 3, 1, 2).flatten(2))


class EncoderLayer(GradientCheckpointingLayer):
    """Whisper's pre-norm layer: self-attention, then two linear layers around a GELU."""

    def __init__(self, config: AudioEncoderConfig) -> None:
        super().__init__()
        self.self_attn = EncoderAttention(config)
        self.self_attn_layer_norm = nn.LayerNorm(config.d_model, eps=LAYER_NORM_EPS)
        self.fc1 = nn.Linear(config.d_model, config.encoder_ffn_dim)
        self.fc2 = nn.Linear(config.encoder_ffn_dim, config.d_model)
        self.final_layer_norm = nn.LayerNorm(config.d_model, eps=LAYER_NORM_EPS)
        self.dropout = config.dropout
        self.activation_dropout = config.activation_dropout

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None, use_dropout: bool = False) -> torch.Tensor:
        """``[n_windows, tokens, d_model]`` to the same; ``mask`` is true where a key may be seen."""
        drop = self.training and use_dropout
        attended = self.self_attn(self.self_attn_layer_norm(x), mask, drop)
        x = x + F.dropout(attended, self.dropout, drop)
        inner = F.dropout(F.gelu(self.fc1(self.final_layer_norm(x))), self.activation_dropout, drop)
        x = x + F.dropout(self.fc2(inner), self.dropout, drop)
        if x.dtype == torch.float16:
            # Float16 ends at 65504; Whisper's layers stay inside it this way.
            limit = torch.finfo(x.dtype).max - 1000
            x = x.clamp(-limit, limit)
        return x


class EncoderAttention(nn.Module):
    """Multi-head attention inside one window; keys are projected without a bias."""

    def __init__(self, config: AudioEncoderConfig) -> None:
        super().__init__()
        self.heads = config.encoder_attention_heads
        self.dropout = config.attention_dropout
        self.q_proj = nn.Linear(config.d_model, config.d_model)
        self.k_proj = nn.Linear(config.d_model, config.d_model, bias=False)
        self.v_proj = nn.Linear(config.d_model, config.d_model)
        self.out_proj = nn.Linear(config.d_model, config.d_model)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None, drop: bool) -> torch.Tensor:
        """``[n_windows, tokens, d_model]`` to the same."""
        q, k, v = (
            project(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [n_windows, heads, tokens, head_dim]
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        rate = self.dropout if drop else 0.0
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=rate)
        return self.out_proj(attended.transpose(1, 2).flatten(2))


def cut_windows(mel: torch.Tensor, frames: torch.Tensor, window: int | None) -> Windows:
    """Cut every clip into windows, the last one shorter.

    Args:
        mel: ``[n_clips, 128, most_frames]``; what stands behind a clip's end is not looked at.
        frames: int64 ``[n_clips]``.
        window: Frames of a window; None makes one window of each clip.
    """
    lengths = frames.tolist()
    size = window or max(lengths)
    # Without a clip of several windows nothing needs the full width.
    width = min(size, max(lengths))
    pieces, valid, alone = [], [], []
    for clip, length in zip(mel, lengths, strict=True):
        starts = range(0, length, size)
        for start in starts:
            end = min(start + size, length)
            pieces.append(F.pad(clip[:, start:end], (0, width - (end - start))))
            valid.append(end - start)
            alone.append(len(starts) == 1)
    return Windows(
        mel=torch.stack(pieces),
        frames=torch.tensor(valid, device=mel.device),
        alone=torch.tensor(alone, device=mel.device),
    )


def positions(length: int, width: int, device: torch.device | str | None = None) -> torch.Tensor:
    """Sinusoidal positions, float32 ``[length, width]``: all sines, then all cosines.

    Computed anew at every call: a table kept as a non-persistent buffer is lost when transformers loads a
    model, and ruined when one is cast to bfloat16.
    """
    half = width // 2
    step = math.log(MAX_TIMESCALE) / (half - 1)
    frequencies = torch.exp(-step * torch.arange(half, dtype=torch.float32, device=device))
    angles = torch.arange(length, dtype=torch.float32, device=device)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _ceil_div(value: torch.Tensor, divisor: int) -> torch.Tensor:
    return (value + divisor - 1) // divisor
