"""Search finds what was said, by word and by meaning, and knows when nothing was."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from index.recording_errors import IndexOutOfDate, WeightsError
from index.records import Hit, Segment
from index.search.embeddings import Embedder
from index.search.indexing import index_recording
from index.search.passages import PassageStore
from index.search.ranking import Talk, as_heard, named
from index.search.searching import RRF_K, Found, Search, choose, reciprocal_rank_fusion, spread
from index.search.vectors import Vectors
from index.store.database import PassageRow, RecordingRow, SegmentRow
from index.text import content_words, searched_phrases, similarity, stem, words
from tests.support.indexed import (
    embedder,
    heard,
    keyword_index_is_whole,
    open_library,
    sentences,
    store,
)
from tests.support.talks import TALKS, script
from tools.result import Evidence
from tools.search_recordings import search_recordings
from tools.toolbox import Toolbox

LECTURE = """Welcome back to the course on the history of navigation.
Today we look at how sailors found their longitude.
Latitude was easy, because the height of the sun at noon gives it directly.
Longitude needs the time at home, and no clock of the seventeenth century kept time at sea.
In 1707 four British warships ran onto the rocks of the Scilly Isles.
Nearly two thousand men drowned that night.
Parliament then offered a prize of twenty thousand pounds.
Who do you think tried to win it?
Astronomers, of course, with tables of the moon.
But also a carpenter from Yorkshire, John Harrison.
He taught himself to build clocks out of wood.
His first sea clock weighed thirty-four kilograms.
It was tested on a voyage to Lisbon in 1736.
The captain wrote a letter in praise of it.
On the way to Jamaica the fourth lost only five seconds in eighty-one days.
The board still refused to pay him.
In the end the king himself stepped in.
For next week please read chapter four.
The essay is due on the twelfth of March.
If you have questions, my office hour is on Thursday afternoon.""".splitlines()

CHINESE = ["今天我们讨论了渡轮时刻表。", "最后一班船十点半离开。", "舞台的预算是一万元。"]


DATABASES = ("sqlite", "postgresql")


class Indexed:
    """One library with the meeting, a lecture and a Chinese note, searched by every test here."""

    def __init__(self, home: Path) -> None:
        self.library = open_library(home)
        self.vectors = Vectors(home / "vectors", embedder())
        self.meeting = store(self.library, heard(), "Harbour meeting")
        self.lecture = store(self.library, sentences(*LECTURE), "Lecture")
        self.note = store(self.library, sentences(*CHINESE), "Note")
        for recording in (self.meeting, self.lecture, self.note):
            index_recording(self.library, embedder(), self.vectors, recording)
        self.search = Search(self.library, embedder(), self.vectors)

    def best(self, question: str, recording: str | None = None) -> list[Evidence]:
        """What an answer would quote, best first."""
        toolbox = Toolbox(self.library, self.search, None)
        return list(search_recordings(toolbox, question, recording).evidence)


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory, database_kind: str) -> Iterator[Indexed]:
    made = Indexed(tmp_path_factory.mktemp("indexed"))
    yield made
    made.vectors.close()
    made.library.database.close()


# What is relevant, and what is not


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("who calls the rowing club?", "I'll call the rowing club this afternoon"),
        ("how much does the extra crew cost?", "4,200 for the weekend"),
        ("when is the backup server tested?", "next Wednesday at noon"),
        ("when is the next call?", "Thursday at 9"),
        ("why was the app down?", "The certificate expired"),
        ("how many volunteers do we need?", "we need 240"),
        ("did we lose any sign-ups?", "No, the forms were stored"),
        ("who signs the contract?", "I'll sign it by the 30th"),
        ("what happens if it is windy?", "we cancel the fireworks"),
        ("what does the insurance pay for?", "pays for the barge, but not"),
    ],
)
def test_a_question_about_the_meeting_finds_its_answer(indexed: Indexed, question: str, answer: str) -> None:
    best = indexed.best(question, indexed.meeting)
    assert any(answer in quote.text for quote in best), best


@pytest.mark.parametrize(
    ("question", "decision"),
    [
        ("what did we decide about the sound stage?", "the decision is to go with North Key audio"),
        ("what did we decide about the ferry?", "we pay for the extra fairy crew"),
    ],
)
def test_the_stretches_of_a_topic_hold_its_decision(indexed: Indexed, question: str, decision: str) -> None:
    assert any(decision in hit.text for hit in indexed.search.search(question, indexed.meeting, 5))


@pytest.mark.parametrize(
    "question",
    [
        "what did they say about penguins?",
        "who won the football match?",
        "what is the price of bitcoin?",
        "who is the president of France?",
        "what did we decide about parking?",
        "what did we decide about the hiring plan?",
        "how much does the new laptop cost?",
        "when is the wedding?",
        "what time does the train leave for London?",
        "is the elevator broken?",
        "who ordered pizza?",
    ],
)
def test_a_question_about_something_else_finds_nothing_relevant(indexed: Indexed, question: str) -> None:
    for recording in (indexed.meeting, None):
        assert not indexed.best(question, recording)


def test_a_long_recording_answers_its_own_questions_and_no_others(tmp_path: Path) -> None:
    library = open_library(tmp_path)
    said = "\n".join(line for talk in TALKS.values() for line in talk.lines.splitlines() if line.strip())
    long = store(library, script(said), "All of them")
    with closing(Vectors(tmp_path / "vectors", embedder())) as vectors:
        index_recording(library, embedder(), vectors, long)
        toolbox = Toolbox(library, Search(library, embedder(), vectors), None)

        def quotes(question: str) -> int:
            return len(search_recordings(toolbox, question, long).evidence)

        own = (
            "how much would customers pay?",
            "what happened to the completion rate?",
            "who calls radiology?",
        )
        others = ("what is the price of bitcoin?", "when is the wedding?", "who painted the mural?")
        assert all(quotes(question) for question in own)
        assert not any(quotes(question) for question in others)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("how many men drowned?", "two thousand men"),
        ("how heavy was the first sea clock?", "thirty-four kilograms"),
        ("how big was the prize?", "twenty thousand pounds"),
        ("when is the essay due?", "twelfth of March"),
        ("what should we read?", "chapter four"),
    ],
)
def test_relevance_holds_for_a_talk_it_was_not_calibrated_on(
    indexed: Indexed, question: str, answer: str
) -> None:
    best = indexed.best(question, indexed.lecture)
    assert answer in best[0].text


def test_the_whole_library_is_asked_when_no_recording_is_named(indexed: Indexed) -> None:
    assert indexed.best("how many men drowned?")[0].recording == indexed.lecture
    assert indexed.best("who calls the rowing club?")[0].recording == indexed.meeting


def test_the_answer_beside_the_question_is_found_though_it_shares_no_word(indexed: Indexed) -> None:
    question = "how much is the extra crew?"
    said = [quote.text for quote in indexed.best(question, indexed.meeting)]
    assert "4,200 for the weekend." in said
    assert not set(content_words(question)) & set(words("4,200 for the weekend."))


@pytest.mark.parametrize(
    ("question", "voice"),
    [
        ("what would Ben do?", "Ben"),
        ("What did Grad E think about it?", "Grad E"),
        ("What did the professor say?", "Professor C"),
        ("what did E say?", "Grad E"),
        ("is there a plan for Anna?", "Anna"),
    ],
)
def test_a_speaker_may_be_asked_for_by_name(question: str, voice: str) -> None:
    found = named(question, ["Anna", "Ben", "Grad A", "Grad E", "Professor C"])
    assert max(found, key=lambda name: found[name]) == voice


def test_a_small_letter_names_nobody() -> None:
    assert named("is there a plan?", ["Grad A", "Grad E"])["Grad A"] == 0


def talk(*texts: str) -> Talk:
    return Talk(sentences(*texts), np.zeros((len(texts), 1)), [], np.zeros((0, 1)), [])


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("why did she leave?", "A loaf of bread."),
        ("what did he teach her?", "Do not touch it."),
        ("his wife?", "A wave."),
    ],
)
def test_a_word_with_another_first_vowel_was_not_misheard(question: str, said: str) -> None:
    assert as_heard(question, talk(said)) == question


def test_a_word_the_recogniser_misheard_is_asked_for_as_it_was_heard() -> None:
    assert as_heard("what about the ferry?", talk("The fairy timetable comes first.")) == (
        "what about the fairy?"
    )
    assert as_heard("what about the ferry?", talk("The ferry leaves.", "A fairy tale.")) == (
        "what about the ferry?"
    )


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("who said 11,500?", "11,500"),
        ("what costs 4,200?", "4,200 for the weekend."),
        ("does the last boat leave before the fireworks?", "the last boat leaves at 10.30"),
    ],
)
def test_what_is_looked_up_exactly_comes_first(indexed: Indexed, question: str, said: str) -> None:
    assert said in indexed.best(question, indexed.meeting)[0].text


def test_an_answer_of_a_short_talk_is_a_few_quotes_and_none_is_a_filler(indexed: Indexed) -> None:
    for question in ("what did we decide about the ferry?", "why was the app down?", "ferry"):
        found = choose(question, indexed.search.find(question, indexed.meeting))
        assert 1 <= len(found) <= 6
        assert all(len(words(segment.text)) >= 4 for segment, _ in found)


# Hits


def test_what_is_said_elsewhere_is_quoted_before_more_of_the_same_place() -> None:
    sentences = [
        Segment(float(at), at + 1.0, "The crew will paint the ferry in the harbour.", id=at, recording="talk")
        for at in range(60)
    ]
    chances = {at: 0.5 if 10 <= at <= 13 else 0.45 if at == 40 else 0.01 for at in range(60)}
    hit = Hit("talk", 0.0, 60.0, "", 0.9, tuple(sentences))
    fit = dict.fromkeys(range(60), 1.0)
    found = Found((hit,), (), chances, fit, fit, 0.9, True)
    quoted = {segment.id for segment, _ in choose("Who paints the ferry?", found)}
    assert 40 in quoted and quoted < {10, 11, 12, 13, 40}


def test_hits_come_best_first_and_share_no_sentence(indexed: Indexed) -> None:
    for question in ("fireworks", "volunteers and the app", "sound stage budget"):
        hits = indexed.search.search(question, k=5)
        assert len(hits) <= 5
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        numbers = [segment.id for hit in hits for segment in hit.segments]
        assert len(numbers) == len(set(numbers))


def test_a_hit_is_the_text_and_time_of_its_sentences(indexed: Indexed) -> None:
    for hit in indexed.search.search("volunteers"):
        assert hit.segments
        assert hit.start == min(segment.start for segment in hit.segments)
        assert hit.end == max(segment.end for segment in hit.segments)
        assert hit.text == " ".join(segment.text for segment in hit.segments)
        assert {segment.recording for segment in hit.segments} == {hit.recording}


def test_a_named_recording_is_the_only_one_searched(indexed: Indexed) -> None:
    for recording in (indexed.meeting, indexed.lecture, indexed.note):
        assert {hit.recording for hit in indexed.search.search("the clock", recording)} <= {recording}


def test_a_word_said_once_is_found_by_keyword(indexed: Indexed) -> None:
    assert "Scilly" in indexed.search.search("Scilly", k=1)[0].text


def test_scripts_without_spaces_are_found_by_part_of_a_sentence(indexed: Indexed) -> None:
    assert indexed.search.search("渡轮", k=1)[0].recording == indexed.note
    assert indexed.search.search("最后一班船几点离开？", k=1)[0].recording == indexed.note


@pytest.mark.parametrize("k", [0, -1])
def test_no_hits_wanted_gives_none(indexed: Indexed, k: int) -> None:
    assert indexed.search.search("fireworks", k=k) == []


@given(query=st.text(max_size=60))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_a_safe_keyword_query(indexed: Indexed, query: str) -> None:
    PassageStore(indexed.library.database).keyword_matches(query, None, 10)


@pytest.mark.parametrize(
    "query",
    ["", "   ", "🎉🎉", '"', "foo AND (bar", "NEAR(a b)", "text:crew", "crew*", "^crew", "-",
     "'; DROP TABLE passages", "\x00", "crew\x00club", "\ud800", "a" * 5000, "crew " * 3000],
)  # fmt: skip
def test_odd_queries_are_searched_like_any_other(indexed: Indexed, query: str) -> None:
    choose(query, indexed.search.find(query))


def test_operators_in_a_query_are_words() -> None:
    assert searched_phrases('crew" OR NEAR(club*)') == ["crew", "near", "club"]
    assert searched_phrases("🎉") == []


def test_stop_words_count_only_when_there_is_nothing_else() -> None:
    assert content_words("What did they say about the crew?") == ["crew"]
    assert content_words("What is it?") == ["what", "is", "it"]


# Fusion and spreading


@given(st.lists(st.lists(st.integers(0, 30), unique=True, max_size=20), min_size=1, max_size=3))
def test_fusion_adds_reciprocal_ranks(rankings: list[list[int]]) -> None:
    scores = reciprocal_rank_fusion(rankings)
    assert set(scores) == {value for ranking in rankings for value in ranking}
    for item, score in scores.items():
        ranks = [ranking.index(item) + 1 for ranking in rankings if item in ranking]
        assert score == pytest.approx(sum(1 / (RRF_K + rank) for rank in ranks))


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=30), st.integers(1, 8))
def test_hits_are_spread_over_the_talk_and_lead_with_the_best(scores: list[float], most: int) -> None:
    order = spread(np.array(scores), most)
    assert sorted(order) == list(range(len(scores)))
    assert scores[order[0]] == max(scores)
    first = order[: min(most, (len(scores) + 2) // 3)]
    assert all(abs(left - other) > 1 for at, left in enumerate(first) for other in first[at + 1 :])


# Words


@pytest.mark.parametrize(
    ("one", "other"),
    [("call", "calls"), ("decide", "decided"), ("ferry", "ferries"), ("stop", "stopped"),
     ("sign", "signing"), ("cost", "costs"), ("volunteer", "volunteers"), ("leave", "leaves"),
     ("boxes", "box"), ("test", "tested")],
)  # fmt: skip
def test_forms_of_one_word_have_one_stem(one: str, other: str) -> None:
    assert stem(one) == stem(other)


def test_sentences_are_ranked_by_the_stems_that_the_keyword_index_holds(indexed: Indexed) -> None:
    said = {word for text in (*LECTURE, *(segment.text for segment in heard())) for word in words(text)}
    terms = sorted(word for word in said if word.isalpha())
    with indexed.library.database.transaction() as session:
        if session.get_bind().dialect.name == "postgresql":
            held = {
                term: session.scalar(text("SELECT library_stem(:word)"), {"word": term}) for term in terms
            }
        else:
            session.execute(
                text(
                    "CREATE VIRTUAL TABLE temp.stemmed USING"
                    " fts5(word, tokenize='porter unicode61 remove_diacritics 2')"
                )
            )
            session.execute(text("CREATE VIRTUAL TABLE temp.stems USING fts5vocab(stemmed, 'instance')"))
            for word in terms:
                session.execute(text("INSERT INTO temp.stemmed VALUES (:word)"), {"word": word})
            stored = session.execute(text("SELECT doc, term FROM temp.stems")).all()
            held = {terms[number - 1]: term for number, term in stored}
            session.execute(text("DROP TABLE temp.stems"))
            session.execute(text("DROP TABLE temp.stemmed"))
    assert held == {word: stem(word) for word in terms}


@pytest.mark.parametrize(
    ("wanted", "heard_as"),
    [
        ("ferry", "fairy"),
        ("harbour", "harbor"),
        ("callum", "calum"),
        ("ferries", "fairies"),
        ("price", "prize"),
    ],
)
def test_words_that_sound_alike_count_but_less_than_the_word_itself(wanted: str, heard_as: str) -> None:
    assert 0 < similarity(wanted, heard_as) < similarity(wanted, wanted) == 1


@pytest.mark.parametrize(
    ("one", "other"), [("ferry", "fire"), ("boat", "bath"), ("crew", "club"), ("4200", "4201")]
)
def test_words_that_do_not_sound_alike_do_not_count(one: str, other: str) -> None:
    assert similarity(one, other) == 0


# What changes between two searches


@pytest.fixture
def changing(home: Path) -> Iterator[Indexed]:
    made = Indexed(home)
    yield made
    made.vectors.close()
    made.library.database.close()


def heard_by(hits: Iterable[Hit]) -> dict[str, str | None]:
    """Who says what in the hits."""
    return {segment.text: segment.speaker for hit in hits for segment in hit.segments}


def test_a_renamed_speaker_has_the_new_name_in_the_next_search(changing: Indexed) -> None:
    question, said = "How many men drowned?", "Nearly two thousand men drowned that night."
    assert heard_by(changing.search.search(question, changing.lecture))[said] == "Speaker 1"
    changing.library.rename_speaker(changing.lecture, "Speaker 1", "Ada")
    for recording in (changing.lecture, None):
        assert heard_by(changing.search.search(question, recording))[said] == "Ada"


def test_what_another_process_heard_anew_is_found_though_it_has_the_same_numbers(changing: Indexed) -> None:
    question, said = "How many men drowned?", "Nearly two thousand men drowned that night."
    numbers = {segment.text: segment.id for segment in changing.library.segments(changing.lecture)}
    assert said in heard_by(changing.search.search(question, changing.lecture))
    other = open_library(changing.library.home)
    with other.database.transaction() as session:
        row = session.get_one(SegmentRow, numbers[said])
        row.text, row.embedding = "Nobody drowned; every sailor was saved.", None
    index_recording(other, embedder(), changing.vectors, changing.lecture)
    other.database.close()
    found = heard_by(changing.search.search(question, changing.lecture))
    assert said not in found
    assert "Nobody drowned; every sailor was saved." in found


@pytest.mark.one_database
def test_a_removed_recording_is_not_found_by_the_next_search(changing: Indexed) -> None:
    assert changing.search.search("How many men drowned?", changing.lecture)
    with changing.library.database.transaction() as session:
        session.delete(session.get_one(RecordingRow, changing.lecture))
    assert changing.search.search("How many men drowned?", changing.lecture) == []


@pytest.mark.one_database
def test_the_same_question_finds_the_same_again_however_many_ask_at_once(changing: Indexed) -> None:
    questions = ["How many men drowned?", "When does the last ferry leave?"] * 6
    expected = [changing.search.find(question) for question in questions]
    search = Search(changing.library, embedder(), changing.vectors)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(search.find, questions)) == expected


# Lost and foreign indexes


@pytest.mark.one_database
def test_a_lost_collection_is_said_and_search_still_answers_from_the_database(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = Indexed(home)
    complete = made.search.search("fireworks and insurance")
    made.vectors.reset()
    with caplog.at_level(logging.WARNING):
        found = Search(made.library, embedder(), made.vectors).search("fireworks and insurance")
    assert found == complete
    assert "moss-agent reindex" in caplog.text
    made.vectors.close()
    made.library.database.close()


@pytest.mark.one_database
def test_an_index_of_another_embedder_is_refused_with_the_command_that_helps(home: Path) -> None:
    made = Indexed(home)
    made.vectors.close()
    other = Embedder(str(home / "another-model"))
    other.encode_query = embedder().encode_query  # type: ignore[method-assign]
    search = Search(made.library, other, Vectors(home / "vectors", other))
    for recording in (None, made.meeting):
        with pytest.raises(IndexOutOfDate, match="reindex"):
            search.search("fireworks", recording)
    search.vectors.close()
    made.library.database.close()


@pytest.mark.one_database
def test_a_passage_that_left_the_database_is_not_found_any_more(home: Path) -> None:
    made = Indexed(home)
    with made.library.database.transaction() as session:
        session.query(PassageRow).filter(PassageRow.recording_id == made.lecture).delete()
    assert made.lecture not in {hit.recording for hit in made.search.search("how many men drowned?")}
    made.vectors.close()
    made.library.database.close()


def test_an_empty_library_finds_nothing(home: Path) -> None:
    library = open_library(home)
    search = Search(library, embedder(), Vectors(home / "vectors", embedder()))
    assert search.search("anything") == []
    assert choose("anything", search.find("anything")) == []
    search.vectors.close()
    library.database.close()


# The embedder


def test_importing_search_and_embedder_does_not_import_torch() -> None:
    heavy = "{'torch', 'chromadb', 'transformers'}"
    modules = "index.search.searching, index.search.embeddings, index.search.indexing"
    code = f"import sys, {modules}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_vectors_have_unit_length_and_the_promised_width() -> None:
    found = embedder().encode_passages(
        ["One sentence.", "", "Another, which is rather longer than the first."]
    )
    assert found.shape == (3, embedder().dimensions)
    assert (found**2).sum(axis=1) == pytest.approx([1.0] * 3, abs=1e-5)
    assert embedder().encode_passages([]).shape == (0, embedder().dimensions)


def test_changed_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"not the published weights")
    monkeypatch.setattr("index.search.embeddings.package_folder", lambda _: tmp_path)
    with pytest.raises(WeightsError, match="published"):
        Embedder().load()


def test_a_folder_without_a_model_is_one_clear_sentence(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="MOSS_AGENT_EMBEDDER"):
        Embedder(str(tmp_path)).load()


def test_the_keyword_index_follows_the_passages(indexed: Indexed) -> None:
    assert keyword_index_is_whole(indexed.library.database)
