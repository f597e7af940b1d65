"""How well recordings are heard, side by side with bare faster-whisper, same weights, same file.

    python -m benchmarks.hearing [FOLDER] [--model base|tiny.en] [--only WORD] [--turns N]

The sample meeting is heard as it is and made worse: noise at 5 dB, reverberation, telephone band, -30 dB.
FOLDER holds damaged files and files with several tracks, channels and languages, all cut from the sample;
one that is not there is left out, with a line that says so.

*Words.* Word error rate by jiwer, after the normaliser of the Whisper paper as transformers ships it. Where
a file speaks two languages, the sentences of each are compared with that part of the reference. *Found*
counts the words of the reference that were written down in their place.

*Sides.* faster-whisper runs as its users run it: beam 1, its own pause filter, no context, word times. Ours
is the whole ingest: audio copy, coverage, speakers, storage, search index. All models are loaded before the
clock starts; the two take turns in one process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from pathlib import Path

import numpy as np
import soundfile

from agent.privacy import switch_off_telemetry

switch_off_telemetry()

from faster_whisper import WhisperModel

from agent.settings import Settings
from agent.workspace import Workspace, open_workspace
from benchmarks.common import SAMPLE, show
from benchmarks.ingest import bare_model, warm
from index.audio.decode import SAMPLE_RATE
from index.recording_errors import MossAgentError
from moss_audio.audio import load_audio
from moss_audio.evaluate.scoring import Normaliser, count_errors

SCRIPT = Path(__file__).parent.parent / "tests" / "data" / "harbour_meeting.json"
SEED = 0
MOST_SIDES = 4
"""Speakers whose words are compared in every order, where several talk at once."""

MOST_ABOVE = 0.005
"""A clean file's word error rate may be this much above that of faster-whisper."""

BOAT = "Without it, the last boat leaves at ten thirty, and the fireworks only start at ten."
EVERY_TWENTY = "They can run a boat every twenty minutes from six in the evening until midnight"
GERMAN = (
    "Guten Morgen. Herr Müller wohnt in der Königstraße in München. Die Prüfung beginnt am Dienstag um zehn "
    "Uhr. Wir brauchen noch dreißig Stühle für das Café."
)


@dataclass(frozen=True)
class Case:
    """A file and what is said in it.

    Attributes:
        name: How it is called in the table.
        said: The words of each language (ISO 639-1), in order.
        is_clean: Whether faster-whisper hears all of it, so that ours may not be worse.
        make: Writes the file into a folder and returns it; None where it is not there.
        has_sides: Whether several talk at once, so that what each says is compared on its own.
    """

    name: str
    said: dict[str, str]
    is_clean: bool
    make: Callable[[Path], Path | None]
    has_sides: bool = False


@dataclass(frozen=True)
class Heard:
    """What one side made of a file.

    Attributes:
        said: Languages (ISO 639-1; None where none is told) and sentences, in order.
        speakers: Who said each sentence; empty where nobody is told apart.
        seconds: Wall time.
        duration: Seconds of audio that were read.
        coverage: Share of detected speech that is accounted for; None where that is not known.
        problem: Why there is nothing, in a word or two.
    """

    said: Sequence[tuple[str | None, str]]
    seconds: float
    duration: float = 0.0
    coverage: float | None = None
    problem: str = ""
    speakers: Sequence[str | None] = ()

    def orders(self) -> Iterator[Sequence[tuple[str | None, str]]]:
        """The sentences, one speaker after the other, in every order of the speakers."""
        names = list(dict.fromkeys(self.speakers))
        for order in permutations(names[:MOST_SIDES]) if names else ():
            by_speaker = list(zip(self.speakers, self.said, strict=True))
            yield [part for name in order for speaker, part in by_speaker if speaker == name]


def script(start: float = 0.0, end: float = 1e9, without: str = "") -> str:
    """The sentences of the sample that lie in a range of seconds.

    Args:
        start, end: The range.
        without: What is left out at its end, where a file ends within a sentence.
    """
    segments = json.loads(SCRIPT.read_text(encoding="utf-8"))["segments"]
    spoken = [part for part in segments if part.get("kind") != "sound"]
    text = " ".join(part["text"] for part in spoken if start <= part["start"] and part["end"] <= end)
    return text.removesuffix(without)


def cases(folder: Path | None) -> list[Case]:
    """All cases; those of the folder only where one is given."""
    whole = script()
    made = [
        Case("sample", {"en": whole}, True, lambda _: SAMPLE),
        Case("sample, noise at 5 dB", {"en": whole}, False, partial(_changed, with_noise)),
        Case("sample, reverberation of 0.6 s", {"en": whole}, False, partial(_changed, with_reverberation)),
        Case("sample, telephone band", {"en": whole}, False, partial(_changed, in_telephone_band)),
        Case("sample at -30 dB", {"en": whole}, True, partial(_changed, quietly)),
    ]
    if folder is None:
        return made
    talk = script(12, 27)
    damaged = script(2.4, 41.5)
    call = f"{script(140, 148.5)} {script(19, 27)}"
    found = {
        "tracks_first_is_silent.mkv": {"en": talk},
        "tracks_default_is_second.mkv": {"en": f"{talk} {BOAT}"},
        "phase_inverted.mp3": {"en": BOAT},
        "phase_half_inverted.flac": {"en": talk},
        "two_channel_call.flac": {"en": call},
        "cut_short.wav": {
            "en": f"{script(2.4, 5.6)} We have three things to cover: the ferry timetable, the"
        },
        "cut_short.avi": {"en": f"{script(0, 19.2)} They can run a boat every twenty minutes"},
        "damaged_middle.m4a": {"en": damaged},
        "damaged_middle.opus": {"en": damaged},
        "chained_rates.ogg": {"en": f"{BOAT} {EVERY_TWENTY}"},
        "not_finite.wav": {"en": "Without it, the last boat leaves at ten thirty, and the fireworks"},
        "english_then_german.opus": {
            "en": script(0, 72, without=" and copy you both."),
            "de": " ".join([GERMAN] * 4),
        },
    }
    clean = {"cut_short.wav", "cut_short.avi", "not_finite.wav"}
    sides = {"two_channel_call.flac", "tracks_default_is_second.mkv"}
    return made + [
        Case(name, said, name in clean, partial(_given, folder / name), name in sides)
        for name, said in found.items()
    ]


def _given(file: Path, _: Path) -> Path | None:
    return file if file.exists() else None


def _changed(change: Callable[[np.ndarray], np.ndarray], folder: Path) -> Path:
    audio = change(load_audio(SAMPLE))
    path = folder / "changed.wav"
    soundfile.write(path, np.clip(audio, -1, 1), SAMPLE_RATE, subtype="PCM_16")
    return path


def with_noise(audio: np.ndarray, decibels: float = 5.0) -> np.ndarray:
    """White noise under the speech, at a ratio of speech power to noise power.

    Args:
        audio: float32 ``[n_samples]``.
        decibels: The ratio; the speech's power is that of the louder half of its 20 ms frames.
    """
    frames = audio[: len(audio) // 320 * 320].reshape(-1, 320)
    power = np.square(frames).mean(axis=1)
    speech = power[power >= np.median(power)].mean()
    noise = np.random.default_rng(SEED).normal(size=len(audio))
    mixed = audio + noise * np.sqrt(speech / 10 ** (decibels / 10))
    return (mixed / max(1.0, np.abs(mixed).max())).astype(np.float32)


def with_reverberation(audio: np.ndarray, seconds: float = 0.6) -> np.ndarray:
    """A room: noise that decays by 60 dB in ``seconds``, as loud as what comes directly."""
    from scipy.signal import fftconvolve

    times = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tail = np.random.default_rng(SEED).normal(size=len(times)) * 10 ** (-3 * times / seconds)
    tail /= np.sqrt(np.square(tail).sum())
    tail[0] += 1.0
    heard = fftconvolve(audio, tail)[: len(audio)]
    return (heard / np.abs(heard).max() * np.abs(audio).max()).astype(np.float32)


def in_telephone_band(audio: np.ndarray) -> np.ndarray:
    """300 to 3,400 Hz, eight bits by the mu-law (ITU-T G.711's curve)."""
    from scipy.signal import butter, sosfiltfilt

    band = sosfiltfilt(butter(4, [300, 3400], "bandpass", fs=SAMPLE_RATE, output="sos"), audio)
    pressed = np.sign(band) * np.log1p(255 * np.abs(band)) / np.log(256)
    pressed = np.round(pressed * 127) / 127
    return (np.sign(pressed) * np.expm1(np.abs(pressed) * np.log(256)) / 255).astype(np.float32)


def quietly(audio: np.ndarray) -> np.ndarray:
    """Thirty decibels quieter, so that ten of sixteen bits are left."""
    return audio * np.float32(10 ** (-30 / 20))


def by_bare(model: WhisperModel, file: Path) -> Heard:
    """What faster-whisper alone hears; it takes one language to be spoken throughout."""
    began = time.perf_counter()
    try:
        segments, about = model.transcribe(
            str(file), beam_size=1, vad_filter=True, condition_on_previous_text=False, word_timestamps=True
        )
        text = " ".join(segment.text for segment in segments)
    except Exception as error:
        # PyAV, NumPy and CTranslate2 each have errors of their own; a user would see any of them.
        return Heard((), time.perf_counter() - began, problem=f"fails ({type(error).__name__})")
    return Heard([(about.language, text)], time.perf_counter() - began, about.duration)


def by_ours(workspace: Workspace, file: Path) -> Heard:
    """What the whole ingest hears."""
    began = time.perf_counter()
    try:
        recording = workspace.add(file)
    except MossAgentError as error:
        return Heard((), time.perf_counter() - began, problem=str(error))
    seconds = time.perf_counter() - began
    segments = workspace.library.segments(recording.id)
    spoken = [segment for segment in segments if segment.kind == "speech"]
    workspace.remove(recording.id)
    said = [(segment.language, segment.text) for segment in spoken]
    speakers = [segment.speaker for segment in spoken]
    return Heard(said, seconds, recording.duration, recording.coverage, speakers=speakers)


def score(
    normalise: Normaliser, said: dict[str, str], heard: Sequence[tuple[str | None, str]]
) -> tuple[float, int, int]:
    """Word error rate, words found, and words said.

    Where several languages are spoken, what is written in another one than it was said in is wrong.
    """
    if len(said) == 1:
        heard = [(next(iter(said)), text) for _, text in heard]
    errors = found = spoken = 0
    for language in dict.fromkeys((*said, *(language for language, _ in heard))):
        true = normalise.units(said.get(language or "", ""), language)
        written = normalise.units(" ".join(text for told, text in heard if told == language), language)
        counts = count_errors(true, written) if true and written else None
        errors += counts.total if counts else len(true) + len(written)
        found += counts.reference - counts.substitutions - counts.deletions if counts else 0
        spoken += len(true)
    return errors / spoken, found, spoken


def rows(
    workspace: Workspace, chosen: Sequence[Case], turns: int
) -> Iterator[tuple[Case, dict[str, object], tuple[float, float]]]:
    """Hear each case with both; a row of the table, and both word error rates."""
    normalise = Normaliser()
    model = bare_model(workspace)
    for case in chosen:
        with tempfile.TemporaryDirectory() as made:
            file = case.make(Path(made))
            if file is None:
                print(f"{case.name} is not there; it is left out.")
                continue
            pairs = [(by_bare(model, file), by_ours(workspace, file)) for _ in range(turns)]
        (bare, ours) = pairs[0]
        bare_rate, bare_found, said = score(normalise, case.said, bare.said)
        orders = list(ours.orders()) if case.has_sides else [ours.said]
        our_rate, our_found, _ = min(score(normalise, case.said, order) for order in orders or [ours.said])
        yield (
            case,
            {
                "file": case.name,
                "words": said,
                "faster-whisper: WER, %": bare.problem or f"{100 * bare_rate:.1f}",
                "ours: WER, %": ours.problem or f"{100 * our_rate:.1f}",
                "words found": f"{bare_found} / {our_found}",
                "s read": f"{bare.duration:.1f} / {ours.duration:.1f}",
                "our coverage, %": "–" if ours.coverage is None else f"{100 * ours.coverage:.1f}",
                "× realtime": " / ".join(_speed(side) for side in zip(*pairs, strict=True)),
            },
            (bare_rate, our_rate),
        )


def _speed(heard: Sequence[Heard]) -> str:
    speeds = [turn.duration / turn.seconds for turn in heard if turn.duration]
    return f"{statistics.median(speeds):.1f}" if speeds else "–"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", help="files of the kinds that are hard to hear")
    parser.add_argument("--model", default="base")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--turns", type=int, default=1)
    options = parser.parse_args()
    chosen = [case for case in cases(options.folder) if options.only in case.name]
    table: list[dict[str, object]] = []
    result: dict[str, object] = {"model": options.model, "worse_where_clean": []}
    with tempfile.TemporaryDirectory() as home:
        workspace = open_workspace(Settings(home=Path(home), transcriber=options.model))
        warm(workspace)
        for case, row, (bare, ours) in rows(workspace, chosen, options.turns):
            table.append(row)
            # A run that is cut short has told what it knows.
            print(json.dumps(row, ensure_ascii=False), file=sys.stderr, flush=True)
            if case.is_clean and ours > bare + MOST_ABOVE:
                result["worse_where_clean"].append(case.name)  # type: ignore[attr-defined]
            result[case.name] = {"bare_wer": round(bare, 4), "our_wer": round(ours, 4)}
        workspace.close()
    if table:
        show(f"Hearing, faster-whisper / ours, Whisper {options.model}", table, result)


if __name__ == "__main__":
    main()
