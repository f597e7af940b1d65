"""Encoder output, remembered window by window.

The encoder hears windows of four seconds, each alone, so what it found in a window holds wherever the same
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
    """The clips of one request, cut into windows that were not heard yet.

    Attributes:
        windows: Of all clips.
        digests: Of what each window holds.
        name: Of what all of them hold, and where one clip ends.
    """

    windows: Windows
    digests: tuple[bytes, ...]
    name: bytes

    @classmethod
    def cut(cls, mel: torch.Tensor, frames: torch.Tensor, window: int | None) -> Clips:
        """Cut clips.

        Args:
            mel: ``[n_clips, 128, most_frames]``.
            frames: int64 ``[n_clips]``.
            window: Frames of a window; None makes one window of each clip.
        """
        windows = cut_windows(mel, frames, window)
        digests = _digests(windows)
        counts = [-(-length // window) if window else 1 for length in frames.tolist()]
        whole = (digests[begin:end] for begin, end in pairwise(accumulate(counts, initial=0)))
        names = (blake2b(b"".join(one), digest_size=16).digest() for one in whole)
        return cls(windows, tuple(digests), blake2b(b"".join(names), digest_size=16).digest())


class EncoderCache:
    """Encodes clips; the windows heard most recently are kept.

    Args:
        model: Whose encoder.
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
    def hear(self, requests: Sequence[Clips]) -> list[AudioFeatures]:
        """What the decoder needs of each request's clips, their tokens end to end."""
        names = {name: one for request in requests for name, one in _parted(request)}
        found = {name: self._kept[name] for name in names if name in self._kept}
        for name in found:
            self._kept.move_to_end(name)
        new = [name for name in names if name not in found]
        for start in range(0, len(new), WINDOWS_AT_ONCE):
            part = new[start : start + WINDOWS_AT_ONCE]
            for name, one in zip(part, self._encode([names[name] for name in part]), strict=True):
                found[name] = one
                self._keep(name, one)
        return [self._project(torch.cat([found[name] for name in one.digests], dim=1)) for one in requests]

    def _encode(self, windows: list[Windows]) -> Sequence[torch.Tensor]:
        """For each window, one here, ``[1 + taps, tokens, width]``."""
        width = max(one.mel.shape[-1] for one in windows)
        batch = Windows(
            mel=torch.cat([F.pad(one.mel, (0, width - one.mel.shape[-1])) for one in windows]),
            frames=torch.cat([one.frames for one in windows]),
            alone=torch.cat([one.alone for one in windows]),
        )
        encoded = _stack(self.model.audio_encoder.encode_windows(batch))
        self.encoded += len(windows)
        return encoded.split([token_count(length) for length in batch.frames.tolist()], dim=1)

    def _keep(self, name: bytes, one: torch.Tensor) -> None:
        size = one.numel() * one.element_size()
        if size > self.max_bytes:
            return
        # A part of a batch would hold the whole batch in memory.
        self._kept[name] = one.clone()
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


def _parted(clips: Clips) -> list[tuple[bytes, Windows]]:
    """Each window alone, with its digest."""
    mel, frames, alone = clips.windows.mel, clips.windows.frames, clips.windows.alone
    return [
        (name, Windows(mel[n : n + 1], frames[n : n + 1], alone[n : n + 1]))
        for n, name in enumerate(clips.digests)
    ]


def _stack(encoded: EncoderOutput) -> torch.Tensor:
    return torch.stack([encoded.tokens, *encoded.taps])


def _digests(windows: Windows) -> list[bytes]:
    """Of each window: its samples' features, how many there are, and whether it is a clip of its own."""
    mel = windows.mel.to("cpu", torch.bfloat16).contiguous()
    lengths, alone = windows.frames.tolist(), windows.alone.tolist()
    return [
        blake2b(
            one[:, :length].contiguous().view(torch.int16).numpy().tobytes() + bytes([only]), digest_size=16
        ).digest()
        for one, length, only in zip(mel, lengths, alone, strict=True)
    ]
