"""Multiple choice: the question as it is asked, and the choice as it is found."""

from __future__ import annotations

import pytest

from moss_audio.errors import PromptError
from moss_audio.tasks import TASKS, Choice, ask_choice, choice, parse_choice

OPTIONS = ["A dog", "A cat", "A big dog", "None of these"]


def found(text: str, options: list[str] = OPTIONS) -> str | None:
    value = parse_choice(text, None, options).value
    return None if value is None else value.letter


def test_the_question_is_asked_with_lettered_options():
    assert ask_choice("What barks?", OPTIONS).splitlines() == [
        "Choose the most suitable answer from options A, B, C, and D for the question on the next line. "
        "You should output only A, B, C, or D. Do not provide any additional explanations or content.",
        "Question: What barks?",
        "A. A dog",
        "B. A cat",
        "C. A big dog",
        "D. None of these",
    ]
    assert "options A and B for" in ask_choice("What?", ["x", "y"])


@pytest.mark.parametrize("options", [[], ["only one"], ["x", " "], [str(number) for number in range(27)]])
def test_a_question_without_a_real_choice_is_refused(options: list[str]):
    with pytest.raises(PromptError):
        choice("What?", options)


@pytest.mark.parametrize(
    "answer",
    [
        "B", "b", "(B)", "B.", "**B**", " B \n", "[B]", "“B”", "（B）", "B)",
        "B. A cat", "(B) A cat", "B) a cat", "B: A cat", "**B. A cat**", "- B. A cat",
        "The answer is B.", "The correct answer is (B).", "the answer would be **B**", "Answer: B",
        "ANSWER: [B]", "answer: b", "The correct option is B", "I would choose option B.", "\\boxed{B}",
        "答案是B。", "答案：B", "选B", "选项B",
        "A cat", "a cat.", "It is a cat that we hear.", "The sound comes from a cat, not a dog.",
        "I hear it meow.\nSo it is (B)", "It must be B because of the meowing",
        "<think>A? No. The answer is C. Hmm.</think>\n\nB",
        "A dog? The answer is A… no.</think>The answer is B.",
        "```\nB\n```", "B<|im_end|>", "Step 1: there is no bark.\nAnswer: B",
    ],
)  # fmt: skip
def test_a_choice_is_found_however_it_is_put(answer: str):
    assert parse_choice(answer, None, OPTIONS).value == Choice("B", "A cat")


@pytest.mark.parametrize(
    "answer",
    [
        "A or B", "A. A dog\nB. A cat", "The answer is A. Or the answer is B.", "B. A dog", "a dog or a cat",
        "(A) and (B)", "It is either B or C",
    ],
)  # fmt: skip
def test_an_ambiguous_answer_is_no_choice_and_says_between_what(answer: str):
    parsed = parse_choice(answer, None, OPTIONS)
    assert parsed.value is None
    assert parsed.kinds == {"ambiguous"} and parsed.dropped[0].text == answer


@pytest.mark.parametrize(
    "answer", ["", "   ", "I cannot tell.", "E", "The answer is F.", "<think>B", "option B is wrong"]
)
def test_no_choice_is_reported(answer: str):
    parsed = parse_choice(answer, None, OPTIONS)
    assert parsed.value is None and "no choice" in parsed.kinds


def test_the_longer_option_wins_over_the_one_inside_it():
    assert found("It is a big dog.") == "C"
    assert found("It is a dog.") == "A"


def test_the_article_is_no_letter():
    assert found("A dog") == "A", "by its text"
    assert found("The answer is A cat") == "B"
    assert found("A cat") == "B"


def test_options_in_chinese_are_found_by_their_text():
    assert found("是一只猫。", ["狗", "猫"]) == "B"


def test_words_beyond_the_choice_are_reported():
    parsed = parse_choice("B. A cat\nbecause it meows", None, OPTIONS)
    assert parsed.value == Choice("B", "A cat") and parsed.kinds == {"explanation"}
    assert parse_choice("B. A cat", None, OPTIONS).dropped == ()


def test_without_options_letters_go_to_d():
    assert TASKS["choice"].parse("(D)").value == Choice("D")
    assert TASKS["choice"].parse("E").value is None


def test_the_task_of_a_question_knows_its_options():
    task = choice("What meows?", OPTIONS)
    assert task.parse("B", 3.0).value.to_json() == {"letter": "B", "option": "A cat"}
    assert task.parse("B").to_text() == "B. A cat" and task.greedy and not task.needs_question
