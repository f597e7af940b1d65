"""Encoder output, remembered window by window.

The encoder hears windows of four seconds, each alone, so what it found in a window holds wherever the same
samples come again: a second question about the same minute encodes nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b

import torch

from moss_audio.encoder import EncoderOutput, Windows, cut_windows
from moss_audio.mel import token_count
from moss_audio.model import AudioFeatures, MossAudioModel


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
    def features(self, mel: torch.Tensor, frames: torch.Tensor) -> tuple[list[AudioFeatures], list[bytes]]:
        """What the decoder needs of each clip, and a digest of what each holds.

        Args:
            mel: ``[n_clips, 128, most_frames]``.
            frames: int64 ``[n_clips]``.
        """
        config = self.model.config.audio_config
        windows = cut_windows(mel, frames, config.window_frames)
        digests = _digests(windows)
        found = self._find(windows, digests)
        size = config.window_frames or int(frames.max())
        clips, names, start = [], [], 0
        for length in frames.tolist():
            end = start + -(-length // size)
            clips.append(self._project(torch.cat(found[start:end], dim=1)))
            names.append(blake2b(b"".join(digests[start:end]), digest_size=16).digest())
            start = end
        return clips, names

    def _find(self, windows: Windows, digests: Sequence[bytes]) -> list[torch.Tensor]:
        """For each window ``[1 + taps, tokens, width]``, remembered or encoded now, all in one batch."""
        new = list(dict.fromkeys(name for name in digests if name not in self._kept))
        fresh: dict[bytes, torch.Tensor] = {}
        if new:
            index = torch.tensor([digests.index(name) for name in new], device=windows.mel.device)
            part = Windows(windows.mel[index], windows.frames[index], windows.alone[index])
            encoded = self.model.audio_encoder.encode_windows(part)
            counts = [token_count(int(one)) for one in part.frames.tolist()]
            fresh = dict(zip(new, _stack(encoded).split(counts, dim=1), strict=True))
            self.encoded += len(new)
        found = [fresh[name] if name in fresh else self._kept[name] for name in digests]
        for name in digests:
            if name in self._kept:
                self._kept.move_to_end(name)
        for name, one in fresh.items():
            self._keep(name, one)
        return found

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
