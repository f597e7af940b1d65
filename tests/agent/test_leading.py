"""What an answer leads with: the sentence that says it, not an agenda or a sum-up that names it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.talks import Talk, talks_of, together
from benchmarks.train_pointed import alike
from index.search.pointed import pointedness
from index.search.wording import asked_for
from tests.support.conversing import DURATION, HARBOUR, TITLE, Desk, heard, said
from tools.search_recordings import search_recordings

LINES = """
Hollis: Good afternoon, I think everybody is here.
Hollis: On the agenda are the loan of the vases, the lighting, the catalogue and the opening evening.
Dev: The conservator was here, so let us do the lighting now.
Dev: The old spotlights are too warm, they would damage the watercolours.
Hollis: So we need new lamps.
Dev: Yes, thirty-two of them, at eighty-five dollars each.
Hollis: Good, then we buy the lamps.
Dev: I'll place the order tonight, delivery takes a while.
Hollis: Perfect.
Hollis: Now the vases.
Marguerite: Lisbon agreed to lend us six of the seven vases.
Marguerite: The last one is too fragile to travel.
Hollis: That's a pity, it was the blue one, wasn't it?
Marguerite: Yes, with the cranes.
Dev: Who pays for the courier?
Marguerite: We do, and she flies with the crates on the eleventh of June.
Hollis: Do we have a climate case that is big enough?
Marguerite: I have to rent one.
Hollis: Next, the catalogue.
Hollis: The essay by Professor Lindqvist is late again.
Dev: How late is it?
Hollis: Three weeks, and the printer needs everything by the third of May.
Dev: The essay is the heart of the book.
Dev: The cover should be the photograph of the harvest.
Marguerite: I like the harvest too.
Hollis: Finally the opening evening.
Marguerite: The ambassador confirmed, she will speak for ten minutes.
Hollis: Great news.
Marguerite: We expect two hundred and thirty guests.
Dev: The hall is too small for that.
Marguerite: Some never come, and we can open the terrace.
Hollis: So, in short: lamps ordered, six vases from Lisbon, harvest cover, and the ambassador speaks.
Marguerite: I'm looking forward to it.
Hollis: Me too, thanks for today.
"""


@pytest.fixture(scope="module")
def museum(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    home: Path = tmp_path_factory.mktemp("museum")
    desk = Desk(home)
    spoken = [line.split(": ", 1) for line in LINES.strip().splitlines()]
    rows = [said(3.0 * at, 3.0 * at + 2.5, text, speaker) for at, (speaker, text) in enumerate(spoken)]
    desk.add("d" * 64, "Exhibition", rows, 3.0 * len(rows))
    yield desk
    desk.close()


@pytest.mark.parametrize(
    ("question", "says"),
    [
        ("how many vases do we get?", "six of the seven"),
        ("when does the courier fly", "eleventh of June"),
        ("when does the printer need everything?", "third of May"),
        ("how many guests come to the opening evening", "two hundred and thirty"),
    ],
)
def test_an_answer_leads_with_the_sentence_that_says_it(museum: Desk, question: str, says: str) -> None:
    answer = museum.assistant.ask(question)
    assert says in answer.citations[0].quote
    assert museum.search.find(question, "d" * 64).hits[0].text.count(says) == 1


def test_a_search_leads_with_a_stretch_that_says_it_not_with_the_agenda(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.add(HARBOUR, TITLE, heard(), DURATION)
    found = desk.search.find("budget for the stage", HARBOUR).hits
    desk.close()
    assert "at 9,000" in found[0].text
    assert any("three things to cover" in hit.text for hit in found[1:])


def unseen() -> list[Talk]:
    """Talks with questions that nothing was learned from."""
    return [talk for talk in talks_of("val") if talk.questions]


@pytest.mark.parametrize(
    ("length", "least_led"), [(1, 0.3), (4, 0.25)], ids=["quarter of an hour", "most of an hour"]
)
def test_pointed_questions_about_talks_that_nothing_was_learned_from_are_mostly_answered(
    tmp_path: Path, length: int, least_led: float
) -> None:
    desk = Desk(tmp_path)
    asked = quoted = led = 0
    for number, talk in enumerate(unseen()[:2] if length == 1 else [together(unseen()[:length])]):
        recording = f"{number}" * 64
        rows = [
            said(4.0 * at, 4.0 * at + 3.5, text, speaker) for at, (speaker, text) in enumerate(talk.sentences)
        ]
        desk.add(recording, talk.title, rows, 4.0 * len(rows))
        for question, answers in talk.questions:
            if not answers:
                continue
            found = search_recordings(desk.toolbox, question, recording).evidence
            places = [round(item.start / 4.0) for item in found]
            asked += 1
            quoted += not set(places).isdisjoint(answers)
            led += bool(places) and places[0] in answers
    desk.close()
    assert quoted >= 0.6 * asked and led >= least_led * asked


@pytest.mark.parametrize("is_pointed", [True, False], ids=["pointed", "broad"])
def test_what_a_question_asks_for_tells_how_pointed_it_is(is_pointed: bool) -> None:
    asked = [question for _, question, kind in alike("val") if kind == is_pointed]
    assert sum((pointedness(question) > 0.5) == is_pointed for question in asked) > 0.85 * len(asked)


def test_a_question_in_another_language_is_not_taken_for_a_pointed_one_by_its_length() -> None:
    assert pointedness("Fasse die Diskussion über das Dach zusammen") < 0.5
    assert pointedness("Résume la discussion sur le toit") < 0.5


def test_an_agenda_and_a_sum_up_are_still_found_where_nothing_else_says_it(museum: Desk) -> None:
    quotes = [citation.quote for citation in museum.assistant.ask("what is on the agenda today").citations]
    assert any("On the agenda" in quote for quote in quotes)


def test_what_only_names_subjects_is_no_key_quote_and_nobody_s_action_item(museum: Desk) -> None:
    text = museum.assistant.ask("action items and key quotes").text
    assert "place the order" in text
    assert "On the agenda" not in text and "in short" not in text


def test_a_decision_made_before_a_topic_was_named_is_not_about_it(museum: Desk) -> None:
    assert museum.assistant.ask("what was decided about the crates?").text.startswith("I found no decision")
    assert "buy the lamps" in museum.assistant.ask("what was decided about the lamps?").text


@pytest.mark.parametrize(
    ("text", "tells"),
    [
        ("We have three things to cover.", False),
        ("Lunch is at 12.", False),
        ("One technician is ill.", False),
        ("The stage line was 10,000.", True),
        ("4,200 for the weekend.", True),
        ("About five and a half thousand.", True),
        ("Nine euros.", True),
        ("It's eighteen a month.", True),
    ],
)
def test_a_price_is_more_than_a_count(text: str, tells: bool) -> None:
    price = asked_for("what's the budget for the stage?")
    assert price is not None and bool(price.search(text)) is tells


TALK = """
Ines: Right, the school trip.
Ines: Is there swimming this year?
Ines: I only ask because of the bags.
Paula: Well.
Paula: The pool has been shut since Easter.
Ines: Who keeps the list for the cake stall?
Paula: Me.
Paula: I'll put it on the door by Thursday.
Ines: Would anybody leave the money with the office?
Tom: I bought a loaf of bread for the ducks.
Tom: They would not touch it.
Ines: The coach leaves from the front gate.
Ines: It waits for nobody.
Paula: Good to know.
Tom: The museum has a new café.
Paula: The guide speaks for an hour.
"""


@pytest.fixture(scope="module")
def school(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    desk = Desk(tmp_path_factory.mktemp("school"))
    spoken = [line.split(": ", 1) for line in TALK.strip().splitlines()]
    rows = [said(3.0 * at, 3.0 * at + 2.5, text, speaker) for at, (speaker, text) in enumerate(spoken)]
    desk.add("e" * 64, "School trip", rows, 3.0 * len(rows))
    yield desk
    desk.close()


def lead(desk: Desk, question: str) -> str:
    return desk.assistant.ask(question).text.partition("Also:")[0]


def test_a_reply_is_told_past_its_false_start_and_what_its_asker_adds(school: Desk) -> None:
    assert "The pool has been shut since Easter." in lead(school, "is there swimming this year?")


def test_a_reply_of_a_word_is_told_with_what_follows_it(school: Desk) -> None:
    told = lead(school, "who keeps the list for the cake stall?")
    assert "Paula said: “Me. I'll put it on the door by Thursday.”" in told


def test_what_leads_goes_on_with_the_next_sentence_of_its_speaker(school: Desk) -> None:
    assert "front gate. It waits for nobody.”" in lead(school, "where does the coach leave from?")


def test_a_word_of_the_question_that_nobody_says_is_named(school: Desk) -> None:
    answer = school.assistant.ask("which penguin guide speaks for an hour?")
    assert answer.citations and answer.text.startswith("The word penguin is not said here")
    assert "not said here" not in school.assistant.ask("where does the coach leave from?").text


def test_after_that_is_after_the_reply(school: Desk) -> None:
    conversation = school.assistant.ask("is there swimming this year?")
    answer = school.assistant.ask("and after that?", thread=conversation.thread)
    assert "Who keeps the list for the cake stall?" in answer.text and "The pool" not in answer.text
