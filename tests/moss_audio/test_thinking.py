"""Thought and answer: split however the text is cut, and closed when the budget is used up."""

from __future__ import annotations

import itertools
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moss_audio.generation.generate import ThinkingBudget
from moss_audio.generation.thinking import (
    ThinkTags,
    ThoughtSplitter,
    name_says_thinking,
    prompt_opens_thought,
    split_thought,
)
from moss_audio.model.chat_template import NO_THOUGHT

FRAGMENTS = st.sampled_from(
    [
        "<think>",
        "</think>",
        "<thi",
        "nk>",
        "</",
        "<",
        ">",
        "/think>",
        "a",
        "wörter",
        "\n",
        " ",
        "\t",
        "日本",
        ".",
    ]
)
TEXTS = st.lists(FRAGMENTS, max_size=24).map("".join)
OPENED = st.sampled_from([True, False, None])


def pieces_of(chunks: list[str], opened: bool | None) -> tuple[str, str]:
    splitter = ThoughtSplitter(opened)
    pieces = [piece for chunk in chunks for piece in splitter.feed(chunk)] + splitter.flush()
    assert all(piece.text for piece in pieces)
    return tuple(  # type: ignore[return-value]
        "".join(piece.text for piece in pieces if piece.kind == kind) for kind in ("thinking", "text")
    )


@given(TEXTS, st.lists(st.integers(0, 120), max_size=12), OPENED)
def test_any_chunking_gives_what_the_whole_text_gives(
    text: str, cuts: list[int], opened: bool | None
) -> None:
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    chunks = [text[a:b] for a, b in itertools.pairwise(places)]
    assert pieces_of(chunks, opened) == split_thought(text, opened)
    assert pieces_of(list(text), opened) == split_thought(text, opened)


def letters(text: str, opened: bool | None) -> tuple[str, str]:
    """Thought and answer without white space, found another way: the text cut at every tag."""
    kept = {True: "", False: ""}
    parts = re.split(r"(</?think>)", text)
    inside = opened if opened is not None else parts[1:2] == ["</think>"]
    for part in parts:
        if part in ("<think>", "</think>"):
            inside = part == "<think>"
        else:
            kept[inside] += re.sub(r"\s", "", part)
    return kept[True], kept[False]


@given(TEXTS, OPENED)
def test_every_letter_lands_on_its_side_of_the_tags(text: str, opened: bool | None) -> None:
    thinking, answer = split_thought(text, opened)
    assert (re.sub(r"\s", "", thinking), re.sub(r"\s", "", answer)) == letters(text, opened)
    assert thinking == thinking.strip() and answer[:1] == answer.lstrip()[:1]


@given(st.text().filter(lambda text: "think>" not in text))
def test_a_text_without_tags_comes_through_as_it_is(text: str) -> None:
    expected = text.lstrip()
    assert split_thought(text) == ("", expected)


@pytest.mark.parametrize(
    ("text", "opened", "thinking", "answer"),
    [
        ("<think>\nIt is a dog.\n</think>\n\nA dog.", False, "It is a dog.", "A dog."),
        ("<think>\n</think>\n\nA dog.", False, "", "A dog."),
        (NO_THOUGHT + "A dog.", False, "", "A dog."),
        ("It is a dog.\n</think>\n\nA dog.", True, "It is a dog.", "A dog."),
        ("It is a dog.\n</think>\n\nA dog.", None, "It is a dog.", "A dog."),
        ("A dog. </think> And a cat.", False, "", "A dog.  And a cat."),
        ("<think>It is a d", False, "It is a d", ""),
        ("<think>It <think>is a dog.</think>A dog.</think> Yes.", False, "It is a dog.", "A dog. Yes."),
        ("A dog. <think>Or not?</think> A cat.", False, "Or not?", "A dog. A cat."),
        ("A dog.<think>Or not?</think>\nA cat.", False, "Or not?", "A dog.\nA cat."),
        ("<think>one</think><think>two</think>A dog.", False, "one\ntwo", "A dog."),
        ("a < b </thin", False, "", "a < b </thin"),
        ("A dog.\n", False, "", "A dog.\n"),
        ("", None, "", ""),
    ],
)
def test_what_models_really_write(text: str, opened: bool | None, thinking: str, answer: str) -> None:
    assert split_thought(text, opened) == (thinking, answer)


def test_the_stream_gives_text_out_at_once_but_for_what_may_be_a_tag() -> None:
    splitter = ThoughtSplitter()
    assert splitter.feed("A dog <") == [("text", "A dog")]
    assert splitter.feed("thi") == []
    assert splitter.feed("s> barks") == [("text", " <this> barks")]
    assert splitter.feed("<think>hm") == [("thinking", "hm")]
    assert splitter.flush() == []


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("OpenMOSS-Team/MOSS-Audio-8B-Thinking", True),
        ("OpenMOSS-Team/MOSS-Audio-8B-Instruct", False),
        ("/data/MOSS-Audio-4B-Thinking/", True),
        ("/home/me/thinking-aloud/MOSS-Audio-4B-Instruct", False),
        ("/hub/models--OpenMOSS-Team--MOSS-Audio-4B-Thinking/snapshots/0a1b2c", True),
        ("", False),
    ],
)
def test_the_name_of_a_checkpoint_says_whether_it_thinks(name: str, says: bool) -> None:
    assert name_says_thinking(name) is says


def test_a_prompt_opens_the_thought_only_at_its_very_end() -> None:
    assert prompt_opens_thought("<|im_start|>assistant\n<think>\n")
    assert not prompt_opens_thought("What does <think> mean?<|im_end|>\n<|im_start|>assistant\n")
    assert not prompt_opens_thought(NO_THOUGHT)


# --- the budget: a vocabulary of 40 ids; 30 opens, 31 closes (or 32 33 and 34 35), 20 21 is the transition.

ONE_ID = ThinkTags((30,), (31,))
TWO_IDS = ThinkTags((32, 33), (34, 35))
TRANSITION = [20, 21]


def written(
    budget: int, wishes: list[list[int]], tags: ThinkTags, steps: int, opened: tuple[bool, ...] = (False,)
) -> list[list[int]]:
    """What a model writes that wants to write ``wishes`` (row by row), under the budget."""
    prompt = torch.full((len(wishes), 3), 9)
    processor = ThinkingBudget(budget, tags, TRANSITION, prompt_length=3, opened=opened)
    ids = prompt
    wanted = [list(row) for row in wishes]
    for _ in range(steps):
        scores = torch.zeros(len(wishes), 40)
        for row, wish in enumerate(wanted):
            scores[row, wish[0] if wish else 1] = 5.0
        best = processor(ids, scores).argmax(dim=-1)
        for row, wish in enumerate(wanted):
            if wish and int(best[row]) == wish[0]:
                wish.pop(0)
        ids = torch.cat([ids, best[:, None]], dim=1)
    return ids[:, 3:].tolist()


def test_the_budget_closes_the_thought_with_the_transition_and_the_answer_follows() -> None:
    rows = written(3, [[30, 5, 6, 7, 8, 8, 8]], ONE_ID, 9)
    assert rows == [[30, 5, 6, 7, 20, 21, 31, 8, 8]]


def test_a_thought_within_its_budget_is_left_alone() -> None:
    assert written(3, [[30, 5, 6, 31, 7, 8, 9, 10, 11]], ONE_ID, 9) == [[30, 5, 6, 31, 7, 8, 9, 10, 11]]
    assert written(3, [[5, 6, 7, 8, 9, 10]], ONE_ID, 6) == [[5, 6, 7, 8, 9, 10]]


def test_rows_of_a_batch_are_closed_each_at_its_own_time() -> None:
    wishes = [[30, 5, 6, 7, 8], [4, 30, 5, 6, 7], [5, 6, 7, 8, 9, 9, 9, 9], [30, 31, 2, 3, 4, 5, 6, 7]]
    assert written(2, wishes, ONE_ID, 8, (False,) * 4) == [
        [30, 5, 6, 20, 21, 31, 7, 8],
        [4, 30, 5, 6, 20, 21, 31, 7],
        [5, 6, 7, 8, 9, 9, 9, 9],
        [30, 31, 2, 3, 4, 5, 6, 7],
    ]


def test_tags_of_several_ids_are_found_and_forced_whole() -> None:
    assert written(2, [[32, 33, 5, 6, 7, 8]], TWO_IDS, 9) == [[32, 33, 5, 6, 20, 21, 34, 35, 7]]


def test_a_thought_the_prompt_opened_has_the_same_budget_in_every_beam() -> None:
    rows = written(2, [[5, 6, 7, 8]] * 4, ONE_ID, 6, opened=(True, False))
    assert rows == [[5, 6, 20, 21, 31, 7]] * 2 + [[5, 6, 7, 8, 1, 1]] * 2


def test_a_thought_opened_again_after_the_budget_is_closed_at_once() -> None:
    assert written(2, [[30, 5, 6, 30, 7, 8]], ONE_ID, 9) == [[30, 5, 6, 20, 21, 31, 30, 31, 7]]


@given(
    st.integers(0, 6),
    st.lists(st.sampled_from([5, 6, 30, 31]), max_size=20),
    st.booleans(),
    st.sampled_from([ONE_ID, TWO_IDS]),
)
def test_no_thought_ever_outgrows_its_budget(
    budget: int, wish: list[int], opened: bool, tags: ThinkTags
) -> None:
    wish = [
        part
        for token in wish
        for part in (tags.opening if token == 30 else tags.closing if token == 31 else (token,))
    ]
    # Each opened thought may be followed by the transition and a closing tag: enough steps to finish the row.
    steps = budget + len(wish) + (1 + wish.count(tags.opening[0])) * (len(TRANSITION) + len(tags.closing)) + 2
    row = written(budget, [wish], tags, steps, (opened,))[0]
    inside, own = opened, 0
    at = 0
    while at < len(row):
        if not inside and tuple(row[at : at + len(tags.opening)]) == tags.opening:
            inside, at = True, at + len(tags.opening)
        elif inside and tuple(row[at : at + len(tags.closing)]) == tags.closing:
            inside, at = False, at + len(tags.closing)
        else:
            own += inside and row[at] not in TRANSITION
            at += 1
    assert own <= budget
    assert not inside
