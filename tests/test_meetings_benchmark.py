"""The benchmark over meetings: what counts as found, cited and decided, and what it writes."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from benchmarks.meetings import (
    Answered,
    Bm25,
    Meeting,
    Query,
    cited_sentences,
    decision_figures,
    drawn,
    figures,
    main,
)

TALK = """The greenhouse at the school leaks when it rains.
We could mend the roof with new glass.
New glass is too dear for us this year.
Then let us take plastic sheets for the roof.
Fine, we will take plastic sheets for the roof of the greenhouse.
Next is the trip to the museum in June.
The bus to the museum takes forty children.
We are fifty, so we need a second bus.
I can ask the bus company for a price.
Good, ask them before Friday.""".splitlines()


def answered(gold: list, evidence: list[int], found: list, cited: list[int], ms: float = 1.0) -> Answered:
    return Answered(Query("?", tuple(gold), tuple(evidence)), found, cited, "", ms, [(0, 9)])


def test_the_figures_are_those_that_the_data_describe() -> None:
    told = figures(
        [
            answered([(10, 19)], [12, 30], [(0, 9), (19, 40)], [14, 15, 50], ms=10),
            answered([(100, 110)], [101], [(90, 99)], [], ms=30),
        ]
    )
    assert (told["at 1"], told["at 5"]) == (0, 0.5)
    assert told["answered"] == told["refused"] == 0.5
    assert told["precision"] == pytest.approx(2 / 3)
    assert told["near evidence"] == pytest.approx(1 / 3)
    assert told["recall"] == pytest.approx((1 / 2 + 0) / 2)
    assert told["median ms"] == 20


def test_a_decision_is_right_near_its_evidence_and_recalled_once() -> None:
    meeting = Meeting("m", "d", (), (), ((10, 20), (40,)))
    told = decision_figures([(meeting, [[12, 13], [17], [60]])])
    assert told == {"decisions recalled": 0.5, "decisions right": pytest.approx(2 / 3)}


def test_a_run_of_segments_is_cited_whole_and_a_quote_cannot_cite() -> None:
    assert cited_sentences("A “[#9]” [#3-#5], and [#4] [#77].", {3: 0, 4: 1, 5: 2, 9: 6}) == [0, 1, 2]


def test_bm25_prefers_the_text_with_the_rarer_word() -> None:
    rank = Bm25(["the bus and the bus", "the glass", "the bus"])
    assert rank.best("the glass bus", 2) == [1, 0]


def test_a_sample_of_queries_is_the_same_at_every_call_and_names_their_meetings() -> None:
    meetings = [
        Meeting(f"m{at}", "d", (), tuple(Query(f"{at}.{number}", ()) for number in range(5)), ())
        for at in range(6)
    ]
    sample = drawn(meetings, 7)
    assert sample == drawn(meetings, 7)
    asked = [query.text for meeting in sample for query in meeting.queries]
    assert len(asked) == len(set(asked)) == 7
    assert all(query.text.startswith(meeting.id[1:]) for meeting in sample for query in meeting.queries)
    assert sum(len(meeting.queries) for meeting in drawn(meetings, 99)) == 30


def test_a_meeting_is_taken_in_asked_and_summarised(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file, out = tmp_path / "talks.jsonl.gz", tmp_path / "answers.jsonl"
    meeting = {
        "id": "school",
        "domain": "school",
        "sentences": [["Ada" if at % 2 else "Ben", text] for at, text in enumerate(TALK)],
        "queries": [{"query": "How many children fit in the bus?", "gold": [[5, 9]], "evidence": [6]}],
        "summary": [{"sentence": "Plastic sheets were chosen.", "evidence": [4], "decision": True}],
    }
    with gzip.open(file, "wt") as lines:
        lines.write(json.dumps(meeting) + "\n")
    main([str(file), "--out", str(out), "--cache", str(tmp_path / "cache")])
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["queries"] == told["answered"] == told["at 5"] == 1
    asked, listed = map(json.loads, out.read_text().splitlines())
    assert asked.keys() == {"meeting", "query", "found", "cited", "answer", "ms"}
    assert 6 in asked["cited"] and "forty children" in asked["answer"]
    assert listed.keys() == {"meeting", "decisions"}
