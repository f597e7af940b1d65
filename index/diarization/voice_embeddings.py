"""Voice embeddings: a recording's speech in chunks of about three seconds, with a voice vector for each.

    segments → their speech → mel windows of 1.6 s → a vector each → their mean over a chunk

Vectors of one speaker are close to one another. The network is Resemblyzer's speaker encoder (GE2E, Wan et
al. 2018, "Generalized end-to-end loss for speaker verification"): three LSTM layers of 256 over 40 mel bands,
a linear layer, ReLU, unit length. Only the weights come from that package; its code would need compiled
dependencies and is never run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from index.audio.decode import read_open_range
from index.pipeline.stage import in_order
from index.recording_errors import WeightsError
from index.records import Segment, Span
from index.torch_threads import torch_threads
from index.weights import check_sha256, package_folder
from moss_audio.audio import SAMPLE_RATE

if TYPE_CHECKING:
    import torch

WEIGHTS_PACKAGE = "resemblyzer"
WEIGHTS_SHA256 = "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e"
"""``pretrained.pt`` in Resemblyzer 0.1.4's wheel has this hash."""

# Without its dependencies, which must be compiled and which only its code needs.
_INSTALL = "pip install --no-deps Resemblyzer==0.1.4"

MEL_BANDS = 40
FRAME_SAMPLES = 400
"""25 ms."""
HOP_SAMPLES = 160
"""10 ms."""
WINDOW_FRAMES = 160
"""1.6 s, the length the network was trained on."""
WINDOW_SECONDS = WINDOW_FRAMES * HOP_SAMPLES / SAMPLE_RATE
HIDDEN = 256
DIMENSIONS = 256

TARGET_DBFS = -30.0
"""Quieter speech is raised to this level (RMS against full scale); louder speech is left as it is."""

BATCH = 64
"""Windows that go through the network together; larger ones are no faster on a CPU. Batches run side by
side with one thread each: an LSTM split over threads waits for all of them at every one of 480 steps,
which measured over ten times slower on a busy machine."""

WINDOW_STEP = 80
"""Frames between windows: 0.8 s, half a window."""

WAITING_WINDOWS = 8 * BATCH
"""Windows that are embedded at a time (13 MB): some batches for every core."""

CHUNK_SECONDS = 3.2
"""Speech that gets one voice vector: long enough to be steady, short enough to hold one speaker."""

MIN_SPEECH_SECONDS = 0.2
"""A segment with less detected speech than this is embedded whole instead."""


class VoiceEncoder:
    """Resemblyzer's encoder in plain torch on the CPU; weights are checked and loaded at first use."""

    dimensions = DIMENSIONS
    at_once = 1
    """Calls of ``embed`` that are worth making at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._layers: tuple[torch.nn.LSTM, torch.nn.Linear] | None = None
        self._filters: np.ndarray | None = None
        # The periodic Hann window.
        self._taper = np.hanning(FRAME_SAMPLES + 1)[:-1].astype(np.float32)

    def load(self) -> None:
        """Load the weights now instead of at first use.

        Raises:
            WeightsError: They are not installed, or are not the published ones.
        """
        with self._lock:
            if self._layers is None:
                self._filters = _mel_filters()
                self._layers = _layers()

    def mel(self, audio: np.ndarray) -> np.ndarray:
        """Mel power spectrogram (no logarithm) of one stretch of speech, its volume normalised.

        Args:
            audio: float32 ``[n_samples]``, 16 kHz.

        Returns:
            float32 ``[n_samples // 160 + 1, 40]``, one frame every 10 ms.
        """
        self.load()
        assert self._filters is not None
        samples = np.pad(_raise_volume(audio).astype(np.float32), FRAME_SAMPLES // 2)
        frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME_SAMPLES)[::HOP_SAMPLES]
        spectrum = np.fft.rfft(frames * self._taper, axis=1)
        power = np.square(spectrum.real) + np.square(spectrum.imag)
        return power @ self._filters

    def embed(self, windows: Sequence[np.ndarray]) -> np.ndarray:
        """Voice vectors of mel windows.

        Args:
            windows: float32, each ``[160, 40]``.

        Returns:
            float32 ``[n_windows, 256]``, non-negative, unit length (zero where nothing was excited).
        """
        import torch

        self.load()
        batches = [list(windows[first : first + BATCH]) for first in range(0, len(windows), BATCH)]
        threads = torch_threads()
        try:
            with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                done = list(pool.map(self._embed_batch, batches))
        finally:
            # A new thread's setting becomes the default of later ones too.
            torch.set_num_threads(threads)
        return np.concatenate([np.zeros((0, DIMENSIONS), dtype=np.float32), *done])

    def _embed_batch(self, windows: list[np.ndarray]) -> np.ndarray:
        import torch

        assert self._layers is not None
        lstm, linear = self._layers
        with torch.inference_mode():
            _, (hidden, _) = lstm(torch.from_numpy(np.stack(windows)))
            return torch.nn.functional.normalize(torch.relu(linear(hidden[-1])), dim=1).numpy()


def _mel_filters() -> np.ndarray:
    """Slaney's mel bands from 0 to 8 kHz, float32 ``[201, 40]``; what the network was trained with."""
    from transformers.audio_utils import mel_filter_bank

    filters = mel_filter_bank(
        num_frequency_bins=FRAME_SAMPLES // 2 + 1,
        num_mel_filters=MEL_BANDS,
        min_frequency=0.0,
        max_frequency=SAMPLE_RATE / 2,
        sampling_rate=SAMPLE_RATE,
        norm="slaney",
        mel_scale="slaney",
    )
    return np.asarray(filters, dtype=np.float32)


def _layers() -> tuple[torch.nn.LSTM, torch.nn.Linear]:
    """The trained layers.

    Raises:
        WeightsError: The package is missing, or its file is not the published one.
    """
    import torch

    folder = package_folder(WEIGHTS_PACKAGE)
    if folder is None:
        raise WeightsError(
            f"The weights of the voice encoder are not installed; install them with `{_INSTALL}`."
        )
    path = folder / "pretrained.pt"
    try:
        check_sha256(path, WEIGHTS_SHA256)
    except WeightsError as error:
        raise WeightsError(
            f"The weights of the voice encoder ({path}) are not the published ones; "
            f"replace them with `{_INSTALL} --force-reinstall`."
        ) from error
    state = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
    lstm = torch.nn.LSTM(MEL_BANDS, HIDDEN, num_layers=3, batch_first=True)
    linear = torch.nn.Linear(HIDDEN, DIMENSIONS)
    for name, layer in (("lstm.", lstm), ("linear.", linear)):
        layer.load_state_dict({key.removeprefix(name): state[key] for key in state if key.startswith(name)})
        layer.requires_grad_(False).eval()
    return lstm, linear


def _raise_volume(audio: np.ndarray) -> np.ndarray:
    """Quiet speech at the level of the training data; digital silence stays silence."""
    power = float(np.mean(np.square(audio, dtype=np.float64))) if len(audio) else 0.0
    if power <= 0:
        return audio
    gain = 10 ** (TARGET_DBFS / 20) / power**0.5
    return audio * np.float32(gain) if gain > 1 else audio


@dataclass(frozen=True)
class SpeechChunks:
    """Voices along a recording.

    Attributes:
        vectors: float32 ``[n_chunks, 256]``, means of unit window vectors (so shorter than 1 where
            the windows disagree).
        seconds: float64 ``[n_chunks]``, speech behind each.
        owner: int ``[n_chunks]``, index of the segment each was cut from.
    """

    vectors: np.ndarray
    seconds: np.ndarray
    owner: np.ndarray

    def some(self, which: np.ndarray) -> SpeechChunks:
        """The chunks with these indices."""
        return SpeechChunks(self.vectors[which], self.seconds[which], self.owner[which])


def embed_speech(
    audio_path: Path,
    segments: Sequence[Segment],
    speech: Sequence[Span],
    change: Callable[[np.ndarray], np.ndarray] | None = None,
    encoder: VoiceEncoder | None = None,
) -> SpeechChunks:
    """Cut the speech of segments in chunks of about 3 s, and embed each.

    Args:
        audio_path: 16 kHz FLAC; only the segments' own audio is read, a little at a time.
        segments: In order of time.
        speech: Detected speech; pauses inside segments are left out with it.
        change: What is done to the audio of each segment first.
        encoder: By default the one of this process.

    Raises:
        WeightsError: The encoder's weights are missing or not the published ones.
    """
    encoder = encoder or voice_encoder()
    vectors: list[np.ndarray] = []
    seconds: list[float] = []
    owner: list[int] = []
    batches = _batches(encoder, audio_path, segments, speech, change)

    def embed(batch: _Batch) -> np.ndarray:
        return encoder.embed(batch.windows)

    embedded: Iterable[tuple[_Batch, np.ndarray]]
    if encoder.at_once == 1:
        embedded = ((batch, embed(batch)) for batch in batches)
    else:
        embedded = in_order(embed, batches, encoder.at_once, Event())
    for batch, windows in embedded:
        ends = np.cumsum(batch.counts)
        vectors += (part.mean(axis=0) for part in np.split(windows, ends[:-1]))
        seconds += batch.seconds
        owner += batch.owner
    matrix = np.stack(vectors) if vectors else np.zeros((0, encoder.dimensions), np.float32)
    return SpeechChunks(matrix, np.array(seconds), np.array(owner, dtype=np.int64))


@dataclass(frozen=True)
class _Batch:
    """Windows that are embedded at a time.

    Attributes:
        windows: float32, each ``[160, 40]``.
        counts: How many windows each chunk has.
        seconds: Speech behind each chunk.
        owner: Index of the segment each chunk was cut from.
    """

    windows: list[np.ndarray] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    owner: list[int] = field(default_factory=list)


def _batches(
    encoder: VoiceEncoder,
    audio_path: Path,
    segments: Sequence[Segment],
    speech: Sequence[Span],
    change: Callable[[np.ndarray], np.ndarray] | None,
) -> Iterator[_Batch]:
    batch = _Batch()
    with soundfile.SoundFile(audio_path) as flac:
        for index, parts in enumerate(own_speech(segments, speech)):
            audio = (
                np.concatenate([read_open_range(flac, part.start, part.end, part.channel) for part in parts])
                if parts
                else np.zeros(0, np.float32)
            )
            if not np.any(audio):
                continue
            if change is not None:
                audio = change(audio)
            windows = _windows(encoder, audio)
            for chunk in np.array_split(np.arange(len(windows)), _chunk_count(len(audio))):
                if not len(chunk):
                    continue
                batch.windows.extend(windows[at] for at in chunk)
                batch.counts.append(len(chunk))
                batch.seconds.append(len(audio) / SAMPLE_RATE * len(chunk) / len(windows))
                batch.owner.append(index)
            if len(batch.windows) >= WAITING_WINDOWS:
                yield batch
                batch = _Batch()
    if batch.windows:
        yield batch


@lru_cache(maxsize=1)
def voice_encoder() -> VoiceEncoder:
    """The one voice encoder of this process; it loads at first use."""
    return VoiceEncoder()


def own_speech(segments: Sequence[Segment], speech: Sequence[Span]) -> Iterator[list[Span]]:
    """Where each segment's speaker is heard: the segment without its pauses; nothing for sounds."""
    starts = np.array([span.start for span in speech])
    for segment in segments:
        if segment.kind != "speech" or segment.end <= segment.start:
            yield []
            continue
        first = max(0, int(np.searchsorted(starts, segment.start)) - 1) if len(starts) else 0
        parts = []
        for span in speech[first:]:
            if span.start >= segment.end:
                break
            if span.channel == segment.channel and span.overlaps(segment.span):
                start, end = max(span.start, segment.start), min(span.end, segment.end)
                parts.append(Span(start, end, segment.channel))
        heard = sum(part.duration for part in parts)
        yield parts if heard >= MIN_SPEECH_SECONDS else [segment.span]


def _chunk_count(samples: int) -> int:
    return max(1, round(samples / SAMPLE_RATE / CHUNK_SECONDS))


def _windows(encoder: VoiceEncoder, audio: np.ndarray) -> list[np.ndarray]:
    """Mel windows over all of the audio, about half overlapping; short audio is repeated to fill one.

    Repeating half a second of speech keeps its vector closer to the speaker's than silence or a shorter
    input does (mean cosine 0.78 against 0.62 and 0.73).
    """
    needed = WINDOW_FRAMES * HOP_SAMPLES
    if len(audio) < needed:
        audio = np.tile(audio, -(-needed // len(audio)))[:needed]
    mel = encoder.mel(audio)
    spare = len(mel) - WINDOW_FRAMES
    count = max(1, -(-spare // WINDOW_STEP) + 1)
    starts = [round(spare * number / max(1, count - 1)) for number in range(count)]
    return [mel[start : start + WINDOW_FRAMES] for start in starts]
