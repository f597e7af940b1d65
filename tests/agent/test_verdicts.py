"""The three verdicts on a statement: fabricated, spliced, misattributed; and what is mended."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agent.citations.check import MARK, Checked, Checker, LineStream
from agent.citations.quotes import fold, quoted
from agent.citations.verdicts import Evidence, Statement, judge
from index.records import Segment
from tests.support.conversing import heard
from tools.result import Passage, SearchResult

LINES = [
    Segment(row["start"], row["end"], row["text"], id=100 + at, recording="r", speaker=row["speaker"])
    for at, row in enumerate(heard())
]
LONG = [line for line in LINES if len(line.text.split()) >= 6]
ELSEWHERE = Segment(10.0, 15.0, "We buy eleven tents for the scouts.", id=900, recording="x", speaker="Maria")
KNOWN = {line.id: line for line in [*LINES, ELSEWHERE]}


class Shelf:
    def segments_by_id(self, ids: object) -> list[Segment]:
        return [KNOWN[number] for number in ids]  # type: ignore[attr-defined]

    def segments(self, recording: str, start: float | None = None, end: float | None = None) -> list[Segment]:
        return [line for line in KNOWN.values() if line.recording == recording and line.start < (end or 1e9)]


def checker(question: str = "") -> Checker:
    made = Checker(Shelf(), KNOWN, question=question)
    passages = [
        Passage(recording=key, title=title, start=0, end=1, score=1, evidence=(1,))
        for key, title in (("r", "Harbour Lights planning call"), ("x", "Scout evening"))
    ]
    made.learn(SearchResult(query="", passages=tuple(passages)))
    return made


def check(text: str, question: str = "") -> Checked:
    lines = LineStream(checker(question), {number: at for at, number in enumerate(KNOWN, 1)})
    lines.feed(text)
    lines.finish()
    return lines.checked


def number(words: str) -> int:
    """The number under which a model is handed the line with some words."""
    return next(at for at, line in enumerate(KNOWN.values(), 1) if words in line.text)


def evidence() -> Evidence:
    made = Evidence(titles={"r": "Harbour Lights planning call", "x": "Scout evening"})
    made.add(KNOWN.values())
    return made


ALL = evidence()
lines = st.sampled_from(LONG)


@given(lines, st.booleans(), st.booleans())
def test_a_sentence_built_from_evidence_passes(line: Segment, as_quote: bool, named: bool) -> None:
    quote = quoted(line.text)
    words = quote if as_quote else line.text.rstrip(".?")
    statement = Statement(f"{line.speaker}: {words}" if named else words, (quote,) if as_quote else ())
    assert judge(statement, [line], ALL) is None


@given(lines, st.integers(10_001, 99_999))
def test_with_another_number_it_is_fabricated(line: Segment, other: int) -> None:
    words = line.text.split()
    digits = [at for at, word in enumerate(words) if word.strip(".,").isdigit()]
    at = digits[0] if digits else len(words) // 2
    words[at] = str(other) if digits else f"{words[at]} {other}"
    assert judge(Statement(" ".join(words)), [line], ALL) == "fabricated"
    shown = check(f"{' '.join(words)} [{number(line.text)}]")
    assert str(other) not in shown.text
    assert shown.verdicts == ("fabricated",)


@given(lines, st.sampled_from(["Genevieve", "Xerxes", "Ouagadougou"]))
def test_with_another_name_it_is_fabricated(line: Segment, name: str) -> None:
    statement = Statement(f"They say that {name} {line.text[0].lower()}{line.text[1:].rstrip('.')}.")
    assert judge(statement, [line], ALL) == "fabricated"
    assert name not in check(f"{statement.text} [{number(line.text)}]").text


@given(lines, st.data())
def test_words_that_never_stand_together_are_spliced(line: Segment, data: st.DataObject) -> None:
    words = line.text.strip(" .?!").split()
    assume(len(set(map(fold, words))) > 5)
    cut = data.draw(st.integers(2, len(words) - 2))
    quote = f"“{' '.join(words[cut:] + words[:cut])}”"
    assume(fold(quote) not in fold(line.text))
    assert judge(Statement(quote, (quote,)), [line], ALL) == "spliced"
    assert fold(quote) not in fold(check(f"{quote} [{number(line.text)}]").text)


@given(lines, lines)
def test_somebody_else_or_another_line_is_misattributed_and_mended(line: Segment, other: Segment) -> None:
    assume(line.speaker != other.speaker and str(other.speaker) not in line.text)
    said = quoted(line.text)
    assume(sum(fold(line.text) in fold(each.text) for each in KNOWN.values()) == 1)
    assert judge(Statement(f"{other.speaker} said: {said}", (said,)), [line], ALL) == "misattributed"
    mended = check(f"{other.speaker} said: {said} [{number(line.text)}]")
    assert mended.text.startswith(f"{line.speaker} said: {said}")
    assert mended.verdicts == ("misattributed",)
    moved = check(f"{said} [{number(other.text)}]")
    assert [citation.start for citation in moved.citations] == [line.start]
    assert moved.verdicts in (("misattributed",), ("fabricated",))


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("Speaker 3 will call the rowing club this afternoon", True),
        ("The rowing club is called this afternoon", True),
        ("Speaker 1 will call the rowing club this afternoon", False),
        ("Genevieve will call the rowing club this afternoon", False),
        ("Speaker 3 will call the fire brigade on Monday", False),
        ("At 3:43 somebody offers to call the rowing club", True),
        ("At 1:05 somebody offers to call the rowing club", False),
        ("In “Scout evening”, somebody calls the rowing club this afternoon", False),
    ],
)
def test_a_paraphrase_holds_where_its_words_names_and_times_do(text: str, holds: bool) -> None:
    line = next(line for line in LINES if "call the rowing club this afternoon" in line.text)
    verdict = judge(Statement(text), [line], ALL)
    assert (verdict is None) == holds
    shown = check(f"{text} [{number(line.text)}].")
    assert (text in shown.text) == holds
    assert shown.citations and line.start in {citation.start for citation in shown.citations}


def test_a_time_and_a_place_are_put_right() -> None:
    at = number("call the rowing club this afternoon")
    assert check(f"At 1:05 somebody offers to call the rowing club [{at}].").text.startswith(
        "At 3:43 somebody"
    )
    placed = check(f"In “Scout evening”, somebody calls the rowing club this afternoon [{at}].")
    assert "In “Harbour Lights planning call”" in placed.text
    assert placed.verdicts == ("misattributed",)


def test_a_sentence_without_a_citation_gets_it_with_its_time_put_right() -> None:
    shown = check("The rowing club is called by Speaker 3 at 3:34 this afternoon.")
    assert shown.text == "The rowing club is called by Speaker 3 at 3:43 this afternoon [3:43]."
    assert not shown.uncited


def test_a_quote_with_a_wrong_word_becomes_the_words_that_were_said() -> None:
    at = number("North Key audio and we take 1500")
    shown = check(f"“the decision is to go with South Key audio” [{at}]")
    assert "decision is to go with North Key audio" in shown.text and "South" not in shown.text


def test_another_language_cannot_be_checked_and_is_marked_but_names_and_numbers_are() -> None:
    at = number("We have 190 people and we need 240")
    shown = check(f"Wir haben 190 Leute, gebraucht werden jedoch 240 [{at}].")
    assert shown.uncited and f"[3:29] {MARK}" in shown.text
    assert shown.citations
    wrong = check(f"Wir haben 555 Leute, gebraucht werden jedoch 240 [{at}].")
    assert "555" not in wrong.text and wrong.verdicts == ("fabricated",)


def test_a_sentence_that_shares_nothing_with_any_evidence_is_marked() -> None:
    shown = check("Penguins bought a yacht in Reykjavik.")
    assert shown.text.split("\n")[0] == f"Penguins bought a yacht in Reykjavik {MARK}."
    assert not shown.citations
