"""Each template reads a recording its own way."""

from __future__ import annotations

import pytest

from index.export.markdown import to_markdown
from index.records import Summary
from index.search.embeddings import Embedder
from index.summary import summarize
from tests.support.talks import TALKS, script


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder()


def summary_of(segments, embedder: Embedder, template: str) -> Summary:
    return summarize(segments, embedder.encode_passages([segment.text for segment in segments]), template)


def test_an_interview_lists_questions_with_the_reply(embedder: Embedder):
    found = summary_of(
        script(
            """
            Host: Welcome to the show.
            Host: How did you come to write this book?
            Guest: I had been a nurse for twenty years before I wrote a line.
            Guest: One night on the ward I began to take notes about what the patients told me.
            Host: And what did the patients think of it?
            Guest: Most of them never knew, which I regret today.
            """
        ),
        embedder,
        "interview",
    )
    assert [topic.title for topic in found.topics] == [
        "How did you come to write this book?",
        "And what did the patients think of it?",
    ]
    assert "never knew" in found.topics[1].points[0]


def test_what_is_answered_at_once_stands_under_its_question_however_short(embedder: Embedder):
    found = summary_of(
        script(
            """
            Host: So how much does one extra crew cost us?
            Guest: Four thousand for the weekend.
            Guest: Without it the last boat leaves at ten, and the fireworks only begin at half past nine.
            Guest: Last year eight hundred people were left waiting at the pier for more than two hours.
            Host: And who would have to agree to that?
            Guest: The mayor.
            """
        ),
        embedder,
        "interview",
    )
    assert [topic.points[0] for topic in found.topics] == ["Four thousand for the weekend.", "The mayor."]
    assert len(found.topics[0].points) == 2


def test_decisions_that_nobody_looked_for_are_not_counted_as_none(embedder: Embedder):
    lines = script("Host: What did you decide?\nGuest: We decided to buy the second boat in the spring.")
    assert "decision" not in summary_of(lines, embedder, "interview").overview
    assert "decision" in summary_of(lines, embedder, "meeting").overview


def test_a_standup_lists_updates_by_speaker(embedder: Embedder):
    found = summary_of(
        script(
            """
            Ada: Yesterday I finished the parser.
            Ada: Today I'm working on the tests.
            Bo: I'm blocked, I am waiting for the review.
            Bo: The sky is blue.
            """
        ),
        embedder,
        "standup",
    )
    assert {topic.title: topic.points for topic in found.topics} == {
        "Ada": ("Yesterday I finished the parser.", "Today I'm working on the tests."),
        "Bo": ("I'm blocked, I am waiting for the review.",),
    }
    assert "## Updates" in to_markdown(found, "Stand-up")


def test_a_lecture_lists_what_the_audience_asked(embedder: Embedder):
    talk = TALKS["biology lecture"]
    found = summary_of(script(talk.lines), embedder, "lecture")
    assert [item.text for item in found.open_questions] == ["Do plants respire in daylight as well?"]
    assert "## Questions" in to_markdown(found, "Biology")


def test_a_call_begins_with_the_next_steps(embedder: Embedder):
    shown = to_markdown(summary_of(script(TALKS["sales call"].lines), embedder, "call"), "Call")
    assert shown.index("## Next steps") < shown.index("## Decisions") < shown.index("## Topics")


def test_an_answer_is_no_question_of_the_interview(embedder: Embedder):
    found = summary_of(script(TALKS["beekeeper"].lines), embedder, "interview")
    assert len(found.topics) == 4
    assert not any("who wouldn't be" in topic.title for topic in found.topics)
