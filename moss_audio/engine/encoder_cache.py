"""Encoder output, remembered window by window.

The encoder hears windows of four seconds, each alone, so its output for a window holds wherever the same
samples come again: a second question about the same minute encodes nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate, pairwise

import torch
from torch.nn import functional as F

from moss_audio.model.encoder import EncoderOutput, Windows, cut_windows
from moss_audio.model.mel import token_count
from moss_audio.model.modeling import AudioFeatures, MossAudioModel

WINDOWS_AT_ONCE = 32
"""Windows in one pass of the encoder: two minutes. It bounds the memory that a pass takes."""


@dataclass(frozen=True)
class Clips:
    """The clips of one request, cut into windows that are not encoded yet.

    Attributes:
        windows: Of all clips, in order.
        hashes: Of what each window holds.
        name: A hash of what all clips hold, and where each of them ends.
    """

    windows: Windows
    hashes: tuple[bytes, ...]
    name: bytes

    @classmethod
    def cut(cls, mel: torch.Tensor, frames: torch.Tensor, window: int | None) -> Clips:
        """Cut clips into windows.

        Args:
            mel: Log-mel features ``[n_clips, 128, most_frames]``, 100 frames a second.
            frames: int64 ``[n_clips]``, the frames of each clip.
            window: Frames of a window; None makes one window of each clip.
        """
        windows = cut_windows(mel, frames, window)
        hashes = _hashes(windows)
        counts = [-(-length // window) if window else 1 for length in frames.tolist()]
        clips = (hashes[begin:end] for begin, end in pairwise(accumulate(counts, initial=0)))
        names = (blake2b(b"".join(clip), digest_size=16).digest() for clip in clips)
        return cls(windows, tuple(hashes), blake2b(b"".join(names), digest_size=16).digest())


class EncoderCache:
    """Encodes clips and keeps the output of the most recently used windows.

    Args:
        model: Its encoder, adapter and DeepStack projections are used.
        max_bytes: Memory for remembered windows; 0 remembers none.
    """

    def __init__(self, model: MossAudioModel, max_bytes: int) -> None:
        self.model = model
        self.max_bytes = max_bytes
        self.encoded = 0
        """Windows the encoder has worked on so far."""
        self._kept: OrderedDict[bytes, torch.Tensor] = OrderedDict()
        self._bytes = 0

    @torch.inference_mode()
    def encode(self, requests: Sequence[Clips]) -> list[AudioFeatures]:
        """What the decoder needs of each request's clips, their tokens end to end."""
        windows = {content: window for clips in requests for content, window in _single_windows(clips)}
        found = {content: self._kept[content] for content in windows if content in self._kept}
        for content in found:
            self._kept.move_to_end(content)
        new = [content for content in windows if content not in found]
        for start in range(0, len(new), WINDOWS_AT_ONCE):
            part = new[start : start + WINDOWS_AT_ONCE]
            outputs = self._encode([windows[content] for content in part])
            for content, output in zip(part, outputs, strict=True):
                found[content] = output
                self._keep(content, output)
        return [
            self._project(torch.cat([found[content] for content in clips.hashes], dim=1))
            for clips in requests
        ]

    def _encode(self, windows: list[Windows]) -> Sequence[torch.Tensor]:
        """For each window (each ``Windows`` holds one) its output, ``[1 + taps, tokens, width]``."""
        width = max(window.mel.shape[-1] for window in windows)
        batch = Windows(
            mel=torch.cat([F.pad(window.mel, (0, width - window.mel.shape[-1])) for window in windows]),
            frames=torch.cat([window.frames for window in windows]),
            alone=torch.cat([window.alone for window in windows]),
        )
        encoded = _stack(self.model.audio_encoder.encode_windows(batch))
        self.encoded += len(windows)
        return encoded.split([token_count(length) for length in batch.frames.tolist()], dim=1)

    def _keep(self, content: bytes, output: torch.Tensor) -> None:
        size = output.numel() * output.element_size()
        if size > self.max_bytes:
            return
        # A part of a batch would hold the whole batch in memory.
        self._kept[content] = output.clone()
        self._bytes += size
        while self._bytes > self.max_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= oldest.numel() * oldest.element_size()

    def _project(self, encoded: torch.Tensor) -> AudioFeatures:
        tokens, *taps = encoded
        mergers = zip(self.model.deepstack_audio_merger_list, taps, strict=False)
        return AudioFeatures(
            embeds=self.model.audio_adapter(tokens), deepstack=tuple(merge(tap) for merge, tap in mergers)
        )


def _single_windows(clips: Clips) -> list[tuple[bytes, Windows]]:
    """Each window alone, with its hash."""
    mel, frames, alone = clips.windows.mel, clips.windows.frames, clips.windows.alone
    return [
        (content, Windows(mel[n : n + 1], frames[n : n + 1], alone[n : n + 1]))
        for n, content in enumerate(clips.hashes)
    ]


def _stack(encoded: EncoderOutput) -> torch.Tensor:
    return torch.stack([encoded.tokens, *encoded.taps])


def _hashes(windows: Windows) -> list[bytes]:
    """A hash of each window: its features, how many frames there are, and whether it is a whole clip."""
    mel = windows.mel.to("cpu", torch.bfloat16).contiguous()
    lengths, alone = windows.frames.tolist(), windows.alone.tolist()
    return [
        blake2b(
            window[:, :length].contiguous().view(torch.int16).numpy().tobytes() + bytes([whole]),
            digest_size=16,
        ).digest()
        for window, length, whole in zip(mel, lengths, alone, strict=True)
    ]
