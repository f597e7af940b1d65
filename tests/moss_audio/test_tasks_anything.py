"""Promises that hold for whatever a model writes: no error, no loss unreported, whole times, linear work."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from moss_audio.errors import PromptError
from moss_audio.generation.loops import cut_loops
from moss_audio.tasks import TASKS, Parsed, Task, TimedText, ask, choice, official

ALL = {**TASKS, "choice with options": choice("What is it?", ["a dog", "a cat", "rain"])}
TIMED = ["timestamps", "words", "speakers", "events"]
UNITS_AND_LABELS = frozenset("secondsspkspeakerto秒说话人至到")
"""Letters that stamps and labels are written with; a stamp that is read is in the value as a number."""

durations = st.none() | st.floats(0, 400)

STRUCTURE = re.compile(
    r"</?think(?:ing)?>|assistant|\\u[0-9a-f]{4}|\\[nrtbf]|(?:start|end|event|null|from|between|at|and)\b",
    re.I,
)
"""What gives a text its form and is no part of what it says."""

PIECES = st.sampled_from(
    [
        "[0.00]",
        "[2.01]",
        "[1.5s]",
        "[00:03]",
        "[0:00:04,500]",
        "【5.0】",
        "[6 - 7.5]",
        "[9999999]",
        "[",
        "]",
        "[1",
        "0.0 - 1.2: ",
        "00:01-00:03 ",
        "(2.0 - 3.0)",
        "3.5 – 2.5 ",
        "- ",
        "1. ",
        "| ",
        "**",
        "\n",
        "\n\n",
        " ",
        "\t",
        "[S01]",
        "[Speaker 2]",
        "Speaker 1: ",
        "hello there",
        "the weather",
        "no ",
        "thank you. ",
        "你好",
        "哈",
        "🙂",
        "<think>",
        "</think>",
        "```",
        "```json\n",
        "<|im_end|>",
        "<|im_start|>",
        "assistant",
        "user\n",
        '{"gender": "male", ',
        '"age": ',
        '"30"',
        "'tone': 'it's dry'",
        "}",
        "{",
        '"',
        "'",
        "“",
        "”",
        ":",
        "：",
        ",",
        "，",
        '"start": 1.0, ',
        '"end": 2.0, ',
        '"event": "dog"',
        "null",
        "\\",
        "\\u00e9",
        "\\ud83d",
        "A",
        "(B)",
        "B. a cat",
        "The answer is ",
        "答案是",
        "a dog",
        "rain",
        "not ",
        "or ",
        "Here is the transcript:",
    ]
)
written = st.one_of(
    st.text(),
    st.text(st.characters(exclude_categories=())),
    st.lists(PIECES | st.text(max_size=3), max_size=40).map("".join),
    st.tuples(PIECES, st.integers(2, 60), PIECES).map(lambda drawn: drawn[0] * drawn[1] + drawn[2]),
    st.lists(PIECES, min_size=1, max_size=4).map("".join).map(lambda drawn_: drawn_ * 12),
)

words = st.text("abcdefghijklmnopqrstuvwxyzäé你好音", min_size=1, max_size=8)
hundredths = st.integers(0, 60_000).map(lambda drawn: drawn / 100)


@st.composite
def timed_texts(draw: st.DrawFn, one_word: bool = False, labels: bool = False) -> list[TimedText]:
    """Timed texts in order, each ending in a word of its own; none has a loop, which would rightly be cut."""
    found = []
    for index, start in enumerate(sorted(draw(st.lists(hundredths, max_size=12)))):
        end = draw(st.integers(round(start * 100), 60_000)) / 100
        own = f"w{index}"
        text = own if one_word else " ".join([*draw(st.lists(words, max_size=4)), own])
        who = f"S{draw(st.integers(0, 120)):02d}" if labels else None
        found.append(TimedText(start, end, text, who))
    assume(not cut_loops([part.text for part in found])[1])
    return found


def contents(parsed: Parsed) -> str:
    """All text of a value and of what was dropped."""
    return json.dumps(parsed.to_json()["value"], ensure_ascii=False) + "".join(
        finding.text for finding in parsed.dropped
    )


def letters(text: str) -> Counter[str]:
    return Counter(char for char in text.casefold() if char.isalpha() and char not in UNITS_AND_LABELS)


@pytest.mark.parametrize("name", ALL)
@given(text=written, duration=durations)
def test_no_text_raises_and_every_value_can_be_shown(name: str, text: str, duration: float | None):
    parsed = ALL[name].parse(text, duration)
    json.dumps(parsed.to_json())
    assert isinstance(parsed.to_text(), str)
    assert all(finding.reason and finding.kind and finding.to_text() for finding in parsed.dropped)


@pytest.mark.parametrize("name", TIMED)
@given(text=written, duration=durations)
def test_times_are_whole_in_order_and_within_the_clip(name: str, text: str, duration: float | None):
    value = ALL[name].parse(text, duration).value
    limit = float("inf") if duration is None else duration
    for piece in value:
        assert 0 <= piece.start <= piece.end <= limit
        assert piece.text.strip() == piece.text and any(map(str.isalnum, piece.text))
    assert all(before.start <= after.start for before, after in pairwise(value))
    if name == "words":
        assert all(len(part.text.split()) == 1 for part in value)


@pytest.mark.parametrize("name", ["transcribe", "timestamps", "words", "speakers", "events", "ask"])
@given(text=written, duration=durations)
def test_no_letter_is_lost_without_a_report(name: str, text: str, duration: float | None):
    parsed = ALL[name].parse(text, duration)
    missing = letters(STRUCTURE.sub("", text)) - letters(contents(parsed))
    assert not missing, f"{missing} of {text!r} is neither in {parsed.value!r} nor in {parsed.dropped!r}"


@given(pieces=st.lists(PIECES, max_size=25), at=st.integers(0, 25), name=st.sampled_from(sorted(ALL)))
def test_a_word_put_anywhere_is_in_the_value_or_in_the_report(pieces: list[str], at: int, name: str):
    marker = "qxjzv"
    pieces.insert(min(at, len(pieces)), f" {marker} ")
    assert marker in contents(ALL[name].parse("".join(pieces), 60.0))


@given(parts=timed_texts())
def test_sentences_come_back_as_they_were_written(parts: list[TimedText]):
    parsed = TASKS["timestamps"].parse(official(parts), 600.0)
    assert list(parsed.value) == parts
    assert parsed.dropped == ()


@given(parts=timed_texts(one_word=True))
def test_words_come_back_as_they_were_written(parts: list[TimedText]):
    parsed = TASKS["words"].parse(official(parts), 600.0)
    assert list(parsed.value) == parts
    assert parsed.dropped == ()


@given(parts=timed_texts(labels=True))
def test_speakers_come_back_as_they_were_written(parts: list[TimedText]):
    parsed = TASKS["speakers"].parse(official(parts), 600.0)
    assert list(parsed.value) == parts
    assert parsed.dropped == ()


@given(parts=timed_texts())
def test_events_come_back_as_they_were_written(parts: list[TimedText]):
    text = "\n".join(f"{part.start:.2f} - {part.end:.2f}: {part.text}" for part in parts)
    parsed = TASKS["events"].parse(text, 600.0)
    assert [(piece.start, piece.end, piece.text) for piece in parsed.value] == [
        (part.start, part.end, part.text) for part in parts
    ]
    assert parsed.dropped == ()


@given(parts=timed_texts(), cut=st.integers(0, 400))
def test_a_transcript_cut_anywhere_keeps_all_that_was_whole(parts: list[TimedText], cut: int):
    text = official(parts)[:cut]
    value = TASKS["timestamps"].parse(text, 600.0).value
    whole = [part for index, part in enumerate(parts) if len(official(parts[: index + 1])) <= cut]
    assert list(value)[: len(whole)] == whole
    assert len(value) <= len(whole) + 1


@given(
    fields=st.dictionaries(
        st.sampled_from(["gender", "age", "tone", "summary"]),
        st.lists(words, min_size=1, max_size=5, unique=True).map(" ".join),
    ),
    cut=st.integers(0, 200),
)
def test_a_caption_cut_anywhere_holds_true_fields_only(fields: dict[str, str], cut: int):
    text = json.dumps(fields, ensure_ascii=False)
    found = TASKS["caption"].parse(text[:cut]).value.to_json()
    assert found.items() <= fields.items()
    assert TASKS["caption"].parse(text).value.to_json() == fields


@given(st.lists(st.lists(st.sampled_from(["ab", "cd", "no", "好"]), max_size=20).map(" ".join), max_size=5))
def test_cutting_loops_loses_no_word_and_leaves_no_loop(texts: list[str]):
    kept, cut = cut_loops(texts)
    assert len(kept) == len(texts)
    assert Counter(" ".join(texts).split()) == Counter(
        " ".join([*kept, *(words for _, words in cut)]).split()
    )
    assert cut_loops(kept) == (kept, [])


def hostile(size: int) -> dict[str, str]:
    """Texts of about ``size`` characters that are hard for parsers which look back."""
    return {
        "open brackets": "[" * size,
        "stamps": "[0.00]" * (size // 6),
        "timed words": "".join(f"[{i}.00]w{i}[{i}.50]" for i in range(size // 20)),
        "falling times": "".join(f"[{size - i}.00]w{i}[{size - i}.50]" for i in range(size // 20)),
        "spaces": " " * size,
        "spaced brackets": "[ " * (size // 2),
        "digits": "1" * size,
        "ranges": "1-2 " * (size // 4),
        "colons": "1:" * (size // 2),
        "event lines": "\n".join(f"{i}.0 - {i + 1}.0: w{i}" for i in range(size // 20)),
        "braces": "{" * size,
        "objects within objects": '{"gender":' * (size // 10),
        "quotes": '{"a": "' + '" ' * (size // 2),
        "escapes": '{"gender": "' + "\\" * size,
        "thoughts": "<think>" * (size // 7),
        "half tokens": "<|" * (size // 2),
        "backticks": "`" * size,
        "one long word": "ha" * (size // 2),
        "one long loop": "thank you. " * (size // 11),
        "no loop": " ".join(f"{pow(3, i, 99991)}" for i in range(size // 7)),
        "answers": "the answer is " * (size // 14),
        "options": "A. dog\n" * (size // 7),
        "denials": "not a dog " * (size // 10),
    }


PARSERS = ["transcribe", "words", "speakers", "events", "caption", "choice with options"]


def slowest(size: int) -> tuple[float, str, str]:
    """Processor seconds of the slowest parser on the text that is hardest for it."""
    found = []
    for sort, text in hostile(size).items():
        for name in PARSERS:
            before = time.process_time()
            ALL[name].parse(text, 60.0)
            found.append((time.process_time() - before, sort, name))
    return max(found)


def test_hostile_texts_take_no_time_to_speak_of():
    took, sort, name = slowest(10_000)
    assert took < 2, f"{name} took {took:.1f} s for 10 KB of {sort}"


@pytest.mark.slow
def test_sixty_kilobytes_of_hostile_text_take_seconds_not_minutes():
    took, sort, name = slowest(60_000)
    assert took < 10, f"{name} took {took:.1f} s for 60 KB of {sort}"


def test_every_task_is_under_its_own_name_and_only_questions_lack_a_whole_prompt():
    known = "transcribe timestamps words speakers events caption music scene ask choice"
    assert " ".join(TASKS) == known
    for name, task in TASKS.items():
        assert isinstance(task, Task) and task.name == name and task.title
        assert task.needs_question == (name in ("ask", "choice"))
        assert task.prompt or name == "ask"


def test_the_prompts_the_makers_published_are_asked_word_for_word():
    assert TASKS["transcribe"].prompt == "Transcribe the audio."
    assert TASKS["timestamps"].prompt == (
        "Transcribe the audio into sentence-level timestamps using the format [xx.xx]text[yy.yy], where "
        "xx.xx and yy.yy are millisecond-precision timestamps rounded to two decimal places. Concatenate "
        "consecutive segments without breaks, for example [0.00]hello there[2.01][2.01]the weather is nice "
        "today[4.32]. Exclude any additional content such as explanations, headings, or annotations."
    )


def test_what_is_parsed_is_decoded_greedily():
    assert {name for name, task in TASKS.items() if not task.greedy} == {"music", "scene", "ask"}


def test_a_free_question_becomes_the_prompt():
    task = ask(" What plays? ")
    assert task.prompt == "What plays?" and not task.needs_question
    assert task.parse("A **piano**.\n\n- slow", 5.0).value.text == "A **piano**.\n\n- slow"
    with pytest.raises(PromptError):
        ask(" ")


def test_a_transcript_is_freed_of_everything_around_it():
    parsed = TASKS["transcribe"].parse(
        "<think>hm</think>Here is the transcription:\n```\n[0.00] hello [1.00] "
        + "thank you. " * 9
        + "\n```\nDone."
    )
    assert parsed.value.text == "hello thank you."
    assert parsed.kinds == {"thinking", "explanation", "fence", "stamp", "loop"}
    assert TASKS["transcribe"].parse("Hello there.\nHow are you?").to_json() == {
        "value": {"text": "Hello there.\nHow are you?"},
        "dropped": [],
    }
