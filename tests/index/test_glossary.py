"""Words that must be spelled right reach Whisper where people speak, and nowhere else."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agent.engines.engine_choice import choose
from agent.engines.released_models import Machine
from agent.settings import Settings
from agent.workspace import open_workspace
from index.audio.windows import AudioWindow
from index.recording_errors import MossAgentError
from index.records import Span
from index.transcription.glossary import LONGEST_ENTRY, MOST_BYTES, read_glossary
from index.transcription.whisper import GLOSSARY_SPEECH_SECONDS, WhisperTranscriber

NAMES = ("NorthKey", "Callum", "ferry")


class Deaf:
    """Stands for a loaded Whisper, and keeps what it was asked; a token is a word."""

    def __init__(self, says: int) -> None:
        self.says = says
        self.asked: list[dict[str, Any]] = []
        self.model = SimpleNamespace(is_multilingual=True)
        self.max_length = 448
        self.hf_tokenizer = SimpleNamespace(
            encode=lambda text, add_special_tokens: SimpleNamespace(ids=text.split())
        )

    def watched(self, listener: object) -> AbstractContextManager[None]:
        return nullcontext()

    def transcribe(self, audio: np.ndarray, **options: Any) -> tuple[list[Any], None]:
        self.asked.append(options)
        word = SimpleNamespace(start=0.0, end=0.1, word=" ferry", probability=0.9)
        return [SimpleNamespace(words=[word] * self.says, compression_ratio=1.0, seek=0)], None


def heard_with(
    glossary: tuple[str, ...], spoken: float, tmp_path: Path, careful: bool = False, says: int = 60
) -> list[str | None]:
    """The hotwords each time that a window is heard with so much speech, where so many words are found."""
    whisper, model = WhisperTranscriber("base", tmp_path, glossary=glossary), Deaf(says)
    whisper._loaded = model  # type: ignore[assignment]
    window = AudioWindow(np.zeros(30 * 16_000, dtype=np.float32), 0.0, (Span(1.0, 1.0 + spoken),))
    whisper.transcribe(window, careful)
    return [options.get("hotwords") for options in model.asked]


def test_a_window_full_of_speech_is_heard_with_the_glossary(tmp_path: Path):
    assert heard_with(NAMES, 25.0, tmp_path) == ["NorthKey, Callum, ferry"]


def test_where_hardly_a_word_is_found_it_is_heard_without_the_glossary(tmp_path: Path):
    assert heard_with(NAMES, 25.0, tmp_path, says=3) == ["NorthKey, Callum, ferry", None]


def test_little_speech_what_is_heard_again_and_an_empty_glossary_go_without(tmp_path: Path):
    assert heard_with(NAMES, GLOSSARY_SPEECH_SECONDS - 0.1, tmp_path) == [None]
    assert heard_with(NAMES, 25.0, tmp_path, careful=True) == [None]
    assert heard_with((), 25.0, tmp_path) == [None]


def test_of_a_long_glossary_whole_entries_are_told_as_many_as_fit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.WARNING):
        [told] = heard_with(tuple(f"two words{number}" for number in range(5_000)), 25.0, tmp_path)
    assert told and told.split(", ") == [f"two words{number}" for number in range(111)]
    assert "5000" in caplog.text and "111" in caplog.text


def test_a_file_has_one_entry_a_line(tmp_path: Path):
    file = tmp_path / "names.txt"
    file.write_bytes("\ufeffNorthKey\r\n\r\n  Callum   Reid \nNorthKey\nKönigstraße\x07\n".encode())
    assert read_glossary(file) == ("NorthKey", "Callum Reid", "Königstraße")


@pytest.mark.parametrize(
    "content", [None, b"\xff\xfe\x00", b"x" * (MOST_BYTES + 1), b"y" * (LONGEST_ENTRY + 1)]
)
def test_what_is_no_glossary_is_refused_in_one_sentence(tmp_path: Path, content: bytes | None):
    file = tmp_path / "names.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(MossAgentError, match=r"names\.txt"):
        read_glossary(file)


def test_the_setting_reaches_whisper_and_is_empty_by_default(home: Path, tmp_path: Path):
    file = tmp_path / "names.txt"
    file.write_text("NorthKey\n")
    bare = Machine(None, 0, 8 << 30, 8 << 30, tmp_path / "hub")
    chosen = [choose(Settings(home=home, glossary=given), bare).transcriber for given in (None, file)]
    assert [transcriber.glossary for transcriber in chosen] == [(), ("NorthKey",)]  # type: ignore[attr-defined]


def test_words_that_are_kept_in_the_home_are_used_from_then_on(home: Path, tmp_path: Path):
    file = tmp_path / "names.txt"
    file.write_text("NorthKey\n")
    workspace = open_workspace(Settings(home=home, glossary=file, transcriber="tiny.en"))
    transcriber = workspace.transcriber
    assert isinstance(transcriber, WhisperTranscriber)
    transcriber._hotwords_text = "as it was told before"
    assert workspace.glossary == () and transcriber.glossary == ("NorthKey",)
    assert workspace.set_glossary("Callum\n\n  ferry \r\nCallum\nNorthKey") == ("Callum", "ferry", "NorthKey")
    assert transcriber.glossary == ("NorthKey", "Callum", "ferry") and transcriber._hotwords_text is None
    workspace.close()
    again = open_workspace(Settings(home=home, transcriber="tiny.en"))
    assert again.glossary == again.transcriber.glossary == ("Callum", "ferry", "NorthKey")  # type: ignore[attr-defined]
    assert again.set_glossary(" \n") == () == again.glossary
    assert not list(home.glob("glossary*"))
    again.close()


def test_what_is_no_glossary_leaves_the_words_that_are_kept(home: Path):
    workspace = open_workspace(Settings(home=home))
    workspace.set_glossary("ferry")
    for text in ("x" * (LONGEST_ENTRY + 1), "a\n" * MOST_BYTES):
        with pytest.raises(MossAgentError):
            workspace.set_glossary(text)
    assert workspace.glossary == ("ferry",)
    workspace.close()
