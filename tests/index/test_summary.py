"""The summary finds what was decided and who does what, and never invents."""

from __future__ import annotations

import json
import re
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from index.export.markdown import to_markdown
from index.reading import reader as reading
from index.recording_errors import WeightsError
from index.records import TEMPLATES, Segment, Summary
from index.search.embeddings import Embedder
from index.speaker_names import infer_names
from index.summary import summarize
from index.summary.speech_acts import due_words
from tests.conftest import DATA
from tests.support.talks import TALKS, Talk, script

FACTS = json.loads((DATA / "harbour_meeting.facts.json").read_text())
LABELS = {"Anna": "Speaker 1", "Ben": "Speaker 2", "Callum": "Speaker 3"}


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder()


def load(name: str) -> list[Segment]:
    parsed = json.loads((DATA / name).read_text())
    rows = parsed if isinstance(parsed, list) else parsed["segments"]
    return [
        Segment(
            row["start"],
            row["end"],
            row["text"],
            speaker=LABELS.get(row["speaker"], row["speaker"]),
            id=100 + at,
        )
        for at, row in enumerate(rows)
        if row.get("kind") != "sound"
    ]


def summary_of(segments: list[Segment], embedder: Embedder, template: str = "meeting") -> Summary:
    return summarize(segments, embedder.encode_passages([segment.text for segment in segments]), template)


def overlaps(item, at: list[float]) -> bool:
    return item.start < at[1] + 3 and at[0] - 3 < item.end


# This one meeting has been looked at for long: what is asserted of it is a regression test. How well a
# summary does on meetings that nobody here wrote is measured by the benchmarks.
@pytest.fixture(scope="module", params=["harbour_heard.json", "harbour_meeting.json"])
def sample_summary(request, embedder) -> Summary:
    return summary_of(load(request.param), embedder)


def matches(item, fact) -> bool:
    from index.speaker_names import same_name

    owner = item.owner and (same_name(item.owner, fact["owner"]) or item.owner == LABELS[fact["owner"]])
    due = item.due and item.due.replace("30th", "thirtieth") == fact["due"]
    return bool(overlaps(item, fact["at"]) and owner and due)


def test_the_sample_s_decisions_are_found(sample_summary: Summary):
    for fact in FACTS["decisions"]:
        assert any(overlaps(item, fact["at"]) for item in sample_summary.decisions), fact["text"]


def test_the_sample_s_action_items_are_found_with_owner_and_due_words(sample_summary: Summary):
    found = [
        fact
        for fact in FACTS["action_items"]
        if any(matches(item, fact) for item in sample_summary.action_items)
    ]
    assert len(found) == 6


def test_the_sample_s_open_question_is_found(sample_summary: Summary):
    fact = FACTS["open_questions"][0]
    assert any(overlaps(item, fact["at"]) for item in sample_summary.open_questions)


def test_what_is_no_decision_action_or_question_is_not_listed(sample_summary: Summary):
    wrong = [
        item
        for item in sample_summary.action_items
        if not any(matches(item, fact) for fact in FACTS["action_items"])
    ]
    for kind in ("decisions", "open_questions"):
        facts = FACTS[kind]
        listed = getattr(sample_summary, kind)
        wrong += [item for item in listed if not any(overlaps(item, fact["at"]) for fact in facts)]
    assert len(wrong) == 0


def test_the_sample_s_topics_begin_where_people_change_the_subject(sample_summary: Summary):
    begins = [topic.start for topic in sample_summary.topics]
    for fact in FACTS["topics"]:
        assert min(abs(value - fact["span"][0]) for value in begins) < 6, fact["title"]
    assert len(begins) <= 9
    titles = " / ".join(topic.title.lower() for topic in sample_summary.topics)
    assert "sound stage" in titles and "volunteer app" in titles and "weather plan" in titles


MADE_UP = json.loads((DATA / "made_up_meetings.json").read_text())
"""Short meetings of three people, written for these tests, with what a careful reader would list."""


@pytest.mark.parametrize("meeting", MADE_UP, ids=lambda meeting: meeting["title"])
def test_what_short_meetings_decide_promise_and_leave_open_is_found(meeting, embedder: Embedder):
    lines = "\n".join(f"{speaker}: {text}" for speaker, text in meeting["lines"])
    found = summary_of(script(lines), embedder)
    decisions = [fact for fact in meeting["decisions"] if any(fact in item.text for item in found.decisions)]
    actions = [
        fact
        for fact in meeting["action_items"]
        if any(
            fact["text"] in item.text and (item.owner, item.due) == (fact["owner"], fact["due"])
            for item in found.action_items
        )
    ]
    questions = [
        fact for fact in meeting["open_questions"] if any(fact in item.text for item in found.open_questions)
    ]
    assert decisions == meeting["decisions"]
    assert actions == meeting["action_items"]
    assert questions == meeting["open_questions"]
    listed = len(found.decisions) + len(found.action_items) + len(found.open_questions)
    assert listed <= len(decisions) + len(actions) + len(questions) + 1


MEETINGS = {
    "plain": (
        """
        Maria: Okay, let's get started with the release.
        Maria: Tom, can you update the changelog before Thursday?
        Tom: Sure, no problem.
        Tom: Honestly, I'll be honest, the build is still slow.
        Lee: Last year we decided not to cache anything, and that was a mistake.
        Lee: If we agreed to cache the wheels, it would be twice as fast.
        Maria: I think so too.
        Maria: Okay, we've agreed to cache the wheels.
        Lee: I'll set up the cache tomorrow.
        Tom: I'll have a coffee and then we can look at it.
        Maria: Who knows what will happen next year?
        Maria: We still need to decide who presents at the fair.
        Tom: We can come back to that later.
        Maria: Thanks everyone.
        """,
        ["agreed to cache the wheels"],
        [("Tom", "before Thursday", "changelog"), ("Lee", "tomorrow", "cache")],
        ["who presents at the fair"],
    ),
    "nothing": (
        """
        Ann: The weather was lovely on the island.
        Bob: I can tell you a story about that.
        Ann: I'll tell you what, I'll never forget it.
        Bob: Could you imagine living there?
        Ann: When we decided to go there, nobody had heard of it.
        Bob: If I go again, I'll call you.
        Ann: Do you remember the boat?
        Bob: I will always remember it.
        """,
        [],
        [],
        [],
    ),
    "refused": (
        """
        Eva: Could you write the report by Monday?
        Jan: Sorry, I'm away next week.
        Eva: Then I'll write it on Tuesday.
        Jan: Please send me a copy.
        Eva: Will do.
        Eva: Let's go with the short version.
        """,
        ["go with the short version"],
        [("Eva", "on Tuesday", "write"), ("Eva", None, "copy")],
        [],
    ),
}


@pytest.mark.parametrize("name", MEETINGS)
def test_other_meetings_are_read_the_same_way(name: str, embedder: Embedder):
    text, decided, actions, questions = MEETINGS[name]
    found = summary_of(script(text), embedder)
    assert len(found.decisions) == len(decided)
    assert all(part in item.text for part, item in zip(decided, found.decisions, strict=True))
    assert [(item.owner, item.due) for item in found.action_items] == [
        (owner, due) for owner, due, _ in actions
    ]
    assert all(part in item.text for (_, _, part), item in zip(actions, found.action_items, strict=True))
    assert len(found.open_questions) == len(questions)
    assert all(part in item.text for part, item in zip(questions, found.open_questions, strict=True))


def check(talk: Talk, found: Summary) -> tuple[int, list[object], list[object]]:
    """How many things of a talk were found, which were missed, and what was listed that is none."""
    count, missed = 0, []
    left: list[object] = [*found.decisions, *found.action_items, *found.open_questions]

    def take(items, fits, wanted) -> None:
        nonlocal count
        hit = next((item for item in items if item in left and fits(item)), None)
        if hit is None:
            missed.append(wanted)
        else:
            left.remove(hit)
            count += 1

    for part in talk.decisions:
        take(found.decisions, lambda item, part=part: part in item.text, part)
    for owners, due, part in talk.actions:
        take(
            found.action_items,
            lambda item, owners=owners, due=due, part=part: (
                part in item.text and item.owner in owners and item.due == due
            ),
            part,
        )
    for part in talk.questions:
        take(found.open_questions, lambda item, part=part: part in item.text, part)
    return count, missed, left


def test_in_talks_of_other_kinds_nine_of_ten_things_are_found_and_one_of_ten_listed_is_wrong(
    embedder: Embedder,
):
    found, missed, wrong = 0, [], []
    for name, talk in TALKS.items():
        count, lost, extra = check(talk, summary_of(script(talk.lines), embedder, talk.template))
        found += count
        missed += [(name, item) for item in lost]
        wrong += [(name, item) for item in extra]
    assert found >= 0.9 * (found + len(missed)), missed
    assert len(wrong) <= 0.1 * (found + len(wrong)), wrong


def test_a_request_is_taken_up_once_and_by_who_answers(embedder: Embedder):
    found = summary_of(
        script(
            """
            Ann: Could you book the room by Tuesday?
            Bob: Yes, I'll do that.
            Cem: I'll write the agenda on Monday.
            """
        ),
        embedder,
    )
    assert [(item.owner, item.due) for item in found.action_items] == [
        ("Bob", "by Tuesday"),
        ("Cem", "on Monday"),
    ]


def test_a_promise_in_so_many_words_is_an_action_item_whatever_it_is_about(embedder: Embedder):
    for said in ("I promise to bring the old timetable next time.", "I volunteer to sweep the tower."):
        talk = script(f"Ann: The fare was twelve thousand lire.\nBob: {said}\nAnn: That was in spring.")
        assert [(item.text, item.owner) for item in summary_of(talk, embedder).action_items] == [
            (said, "Bob")
        ]
    for said in (
        "I cannot promise to bring it.",
        "Did I promise to bring it?",
        "If I promise to bring it, I do.",
    ):
        talk = script(f"Ann: The fare was twelve thousand lire.\nBob: {said}\nAnn: That was in spring.")
        assert not summary_of(talk, embedder).action_items, said


def test_a_promise_that_points_back_is_shown_with_what_it_points_to_and_another_alone(embedder: Embedder):
    for said, shown in (
        ("I'll write it down by Friday.", "Ann: The roof leaks."),
        ("I'll bring the old timetable by Friday, it is from 1974.", ""),
    ):
        talk = script(f"Ann: The roof leaks.\nBob: {said}\nAnn: That was in spring.")
        (item,) = summary_of(talk, embedder).action_items
        assert item.text == f"{shown.removeprefix('Ann: ')} {said}".strip()


def test_a_recap_lists_nothing_twice(embedder: Embedder):
    found = summary_of(script(TALKS["club agm"].lines), embedder)
    assert sum("parking" in item.text for item in found.action_items) == 1
    assert len(found.decisions) == 2


def test_a_proposal_is_a_decision_only_when_somebody_agrees(embedder: Embedder):
    agreed = script("Ann: Let's paint the door green.\nBob: Sounds good.")
    turned_down = script("Ann: Let's paint the door green.\nBob: I would rather keep it white.")
    assert [item.text for item in summary_of(agreed, embedder).decisions] == ["Let's paint the door green."]
    assert not summary_of(turned_down, embedder).decisions


def test_a_question_nobody_can_answer_is_open(embedder: Embedder):
    asked = "Ann: Who pays for the repair?\nBob: "
    assert summary_of(script(asked + "No idea."), embedder).open_questions
    assert not summary_of(script(asked + "The landlord does."), embedder).open_questions


@pytest.mark.parametrize(
    "said,due",
    [
        ("send it by Friday", "by Friday"),
        ("send it by the end of the month, please", "by the end of the month"),
        ("I'll do that next Wednesday at noon, when few people are in", "next Wednesday at noon"),
        ("before the thirtieth", "before the thirtieth"),
        ("it is due on March 3rd", "on March 3rd"),
        ("later today", "later today"),
        ("within two weeks", "within two weeks"),
        ("we cut it by fifteen hundred", None),
        ("the boat leaves at ten", None),
        ("by then it was over", None),
        ("write it up by ten o'clock", "by ten o'clock"),
        ("read it for next time", "for next time"),
    ],
)
def test_due_words_are_the_words_that_were_said(said: str, due: str | None):
    assert due_words(said) == due


@pytest.mark.parametrize(
    "said,due",
    [
        ("Thursday at eight, then", "Thursday at eight"),
        ("I'll do it when I'm back", "when I'm back"),
        ("I'll give it to her before the concert", "before the concert"),
        ("there are three sketches by Milo", None),
        ("wait until I've spoken to her", None),
    ],
)
def test_of_a_task_more_words_say_when(said: str, due: str | None):
    assert due_words(said, is_task=True) == due
    assert due_words(said) is None


def test_a_label_gets_a_name_only_when_two_answers_agree():
    once = script("Speaker 1: Ben, where are we?\nSpeaker 2: Nearly there.")
    assert infer_names(once) == {}
    twice = script(
        "Speaker 1: Ben, where are we?\nSpeaker 2: Nearly there.\n"
        "Speaker 1: Thanks, Ben.\nSpeaker 2: You are welcome."
    )
    assert infer_names(twice) == {"Speaker 2": "Ben"}


def test_thanks_and_introductions_name_a_label():
    thanked = script(
        "Speaker 2: That is all from me.\nSpeaker 1: Thank you, Mara.\nSpeaker 3: This is Mara's last report."
        "\nSpeaker 1: Mara, can you send it?\nSpeaker 2: Of course."
    )
    assert infer_names(thanked) == {"Speaker 2": "Mara"}


def test_a_common_word_at_the_start_of_a_sentence_is_no_name():
    talk = script(
        "Speaker 1: Customers, do they like it?\nSpeaker 2: Mostly.\n"
        "Speaker 1: Customers, what do they say?\n"
        "Speaker 2: That customers want it cheaper, customers always do, and new customers too."
    )
    assert infer_names(talk) == {}


WORDS = [
    "we decided",
    "I'll send it",
    "by Friday",
    "Ben,",
    "please",
    "sign",
    "open",
    "?",
    ".",
    "leave it",
    "Tom",
    "<b>",
    "*",
    "und",
    "你好",
]


@st.composite
def talks(draw) -> list[Segment]:
    out, now = [], 0.0
    for number in range(draw(st.integers(0, 25))):
        text = " ".join(draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=12)))
        length = draw(st.floats(0.1, 20))
        speaker = draw(st.sampled_from(["Speaker 1", "Speaker 2", None]))
        out.append(Segment(now, now + length, text, speaker=speaker, id=number + 1))
        now += length + draw(st.floats(0, 5))
    return out


def made_of(text: str, sources: list[str]) -> bool:
    """Whether a text is stretches of the sources, one after the other."""
    if any(text in source for source in sources):
        return True
    borders = [at for at, char in enumerate(text) if char == " "]
    return any(
        any(text[:at] in source for source in sources) and made_of(text[at + 1 :], sources)
        for at in reversed(borders)
    )


@settings(max_examples=60, deadline=None)
@given(talks(), st.sampled_from(TEMPLATES), st.integers(0, 1000))
def test_every_word_of_a_summary_was_said_at_the_time_it_names(segments, template, seed):
    vectors = np.random.default_rng(seed).standard_normal((len(segments), 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-9
    found = summarize(segments, vectors, template)
    by_id = {segment.id: segment for segment in segments}
    for item in [*found.decisions, *found.action_items, *found.open_questions, *found.key_quotes]:
        said = [by_id[number] for number in item.segments]
        assert all(item.start <= segment.end + 1e-6 and segment.start <= item.end + 1e-6 for segment in said)
        assert made_of(item.text, [segment.text for segment in said])
    for topic in found.topics:
        said = [by_id[number].text for number in topic.segments]
        assert all(any(point in text for text in said) for point in topic.points)
        assert topic.start <= topic.end
    to_markdown(found, "title")
    json.dumps(found.to_json())


def test_markdown_of_a_summary_lets_nothing_be_interpreted(embedder: Embedder):
    segments = script(
        "A: We've decided to <img src=x onerror=alert(1)> **pay** [now](javascript:alert(1)).\n"
        "A: I'll send it to `rm -rf` by Friday ![x](http://127.0.0.1/x.png)."
    )
    found = summary_of(segments, embedder)
    assert found.decisions and found.action_items
    html = MarkdownIt("gfm-like", {"linkify": False}).render(to_markdown(found, "<script>*x*</script>"))
    for tag in ("<img", "<script", "<a ", "<code"):
        assert tag not in html
    assert "&lt;img src=x onerror=alert(1)&gt; **pay**" in html


def test_a_summary_is_shown_in_the_order_in_which_people_read_it(embedder: Embedder):
    shown = to_markdown(summary_of(load("harbour_meeting.json"), embedder), "Harbour")
    order = ["## Key quotes", "## Decisions", "## Action items", "## Open questions", "## Topics"]
    places = [shown.index(heading) for heading in order]
    assert places == sorted(places)


def test_in_a_long_meeting_people_settling_things_score_best():
    from index.summary import deciding, sentence_scores

    talk = [
        ("A", "so if we go for the cheap battery then the case should be plastic"),
        ("B", "yeah i think we should keep the plastic"),
        ("A", "and the buttons on the side so we need one for the volume"),
        ("B", "okay and no screen because the cost"),
    ]
    rest = [("B", f"mm that was number {at} of what they told me about it on the way") for at in range(60)]
    speakers, texts = zip(*[line for _ in range(5) for line in [*rest, *talk]], strict=True)
    told = sentence_scores.scores(texts, speakers)
    values = deciding.scores(texts, speakers, told, np.ones((len(texts), 4), dtype=np.float32) / 2)
    best = int(values.argmax()) % len(rest + talk)
    assert min(abs(best - len(rest)), abs(best + len(talk))) <= 3 * len(talk)


def test_the_result_of_a_vote_is_a_decision_in_a_long_meeting_with_what_was_voted_on(embedder: Embedder):
    talk = [f"Anna: The {thing} came up as well." for thing in ("lamp", "door", "roof", "gate", "fence")] * 70
    talk[200:200] = [
        "Ben: The lane is built in two parts.",
        "Anna: All in favour?",
        "Anna: So that's carried.",
    ]
    decided = summary_of(script("\n".join(talk)), embedder).decisions
    (vote,) = [item for item in decided if "carried" in item.text]
    assert "The lane is built in two parts." in vote.text


def test_reported_speech_times_and_titles_are_no_tasks(embedder: Embedder):
    talk = """
    Ben: Graham says that the fix goes in on the fourteenth.
    Anna: Normally it's on Thursday.
    Ben: Before the first of March, correct.
    Anna: I'll go and see Mr. Brown by Friday.
    Ben: There it is.
    Anna: Apply the discount by Monday.
    """
    summary = summary_of(script(talk), embedder)
    assert [item.text for item in summary.action_items] == [
        "I'll go and see Mr. Brown by Friday.",
        "Apply the discount by Monday.",
    ]
    assert summary.decisions == ()


def test_exchanges_in_which_something_is_decided_do_not_overlap_and_may_be_none():
    from index.summary.findings import DECIDING_LEAST, around, places

    values = np.full(900, DECIDING_LEAST - 1)
    assert places(values) == []
    values[[200, 230, 600]] = DECIDING_LEAST + np.array([1.0, 2.0, 0.5])
    assert places(values) == [230, 600]
    (_, first_end), (second_start, _) = (around(at, len(values)) for at in places(values))
    assert first_end <= second_start


def test_weights_that_are_not_the_shipped_ones_are_refused(tmp_path, monkeypatch):
    from index.recording_errors import WeightsError
    from index.summary import sentence_scores

    other = tmp_path / "weights.npz"
    np.savez(other, vocabulary=np.zeros(1, dtype=np.uint8))
    monkeypatch.setattr(sentence_scores, "WEIGHTS", other)
    sentence_scores._weights.cache_clear()
    with pytest.raises(WeightsError):
        sentence_scores.scores(["We have decided to stay."], ["A"])
    sentence_scores._weights.cache_clear()


def test_a_sentence_scores_the_same_in_any_case_and_with_any_apostrophe():
    from index.summary.sentence_scores import scores

    plain = scores(["we don't know yet how to do it"], ["A"])
    other = scores(["We don’t know yet how to do it"], ["A"])
    assert np.allclose(plain, other)


def test_an_unknown_template_is_named():
    with pytest.raises(ValueError, match="poem"):
        summarize([], np.zeros((0, 8)), "poem")


def three_hours() -> tuple[list[Segment], np.ndarray]:
    """3,000 sentences of several talks, with embeddings at random."""
    rng = np.random.default_rng(0)
    said = [line.split(": ", 1) for talk in TALKS.values() for line in talk.lines.strip().splitlines()]
    segments = [
        Segment(
            at * 3.6, at * 3.6 + 3, said[at % len(said)][1], speaker=said[at % len(said)][0].strip(), id=at
        )
        for at in range(3000)
    ]
    vectors = rng.standard_normal((3000, 384)).astype(np.float32)
    return segments, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_three_hours_take_about_a_second_without_the_reader(monkeypatch):
    def missing() -> None:
        raise WeightsError("The reader's weights are missing.")

    monkeypatch.setattr(reading, "_reader", missing)
    segments, vectors = three_hours()
    began = time.process_time()
    found = summarize(segments, vectors)
    # A generous bound: it holds back only a step that grows with the square of the length.
    assert time.process_time() - began < 6
    assert len(found.topics) <= 12 and len(found.key_quotes) <= 5


def test_three_hours_take_about_three_times_as_long_as_one():
    segments, vectors = three_hours()
    summarize(segments[:300], vectors[:300])  # what is loaded once
    began = time.process_time()
    summarize(segments[:1000], vectors[:1000])
    an_hour = time.process_time() - began
    found = summarize(segments, vectors)
    # Nine times as long would be a step that grows with the square of the length.
    assert time.process_time() - began - an_hour < 4.5 * an_hour
    assert len(found.topics) <= 12 and len(found.key_quotes) <= 5
    listed = (found.decisions, found.action_items, found.open_questions)
    assert all(0 < len(items) <= len(segments) / 20 for items in listed)


def test_what_is_too_much_to_list_is_counted(embedder: Embedder):
    made_up = [
        first + second
        for first in ("ba", "do", "fi", "ku", "me", "ro")
        for second in ("lam", "tid", "vos", "gip", "nuk", "rex")
    ]
    promised = [f"I'll send the {made_up[at]} to {made_up[at].title()}ina by Friday." for at in range(36)]
    promises = [
        Segment(20.0 * at, 20.0 * at + 3, text, speaker=("Ann", "Ben")[at % 2], id=at)
        for at, text in enumerate(promised)
    ]
    summary = summary_of(promises, embedder)
    assert len(summary.action_items) == 25
    # More was found than is listed, and the overview says how much.
    assert re.search(r"\b25 of \d+ action items", summary.overview)
