"""A window is accounted for whatever the engine does: inventions, loops and omissions."""

from __future__ import annotations

import numpy as np

from index.audio.windows import AudioWindow
from index.records import Segment, Span, Word
from index.transcription.retry import transcribe_window


class ScriptedTranscriber:
    """Answers by rule, and remembers what it was asked."""

    name = "scripted"
    windows_at_once = 1
    max_splits = 0

    def __init__(self, answer):
        self.answer = answer
        self.calls: list[tuple[float, bool]] = []

    def prepare(self, stop=None) -> None:
        """Nothing is loaded."""

    def detect_language(self, audio: np.ndarray):
        return None

    def transcribe(self, window: AudioWindow, careful: bool = False) -> list[Segment]:
        self.calls.append((window.start, careful))
        return self.answer(window, careful)


def say(text: str, start: float, end: float) -> Segment:
    parts = text.split()
    step = (end - start) / len(parts)
    spoken = tuple(Word(start + i * step, start + (i + 1) * step, " " + part) for i, part in enumerate(parts))
    return Segment(start, end, text, words=spoken, engine="scripted")


def window(*speech: tuple[float, float], length: float = 40.0) -> AudioWindow:
    return AudioWindow(
        np.zeros(int(length * 16_000), np.float32), 100.0, tuple(Span(100 + a, 100 + b) for a, b in speech)
    )


def test_text_where_the_detector_heard_nothing_is_dropped():
    engine = ScriptedTranscriber(
        lambda *_: [say("Hello there.", 101, 103), say("Thanks for watching!", 120, 122)]
    )
    heard = transcribe_window(window((1, 3)), engine)
    assert [segment.text for segment in heard.segments] == ["Hello there."]
    assert heard.gaps == ()


def test_words_that_run_into_silence_are_cut_off_their_sentence():
    engine = ScriptedTranscriber(lambda *_: [say("one two three four five six", 101, 113)])
    heard = transcribe_window(window((1, 5)), engine)
    assert heard.segments[0].text.split() == ["one", "two", "three"]
    assert heard.segments[0].end <= 107


def test_a_loop_is_heard_again_once_with_other_settings():
    def answer(_window, careful):
        return [say("We agreed on Friday.", 101, 105)] if careful else [say("we we " * 10, 101, 105)]

    engine = ScriptedTranscriber(answer)
    heard = transcribe_window(window((1, 5)), engine)
    assert [segment.text for segment in heard.segments] == ["We agreed on Friday."]
    assert engine.calls == [(100.0, False), (100.0, True)]


def test_a_loop_that_comes_back_is_cut_and_reported_as_a_gap():
    engine = ScriptedTranscriber(
        lambda window, careful: (
            [say("We start here.", 101, 103), say("oh my " * 12, 104, 114)]
            if window.start < 101
            else [say("oh my " * 12, 104, 114)]
        )
    )
    heard = transcribe_window(window((1, 3), (4, 14)), engine)
    assert [segment.text for segment in heard.segments] == ["We start here."]
    assert len(heard.gaps) == 1 and heard.gaps[0].overlaps(Span(105, 113))
    # The window, once more with other settings, and the gap it left on its own: nothing is tried twice.
    assert [careful for _, careful in engine.calls] == [False, True, True]


def test_speech_that_was_skipped_is_heard_once_more_on_its_own():
    def answer(asked, careful):
        if asked.start > 105:
            return [say("And this was lost.", 110, 114)]
        return [say("This was heard.", 101, 104)]

    engine = ScriptedTranscriber(answer)
    heard = transcribe_window(window((1, 4), (10, 14)), engine)
    assert [segment.text for segment in heard.segments] == ["This was heard.", "And this was lost."]
    assert heard.gaps == ()
    assert engine.calls[1][1] is True and 109 < engine.calls[1][0] <= 110


def test_what_stays_unheard_is_a_gap():
    heard = transcribe_window(
        window((1, 4), (10, 14)), ScriptedTranscriber(lambda *_: [say("This was heard.", 101, 104)])
    )
    assert len(heard.gaps) == 1
    assert heard.gaps[0].overlaps(Span(111, 113))


def test_a_gap_heard_twice_does_not_write_its_neighbour_twice():
    def answer(asked, careful):
        if asked.start > 101:
            return [say("the neighbour again", 101, 104), say("and the rest", 106, 109)]
        return [say("the neighbour again", 101, 104)]

    heard = transcribe_window(window((1, 9)), ScriptedTranscriber(answer))
    assert [segment.text for segment in heard.segments] == ["the neighbour again", "and the rest"]
