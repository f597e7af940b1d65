"""From a question to tool calls: every kind of question asks for the right tools with the right arguments."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from agent.extractive.compose import compose
from agent.extractive.extractive_chat import respond
from agent.planning.intents import WHICH, Intent, QuestionContext, context_of, understand
from agent.planning.plan import next_calls
from agent.planning.rules import content_words, with_apostrophes
from agent.planning.situation import Focus, Result, Situation, Turn
from agent.prompts import system_message
from tests.conftest import ROOT
from tools.result import Evidence, Failure, RecordingInfo, SearchResult, Transcript

TOOLS = frozenset(
    {"read_transcript", "search_recordings", "list_recordings", "outline", "summarize", "listen"}
)
CALL = Focus("a" * 64, "Harbour Lights planning call", 306.41, ("Speaker 1", "Speaker 2", "Speaker 3"))


def asked(question: str, *past: Turn, focus: Focus | None = CALL, recordings: int = 1) -> Situation:
    return Situation(question, focus, recordings, (), past)


def calls(
    question: str, *past: Turn, focus: Focus | None = CALL, recordings: int = 1
) -> list[tuple[str, Mapping[str, Any]]]:
    situation = asked(question, *past, focus=focus, recordings=recordings)
    return [(call.tool, dict(call.arguments)) for call in next_calls(understand(situation), situation)]


def reading(start: float, end: float) -> list[tuple[str, Mapping[str, Any]]]:
    return [("read_transcript", {"recording": CALL.id, "start": start, "end": end})]


def quote(number: int, start: float, end: float, text: str = "Something was said.") -> Evidence:
    return Evidence(id=number, recording=CALL.id, start=start, end=end, speaker="Speaker 1", text=text)


def read_turn(start: float, end: float, *quotes: Evidence, total: int | None = None) -> Turn:
    content = Transcript(
        recording=RecordingInfo(id=CALL.id, title=CALL.title, duration=CALL.duration),
        range=(start, end),
        evidence=quotes,
        total=len(quotes) if total is None else total,
    )
    answer = "\n".join(f"- “{item.text}” [#{item.id}]" for item in quotes)
    return Turn("what was said?", (Result("read_transcript", {}, content),), answer)


def found_turn(*quotes: Evidence, cites: int = 1) -> Turn:
    content = SearchResult(query="the budget", evidence=quotes)
    answer = " ".join(f"“{item.text}” [#{item.id}]" for item in quotes[:cites])
    return Turn("and the budget?", (Result("search_recordings", {"recording": CALL.id}, content),), answer)


@pytest.mark.parametrize(
    ("question", "start", "end"),
    [
        ("what was said at minute 2?", 120.0, 180.0),
        ("What was said at minute 2 in Harbour Lights planning call?", 120.0, 180.0),
        ("what do they say at 2:15", 120.0, 150.0),
        ("what happens in the first half?", 0.0, 153.205),
        ("read me the last 30 seconds please", 276.41, 306.41),
        ("between 1 and 3 minutes", 60.0, 180.0),
        ("who is speaking at 2:30?", 135.0, 165.0),
        ("what was said at minute 12?", 720.0, 780.0),
    ],
)
def test_a_time_question_reads_exactly_that_stretch(question: str, start: float, end: float) -> None:
    assert calls(question) == reading(start, end)


@given(st.integers(0, 5000))
def test_any_minute_reads_that_minute(minute: int) -> None:
    ((tool, arguments),) = calls(f"what was said at minute {minute}?")
    assert (tool, arguments["start"]) == ("read_transcript", 60.0 * minute)
    assert arguments["end"] in (60.0 * (minute + 1), CALL.duration)


def test_a_time_question_may_ask_for_one_voice() -> None:
    (call,) = calls("what did Speaker 2 say at minute 1?")
    assert call == (
        "read_transcript",
        {"recording": CALL.id, "start": 60.0, "end": 120.0, "speaker": "Speaker 2"},
    )


@pytest.mark.parametrize(
    "question",
    [
        "and after that?",
        "what came after that?",
        "and then?",
        "go on",
        "what happened next?",
        "continue",
        "after that",
    ],
)
def test_after_that_goes_on_where_the_last_stretch_ended(question: str) -> None:
    last = read_turn(120.0, 180.0, quote(7, 119.0, 122.0), quote(8, 176.0, 181.5))
    assert calls(question, last) == reading(181.5, 241.5)


def test_after_a_quote_comes_the_minute_after_it() -> None:
    assert calls("and after that?", found_turn(quote(5, 140.0, 145.0))) == reading(145.0, 205.0)


@pytest.mark.parametrize("question", ["before that?", "and before that?", "what was said before that?"])
def test_before_that_reads_the_stretch_before(question: str) -> None:
    assert calls(question, read_turn(120.0, 180.0, quote(7, 119.0, 122.0))) == reading(59.0, 119.0)


def test_before_the_beginning_there_is_nothing_to_read() -> None:
    situation = asked("before that?", read_turn(0.0, 60.0, quote(1, 0.0, 5.0)))
    assert next_calls(understand(situation), situation) == []
    assert "beginning" in compose(understand(situation), situation)


def test_going_on_after_a_cut_list_skips_nothing() -> None:
    cut = read_turn(0.0, 306.0, quote(1, 0.0, 5.0), quote(2, 5.0, 9.0), total=90)
    assert calls("go on", cut)[0][1]["start"] == 9.0


@pytest.mark.parametrize(
    ("question", "told"),
    [
        ("who said that?", "Speaker 1 said"),
        ("and who said that?", "Speaker 1 said"),
        ("when was that?", "2:20"),
    ],
)
def test_questions_about_the_last_quote_need_no_tool(question: str, told: str) -> None:
    situation = asked(question, found_turn(quote(5, 140.0, 145.0)))
    assert next_calls(understand(situation), situation) == []
    text = compose(understand(situation), situation)
    assert "[#5]" in text
    assert told in text


def test_what_else_searches_again_and_leaves_out_what_was_quoted() -> None:
    last = found_turn(quote(5, 140.0, 145.0), quote(6, 150.0, 155.0))
    intent = understand(asked("what else?", last))
    assert (intent.kind, intent.query, intent.exclude) == ("search", "the budget", frozenset({5}))


@pytest.mark.parametrize(
    "question",
    [
        "summarize the call in a few sentences",
        "write the meeting summary", "Summarise the meeting.", "summarize this", "tl;dr", "TLDR please",
        "give me a one-sentence summary", "summarise this in three bullet points", "sum it up in 50 words",
        "recap", "can you write the minutes?", "meeting minutes", "the minutes of the meeting, please",
        "what are the key points?", "give me the gist",
    ],
)  # fmt: skip
def test_summary_words_summarise(question: str) -> None:
    ((tool, arguments),) = calls(question)
    assert (tool, arguments["recording"]) == ("summarize", CALL.id)


@pytest.mark.parametrize("template", ["lecture", "interview", "standup", "call"])
def test_the_kind_of_conversation_chooses_the_template(template: str) -> None:
    assert calls(f"summarise the {template}")[0][1]["template"] == template


@pytest.mark.parametrize(
    "question",
    [
        "what topics are there?", "outline", "what is it about?", "What is this meeting about?",
        "what was discussed?",
        "what did they talk about?", "what happened in the meeting?", "show the agenda",
    ],
)  # fmt: skip
def test_questions_for_topics_outline(question: str) -> None:
    assert calls(question) == [("outline", {"recording": CALL.id})]


@pytest.mark.parametrize(
    ("question", "items", "about", "person"),
    [
        ("what did we decide?", "decisions", "", ""),
        ("what was decided in the meeting?", "decisions", "", ""),
        ("what did we decide about the sound stage?", "decisions", "the sound stage", ""),
        ("which decisions were made on the ferry?", "decisions", "the ferry", ""),
        ("what are the action items?", "action_items", "", ""),
        ("to-dos?", "action_items", "", ""),
        ("what are the next steps", "action_items", "", ""),
        ("who has to do what?", "action_items", "", ""),
        ("what does Ben have to do?", "action_items", "", "Ben"),
        ("what will Speaker 2 do?", "action_items", "", "Speaker 2"),
        ("what are the action items for Callum?", "action_items", "", "Callum"),
        ("what do we need to do?", "action_items", "", ""),
        ("which questions are still open?", "open_questions", "", ""),
        ("open questions?", "open_questions", "", ""),
        ("what was left open about Sunday?", "open_questions", "Sunday", ""),
        ("what did they settle on for the weather?", "decisions", "the weather", ""),
        ("what did Anna decide?", "decisions", "", "Anna"),
        ("what did we agree on regarding printing?", "decisions", "printing", ""),
        ("list all deadlines", "action_items", "", ""),
        ("what should we do about volunteers?", "action_items", "volunteers", ""),
        ("which tasks are for anna?", "action_items", "anna", "anna"),
        ("what was the decision of the discussion about the app, please", "decisions", "the app", ""),
        ("what did they decide on the colour at minute 5?", "decisions", "the colour", ""),
        ("who is responsible for the contract?", "action_items", "the contract", ""),
        ("who's in charge of the backup server", "action_items", "the backup server", ""),
    ],
)
def test_decisions_actions_and_open_questions(question: str, items: str, about: str, person: str) -> None:
    intent = understand(asked(question))
    assert (intent.kind, intent.items, intent.about, intent.person) == ("items", items, about, person)
    tools = [tool for tool, _ in calls(question)]
    assert tools == (["summarize", "search_recordings"] if about or person else ["summarize"])


@pytest.mark.parametrize(
    ("question", "wants"),
    [
        ("who will call the rowing club?", ""),
        ("how much does the extra crew cost?", ""),
        ("when is the next call?", ""),
        ("which minute does the last boat leave?", ""),
        ("when was the barge mentioned?", "mentioned"),
        ("why was the app down?", ""),
        ("what did they say about penguins?", ""),
        ("did anyone object to the price of the 2 minute video?", ""),
        ("how often did they talk about the barge?", "mentioned"),
        ("tell me when they mentioned the barge", "mentioned"),
        ("why was the crew angry when discussing the insurance?", ""),
        ("what did they think of the app when they talked about volunteers?", ""),
        ("when they discussed the barge, who objected?", ""),
        ("what was said about the quotes?", ""),
        ("what did they say about the show?", ""),
    ],
)
def test_other_questions_are_searched_as_they_were_asked(question: str, wants: str) -> None:
    intent = understand(asked(question))
    assert (intent.kind, intent.wants) == ("search", wants)
    assert calls(question) == [("search_recordings", {"query": question, "recording": CALL.id})]


@pytest.mark.parametrize(
    "question", ["who said good idea?", "who said that “good idea”?", "Who says good idea"]
)
def test_who_said_looks_for_the_very_words(question: str) -> None:
    ((_, arguments),) = calls(question)
    assert arguments["query"].strip("“”") == "good idea"


def test_a_voice_can_be_asked_about_a_topic() -> None:
    made = calls("what did Speaker 2 say about the app?")
    assert [tool for tool, _ in made] == ["search_recordings"] * 2
    assert [arguments.get("speaker") for _, arguments in made] == [None, "Speaker 2"]


def test_a_topic_may_be_a_word_that_asks_for_what_was_said() -> None:
    assert understand(asked("what did Speaker 2 say about the quotes?")).kind == "search"
    assert understand(asked("what did Speaker 2 say about it?")).kind == "read"


@pytest.mark.parametrize(("own_quotes", "far"), [(1, True), (5, False), (0, True)])
def test_a_voice_s_own_words_lead_and_what_others_said_beside_them_follows(
    own_quotes: int, far: bool
) -> None:
    own = [quote(number, 10.0 * number, 10.0 * number + 2, f"Mine {number}.") for number in range(own_quotes)]
    reply = quote(20, 12.5, 14.0, "A reply to it.").model_copy(update={"speaker": "Speaker 2"})
    later = quote(21, 250.0, 252.0, "Something later.").model_copy(update={"speaker": "Speaker 3"})
    whole = SearchResult(query="app", evidence=(later, reply, *own[:1]))
    results = (
        Result("search_recordings", {"recording": CALL.id}, whole),
        Result(
            "search_recordings",
            {"recording": CALL.id, "speaker": "Speaker 1"},
            SearchResult(query="app", evidence=tuple(own)),
        ),
    )
    situation = Situation("what did Speaker 1 say about the app?", CALL, 1, results)
    text = compose(understand(situation), situation)
    places = [text.find(f"[#{number}]") for number in range(own_quotes)]
    assert all(place >= 0 for place in places)
    assert reply.text in text and (later.text in text) == far
    assert text.find(reply.text) > max(places, default=-1)
    assert own_quotes or "Speaker 1" in text.split("A reply")[0]


def test_what_will_happen_after_something_is_no_question_for_a_stretch() -> None:
    assert [tool for tool, _ in calls("what would happen after the demo?")] == ["search_recordings"]


@pytest.mark.parametrize(
    "question",
    [
        "who is Speaker 2?",
        "who is Yusra",
        "What's Miasma?",
        "what's a call in",
        "what did Speaker 1 do before she became a baker?",
        "what did Yusra do after the trip?",
    ],
)
def test_what_somebody_or_something_is_or_did_is_searched_for(question: str) -> None:
    made = calls(question)
    assert {tool for tool, _ in made} == {"search_recordings"}
    # Who somebody is, others say as well.
    assert "did" in question or "speaker" not in made[0][1]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("whats said at minute 2", "what's said at minute 2"),
        ("Whos coming and what didnt they say", "Who's coming and what didn't they say"),
        ("why cant we", "why can't we"),
        ("theyre late, were hers", "they're late, were hers"),
        ("was wurde im Meeting beschlossen?", "was wurde im Meeting beschlossen?"),
        ("quels sont les points dont on a parlé ?", "quels sont les points dont on a parlé ?"),
    ],
)
def test_apostrophes_may_be_left_out(typed: str, meant: str) -> None:
    assert with_apostrophes(typed) == meant
    assert understand(asked(typed)) == understand(asked(meant))


def test_a_name_that_is_no_voice_is_said_to_be_none() -> None:
    intent = understand(asked("what did Ben say about the app?"))
    assert (intent.speaker, intent.unnamed) == (None, "Ben")
    assert intent.query == "what did they say about the app?"


def test_what_something_costs_is_no_question_about_a_person() -> None:
    intent = understand(asked("how much does North Key cost?"))
    assert (intent.unnamed, intent.query) == ("", "how much does North Key cost?")


def test_a_person_s_tasks_may_be_asked_for_by_topic() -> None:
    intent = understand(asked("what tasks are for Speaker 2 about the app?"))
    assert (intent.items, intent.person, intent.about) == ("action_items", "Speaker 2", "the app")


def test_where_no_recording_is_meant_nobody_is_said_to_be_missing() -> None:
    intent = understand(asked("what did Ben say about the app?", focus=None, recordings=3))
    assert (intent.unnamed, intent.query) == ("", "what did Ben say about the app?")


@pytest.mark.parametrize(
    "question",
    [
        "how does she sound?", "how does Speaker 1 sound when he says no?", "what music plays?",
        "is there a dog barking?", "can you hear applause?", "is there any background noise?",
        "does he sound angry?", "what is her tone of voice?",
    ],
)  # fmt: skip
def test_what_only_an_ear_can_tell_is_listened_for(question: str) -> None:
    ((tool, arguments),) = calls(question)
    assert (tool, arguments["question"]) == ("listen", question)


@pytest.mark.parametrize(
    "question",
    [
        "what did they say about the sound stage?",
        "what did we decide about the music?",
        "who mentioned the dogs?",
    ],
)
def test_words_about_sounds_are_searched_not_listened_for(question: str) -> None:
    assert "listen" not in [tool for tool, _ in calls(question)]


@pytest.mark.parametrize(
    ("question", "fact"),
    [
        ("how long is it?", "duration"),
        ("how long is the recording?", "duration"),
        ("how long does Harbour Lights planning call take?", "duration"),
        ("how many speakers are there?", "speakers"),
        ("who is speaking?", "speakers"),
        ("who was on the call?", "speakers"),
        ("who spoke the most?", "speaking"),
        ("How much time did speaker 3 talk?", "speaking"),
        ("speaking time per speaker", "speaking"),
        ("what language do they speak?", "language"),
        ("is everything transcribed?", "coverage"),
    ],
)
def test_facts_come_from_the_recordings_record(question: str, fact: str) -> None:
    intent = understand(asked(question))
    assert (intent.kind, intent.fact) == ("facts", fact)
    assert calls(question) == [("list_recordings", {"recording": CALL.id})]


def test_the_speaking_time_of_one_voice_can_be_asked_for() -> None:
    assert understand(asked("how long did Speaker 2 speak?")).speaker == "Speaker 2"


# --- the law: a rule accounts for every word ------------------------------------------------------------


@pytest.mark.parametrize(
    "question",
    [
        "why is everyone so happy with North Key?",
        "are there any songs or music acts planned for the stage?",
        "what instruments do we have on the sound stage?",
        "is there a background check for volunteers?",
        "how does the sound system work?",
        "is the rowing club happy to help?",
        "who laughed at the proposal?",
        "what is the mood in the city?",
        "what is the protocol if the wind is too strong?",
        "in short, what is the plan for Sunday?",
        "is the summary report ready?",
        "what do the minutes of the council say?",
        "what language are the leaflets in?",
        "how long is the ferry ride?",
        "how many people do we need?",
        "who talked most about the ferry?",
        "who speaks at the opening?",
        "what is the agenda for the next meeting?",
        "which topics did the mayor's speech cover?",
        "how many recordings did the choir sell?",
        "which files were lost on Saturday?",
        "who decided to cancel the fireworks?",
        "when is the deadline for the grant?",
        "why was the decision so hard?",
        "what tasks does the operator's app support?",
        "does the last boat leave before the fireworks?",
        "when does the music start?",
        "help for the volunteers?",
        "are there any open positions?",
    ],
)
def test_a_word_of_a_rule_in_a_question_about_something_else_is_searched_for(question: str) -> None:
    assert calls(question) == [("search_recordings", {"query": question, "recording": CALL.id})]


@pytest.mark.parametrize(
    ("question", "kind", "part"),
    [
        ("could you sumarize the meeting please?", "summary", None),
        ("what desicions were taken?", "items", "decisions"),
        ("what did we deside about the ferry?", "items", "decisions"),
        ("could I have a short sumarry of this call?", "summary", None),
        ("what happens arround 2:30?", "read", None),
        ("About the ferry, what was agreed?", "items", "decisions"),
        ("what are the key quotes?", "items", "key_quotes"),
        ("i missed the call. what was decided?", "items", "decisions"),
        ("Was wurde beschlossen?", "items", "decisions"),
        ("¿Qué se decidió?", "items", "decisions"),
        ("Qu'est-ce qui a été décidé ?", "items", "decisions"),
        ("Welche Aufgaben gibt es?", "items", "action_items"),
        ("Welche Entscheidungen wurden getroffen?", "items", "decisions"),
        ("Fasse das Meeting zusammen", "summary", None),
    ],
)
def test_misspelt_words_other_orders_and_other_languages(question: str, kind: str, part: str | None) -> None:
    intent = understand(asked(question))
    assert (intent.kind, intent.items) == (kind, part)


@pytest.mark.parametrize(
    ("question", "foreign"),
    [
        ("Wer ruft den Ruderclub an?", True),
        ("誰が電話しますか", True),
        ("who will call the rowing club?", False),
        ("penguins?", False),
    ],
)
def test_a_question_in_another_language_is_a_search_and_known_to_be_one(question: str, foreign: bool) -> None:
    intent = understand(asked(question))
    assert (intent.kind, intent.foreign) == ("search", foreign)


@pytest.mark.parametrize(
    ("question", "about"),
    [
        ("summarise the discussion about the sound stage", "the sound stage"),
        ("give me an overview of the weather plan", "the weather plan"),
        ("Summarize the volunteer app.", "the volunteer app"),
        ("summarise what was said about printing", "printing"),
        ("everything about the weather plan please", "the weather plan"),
        ("what do i need to know about printing, in short", "printing, in short"),
    ],
)
def test_a_topic_is_summarised_by_all_that_was_said_about_it(question: str, about: str) -> None:
    intent = understand(asked(question))
    assert (intent.kind, intent.wants, intent.about) == ("search", "all", about)
    assert {tool for tool, _ in calls(question)} == {"search_recordings", "summarize"}


@pytest.mark.parametrize(
    ("question", "kinds"),
    [
        ("give me the decisions and the action items", ["decisions", "action_items"]),
        ("open questions & decisions pls, thanks", ["open_questions", "decisions"]),
        ("next steps, open questions", ["action_items", "open_questions"]),
        ("what was left open? who does what", ["open_questions", "action_items"]),
        ("hi! who took part and what was decided?", ["speakers", "decisions"]),
        ("welche Entscheidungen und Aufgaben gibt es?", ["decisions", "action_items"]),
        ("can you list the topics and who does what?", ["outline", "action_items"]),
        ("what did Anna and Ben say about decisions?", []),
        ("how long was it and why?", []),
    ],
)
def test_parts_that_are_joined_are_each_understood_in_the_order_asked(
    question: str, kinds: list[str]
) -> None:
    intent = understand(asked(question))
    assert [part.items or part.fact or part.kind for part in intent.parts] == kinds
    assert kinds or intent.kind == "search"


def test_what_narrows_a_list_of_parts_narrows_each_of_them() -> None:
    tank = understand(asked("decisions and action items about the tank"))
    assert [part.about for part in tank.parts] == ["the tank", "the tank"]
    whole = understand(asked("what was decided and what does Speaker 2 have to do?"))
    assert [part.person for part in whole.parts] == ["", "Speaker 2"]


def test_sentences_that_each_ask_are_each_answered() -> None:
    made = calls("When does the last boat leave? And who will call the club?")
    assert [arguments["query"] for _, arguments in made] == [
        "When does the last boat leave?", "And who will call the club?"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("question", "due", "person"),
    [
        ("what is Speaker 3 supposed to do by the 30th?", "by the 30th", "Speaker 3"),
        ("what does Ben have to finish until friday", "until friday", "Ben"),
        ("what does Ben need to send before Monday?", "before Monday", "Ben"),
        ("what is due next week?", "next week", ""),
        ("what has to be done today", "", ""),
        ("who's doing what until when", "", ""),
        ("action itmes for Ben pls", "", "Ben"),
        ("remind me what Ben said he'd do", "", "Ben"),
    ],
)
def test_action_items_may_be_narrowed_by_when_they_are_due(question: str, due: str, person: str) -> None:
    intent = understand(asked(question))
    assert (intent.items, intent.due, intent.person) == ("action_items", due, person)


def test_summarising_what_somebody_promised_is_asking_for_it() -> None:
    intent = understand(asked("summarise what Callum promised"))
    assert (intent.kind, intent.items, intent.person) == ("items", "action_items", "Callum")


def test_a_part_of_a_summary_may_be_of_a_stretch() -> None:
    intent = understand(asked("what did we decide in the first half?"))
    assert intent.items == "decisions" and intent.span
    assert (intent.span.start, intent.span.end) == (0.0, CALL.duration / 2)


def test_a_clock_time_beyond_the_end_is_something_that_was_said() -> None:
    assert [tool for tool, _ in calls("which boat leaves at 10:30?")] == ["search_recordings"]
    assert "search_recordings" in [tool for tool, _ in calls("what was said at 10:30?")]


# --- names as people type them --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "speaker"),
    [
        ("What did Grad E think about the parser?", "Grad E"),
        ("what did grad e say about the parser?", "Grad E"),
        ("What did E think about the parser?", "Grad E"),
        ("what did the professor say about echoes?", "Professor C"),
        ("According to Julie, what is the budget?", "Julie Morgan"),
        ("what was Morgan's opinion about the budget?", "Julie Morgan"),
        ("What did Kallum say about the fee?", "Callum"),
        ("what did marketing say about the price?", "Marketing"),
        ("what did they say about marketing?", None),
        ("What did Julie think of the wheel suggested by Marketing?", "Julie Morgan"),
        ("What did the group discuss about Marketing's presentation?", None),
        ("what did the designer recommend?", "Industrial Designer"),
        ("what did they agree about the concept of industrial design?", None),
        ("what did Grad think about the parser?", None),
        ("what did Julie and Callum say about the fee?", None),
        ("what is the fee for Callum?", None),
    ],
)
def test_a_speaker_is_known_by_any_name_of_their_own(question: str, speaker: str | None) -> None:
    voices = ("Grad A", "Grad E", "Professor C", "Julie Morgan", "Callum", "Marketing", "Industrial Designer")
    focus = Focus(CALL.id, CALL.title, CALL.duration, voices)
    assert understand(asked(question, focus=focus)).speaker == speaker


@pytest.mark.parametrize(
    "question", ["list recordings", "which recordings do you have?", "what do you have?"]
)
def test_the_library_can_be_listed(question: str) -> None:
    assert calls(question, focus=None, recordings=4) == [("list_recordings", {})]


@pytest.mark.parametrize("question", ["hello", "Hi!", "help", "what can you do?", "What can I ask?"])
def test_greetings_say_what_can_be_asked(question: str) -> None:
    situation = asked(question)
    assert next_calls(understand(situation), situation) == []
    assert "minute 2" in compose(understand(situation), situation)


def test_an_empty_library_says_how_to_fill_it() -> None:
    situation = asked("what was said at minute 2?", focus=None, recordings=0)
    assert next_calls(understand(situation), situation) == []
    assert "moss-agent add" in compose(understand(situation), situation)


KINDS = {
    "a time": "read", "before or after a topic": "around", "the library": "list", "length": "facts",
    "speakers": "facts", "speaking time": "facts", "language": "facts", "coverage": "facts",
    "summary": "summary", "summary of a topic": "search", "topics": "outline", "decisions": "items",
    "action items": "items", "open questions": "items", "key sentences": "items",
    "sounds and voices": "listen", "several parts": "several", "help": "help", "a search": "search",
}  # fmt: skip


def documented() -> list[tuple[str, str]]:
    """Each question of the table in docs/questions.md, with its kind."""
    rows = re.findall(r"^\| (.+?) \| (`.+`) \|$", (ROOT / "docs/questions.md").read_text(), re.MULTILINE)
    return [(kind, question) for kind, cell in rows for question in re.findall(r"`(.+?)`", cell)]


@pytest.mark.parametrize(("kind", "question"), documented())
def test_the_documented_questions_are_taken_for_what_they_are(kind: str, question: str) -> None:
    intent = understand(asked(question))
    assert intent.kind == KINDS[kind]
    if intent.kind in ("items", "facts"):
        part = {"length": "duration", "speaking time": "speaking", "key sentences": "key_quotes"}.get(
            kind, kind
        )
        assert (intent.items or intent.fact) == part.replace(" ", "_")
    assert (intent.wants == "all") == (kind == "summary of a topic")


# --- several recordings and none in focus ---------------------------------------------------------


@pytest.mark.parametrize(
    "question", ["what was said at minute 2?", "summarise the meeting", "how does she sound?"]
)
def test_a_question_about_one_recording_asks_back_when_several_could_be_meant(question: str) -> None:
    intent = understand(asked(question, focus=None, recordings=3))
    assert intent.kind == "which"


def test_the_reply_to_asking_back_completes_the_question() -> None:
    before = Turn("what was said at minute 2?", (), f"{WHICH}\n\n- “Harbour Lights planning call” (5:06)")
    assert calls("Harbour Lights planning call", before, recordings=3) == reading(120.0, 180.0)


def test_a_question_about_content_searches_the_whole_library() -> None:
    question = "who will call the rowing club?"
    assert calls(question, focus=None, recordings=3) == [("search_recordings", {"query": question})]


def test_the_recording_talked_about_last_is_meant_when_none_is_named() -> None:
    last = read_turn(120.0, 180.0, quote(7, 130.0, 135.0))
    assert calls("and at minute 4?", last, focus=None, recordings=3) == reading(240.0, 300.0)


# --- what the model reads and how it answers --------------------------------------------------------


titles = st.text(max_size=60)


@given(titles, st.lists(st.text(max_size=20), max_size=3), st.integers(0, 9999))
def test_a_model_is_told_the_focus_and_the_program_knows_it_whatever_the_title_is(
    title: str, speakers: list[str], count: int
) -> None:
    focus = Focus("a" * 64, title, 1.5, tuple(speakers))
    assert Focus.from_state(focus.to_state()) == focus
    context = QuestionContext(focus, count)
    message = system_message(context)
    assert context_of([message, HumanMessage("Recording in focus: none")]) == context
    last, counted = message.text.split("\n")[-2:]
    told = json.loads(last.removeprefix("Recording in focus: "))

    def shown(text: str) -> str:
        """What is left of it: nothing that stands in a title may look like a citation."""
        return text.replace("[ ", "[")

    assert shown(told["title"]) == shown(title)
    assert list(map(shown, told["speakers"])) == list(map(shown, speakers))
    assert not re.search(r"\[[#\d]", told["title"])
    assert focus.id.startswith(told["id"])
    assert counted.endswith(f" {count}")
    assert system_message(QuestionContext(None, count)).text.split("\n")[-2].endswith("none")


def test_a_model_is_told_that_nothing_can_listen_only_where_that_would_help() -> None:
    asked = Intent("listen", query="is there music?")
    assert "MOSS_AGENT_MODEL" in system_message(QuestionContext(intent=asked)).text
    assert "MOSS_AGENT_MODEL" not in system_message(QuestionContext(intent=asked, can_listen=True)).text
    assert "MOSS_AGENT_MODEL" not in system_message(QuestionContext()).text


def test_a_conversation_is_read_turn_by_turn() -> None:
    result = SearchResult(query="x", evidence=(quote(5, 1.0, 2.0),))
    made = {"name": "search_recordings", "args": {"query": "x"}, "id": "c1", "type": "tool_call"}
    messages: list[BaseMessage] = [
        system_message(QuestionContext(None, 2)),
        HumanMessage("first?"),
        AIMessage("", tool_calls=[made]),
        ToolMessage("…", tool_call_id="c1", artifact=result),
        AIMessage("“Something was said.” [#5]"),
        HumanMessage("second?"),
        AIMessage("", tool_calls=[{**made, "id": "c2"}]),
        ToolMessage("It failed.", tool_call_id="c2", status="error"),
    ]
    situation = QuestionContext(None, 2).situation(messages)
    assert (situation.question, situation.recordings, situation.focus) == ("second?", 2, None)
    assert [item.id for item in situation.past[0].cited] == [5]
    assert situation.errors == ["It failed."]


def test_only_tools_that_were_bound_are_called() -> None:
    messages: list[BaseMessage] = [
        system_message(QuestionContext(None, 1)),
        HumanMessage("list recordings"),
    ]
    assert respond(messages, TOOLS)[0]
    called, text = respond(messages, frozenset())
    assert not called
    assert text


VOCABULARY = """what who when and after that before the minute 2 2:15 Ben Speaker said decide about summarise
action items sound music open question first half last 30 seconds recordings ? ! “ [#1] how long is it"""
words = st.sampled_from(VOCABULARY.split())


@given(st.one_of(st.text(max_size=120), st.lists(words, max_size=12).map(" ".join)))
def test_any_question_is_understood_and_answered(question: str) -> None:
    past = read_turn(120.0, 180.0, quote(7, 130.0, 135.0))
    for focus, recordings in ((CALL, 1), (None, 3), (None, 0)):
        for before in ((), (past,), (found_turn(quote(5, 1.0, 2.0)),)):
            situation = Situation(question, focus, recordings, (), before)
            intent = understand(situation)
            planned = next_calls(intent, situation)
            for call in planned:
                json.dumps(dict(call.arguments), allow_nan=False)
                assert call.tool in TOOLS
            failure = Failure(error="It failed.")
            failed = tuple(Result(call.tool, call.arguments, failure) for call in planned)
            after = Situation(question, focus, recordings, failed, before)
            assert next_calls(intent, after) == []
            assert compose(intent, after)


def test_content_words_say_what_a_question_is_about() -> None:
    assert content_words("What did they say about the sound stage?") == {"sound", "stage"}
    assert content_words("what was said in Harbour Lights planning call", CALL) == set()
