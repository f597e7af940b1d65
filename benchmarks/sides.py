"""How often one recording is taken for several sides of a conversation, and the reverse.

    python -m benchmarks.sides [--files N] [--seed N]

Each row is a kind of file, made N times from stretches of the sample meeting's three speakers with levels,
delays, noise and rooms drawn at random, and decoded as adding it would. *Right* counts the copies that have
as many channels as there are sides. What was taken for something else is told as well: *mixed*, so that talk
at the same time is lost; *apart*, so that one voice is heard twice or a stereo recording is torn.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.common import SAMPLE, show
from index.audio.decode import decode_to_flac
from moss_audio.audio import SAMPLE_RATE, load_audio

SCRIPT = Path(__file__).parent.parent / "tests" / "data" / "harbour_meeting.json"
SECONDS = 20

Rows = Sequence[np.ndarray]


class Studio:
    """Makes voices, rooms and noise, each by chance.

    Args:
        seed: Of the generator that all chances come from.
    """

    def __init__(self, seed: int) -> None:
        self.chance = np.random.default_rng(seed)
        said = json.loads(SCRIPT.read_text(encoding="utf-8"))["segments"]
        audio = load_audio(SAMPLE)
        self._turns: dict[str, np.ndarray] = {}
        for name in dict.fromkeys(part["speaker"] for part in said if part.get("speaker")):
            own = [part for part in said if part.get("speaker") == name]
            cuts = [
                audio[round(part["start"] * SAMPLE_RATE) : round((part["end"] + 0.25) * SAMPLE_RATE)]
                for part in own
            ]
            self._turns[name] = np.concatenate(cuts)

    def voices(self, count: int, in_turn: bool) -> list[np.ndarray]:
        """Stretches of ``SECONDS``, each of one speaker; the fourth is the first one's, from elsewhere."""
        size = SECONDS * SAMPLE_RATE
        names = list(self.chance.permutation(list(self._turns)))
        found = []
        for place in range(count):
            turns = self._turns[names[place % len(names)]]
            at = self.chance.integers(len(turns))
            talk = np.roll(turns, -at)[:size]
            talk = np.pad(talk, (0, size - len(talk)))
            if in_turn:
                talk = np.where(np.arange(size) // (4 * SAMPLE_RATE) % count == place, talk, 0.0)
            found.append(talk)
        return found

    def noise(self, low: float = -75, high: float = -45) -> np.ndarray:
        """White noise, its level drawn between two, decibels of full scale."""
        return 10 ** (self.chance.uniform(low, high) / 20) * self.chance.normal(size=SECONDS * SAMPLE_RATE)

    def gain(self, low: float, high: float) -> float:
        """A factor, drawn between two levels in decibels."""
        return float(10 ** (self.chance.uniform(low, high) / 20))

    def late(self, sound: np.ndarray, low: int, high: int) -> np.ndarray:
        """A sound some milliseconds later, drawn between two."""
        samples = round(self.chance.uniform(low, high) * SAMPLE_RATE / 1000)
        return np.concatenate([np.zeros(samples), sound])[: len(sound)]

    def room(self, sound: np.ndarray) -> np.ndarray:
        """A sound as it comes to a place in a room that rings for 0.2 to 0.6 s."""
        length = round(self.chance.uniform(0.2, 0.6) * SAMPLE_RATE)
        echo = self.chance.normal(size=length) * 10 ** (-3 * np.arange(length) / length)
        response = np.concatenate([[1.0], self.gain(-12, 0) * echo / np.sqrt(np.square(echo).sum())])
        size = 2 * len(sound)
        return np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(response, size))[: len(sound)]

    def music(self) -> list[np.ndarray]:
        """Two channels of chords that swell, alike but for their phases."""
        times = np.arange(SECONDS * SAMPLE_RATE) / SAMPLE_RATE
        pitches = self.chance.choice([196, 220, 247, 262, 294, 330, 392, 440], 4, replace=False)
        swells = [np.sin(np.pi * self.chance.uniform(0.2, 0.8) * times) ** 2 for _ in pitches]
        phases = self.chance.uniform(0, 2, (2, len(pitches)))
        return [
            0.05 * np.sum([
                swell * np.sin(2 * np.pi * pitch * times + phase)
                for pitch, swell, phase in zip(pitches, swells, own, strict=True)
            ], axis=0)
            for own in phases
        ]  # fmt: skip


def call(studio: Studio, count: int = 2, in_turn: bool = False) -> Rows:
    """A side a channel, with noise, and levels up to 20 dB apart."""
    return [studio.gain(-20, 0) * talk + studio.noise() for talk in studio.voices(count, in_turn)]


def call_with_echo(studio: Studio) -> Rows:
    """Each side comes back on the other's channel, 18 to 40 dB fainter."""
    one, other = studio.voices(2, True)
    return [
        one + studio.gain(-40, -18) * studio.late(other, 0, 300) + studio.noise(-75, -55),
        other + studio.gain(-40, -18) * studio.late(one, 0, 300) + studio.noise(-75, -55),
    ]


def quiet_side(studio: Studio) -> Rows:
    """One side is 30 to 45 dB fainter than the other."""
    one, other = studio.voices(2, True)
    return [one + studio.noise(-75, -60), studio.gain(-45, -30) * other + studio.noise(-95, -85)]


def recorder(studio: Studio) -> Rows:
    """Three to five people who speak in turn, each with a microphone that hears the others faintly."""
    count = int(studio.chance.integers(3, 6))
    voices = studio.voices(count, True)
    return [
        sum(
            (talk if place == own else studio.gain(-40, -22) * studio.late(talk, 2, 20))
            for place, talk in enumerate(voices)
        )
        + studio.noise(-75, -60)
        for own in range(count)
    ]


def mono_twice(studio: Studio) -> Rows:
    """One voice on both channels; one of them fainter, inverted, late by up to two seconds, or all of it."""
    (talk,) = studio.voices(1, False)
    sign = float(studio.chance.choice([-1, 1]))
    return [
        talk,
        sign * studio.gain(-12, 0) * studio.late(talk, 0, int(studio.chance.choice([5, 100, 2000]))),
    ]


def stereo_microphone(studio: Studio) -> Rows:
    """Two people before two microphones in a room, each nearer to one of them."""
    one, other = studio.voices(2, bool(studio.chance.integers(2)))
    return [
        studio.room(near) + studio.gain(-9, -3) * studio.room(studio.late(far, 0, 6)) + studio.noise(-75, -55)
        for near, far in ((one, other), (other, one))
    ]


def talk_under_music(studio: Studio) -> Rows:
    """One voice in the middle of stereo music."""
    (talk,) = studio.voices(1, False)
    level = studio.gain(-15, 0)
    return [talk + level * music for music in studio.music()]


def one_side_sounds(studio: Studio) -> Rows:
    """One voice on one channel, music or noise on the other."""
    (talk,) = studio.voices(1, False)
    other = studio.music()[0] if studio.chance.integers(2) else studio.noise(-50, -30)
    return [talk + studio.noise(), other]


def film(studio: Studio) -> Rows:
    """Talk on the centre channel of six, music on the others."""
    (talk,) = studio.voices(1, False)
    left, right = studio.music()
    behind = [0.3 * studio.late(part, 5, 30) for part in (left, right)]
    return [left, right, talk, np.zeros_like(talk), *behind]


KINDS: dict[str, tuple[Callable[[Studio], Rows], int | None]] = {
    "call, both talk at once": (call, 2),
    "call, in turn": (lambda studio: call(studio, in_turn=True), 2),
    "call with echo": (call_with_echo, 2),
    "call with a quiet side": (quiet_side, 2),
    "recorder, 3 to 5 people": (recorder, None),
    "mono twice": (mono_twice, 1),
    "stereo microphone, two people": (stereo_microphone, 1),
    "talk under stereo music": (talk_under_music, 1),
    "talk, and another sound beside it": (one_side_sounds, 1),
    "film with six channels": (film, 1),
}
"""What makes each kind, and how many sides it has; None for as many as it has channels."""


def sides_found(rows: Rows, folder: Path) -> int:
    """How many sides are heard of a file with these channels."""
    loudest = max(float(np.abs(row).max()) for row in rows)
    channels = np.stack(rows, axis=1) / max(1.0, loudest)
    soundfile.write(folder / "made.wav", channels, SAMPLE_RATE, subtype="PCM_16")
    decode_to_flac(folder / "made.wav", folder / "copy.flac")
    return soundfile.info(folder / "copy.flac").channels


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=20, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    table: list[dict[str, object]] = []
    result: dict[str, object] = {"files": options.files, "seed": options.seed}
    for name, (make, sides) in KINDS.items():
        studio = Studio(options.seed)
        counts = []
        with tempfile.TemporaryDirectory() as folder:
            for _ in range(options.files):
                rows = make(studio)
                counts.append(sides_found(rows, Path(folder)) - (len(rows) if sides is None else sides))
        right, mixed, apart = (sum(1 for count in counts if np.sign(count) == sign) for sign in (0, -1, 1))
        table.append({"file": name, "right": right, "mixed": mixed or "", "apart": apart or ""})
        result[name] = right
    show(f"Sides, {options.files} files of each kind", table, result)


if __name__ == "__main__":
    main()
