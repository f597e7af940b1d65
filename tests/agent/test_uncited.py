"""What a language model claims without citing anything is marked, and what claims nothing is left alone."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.citations.check import LEGEND, MARK, UNVERIFIED, Checked, Checker, LineStream
from agent.citations.markers import Marker, split_markers, statements
from tests.agent.test_citations import ALLOWED, Shelf, checked_by, texts
from tools.result import Heard, RecordingEntry, RecordingInfo, RecordingList, Transcript

LISTED = RecordingList(
    recordings=(
        RecordingEntry(
            id="a" * 64,
            title="Harbour Lights planning call",
            duration=306.41,
            language="en",
            status="ready",
            coverage=0.99,
            speakers=("Anna", "Speaker 2"),
            added_at="2026-11-23T10:00:00Z",
        ),
        RecordingEntry(
            id="b" * 64, title="Retro", duration=3723.0, status="ready", added_at="2026-11-23T10:00:01Z"
        ),
    ),
    total=2,
)
RETRO = RecordingInfo(id="b" * 64, title="Retro", duration=3723.0)
NOTE = Transcript(
    recording=RETRO,
    range=(7200.0, 7260.0),
    total=0,
    notes=("“Retro” is 1:02:03 long; nothing lies at 2:00:00.",),
)
HEARD = Heard(recording=RETRO, range=(0.0, 30.0), answer="A dog barks twice at 0:12.")


def checker(question: str = "") -> Checker:
    made = Checker(Shelf(), ALLOWED, question=question)
    for result in (LISTED, NOTE, HEARD):
        made.learn(result)
    return made


def check(text: str, question: str = "", by_rule: int = 0) -> Checked:
    return checked_by(checker(question), text, by_rule)


def test_a_sentence_beside_a_cited_one_is_marked_and_the_mark_explained_once() -> None:
    checked = check("Good morning [#1]. The captain was drunk. He sank it!")
    assert checked.text == (
        f"Good morning [0:10]. The captain was drunk {MARK}. He sank it {MARK}!\n\n{LEGEND}"
    )
    assert checked.dropped == 0
    assert checked.uncited
    assert not check("Good morning [#1].").uncited


CLAIMS = [
    "They decided to sink the ferry.",
    "The captain was drunk",
    "Anna resigned.",
    "Yes.",
    "He was there.",
    "It lasts 17 minutes.",
    "Retro is about the budget.",
    "I found that the captain was drunk.",
    "Nothing was said about penguins, but the captain was drunk.",
    "The captain was drunk, but nothing was said about penguins.",
    "Nothing was said about penguins and the captain was drunk.",
    "There are no fireworks on Sunday, Ben said.",
    "Here is the truth: the captain was drunk.",
    "The insurance does not cover the fireworks.",
    "In “Retro” the captain was drunk.",
    "船长喝醉了。",
    "Der Kapitän war betrunken.",
    "A dog barks three times at 0:12.",
    "No dog barks at 0:12.",
]


@pytest.mark.parametrize("sentence", CLAIMS)
def test_a_claim_is_marked_wherever_it_stands(sentence: str) -> None:
    question = "did they decide to sink the ferry? was the captain drunk? do penguins resign?"
    assert MARK in check(sentence, question).text.split("\n")[0]
    assert check(f"- {sentence}\n- Good morning [#1].", question).text.split("\n")[0].count(MARK) == 1
    if sentence not in BARE:
        after = check(f"“Good morning” [#1]. And so the day began with two men. {sentence}", question)
        assert after.text.split("\n")[0].count(MARK) == 2


BARE = ["Yes.", "He was there."]
"""They say nothing but by what stands beside them."""

NO_CLAIMS = [
    "Hello! What would you like to know?",
    "You're welcome.",
    "I can search your recordings and read any minute to you.",
    "I can search your recordings and read any minute of them to you.",
    "Let me look for the rowing club.",
    "Here is what was said about the rowing club:",
    "Here is what I found.",
    "Do you mean the ferry?",
    "## What was decided",
    "**Decisions**",
    "Decisions:",
    "That was not said.",
    "Nothing was said about penguins.",
    "Nothing.",
    "I could not find anything about penguins.",
    "I found nothing about flightless birds.",
    "There is no mention of penguins in this recording.",
    "No penguins are mentioned.",
    "Penguins and whales were never mentioned.",
    "They did not discuss penguins.",
    "I searched the recordings but found no mention of penguins.",
    "The name of the captain is not mentioned, so I cannot tell.",
    "I don't have enough information to answer this.",
    "Unfortunately, the transcript does not say who called.",
    "There are two recordings: “Harbour Lights planning call” (5:06) and “Retro” (1:02:03).",
    "- Harbour Lights planning call, 5 minutes, English, ready",
    "Retro is one hour and two minutes long.",
    "It lasts 5 minutes and 6 seconds.",
    "The speakers are Anna and Speaker 2.",
    "Anna and Speaker 2 are speaking.",
    "“Retro” is 1:02:03 long, so nothing lies at 2:00:00.",
    "A dog barks twice at 0:12.",
    "---",
    "|---|---|",
    "",
]


ASKED = "the rowing club, penguins, whales, flightless birds, who called, the name of the captain?"
UNMARKED = [line for line in NO_CLAIMS if isinstance(line, str)]
"""Those that the rules do understand."""


@pytest.mark.parametrize("line", NO_CLAIMS)
def test_what_claims_nothing_of_its_own_is_left_alone(line: str) -> None:
    assert check(line, ASKED).text == line
    below = f"“Good morning” [#1]\n{line}".rstrip()
    assert check(below, ASKED).marked_text == below


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("Yes. “Good morning” [#1]", "Yes. “Good morning” [0:10]"),
        ("Anna says “good morning.” She adds: “three things” [#1-#2].",) * 2,
        ("Somebody says “good morning.” Then [#1] he signs it by the 30th, i.e. soon [#4].", None),
        ("Good morning. [#1] He will sign. [#4]", None),
        ("Good morning [#1], and he was drunk.", f"Good morning [0:10], and he was drunk {MARK}."),
        ("Good morning [#1] The captain was drunk", f"Good morning [0:10] The captain was drunk {MARK}"),
        ("[#4] Callum: “I'll sign it”", None),
        ("| Anna | drunk |", f"| Anna | drunk {MARK} |"),
        ("**The captain was really drunk, and sank the whole ferry.**",
         f"**The captain was really drunk, and sank the whole ferry {MARK}.**"),
        ("It is 4.5 million. Good morning [#1].", f"It is 4.5 million {MARK}. Good morning [0:10]."),
    ],
)  # fmt: skip
def test_marks_stand_where_a_citation_would(line: str, shown: str | None) -> None:
    wanted = shown if shown is not None and shown != line else line
    for number in (1, 2, 4):
        wanted = wanted.replace(f"[#{number}]", f"[0:{number}0]")
    wanted = wanted.replace("[#1-#2]", "[0:10]")
    assert check(line).text.split("\n")[0] == wanted


def test_an_answer_of_which_nothing_holds_is_replaced_not_marked() -> None:
    checked = check("The captain was drunk.\nHe said “cheers” [#404].")
    assert checked.text == UNVERIFIED
    assert not checked.uncited


def test_what_was_composed_by_rule_is_not_marked() -> None:
    rule = "\n\nThe model failed, so these are quotes.\n\n- “Good morning” [#1]"
    assert check(rule, by_rule=len(rule)).text == rule.strip().replace("[#1]", "[0:10]")
    mixed = check("The captain was dru" + rule, by_rule=len(rule))
    assert mixed.text == f"The captain was dru {MARK}{rule.replace('[#1]', '[0:10]')}\n\n{LEGEND}"
    invented = check("He said “cheers” [#404]." + rule.replace("[#1]", "[#2]"), by_rule=len(rule))
    assert invented.text == f"{UNVERIFIED}\n\nThe model failed, so these are quotes."


def test_marks_that_a_model_writes_itself_do_not_count() -> None:
    text = f"Nothing was said about it {MARK}.\nThe captain was drunk {MARK} {MARK}.\n\n{LEGEND}"
    assert check(text).text == f"Nothing was said about it.\nThe captain was drunk {MARK}.\n\n{LEGEND}"


PIECES = st.lists(
    st.sampled_from(
        [*CLAIMS, *UNMARKED, MARK, LEGEND, "[#1]", "[#99]", "“Good morning”", "“Mars.”", ". ", " ", "\n",
         "Dr.", "**", "\x01", "\x02"]
    ) | texts,
    max_size=10,
).map(" ".join)  # fmt: skip


def without_marks(text: str) -> str:
    return text.replace(f"\n\n{LEGEND}", "").replace(f" {MARK}", "")


@given(PIECES)
@example("[[?]?] x")
@example("[#[#]]")
@example("They decided to sink the ferry. \r They decided to sink the ferry.")
@example("0[#]. [#1] They decided to sink the ferry.")
def test_marking_adds_marks_and_nothing_else_and_is_done_once(text: str) -> None:
    once = check(text)
    assert check(once.marked_text).marked_text == once.marked_text or once.text == UNVERIFIED
    assert once.uncited == (f" {MARK}" in once.marked_text.removesuffix(LEGEND))
    assert once.marked_text.count(LEGEND) == once.uncited
    plain = without_marks(once.marked_text)
    assert sum(isinstance(part, Marker) for part in split_markers(plain)) == len(once.citations)


@given(PIECES, st.lists(st.integers(0, 40), max_size=8), st.integers(0, 60))
def test_what_is_streamed_is_what_is_settled(text: str, cuts: list[int], by_rule: int) -> None:
    by_rule = min(by_rule, len(text))
    whole = check(text, by_rule=by_rule)
    stream = LineStream(checker())
    at, out, end = 0, "", len(text) - by_rule
    for step in cuts:
        out += stream.feed(text[at : min(at + step, end)])
        at = min(at + step, end)
    out += stream.feed(text[at:end])
    out += stream.feed(text[end:], by_rule=True) if by_rule else ""
    out += stream.finish()
    assert out == whole.text
    assert stream.checked == whole


WHOLE = [
    claim
    for claim in CLAIMS
    if claim.endswith(".") and len(claim.split()) > 2 and not set("“:,") & set(claim)
]
WHOLE.remove("He was there.")


@given(st.lists(st.tuples(st.sampled_from(WHOLE), st.booleans()), min_size=1, max_size=5))
def test_of_any_claims_exactly_those_without_a_marker_are_marked(claims: list[tuple[str, bool]]) -> None:
    line = " ".join("Good morning [#1]." if cited else claim for claim, cited in claims)
    shown = check(line).text.split("\n")[0]
    assert shown.count(MARK) == sum(not cited for _, cited in claims)
    assert shown.count("[0:10]") == sum(cited for _, cited in claims)


@given(PIECES)
def test_statements_are_the_whole_line(text: str) -> None:
    for line in text.split("\n"):
        assert "".join(statements(line)) == line


LONG = [
    "." * 50_000,
    " " * 50_000 + "x",
    "a. " * 20_000,
    "no " * 20_000,
    "[#1] " * 10_000 + "x",
    "[?] " * 9_000,
]


@pytest.mark.parametrize("text", LONG)
def test_a_long_line_takes_little_time(text: str) -> None:
    began = time.process_time()
    check(text)
    assert time.process_time() - began < 5
