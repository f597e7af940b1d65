"""What was said several times is written as often; what a recogniser only wrote so is not."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from index.audio.decode import decode_to_flac
from index.audio.windows import AudioWindow
from index.pipeline.transcribe_file import Transcript, transcribe_file
from index.records import Span
from index.transcription.retry import transcribe_window
from index.transcription.whisper import WhisperTranscriber
from moss_audio.audio import SAMPLE_RATE
from tests.index.test_listening import ScriptedTranscriber, say
from tests.support.media import cut

CASES = Path(__file__).parents[1] / "data" / "field_cases"
TIMES = 4
SENTENCE = "So the decision is to go with North Key Audio."


def one_after_another(parts: list[np.ndarray], pause: float = 0.4) -> np.ndarray:
    silence = np.zeros(round(pause * SAMPLE_RATE), np.float32)
    return np.concatenate([piece for part in parts for piece in (part, silence)])


def heard_in(audio: np.ndarray, seconds: float) -> tuple[int, list[bool]]:
    """How often a sentence is written of audio in which it takes so long, and how it was asked for."""
    spans = [Span(at, at + seconds - 0.4) for at in np.arange(TIMES) * seconds]
    written = [say(SENTENCE, span.start, span.end) for span in spans]
    engine = ScriptedTranscriber(lambda *_: written)
    heard = transcribe_window(AudioWindow(audio, 0.0, tuple(spans)), engine)
    return len(heard.segments), [careful for _, careful in engine.calls]


def test_a_sentence_that_is_said_over_and_over_is_no_loop(sample: Path) -> None:
    said, _ = cut(sample, 140, 142.6)
    assert heard_in(one_after_another([said] * TIMES), 3.0) == (TIMES, [False])


def test_a_sentence_that_is_written_over_and_over_of_other_speech_is_a_loop(sample: Path) -> None:
    parts = [cut(sample, start, start + 2.6)[0] for start in (20, 60, 100, 140)]
    times, asked = heard_in(one_after_another(parts), 3.0)
    assert times == 0 and True in asked


class Astray:
    """Stands for a loaded Whisper that hears a sentence in the first 30 s, then runs into a loop."""

    model = SimpleNamespace(is_multilingual=True)

    def __init__(self) -> None:
        self.heard: list[object] = []

    def watched(self, listener: object) -> AbstractContextManager[None]:
        return nullcontext()

    def transcribe(self, audio: np.ndarray, **options: object) -> tuple[list[object], None]:
        clip = options.get("clip_timestamps")
        self.heard.append(clip)
        if clip:
            return [written(31.0, "Goodbye everyone.")], None
        return [written(0.0, "Good morning."), written(30.0, "on and " * 40, compression_ratio=20.0)], None


def written(start: float, text: str, compression_ratio: float = 1.0) -> object:
    words = [
        SimpleNamespace(
            start=start + 0.01 * at, end=start + 0.01 * at + 0.01, word=f" {word}", probability=0.9
        )
        for at, word in enumerate(text.split())
    ]
    return SimpleNamespace(words=words, compression_ratio=compression_ratio, seek=int(start // 30 * 3_000))


def test_only_what_went_astray_is_heard_again(tmp_path: Path) -> None:
    whisper, model = WhisperTranscriber("base", tmp_path), Astray()
    whisper._loaded = model  # type: ignore[assignment]
    window = AudioWindow(np.zeros(40 * SAMPLE_RATE, np.float32), 0.0, (Span(0.0, 40.0),))
    heard = [segment.text for segment in whisper.transcribe(window)]
    assert heard == ["Good morning.", "Goodbye everyone."]
    assert model.heard == [None, [30.0, 40.0]]


@pytest.mark.slow
def test_an_announcement_that_is_played_again_and_again_is_written_as_often(
    models: Path, tmp_path: Path
) -> None:
    decode_to_flac(CASES / "english_then_german.opus", tmp_path / "whole.flac")
    audio, rate = cut(tmp_path / "whole.flac", 70.9, 100.1)
    soundfile.write(tmp_path / "announcement.wav", audio, rate)
    whisper = WhisperTranscriber("base", models / "whisper")
    *_, found = transcribe_file(tmp_path / "announcement.wav", whisper, "de", threading.Event())
    assert isinstance(found, Transcript) and found.coverage == pytest.approx(1.0, abs=0.03)
    text = " ".join(segment.text for segment in found.segments).lower()
    assert text.count("die prüfung beginnt am dienstag") == 3
