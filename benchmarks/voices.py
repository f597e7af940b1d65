"""Known voices, measured: recordings built from readers' clips, with readers that are known and strangers.

    python -m benchmarks.voices FOLDER [--half choose|report]

``FOLDER`` has a folder for each reader, with clips of that reader alone, mono at 16 kHz. Half of each
reader's clips make the voice that is known (30 s, clean). The other half is spoken in recordings of two to
four readers who take turns, 5 s to 2 min each; every second recording is given noise, reverberation, a
telephone's band or a low MP3 bit rate, as a later recording sounds different. Speakers are told apart as in
any recording; a speaker of it is the reader it has most speech of. Folders in which the two halves differ in
pitch are left out: what was learned would be somebody else's voice.

With ``--unseen`` they have conditions that the program does not simulate: a mobile telephone's codec, a low
Opus bit rate, white noise of another strength, a large room.

Thresholds are chosen on one half of the readers (``--half choose``, every second name) and reported on the
other.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.common import machine, markdown, switch_off_telemetry

switch_off_telemetry()

from index.diarization import voice_conditions
from index.diarization.diarize_stage import assign_speakers
from index.diarization.voice_matching import SpokenVoice, closeness, grade, spoken_voice
from index.records import Segment, Span
from moss_audio.audio import SAMPLE_RATE

LENGTHS = (5.0, 10.0, 20.0, 40.0, 80.0, 120.0)
"""Speech of a reader in a recording, seconds."""
TURN_SECONDS = (3.0, 12.0)
PROFILE_SECONDS = 30.0
CONDITIONS = ("clean", "noise", "reverberation", "telephone", "mp3")
UNSEEN = ("gsm", "opus", "white noise", "large room")
"""What is not simulated like that when a voice is learned."""
KNOWN = 6
"""Voices that a library knows at most."""
LIBRARIES = 20
"""Libraries that each recording is looked at with: other readers are known in each."""
LEAST_SECONDS = 20.0
"""Readers with less speech than this are left out."""
SAME_PITCH = 1.15
"""Halves of a folder whose pitch differs by a larger factor (two and a half semitones) are of two people."""


@dataclass(frozen=True)
class Trial:
    """A speaker of a recording: which reader it is, what of it was heard, and in which condition."""

    reader: str
    condition: str
    voice: SpokenVoice
    said: float


@dataclass(frozen=True)
class Outcome:
    """What was said of a speaker, with one library of known voices."""

    is_known: bool
    right: bool
    score: float
    margin: float
    seconds: float
    condition: str
    said: float


def clips(folder: Path) -> list[np.ndarray]:
    """A reader's clips, float32 at 16 kHz, in the order of their names."""
    found = []
    for path in sorted(folder.iterdir()):
        audio, rate = soundfile.read(path, dtype="float32")
        if rate != SAMPLE_RATE or audio.ndim != 1:
            raise SystemExit(f"{path} is not mono at {SAMPLE_RATE} Hz.")
        found.append(audio)
    return found


def pitch(audio: np.ndarray) -> float | None:
    """The median fundamental frequency of a clip, Hz, from 60 to 400; None where little of it is voiced."""
    found = []
    for start in range(0, len(audio) - 1024, 512):
        frame = audio[start : start + 1024] - audio[start : start + 1024].mean()
        if np.sqrt(np.mean(frame**2)) < 0.03:
            continue
        power = np.abs(np.fft.rfft(frame * np.hanning(1024), 4096)) ** 2
        likeness = np.fft.irfft(power)[: SAMPLE_RATE // 60]
        period = int(np.argmax(likeness[SAMPLE_RATE // 400 :])) + SAMPLE_RATE // 400
        if likeness[period] > 0.5 * likeness[0]:
            found.append(SAMPLE_RATE / period)
    return float(np.median(found)) if len(found) > 3 else None


def is_one_reader(audio: Sequence[np.ndarray]) -> bool:
    """Whether a voice is learned from who speaks in the recordings, as far as pitch tells."""
    half = len(audio) // 2
    first, second = (
        [hertz for clip in part if (hertz := pitch(clip)) is not None]
        for part in (audio[:half], audio[half:])
    )
    if not first or not second:
        return True
    ratio = float(np.median(first) / np.median(second))
    return 1 / SAME_PITCH <= ratio <= SAME_PITCH


def turns(audio: Sequence[np.ndarray], seconds: float, rng: np.random.Generator) -> list[np.ndarray]:
    """Speech of about that many seconds, in turns; clips follow one another with a short pause."""
    start = int(rng.integers(len(audio)))
    order = [audio[(start + at) % len(audio)] for at in range(len(audio))]
    found: list[np.ndarray] = []
    turn: list[np.ndarray] = []
    total, wanted = 0.0, rng.uniform(*TURN_SECONDS)
    for clip in order:
        clip = clip[: max(0, int((seconds - total) * SAMPLE_RATE))]
        if len(clip) < SAMPLE_RATE // 4:
            break
        turn += [clip, np.zeros(int(0.2 * SAMPLE_RATE), np.float32)]
        total += len(clip) / SAMPLE_RATE
        if sum(map(len, turn)) / SAMPLE_RATE >= wanted:
            found.append(np.concatenate(turn))
            turn, wanted = [], rng.uniform(*TURN_SECONDS)
    return [*found, np.concatenate(turn)] if turn else found


def distorted(audio: np.ndarray, condition: str, rng: np.random.Generator) -> np.ndarray:
    """The recording as it sounds under a condition."""
    match condition:
        case "noise":
            spectrum = np.fft.rfft(rng.standard_normal(len(audio)))
            pink = np.fft.irfft(spectrum / np.sqrt(np.arange(1, len(spectrum) + 1)), len(audio))
            level = np.sqrt(np.mean(audio**2)) / 10 ** (rng.uniform(10, 20) / 20)
            audio = audio + level * pink / np.sqrt(np.mean(pink**2))
        case "reverberation":
            audio = _echoed(audio, 0.4, 0.05, rng)
        case "telephone":
            audio = _banded(audio, 300, 3400)
        case "mp3":
            file = io.BytesIO()
            options = {"bitrate_mode": "CONSTANT", "compression_level": 0.95}
            soundfile.write(file, audio, SAMPLE_RATE, format="MP3", **options)
            file.seek(0)
            audio = soundfile.read(file, dtype="float32")[0]
        case "gsm":
            audio = _coded(_banded(audio, 100, 3800)[::2], 8000, "WAV", "GSM610").repeat(2)[: len(audio)]
            audio = _banded(audio, 100, 3800)
        case "opus":
            audio = _coded(audio, SAMPLE_RATE, "OGG", "OPUS", compression_level=1.0)
        case "white noise":
            noise = rng.standard_normal(len(audio)) * np.sqrt(np.mean(audio**2))
            audio = audio + noise / 10 ** (rng.uniform(12, 20) / 20)
        case "large room":
            audio = _echoed(audio, 0.8, 0.03, rng)
    return np.clip(audio, -1, 1).astype(np.float32)


def _echoed(audio: np.ndarray, seconds: float, share: float, rng: np.random.Generator) -> np.ndarray:
    length = int(seconds * SAMPLE_RATE)
    tail = rng.standard_normal(length) * np.exp(-6.9 * np.arange(length) / length) * share
    tail[0] = 1.0
    size = len(audio) + length
    return np.fft.irfft(np.fft.rfft(audio, size) * np.fft.rfft(tail, size), size)[: len(audio)]


def _banded(audio: np.ndarray, low: float, high: float) -> np.ndarray:
    spectrum = np.fft.rfft(audio)
    hertz = np.fft.rfftfreq(len(audio), 1 / SAMPLE_RATE)
    spectrum[(hertz < low) | (hertz > high)] = 0
    return np.fft.irfft(spectrum, len(audio))


def _coded(audio: np.ndarray, rate: int, format: str, subtype: str, **options: float) -> np.ndarray:
    file = io.BytesIO()
    soundfile.write(file, np.clip(audio, -1, 1), rate, format=format, subtype=subtype, **options)
    file.seek(0)
    coded = soundfile.read(file, dtype="float32")[0][: len(audio)]
    return np.pad(coded, (0, len(audio) - len(coded)))


def written(parts: Sequence[tuple[str, np.ndarray]], path: Path, condition: str, seed: int) -> list[Segment]:
    """Write a recording of turns; its segments carry the readers in their text."""
    at, segments, audio = 0, [], []
    for reader, part in parts:
        segments.append(Segment(at / SAMPLE_RATE, (at + len(part)) / SAMPLE_RATE, reader))
        audio += [part, np.zeros(int(0.4 * SAMPLE_RATE), np.float32)]
        at += len(audio[-2]) + len(audio[-1])
    whole = distorted(np.concatenate(audio), condition, np.random.default_rng(seed))
    soundfile.write(path, whole, SAMPLE_RATE, format="FLAC")
    return segments


def profiles(readers: dict[str, list[np.ndarray]], folder: Path) -> dict[str, SpokenVoice]:
    """The known voice of each reader, of the first half of the clips."""
    found = {}
    for number, (reader, audio) in enumerate(readers.items()):
        rng = np.random.default_rng(number)
        own = turns(audio[: len(audio) // 2], PROFILE_SECONDS, rng)
        path = folder / "profile.flac"
        segments = written([(reader, turn) for turn in own], path, "clean", number)
        spans = [segment.span for segment in segments]
        voice = spoken_voice(path, segments, spans, range(len(voice_conditions.CONDITIONS)))
        assert voice is not None
        found[reader] = voice
    return found


def means(known: dict[str, SpokenVoice]) -> np.ndarray:
    """What the voices of all readers have in common in each condition that is simulated."""
    return np.mean([_sample(voice) for voice in known.values()], axis=0).astype(np.float32)


def _sample(voice: SpokenVoice) -> np.ndarray:
    return np.stack([vector for vector in voice.in_each if vector is not None])


def recording(
    readers: dict[str, list[np.ndarray]], number: int, path: Path, unseen: bool = False
) -> tuple[list[Segment], str]:
    """One recording of two to four readers: its segments, and the condition."""
    rng = np.random.default_rng((5000 if unseen else 1000) + number)
    condition = CONDITIONS[1 + number // 2 % 4] if number % 2 else "clean"
    condition = UNSEEN[number % 4] if unseen else condition
    names = sorted(readers)
    present = rng.choice(names, size=int(rng.integers(2, 5)), replace=False)
    queues = {
        str(name): turns(readers[str(name)][len(readers[str(name)]) // 2 :], float(rng.choice(LENGTHS)), rng)
        for name in present
    }
    order = [(name, turn) for name, queue in queues.items() for turn in queue]
    rng.shuffle(order)
    return written(order, path, condition, number), condition


def trials(
    readers: dict[str, list[np.ndarray]], count: int, folder: Path, unseen: bool = False
) -> Iterator[Trial]:
    """Every speaker that is told apart in the recordings."""
    for number in range(count):
        path = folder / f"{number}.flac"
        segments, condition = recording(readers, number, path, unseen)
        speech = [Span(segment.start, segment.end) for segment in segments]
        names = assign_speakers(path, segments, speech)
        for name in dict.fromkeys(name for name in names if name):
            own = [segment for segment, given in zip(segments, names, strict=True) if given == name]
            seconds: Counter[str] = Counter()
            for segment in own:
                seconds[segment.text] += segment.end - segment.start  # type: ignore[assignment]
            voice = spoken_voice(path, own, speech)
            if voice is not None:
                reader, said = seconds.most_common(1)[0]
                yield Trial(reader, condition, voice, said)
        path.unlink()


def outcomes(found: Sequence[Trial], known: dict[str, SpokenVoice]) -> list[Outcome]:
    """Each speaker, looked at with several libraries of known voices."""
    rng = np.random.default_rng(7)
    names = sorted(known)
    samples = {name: _sample(voice) for name, voice in known.items()}
    results = []
    for trial in found:
        others = [name for name in names if name != trial.reader]
        for number in range(LIBRARIES):
            is_known = number % 2 == 0
            chosen = list(rng.permutation(others)[: KNOWN - is_known]) + [trial.reader] * is_known
            scores = {str(name): closeness(trial.voice, [samples[str(name)]]) for name in chosen}
            ranked = sorted(scores, key=lambda name: -scores[name])
            best, second = ranked[0], ranked[1]
            results.append(
                Outcome(is_known, best == trial.reader, scores[best], scores[best] - scores[second],
                        trial.voice.seconds, trial.condition, trial.said)
            )  # fmt: skip
    return results


def table(results: Sequence[Outcome]) -> list[dict[str, object]]:
    """The figures of all, and by speech heard and by condition."""
    groups: dict[str, list[Outcome]] = {"all": list(results)}
    for low, high in ((0, 8), (8, 15), (15, 30), (30, 1000)):
        label = f"{low}–{high} s heard" if high < 1000 else f"over {low} s heard"
        groups[label] = [one for one in results if low <= one.seconds < high]
    for condition in (*CONDITIONS, *UNSEEN):
        groups[condition] = [one for one in results if one.condition == condition]
    return [{"speakers": name, **figures(group)} for name, group in groups.items() if group]


def figures(results: Sequence[Outcome]) -> dict[str, object]:
    """Shares, in per cent of the speakers that are known, of the strangers, or of all."""
    graded = [(outcome, grade(outcome.score, outcome.margin, outcome.seconds)) for outcome in results]
    known = [pair for pair in graded if pair[0].is_known]
    strangers = [pair for pair in graded if not pair[0].is_known]

    def share(pairs: Sequence[tuple[Outcome, bool | None]], right: bool, kinds: Sequence[bool]) -> str:
        hits = sum(outcome.right == right and kind in kinds for outcome, kind in pairs if kind is not None)
        return f"{100 * hits / max(1, len(pairs)):.1f} %"

    return {
        "known": len(known),
        "surely again": share(known, True, (True,)),
        "again, sure or asked": share(known, True, (True, False)),
        "named wrongly": share(graded, False, (True,)),
        "asked wrongly": share(graded, False, (False,)),
        "strangers": len(strangers),
        "strangers named": share(strangers, False, (True,)),
        "strangers asked": share(strangers, False, (False,)),
    }


def halves(names: Sequence[str]) -> dict[str, list[str]]:
    """The readers whose figures choose thresholds, and those whose figures are reported."""
    return {"choose": list(names)[0::2], "report": list(names)[1::2]}


def main() -> None:
    """Measure one half of the readers and print its table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--half", choices=("choose", "report"), default="report")
    parser.add_argument("--recordings", type=int, default=60)
    parser.add_argument("--unseen", action="store_true", help="Only conditions that are not simulated.")
    parser.add_argument("--means", type=Path, help="Write the means of the conditions there, and do no more.")
    parser.add_argument("--keep", type=Path, help="File for every score, to choose thresholds from.")
    arguments = parser.parse_args()
    every = {folder.name: clips(folder) for folder in sorted(arguments.folder.iterdir()) if folder.is_dir()}
    enough = [name for name, own in every.items() if sum(map(len, own)) >= LEAST_SECONDS * SAMPLE_RATE]
    mixed = [name for name in enough if not is_one_reader(every[name])]
    if mixed:
        print(f"left out, since they hold more than one reader: {', '.join(mixed)}\n")
    enough = [name for name in enough if name not in mixed]
    readers = {name: every[name] for name in halves(enough)[arguments.half]}
    with tempfile.TemporaryDirectory() as folder:
        known = profiles(readers, Path(folder))
        if arguments.means:
            np.save(arguments.means, means(known))
            return
        found = list(trials(readers, arguments.recordings, Path(folder), arguments.unseen))
    results = outcomes(found, known)
    if arguments.keep:
        arguments.keep.write_text(json.dumps([vars(result) for result in results]))
    print(f"{len(readers)} readers, {arguments.recordings} recordings, {len(found)} speakers ({machine()})\n")
    print(markdown(table(results)))


if __name__ == "__main__":
    main()
