"""Files damaged at random, in every container that FFmpeg here writes, through the program's own door.

Ten seconds of the sample meeting are written in each form, and then damaged: bytes changed, zeroed, left out,
put in, or the end cut off, half of the time near the beginning, where headers are. Each file is read as
adding it would: its structure is looked at, a copy made, and notes written. What may come out is a copy,
with a note where something is missing, or one sentence; the program must neither crash nor take 30 s.

    python -m benchmarks.fuzz [--files N] [--seed N] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import soundfile

from benchmarks.common import SAMPLE, show
from benchmarks.media import Form, write
from index.audio.decode import decode_to_flac
from index.notes import describe
from index.recording_errors import MediaError
from moss_audio.decoder_process import DecoderDied

FORMS = (
    Form("wav", "pcm_s16le"),
    Form("wav", "adpcm_ms"),
    Form("wav", "pcm_mulaw", 8_000),
    Form("w64", "pcm_s24le"),
    Form("aiff", "pcm_s16be"),
    Form("caf", "alac"),
    Form("caf", "pcm_s16be"),
    Form("au", "pcm_s16be"),
    Form("flac", "flac"),
    Form("wv", "wavpack"),
    Form("tta", "tta"),
    Form("voc", "pcm_u8"),
    Form("sox", "pcm_s32le", container="sox"),
    Form("sf", "pcm_s16le", container="ircam"),
    Form("mp3", "libmp3lame"),
    Form("mp2", "mp2"),
    Form("aac", "aac", container="adts"),
    Form("latm", "aac", container="latm"),
    Form("ac3", "ac3", 48_000),
    Form("eac3", "eac3", 48_000),
    Form("amr", "libopencore_amrnb", 8_000),
    Form("g722", "g722", 16_000),
    Form("ogg", "libopus", 48_000),
    Form("ogg", "vorbis", layout="stereo"),
    Form("ogg", "flac"),
    Form("m4a", "aac", options=(("movflags", "faststart"),)),
    Form("m4a", "alac"),
    Form("3gp", "libopencore_amrnb", 8_000),
    Form("mp4", "aac", pictures="mpeg4"),
    Form("mp4", "libopus", 48_000, options=(("movflags", "frag_keyframe+empty_moov"),)),
    Form("mov", "pcm_s16le", pictures="mpeg4"),
    Form("mka", "libopus", 48_000),
    Form("mkv", "aac", pictures="mpeg4"),
    Form("webm", "libopus", 48_000),
    Form("avi", "libmp3lame", pictures="mpeg4"),
    Form("wma", "wmav2", container="asf", bit_rate=128_000),
    Form("flv", "libmp3lame"),
    Form("ts", "aac", container="mpegts"),
    Form("mpg", "mp2", container="mpeg", pictures="mpeg1video"),
    Form("mxf", "pcm_s16le", 48_000, pictures="mpeg2video"),
    Form("nut", "flac"),
    Form("rm", "real_144", 8_000),
)

STRIDE = 5
"""Forms from one file to the next, so that a few files are of many kinds; no divisor of their number."""

SLOW_SECONDS = 30.0

UNSAID_SECONDS = 0.5
"""So much less than the undamaged file has is a silent loss where no note says so."""

LENGTHLESS = frozenset(
    ("sf", "mp2", "aac", "latm", "ac3", "eac3", "amr", "g722", "ts", "mpg", "voc", "rm", "nut")
)
"""Suffixes of files that do not say how long they are: whole frames that are cut off leave no trace."""

Outcome = Literal[
    "intact", "noted", "refused", "decoder died", "shorter, no length", "loss unsaid", "slow", "failed"
]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


@dataclass(frozen=True)
class Result:
    """What became of a damaged file.

    Attributes:
        outcome: In a word.
        seconds: How long it took.
        detail: Notes or error, for a person.
    """

    outcome: Outcome
    seconds: float
    detail: str = ""


def changed(data: bytearray, at: int, rng: np.random.Generator) -> None:
    """Change one to twenty bytes near a place."""
    for _ in range(rng.integers(1, 21)):
        data[min(at + int(rng.integers(0, 256)), len(data) - 1)] = int(rng.integers(0, 256))


def zeroed(data: bytearray, at: int, rng: np.random.Generator) -> None:
    """Put zeros in place of a stretch."""
    size = min(int(2 ** rng.uniform(2, 14)), len(data) - at)
    data[at : at + size] = bytes(size)


def left_out(data: bytearray, at: int, rng: np.random.Generator) -> None:
    """Leave out a stretch."""
    del data[at : at + int(2 ** rng.uniform(0, 14))]


def put_in(data: bytearray, at: int, rng: np.random.Generator) -> None:
    """Put in a stretch of random bytes."""
    data[at:at] = rng.bytes(int(2 ** rng.uniform(0, 14)))


def cut_off(data: bytearray, at: int, rng: np.random.Generator) -> None:
    """Cut off the end."""
    del data[max(1, at) :]


DAMAGE: tuple[Callable[[bytearray, int, np.random.Generator], None], ...] = (
    changed,
    zeroed,
    left_out,
    put_in,
    cut_off,
)


def damaged(data: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    """A file's bytes with one to three places damaged, and how."""
    spoilt, how = bytearray(data), []
    for _ in range(rng.integers(1, 4)):
        damage = DAMAGE[rng.integers(0, len(DAMAGE))]
        end = len(spoilt) if rng.random() < 0.5 else min(4096, len(spoilt))
        at = int(rng.integers(0, end))
        damage(spoilt, at, rng)
        how.append(f"{damage.__name__} at {at}")
    return bytes(spoilt), ", ".join(how)


def examined(path: Path, seconds: float) -> Result:
    """What the program makes of a file.

    Args:
        path: The file.
        seconds: How long the undamaged file is.
    """
    started = time.perf_counter()
    outcome: Outcome
    try:
        read = decode_to_flac(path, path.with_suffix(".copy.flac"))
        detail = " ".join(describe(note) for note in read.notes)
        if detail:
            outcome = "noted"
        else:
            outcome = "shorter, no length" if path.suffix[1:] in LENGTHLESS else "loss unsaid"
            if read.duration > seconds - UNSAID_SECONDS:
                outcome = "intact"
            detail = f"{read.duration:.2f} of {seconds:.2f} s"
    except MediaError as error:
        outcome = "decoder died" if isinstance(error.__cause__, DecoderDied) else "refused"
        detail = str(error)
        if "\n" in detail or not detail.endswith("."):
            outcome = "failed"
    except Exception as error:
        outcome, detail = "failed", f"{type(error).__name__}: {error}"
    taken = time.perf_counter() - started
    return Result("slow" if taken > SLOW_SECONDS else outcome, taken, detail)


def runs(files: int, seed: int, folder: Path) -> Iterator[tuple[Form, str, Path, Result]]:
    """Damage and examine so many files, the forms in turns.

    Yields:
        The form, how it was damaged, the damaged file, and what became of it.
    """
    with soundfile.SoundFile(SAMPLE) as sample:
        sample.seek(60 * sample.samplerate)
        audio, rate = sample.read(10 * sample.samplerate, dtype="float32"), sample.samplerate
    audio = audio if audio.ndim == 1 else audio.mean(axis=1)
    whole: dict[Form, tuple[bytes, float]] = {}
    for number in range(files):
        form = FORMS[number * STRIDE % len(FORMS)]
        path = folder / f"{number}.{form.suffix}"
        if form not in whole:
            write(path, audio, rate, form)
            length = decode_to_flac(path, folder / "copy.flac").duration
            whole[form] = path.read_bytes(), length
        data, seconds = whole[form]
        spoilt, how = damaged(data, np.random.default_rng((seed, number)))
        path.write_bytes(spoilt)
        yield form, how, path, examined(path, seconds)
        path.unlink()
        path.with_suffix(".copy.flac").unlink(missing_ok=True)


def main() -> None:
    """Damage, examine and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a folder for files that were not handled well")
    options = parser.parse_args()
    counts = {form.name: Counter[str]() for form in FORMS}
    longest = dict.fromkeys(counts, 0.0)
    with tempfile.TemporaryDirectory() as folder:
        for form, how, path, result in runs(options.files, options.seed, Path(folder)):
            counts[form.name][result.outcome] += 1
            longest[form.name] = max(longest[form.name], result.seconds)
            if result.outcome in ("loss unsaid", "slow", "failed", "decoder died"):
                print(f"{path.name}: {result.outcome} ({how}): {result.detail}", flush=True)
                if options.keep:
                    options.keep.mkdir(parents=True, exist_ok=True)
                    (options.keep / path.name).write_bytes(path.read_bytes())
    rows: list[dict[str, object]] = [
        {"file": name}
        | {outcome: count[outcome] or "" for outcome in OUTCOMES}
        | {"longest, s": f"{longest[name]:.1f}"}
        for name, count in counts.items()
    ]
    total = sum(counts.values(), Counter[str]())
    show(
        f"{options.files} files damaged at random",
        rows,
        {outcome.replace(",", "").replace(" ", "_"): total[outcome] for outcome in OUTCOMES}
        | {"longest_s": round(max(longest.values()), 1)},
    )


if __name__ == "__main__":
    main()
