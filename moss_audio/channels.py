"""Channels to one: all count alike, unless one would take another's sound away.

Channels are looked at while they come, block by block. Where one is another inverted, their mean is silence;
then one of the two is left out. Of two channels, so is one that only hums, which drowns the other, and one
that is silent, which halves the other.
"""

from __future__ import annotations

import math

import numpy as np

CANCELS = -0.7
"""Correlation at which two channels take more from each other than they add; their mean then has less than a
sixth of the energy of one."""

CANCELS_NO_MORE = -0.3
"""Correlation above which they are mixed again, well apart so that speech does not switch to and fro."""

CANCELS_AT_ONCE = -0.98
"""A single block so opposite is enough: what is inverted from some moment on is heard from there."""

CORRELATION_SECONDS = 0.25
"""Time constant of the running correlation."""

HUMS = 0.004
"""Energy of a signal's differences over its own, at 16 kHz, up to which it has nothing above about 160 Hz: a
tone of f Hz has (2 pi f / 16000) squared, mains hum 0.0004 to 0.002, speech 0.02 and more."""

HUMS_NO_MORE = 0.01

HUM_SECONDS = 1.0
"""Time constant of what tells hum from a deep voice."""

HUM_BLOCKS = 8
"""One block in so many is looked at for hum, which lasts."""


class ChannelMixer:
    """Mixes the channels of one stream at 16 kHz, keeping in mind what they were like.

    Args:
        channels: How many there are.
        rate: Samples a second.
    """

    def __init__(self, channels: int, rate: int) -> None:
        self._channels = channels
        self._rate = rate
        self._products = np.zeros((channels, channels))
        """Running energies of the channels, and of what each two of them have in common."""
        self._blocks = 0
        self._energies = np.zeros(2)
        """Running energies of both channels and of their differences, over a longer time."""
        self._differences = np.zeros(2)
        self._hum_seconds = 0.0
        self._dead = np.ones(channels, bool)
        """Which channels held nothing but digital silence so far."""
        self._left_out = np.zeros(channels, bool)
        """The channels that would cancel others."""
        self._humming: int | None = None

    def mix(self, interleaved: np.ndarray) -> np.ndarray:
        """The next samples as one channel.

        Args:
            interleaved: float32 ``[1, n_samples * n_channels]``.

        Returns:
            float32 ``[n_samples]``.
        """
        if self._channels == 1:
            return interleaved.reshape(-1)
        return self.mix_rows(self.rows(interleaved))

    def mix_rows(self, rows: np.ndarray) -> np.ndarray:
        """The next samples, float32 ``[n_channels, n_samples]``, as one channel, float32 ``[n_samples]``."""
        if self._channels == 1:
            return rows[0]
        if rows.shape[1] > 1:
            if self._channels == 2 and self._dead.any():
                self._dead &= ~rows.any(axis=1)
                if self._dead.sum() == 1:
                    return rows[int(self._dead.argmin())]
            self._look(rows)
            if self._humming is not None:
                return rows[1 - self._humming]
            if self._left_out.any():
                return rows[~self._left_out].mean(axis=0, dtype=np.float32)
        return rows.mean(axis=0, dtype=np.float32)

    def rows(self, interleaved: np.ndarray) -> np.ndarray:
        """The same samples as float32 ``[n_channels, n_samples]``, a channel a row."""
        # NumPy averages whole rows four times as fast as many short columns.
        return np.ascontiguousarray(interleaved.reshape(-1, self._channels).T)

    def _look(self, rows: np.ndarray) -> None:
        products = (rows @ rows.T).astype(np.float64)
        if not math.isfinite(products.trace()):
            return
        seconds = rows.shape[1] / self._rate
        self._products = math.exp(-seconds / CORRELATION_SECONDS) * self._products + products
        if np.min(products) < 0 or self._left_out.any():
            self._leave_out(products)
        self._blocks += 1
        if self._channels == 2 and self._blocks % HUM_BLOCKS == 1:
            self._look_for_hum(rows, products.diagonal(), seconds * HUM_BLOCKS)

    def _leave_out(self, products: np.ndarray) -> None:
        """Decide which channels are left out, by the energies of the last block as well."""
        running, at_once = _correlations(self._products), _correlations(products)
        for channel in np.flatnonzero(self._left_out).tolist():
            self._left_out[channel] = running[channel, ~self._left_out].min() <= CANCELS_NO_MORE
        for first in range(self._channels):
            for second in range(first + 1, self._channels):
                sudden = at_once[first, second] < CANCELS_AT_ONCE
                if self._left_out[[first, second]].any() or not (sudden or running[first, second] < CANCELS):
                    continue
                if running[first, second] >= CANCELS:
                    # What came before must not end it with the next block.
                    pair = np.ix_((first, second), (first, second))
                    self._products[pair] = products[pair]
                louder = self._products[second, second] > 2 * self._products[first, first]
                self._left_out[first if louder else second] = True

    def _look_for_hum(self, rows: np.ndarray, energies: np.ndarray, seconds: float) -> None:
        differences = np.diff(rows, axis=1)
        kept = math.exp(-seconds / HUM_SECONDS)
        self._energies = kept * self._energies + energies
        self._differences = kept * self._differences + np.einsum("ij,ij->i", differences, differences)
        self._hum_seconds += seconds
        if self._hum_seconds < HUM_SECONDS:
            return
        tone = self._differences / np.maximum(self._energies, 1e-12)
        if self._humming is not None:
            if tone[self._humming] > HUMS_NO_MORE:
                self._humming = None
            return
        for channel in (0, 1):
            loud = self._energies[channel] > 0.05 * self._energies[1 - channel] > 1e-6
            if loud and tone[channel] < HUMS and tone[1 - channel] > HUMS_NO_MORE:
                self._humming = channel


def _correlations(products: np.ndarray) -> np.ndarray:
    """The correlation of each two signals, in [-1, 1]; 0 where one is silent."""
    energies = np.sqrt(products.diagonal())
    scales = np.outer(energies, energies)
    return np.where(scales > 1e-9, products / np.maximum(scales, 1e-9), 0.0)
