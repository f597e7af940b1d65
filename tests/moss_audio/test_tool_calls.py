"""Tool calls are read from whatever a model writes, and never shown."""

from __future__ import annotations

import json
import random
import time
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from moss_audio.generation.tool_calls import Call, CallReader, coerced, read_calls, words_in

TOOLS = {
    "search_recordings": {"properties": {"query": {"type": "string"}, "k": {"type": "integer"}}},
    "read_transcript": {
        "properties": {
            "recording": {"type": "string"},
            "start": {"type": "number"},
            "end": {"type": "number"},
            "speaker": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        }
    },
    "list_recordings": {"properties": {}},
}
READ = Call("read_transcript", {"recording": "abc", "start": 120, "end": 180.5})
LIST = Call("list_recordings", {})
BODY = '{"name": "read_transcript", "arguments": {"recording": "abc", "start": 120, "end": 180.5}}'

WORDS = st.text(st.characters(categories=("L", "N", "Zs"), max_codepoint=0x2FFF), max_size=20)
TEXTS = st.text(
    st.sampled_from("ab ,.:;?!'()-äß好123\n") | st.characters(categories=("L",), max_codepoint=0x24F),
    max_size=30,
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9999, 9999) | st.floats(-1e6, 1e6, width=32) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
CALLS = st.builds(
    Call,
    st.sampled_from(["search_recordings", "x_y", "Tool-9"]),
    st.dictionaries(st.text(max_size=8), VALUES, max_size=4),
)
"""Any calls at all."""
PLAIN = st.builds(
    lambda recording, start, end: Call(
        "read_transcript", {"recording": recording, "start": start, "end": end}
    ),
    st.text("abcdef 0123456789äß", min_size=1, max_size=12).filter(lambda drawn_: drawn_.strip() == drawn_),
    st.integers(0, 9999),
    st.floats(0, 9999).map(lambda drawn: round(drawn, 2)),
)
"""Calls as they are made here, to be damaged."""


def body(call: Call) -> str:
    return json.dumps({"name": call.name, "arguments": dict(call.arguments)}, ensure_ascii=False)


def read(text: str, complete: bool = True) -> tuple[str, list[Call], list[str]]:
    reader = CallReader(TOOLS)
    words = words_in(reader.feed(text) + reader.finish(complete))
    return words, reader.calls, reader.broken


@given(st.lists(CALLS, min_size=1, max_size=4), TEXTS)
def test_calls_are_read_as_qwen_writes_them(calls: list[Call], words: str) -> None:
    assume(not words.lstrip(" ").startswith(("{", "[", "`")))
    said = words + "\n" + "\n".join(f"<tool_call>\n{body(call)}\n</tool_call>" for call in calls)
    shown, found, broken = read(said)
    assert (found, broken) == (calls, [])
    assert shown.strip() == words.strip()


DAMAGES = {
    "a brace is missing": lambda text: text[:-1],
    "both braces are missing": lambda text: text[:-2],
    "a brace too many": lambda text: text + "}",
    "commas before closing brackets": lambda text: text.replace("}", ",}"),
    "single quotes": lambda text: repr(json.loads(text)),
    "fenced": lambda text: f"```json\n{text}\n```",
    "encoded twice": lambda text: json.dumps(
        {"name": json.loads(text)["name"], "arguments": json.dumps(json.loads(text)["arguments"])}
    ),
    "in a list": lambda text: f"[{text}]",
    "as OpenAI has it": lambda text: json.dumps({"type": "function", "function": json.loads(text)}),
    "other names of the fields": lambda text: text.replace('"name"', '"tool"').replace(
        '"arguments"', '"parameters"'
    ),
    "bare keys": lambda text: text.replace('"name"', "name").replace('"arguments"', "arguments"),
    "curly quotes": lambda text: text.replace('"', "“"),
    "flat": lambda text: json.dumps({"name": json.loads(text)["name"], **json.loads(text)["arguments"]}),
    "keyed by its name": lambda text: json.dumps({json.loads(text)["name"]: json.loads(text)["arguments"]}),
    "another spelling": lambda text: text.replace("read_transcript", "functions.Read-Transcript"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@given(PLAIN)
def test_damaged_calls_are_repaired(damage: str, call: Call) -> None:
    assert read_calls(DAMAGES[damage](body(call)), TOOLS) == [call]


@pytest.mark.parametrize(
    "text",
    [
        BODY.replace('"start": 120,', '"start": 120'),
        BODY.replace('"abc",', '"abc,'),
        BODY.replace('"recording":', 'recording":'),
        f"{BODY[:-1]}\n{BODY}",
        f"json\n{BODY}",
    ],
)
def test_a_forgotten_sign_does_not_cost_a_call(text: str) -> None:
    assert read_calls(text, TOOLS) in ([READ], [READ, READ])


@pytest.mark.parametrize(
    "text",
    [
        BODY.replace("180.5", ""),
        BODY.replace("180.5", "180.5 or 190"),
        BODY.replace('"end"', '"e"nd"'),
        BODY.replace("180.5}}", '"'),
        BODY.replace('"abc"', '"abc" /* the first one */'),
        BODY.replace('"end"', '"start": 130, "end"').replace("}", ",}"),
    ],
)
def test_nothing_is_made_up_and_nothing_passed_over_in_a_repair(text: str) -> None:
    assert read_calls(text, TOOLS) == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_repaired_call_keeps_the_types_of_its_tool(damage: str) -> None:
    (found,) = read_calls(DAMAGES[damage](BODY), TOOLS)
    assert found == READ
    assert {key: type(value) for key, value in found.arguments.items() if key != "start"} == {
        "recording": str,
        "end": float,
    }


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        (f"<tool_call>{BODY}", [READ]),
        (f"<tool_call>{BODY}<tool_call>{BODY}</tool_call>", [READ, READ]),
        (f"<tool_call>\n{BODY}\n{BODY}\n</tool_call>", [READ, READ]),
        (f"<tool_call>[{BODY}, {BODY}]</tool_call>", [READ, READ]),
        (f"```json\n<tool_call>{BODY}</tool_call>\n```", [READ]),
        (f"{BODY}\n</tool_call>", [READ]),
        (BODY, [READ]),
        (f"```json\n{BODY}\n```", [READ]),
        (f"<tool_call>\n```\n{BODY}\n```\n</tool_call>", [READ]),
        ('<tool_call>{"name": "list_recordings"}</tool_call>', [LIST]),
        ('<tool_call>{"name": "list_recordings", "arguments": null}</tool_call>', [LIST]),
        ("<tool_call>{'name': 'list_recordings', 'arguments': None}</tool_call>", [LIST]),
        ('<tool_call>{"name": "unheard_of", "arguments": {}}</tool_call>', [Call("unheard_of", {})]),
    ],
)  # fmt: skip
def test_forms_that_models_fall_into_are_read_and_nothing_is_shown(text: str, calls: list[Call]) -> None:
    assert read(text) == ("", calls, [])


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>search for the ferry</tool_call>",
        '<tool_call>{"arguments": {"query": "ferry"}}</tool_call>',
        '<tool_call>{"name": "search_recordings", "arguments": "ferry"}</tool_call>',
        '<tool_call>{"name": "search_recordings", "arguments": [1, 2]}</tool_call>',
        "<tool_call>{{{{</tool_call>",
        '<tool_call>"search_recordings"</tool_call>',
    ],
)
def test_what_cannot_be_read_is_broken_and_not_shown(text: str) -> None:
    words, calls, broken = read(f"Let me look.\n{text}")
    assert (words.strip(), calls, len(broken)) == ("Let me look.", [], 1)


@pytest.mark.parametrize("cut", range(20, len(BODY) - 1))
def test_a_call_that_was_cut_off_is_never_guessed(cut: int) -> None:
    words, calls, broken = read(f"<tool_call>{BODY[:cut]}", complete=False)
    assert (words, calls, len(broken)) == ("", [], 1)


@pytest.mark.parametrize(
    "text",
    [
        "Plain words.",
        "The fee is 4,200 [#12]. “Yes” [#13-#15]",
        "- one [#1]\n- two [#2]\n\n1. three",
        '{"name": "Ben", "age": 4}',
        "```python\nprint(1)\n```",
        '[{"not": "a call"}] is a list',
        "a < b and <tool is no tag",
        "[\n1]",
        "`code` and ``more``",
        "{}",
        "  {indented",
    ],
)
def test_words_that_are_no_call_come_out_as_they_were(text: str) -> None:
    assert read(text) == (text, [], [])


@given(st.text())
def test_any_text_without_tags_and_braces_is_left_alone(text: str) -> None:
    assume("tool_call" not in text.casefold() and "{" not in text)
    # What may be the first characters of a call is dropped at the very end.
    assume(not text.rstrip().endswith(("<", "</", "[", "`")))
    assert read(text) == (text, [], [])


UNREADABLE = [
    '{"name": "search_recordings", "arguments": {"query": "fer',
    '```json\n{"name": "search_recordings", "arguments": {"query": "fer',
    '```json\n{"name": "search_recordings", "arguments": {"query": "fer\n```',
    'I will search. {"name": "search_recordings", "arguments": {"query": "fer',
    '{"name": "browse_web", "arguments": {}}',
    'I will search. [{"name": "browse_web", "arguments": {}}]',
    '{"tool_calls": [{"name": "x"}]}',
    '{"name": "search_recordings" "arguments": ferry}',
    "<tool_call",
    "I will search. </tool_cal",
    "<TOOL_CALL>search</TOOL_CALL>",
    '<tool_call\n{"name": "browse',
    "<TOOL_CALL>",
]


@pytest.mark.parametrize("text", UNREADABLE[:-1])
@pytest.mark.parametrize("complete", [True, False])
def test_what_begins_like_a_call_and_cannot_be_read_is_broken(text: str, complete: bool) -> None:
    words, calls, broken = read(text, complete)
    assert words.strip() in ("", "I will search.")
    assert calls == []
    assert len(broken) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"I will search. {BODY}", "I will search."),
        (f"I will search. {BODY} Wait.", "I will search. Wait."),
        (f"I will search.\n```json\n[{BODY}]\n```\nWait.", "I will search.\n\nWait."),
        (f"<TOOL_CALL>{BODY}</TOOL_CALL>", ""),
        (f"I will <Tool_Call>{BODY}</tool_call>", "I will"),
        (f"`{BODY}`", ""),
        (f"<tool_call>{BODY}</tool_call><tool_call", ""),
    ],
)
def test_calls_are_found_in_any_case_and_behind_words(text: str, words: str) -> None:
    shown, calls, _ = read(text)
    assert (shown.strip(), calls) == (words, [READ])


@pytest.mark.parametrize(
    "text",
    [
        'He read out {"name": "Ben", "age": 4} and {"a": [1, {"b": 2}]}, slowly.',
        'The file has {"id": 5, "type": "boat"} in it.',
        'Their API takes {"input": "x"} [#12].',
        "Write {name} or {type}, and {} for nothing.",
        "They discussed JSON, “{” and “}”, for an hour.",
        '```json\n{"ferry": "nine"}\n```',
        'It was [{"speed": 4}, {"speed": 5}].',
        '{"outline": "a word"} is what she said.',
        "<tools> and <tool_caller> are other things",
        "x < y and y > z",
        "```python\nprint(1)\n```\n",
    ],
)
def test_words_about_json_survive(text: str) -> None:
    assert read(text) == (text, [], [])


def test_without_tools_only_tags_are_read() -> None:
    reader = CallReader()
    assert words_in(reader.feed(f"{BODY} <tool_call>x</tool_call>") + reader.finish()) == f"{BODY} "
    assert reader.broken == ["x"]


WRAPS = {
    "tagged": "<tool_call>\n{}\n</tool_call>",
    "tagged in capitals": "<TOOL_CALL>{}</TOOL_CALL>",
    "bare": "{}",
    "fenced": "```json\n{}\n```",
    "fenced without a name": "```\n{}\n```",
    "in a list": "[{}]",
    "in a list in a fence": "```json\n[\n  {}\n]\n```",
    "in code marks": "`{}`",
    "twice": "{0}\n{0}",
    "tagged twice": "<tool_call>{0}</tool_call>\n<tool_call>{0}</tool_call>",
}


@pytest.mark.parametrize("wrap", WRAPS)
@given(
    call=PLAIN,
    damage=st.sampled_from([None, *DAMAGES]),
    before=st.sampled_from(["", "I will search. ", "I will search.\n", "“Yes” [#1], and then\n\n"]),
    cut=st.integers(0, 400),
    complete=st.booleans(),
    steps=st.lists(st.integers(1, 20), min_size=1, max_size=30),
)
def test_of_a_call_cut_anywhere_no_fragment_is_shown(
    wrap: str, call: Call, damage: str | None, before: str, cut: int, complete: bool, steps: list[int]
) -> None:
    written = DAMAGES[damage](body(call)) if damage else body(call)
    # A fence in a fence is nothing that anyone writes.
    assume(damage != "fenced" or "tagged" in wrap or wrap == "bare")
    text = (before + WRAPS[wrap].format(written))[: len(before) + cut]
    reader, at, shown, step = CallReader(TOOLS), 0, "", iter(steps)
    while at < len(text):
        size = next(step, len(text))
        shown += words_in(reader.feed(text[at : at + size]))
        at += size
        assert before.startswith(shown.rstrip())
    shown += words_in(reader.finish(complete))
    assert shown.strip() == before.strip()
    if len(text) > len(before) + 40:
        assert reader.calls or reader.broken


PIECES = st.lists(
    st.sampled_from(
        ["<tool_call>", "</tool_call>", BODY, BODY[:40], "```json\n", "```", "{", "[", "\n", "<tool",
         "_call>", "\n  ", "Let me look.", " ", "'", '"', "name", ":", "}", "]"]
    ) | st.text(max_size=6),
    max_size=12,
)  # fmt: skip


@pytest.mark.parametrize("text", ["<tool</tool_call>_call>", "a</tool_call><tool</tool_call>_call> b"])
def test_a_tag_that_is_left_when_another_is_taken_out_is_not_shown(text: str) -> None:
    assert "tool_call>" not in read(text, True)[0]


@given(PIECES, st.randoms(use_true_random=False), st.booleans())
def test_reading_never_fails_shows_no_tag_and_does_not_depend_on_the_pieces(
    pieces: list[str], chance: random.Random, complete: bool
) -> None:
    text = "".join(pieces)
    whole = read(text, complete)
    assert "<tool_call>" not in whole[0]
    assert "</tool_call>" not in whole[0]
    reader, at, words = CallReader(TOOLS), 0, ""
    while at < len(text):
        step = chance.randint(1, 9)
        words += words_in(reader.feed(text[at : at + step]))
        at += step
    words += words_in(reader.finish(complete))
    assert (words, reader.calls, reader.broken) == whole


def test_words_before_a_call_come_out_at_once() -> None:
    reader = CallReader(TOOLS)
    assert reader.feed("Let me look. <tool") == ["Let me look. "]
    assert reader.feed("s are there.") == ["<tools are there."]


def test_a_call_of_any_length_takes_little_time() -> None:
    for text in ("{" * 100_000, "<tool_call>" * 20_000, '{"a": [' * 20_000, "[" * 100_000, "\n```" * 30_000):
        read("<tool_call>" + text)
        read(text)


@pytest.mark.parametrize("unit", ["\\}", "{''\"\",", " (1.", '[""', "it's, ", '"a": "b" "c"', "x: y, ", "“,"])
def test_damage_of_any_length_takes_seconds_not_minutes(unit: str) -> None:
    for form in ('{{"name": "a", "arguments": {{"q": "{}"}}}}', '{{"name": "a", "arguments": {{{}}}}}'):
        for size, blocks in ((60_000, 1), (2_900, 6)):
            text = f"<tool_call>{form.format(unit * (size // len(unit)))}</tool_call>" * blocks
            before = time.process_time()
            read(text)
            assert time.process_time() - before < 10


@pytest.mark.parametrize(
    ("value", "schema", "expected"),
    [
        ("12", {"type": "integer"}, 12),
        ("12.5", {"type": "number"}, 12.5),
        ("true", {"type": "boolean"}, True),
        ("12", {"type": "string"}, "12"),
        ("12", {"anyOf": [{"type": "number"}, {"type": "null"}]}, 12.0),
        ("twelve", {"type": "integer"}, "twelve"),
        ("9" * 500, {"type": "integer"}, "9" * 500),
        (["1"], {"type": "array", "items": {"type": "integer"}}, [1]),
        ({"a": "1"}, {"properties": {"a": {"type": "integer"}}}, {"a": 1}),
        ("12", {}, "12"),
    ],
)
def test_types_come_back_where_the_schema_is_clear(value: Any, schema: Any, expected: Any) -> None:
    assert coerced(value, schema) == expected
