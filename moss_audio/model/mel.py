"""From a waveform to log-mel features: Whisper's, without its 30-second frame.

The arithmetic is done in float64 with one rounding to complex64 between the Fourier transform and the
power, as transformers' NumPy feature extractor does, and the result is rounded to bfloat16, as the released
models' processor does whatever the model's precision. So the features equal the recorded ones bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from transformers.audio_utils import mel_filter_bank

from moss_audio.audio import SAMPLE_RATE
from moss_audio.errors import AudioError

HOP_LENGTH = 160
"""Samples from one frame to the next: 10 ms."""

N_FFT = 400
"""Samples under one frame's window: 25 ms."""

N_MELS = 128
"""Mel bands, 0 to 8000 Hz (Slaney scale and normalisation)."""

FRAMES_PER_TOKEN = 8
"""Mel frames behind one audio token, after three convolutions of stride 2: 80 ms."""

TOKENS_PER_SECOND = SAMPLE_RATE / HOP_LENGTH / FRAMES_PER_TOKEN
"""12.5 audio tokens a second."""

_FLOOR = 1e-10
_DYNAMIC_RANGE = 8.0
"""Decades below a clip's loudest value that are kept (Whisper)."""


def frame_count(samples: int) -> int:
    """Mel frames of a clip of that many samples; what is left over behind the last hop is not heard."""
    return samples // HOP_LENGTH


def token_count(frames: int) -> int:
    """Audio tokens of that many mel frames: ceil(frames / 8)."""
    return -(-frames // FRAMES_PER_TOKEN)


def as_waveform(audio: np.ndarray | torch.Tensor) -> torch.Tensor:
    """Audio in one form: float32 ``[n_samples]`` in [-1, 1].

    Args:
        audio: ``[n_samples]`` or ``[channels, n_samples]`` at 16 kHz. Channels are averaged; 16-bit integers
            are scaled to [-1, 1].

    Raises:
        AudioError: Not one clip, not finite, or shorter than one hop (10 ms).
    """
    wave = torch.as_tensor(audio)
    if wave.dtype == torch.int16:
        wave = wave.float() / 32768.0
    elif not wave.dtype.is_floating_point:
        kind = str(wave.dtype).removeprefix("torch.")
        raise AudioError(f"The audio is {kind}; give floats in [-1, 1] or 16-bit integers.")
    wave = wave.float()
    if wave.ndim == 2:
        wave = wave.mean(dim=0)
    if wave.ndim != 1:
        raise AudioError(f"The audio has {wave.ndim} axes; give [samples] or [channels, samples].")
    if wave.shape[0] < HOP_LENGTH:
        raise AudioError(
            f"The audio has {wave.shape[0]} samples; the model needs at least {HOP_LENGTH} (10 ms at 16 kHz)."
        )
    if not torch.isfinite(wave).all():
        raise AudioError("The audio contains NaN or infinite values.")
    return wave


def log_mel(
    waves: Sequence[np.ndarray | torch.Tensor], device: torch.device | str | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of several clips, each as if alone.

    Args:
        waves: Clips, see ``as_waveform``.
        device: Where to compute; by default where the first clip is.

    Returns:
        bfloat16 ``[n_clips, 128, most_frames]``, zero behind a shorter clip's end, and int64 ``[n_clips]``
        frames of each.

    Raises:
        AudioError: A clip cannot be used.
    """
    features, frames = log_mel_float32(waves, device)
    return features.to(torch.bfloat16), frames


def log_mel_float32(
    waves: Sequence[np.ndarray | torch.Tensor], device: torch.device | str | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """``log_mel`` before it is rounded to bfloat16."""
    if not waves:
        raise AudioError("There is no audio to compute features of.")
    clips = [as_waveform(wave) for wave in waves]
    device = torch.device(device) if device is not None else clips[0].device
    frames = torch.tensor([frame_count(clip.shape[0]) for clip in clips], device=device)
    most = int(max(frame_count(clip.shape[0]) for clip in clips))
    # Every clip is mirrored at its own ends; the transform then needs no padding of its own.
    samples = torch.zeros(len(clips), (most - 1) * HOP_LENGTH + N_FFT, dtype=torch.float64, device=device)
    for row, clip in zip(samples, clips, strict=True):
        mirrored = _mirror(clip.to(device), N_FFT // 2)[: row.shape[0]]
        row[: mirrored.shape[0]] = mirrored
    return _features(samples, frames), frames


def _mirror(wave: torch.Tensor, margin: int) -> torch.Tensor:
    """The clip with ``margin`` samples before and after it, reflected at its ends as often as it takes."""
    period = 2 * (wave.shape[0] - 1)
    index = torch.arange(-margin, wave.shape[0] + margin, device=wave.device) % period
    return wave[torch.where(index < wave.shape[0], index, period - index)]


def _features(samples: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    """Float64 ``[n, samples]`` to float32 log-mel ``[n, 128, frames]``, zero behind each clip's frames."""
    window, filters = (table.to(samples.device) for table in _window_and_filters())
    framed = samples.unfold(-1, N_FFT, HOP_LENGTH) * window  # [n, frames, 400]
    spectrum = torch.fft.rfft(framed).to(torch.complex64).to(torch.complex128)
    power = spectrum.abs().square()  # [n, frames, 201]
    mel = torch.clamp(power @ filters, min=_FLOOR).log10().float().transpose(1, 2)
    valid = torch.arange(mel.shape[-1], device=mel.device) < frames[:, None, None]
    loudest = mel.masked_fill(~valid, float("-inf")).amax(dim=(1, 2), keepdim=True)
    scaled = (torch.maximum(mel, loudest - _DYNAMIC_RANGE) + 4.0) / 4.0
    return torch.where(valid, scaled, 0.0)


@cache
def _window_and_filters() -> tuple[torch.Tensor, torch.Tensor]:
    """Periodic Hann window ``[400]`` and mel filters ``[201, 128]``, float64."""
    window = np.hanning(N_FFT + 1)[:-1]
    filters = mel_filter_bank(
        num_frequency_bins=N_FFT // 2 + 1,
        num_mel_filters=N_MELS,
        min_frequency=0.0,
        max_frequency=SAMPLE_RATE / 2,
        sampling_rate=SAMPLE_RATE,
        norm="slaney",
        mel_scale="slaney",
    )
    return torch.from_numpy(window), torch.from_numpy(filters).double()
