"""What is the same word or number is found however it is written, in old libraries as well."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Engine

import index.store.database
from index.folding import FOLD_VERSION, fold, fold_letters
from index.search.indexing import index_recording
from index.search.passages import PassageStore
from index.search.searching import Search, choose
from index.search.vectors import Vectors
from index.store.database import Database
from index.vocabulary import NUMBERS
from index.vocabulary import TENS as TENS_WORDS
from tests.support.indexed import embedder, keyword_index_is_whole, open_library, sentences, store

DATABASES = ("sqlite", "postgresql")

SMALL = [*NUMBERS]
TENS = ["", "", *TENS_WORDS]
ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth",
    "twelve": "twelfth",
}  # fmt: skip


def spelled(number: int, joint: str = " and ", hyphen: str = "-") -> str:
    """A number up to 999,999,999 in English words."""
    if number < 20:
        return SMALL[number]
    if number < 100:
        return TENS[number // 10] + (hyphen + SMALL[number % 10] if number % 10 else "")
    for size, name in ((1_000_000, "million"), (1_000, "thousand"), (100, "hundred")):
        if number >= size:
            many, rest = divmod(number, size)
            between = joint if rest < 100 else " "
            return f"{spelled(many, joint, hyphen)} {name}" + (
                between + spelled(rest, joint, hyphen) if rest else ""
            )
    raise AssertionError(number)


def ordinal(number: int) -> str:
    words = spelled(number)
    cut = max(words.rfind(" "), words.rfind("-")) + 1
    last = words[cut:]
    if last in ORDINALS:
        return words[:cut] + ORDINALS[last]
    return words[:cut] + (last.removesuffix("y") + "ieth" if last.endswith("y") else last + "th")


# Letters


@pytest.mark.parametrize(
    ("written", "searched"),
    [
        ("Königstraße", "KONIGSTRASSE"), ("Königstraße", "königstrasse"), ("Spaß", "SPASS"), ("GROẞ", "groß"),
        ("музей", "МУЗЕЙ"), ("музей", unicodedata.normalize("NFD", "музей")), ("новый", "Новый"),
        ("ёлка", "елка"), ("за́мок", "замок"), ("２０２６ ＡＢＣ", "2026 abc"), ("ﬁne", "fine"),
        ("Άνθρωπος", "ανθρωποσ"), ("İstanbul", "istanbul"), ("Łódź", "lodz"), ("Ærø", "aero"),
        ("٢٠٢٦", "2026"), ("२०२६", "2026"), ("๒๕๖๙", "2569"), ("שָׁלוֹם", "שלום"), ("مُحَمَّد", "محمد"),
        ("ﾊﾝｶｸ", "ハンカク"), ("ガ", unicodedata.normalize("NFD", "ガ")),
        ("한국", unicodedata.normalize("NFD", "한국")),
        ("کتاب", "كتاب"), ("علی", "على"), ("مدرسة", "مدرسه"),
        ("Donau\u00addampf", "donaudampf"), ("café", "cafe\u0301"),
    ],
)  # fmt: skip
def test_one_word_written_in_two_ways_is_one_word(written: str, searched: str) -> None:
    assert fold(written) == fold(searched) != ""


@pytest.mark.parametrize(("one", "other"), [("музей", "музеи"), ("किताब", "कतब"), ("カ", "ガ"), ("їх", "іх")])
def test_marks_that_make_another_letter_stay(one: str, other: str) -> None:
    assert fold(one) != fold(other)


def test_a_word_of_devanagari_is_one_word() -> None:
    assert fold("हिन्दी की किताब").split() == ["हिन्दी", "की", "किताब"]


@given(st.text(max_size=40))
def test_folded_letters_are_in_one_case_and_form_and_fold_to_themselves(text: str) -> None:
    once = fold_letters(text)
    assert fold_letters(once) == once == unicodedata.normalize("NFC", once)
    assert fold_letters(unicodedata.normalize("NFD", text)) == once


# Numbers


@given(st.integers(0, 1_000_000), st.sampled_from([" and ", " "]), st.sampled_from(["-", " "]))
def test_spelled_numbers_are_the_same_as_digits(number: int, joint: str, hyphen: str) -> None:
    words = spelled(number, joint, hyphen)
    # "One" alone is mostly a pronoun.
    assert fold(f"they counted {words} boats") == f"they counted {number if number != 1 else 'one'} boats"
    assert fold(f"They counted {words.title()}.") == f"they counted {number if number != 1 else 'one'}"


@given(st.integers(1, 1_000_000))
def test_ordinals_are_the_same_as_digits(number: int) -> None:
    suffix = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    assert fold(f"the {ordinal(number)} boat") == f"the {number} boat" == fold(f"the {number}{suffix} boat")


@given(st.integers(1_000, 10**12), st.sampled_from([*",.'’_ ", "\u00a0", "\u202f", "\u2009", "\u066c"]))
def test_digits_with_any_separator_are_the_same_number(number: int, separator: str) -> None:
    grouped = f"{number:,}".replace(",", separator)
    assert fold(f"we paid {grouped}, then left") == f"we paid {number} then left"
    assert fold(grouped + "?") == str(number)


@pytest.mark.parametrize(
    ("written", "form"),
    [
        ("1,00,000", "100000"), ("11,500.50", "11500.5"), ("11.500,50", "11500.5"), ("11,500.00", "11500"),
        ("£4,200.", "4200"), ("forty-two hundred", "4200"), ("a hundred and one", "101"),
        ("Eleven thousand, five hundred", "11500"), ("2.5 million", "2500000"), ("11 thousand", "11000"),
        ("4200.50", "4200.5"), ("11k", "11000"), ("11.5k people", "11500 people"),
        ("half a million", "500000"),
        ("eleven and a half thousand", "11500"), ("a million and a half", "1500000"),
        ("11 and a half thousand", "11500"), ("two and a half hours", "2 and a half hours"),
        ("nineteen oh five", "1905"), ("at seven oh five", "at 7 oh 5"),
        ("two point five million", "2500000"), ("nineteen ninety-nine", "1999"),
        ("twenty twenty-six", "2026"),
        ("chapter one", "chapter 1"), ("one percent", "1 percent"), ("the 21st", "the 21"),
        ("１１，５００", "11500"), ("١١٬٥٠٠", "11500"), ("a second boat", "a 2 boat"),
    ],
)  # fmt: skip
def test_a_number_has_one_form(written: str, form: str) -> None:
    assert fold(written) == form


@pytest.mark.parametrize(
    ("written", "form"),
    [
        ("2.5", "2.5"), ("2,5", "2.5"), ("0.500", "0.500"), ("10:30", "10:30"), ("1:02:33", "1:02:33"),
        ("30.11.2026", "30.11.2026"), ("2026-11-30", "2026 11 30"), ("30/11/2026", "30 11 2026"),
        ("version 1.2.345", "version 1.2.345"), ("in 2026 500 people", "in 2026 500 people"),
        ("at 10:30 500 came", "at 10:30 500 came"), ("we have two. Three hundred came", "we have 2 300 came"),
        ("no one, one of them", "no one one of them"), ("ten seconds, a second", "10 seconds a second"),
        ("ten to twenty", "10 to 20"), ("hundreds of them", "hundreds of them"), ("someone", "someone"),
    ],
)  # fmt: skip
def test_decimals_times_dates_and_pronouns_stay_what_they_are(written: str, form: str) -> None:
    assert fold(written) == form


# Found


SAID = {
    "Good morning, let us start with the budget.": (),
    "The roof of the old hall came to 11500 in the end.": (
        "who said 11,500?", "who said eleven thousand five hundred?", "11 500", "11.500",
    ),
    "The extra crew is 4200 for the weekend.": ("what costs 4,200?", "what costs four thousand two hundred?"),
    "Then we need two hundred and forty chairs.": ("who needs 240 chairs?",),
    "The band asked for 3,700 pounds.": (
        "who asked for 3700?", "who asked for three thousand seven hundred?",
    ),
    "The choir sings on the third of May.": ("what happens on May 3rd?",),
    "Die Königstraße ist am Samstag gesperrt.": ("Königstraße", "KÖNIGSTRASSE", "konigstrasse"),
    "Das war ein großer Spaß für alle.": ("Spaß", "Spass"),
    "Мы пойдём в музей завтра утром.": ("музей", "МУЗЕЙ", "пойдем"),
    "Это новый мост через реку.": ("новый",),
    "The plan for ２０２６ is not decided yet.": ("2026", "２０２６", "twenty twenty-six"),
    "हम किताब पढ़ते हैं।": ("किताब",),
}  # fmt: skip
WIDTHS = "ﾊﾝｶｸの文字です。"


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory, database_kind: str) -> Iterator[Search]:
    home = tmp_path_factory.mktemp("folded")
    library, vectors = open_library(home), Vectors(home / "vectors", embedder())
    # Far from each other, so that each sentence is a passage.
    recording = store(library, sentences(*SAID, WIDTHS, seconds=70.0), "Numbers")
    index_recording(library, embedder(), vectors, recording)
    yield Search(library, embedder(), vectors)
    vectors.close()
    library.database.close()


@pytest.mark.parametrize(
    ("question", "answer"),
    [(question, answer) for answer, questions in SAID.items() for question in questions],
)
def test_a_word_is_found_however_it_is_written(search: Search, question: str, answer: str) -> None:
    store = PassageStore(search.library.database)
    first = store.by_id(store.keyword_matches(question, None, 1))
    assert [passage.text for passage in first.values()] == [answer]
    best = choose(question, search.find(question))
    assert [segment.text for segment, _ in best[:1]] == [answer]


def test_scripts_without_spaces_are_found_in_any_width(search: Search) -> None:
    store = PassageStore(search.library.database)
    first = store.by_id(store.keyword_matches("ハンカク", None, 1))
    assert [passage.text for passage in first.values()] == [WIDTHS]


@pytest.mark.parametrize(
    ("said", "folded"),
    [
        ("At 10 500 people had left.", "at 10 500 people had left"),
        ("until 9 150 volunteers came", "until 9 150 volunteers came"),
        ("we had 10 500 people", "we had 10500 people"),
        ("after 30 500 people left", "after 30500 people left"),
        ("at 10 500 metres", "at 10500 metres"),
        ("by 10 500 000", "by 10500000"),
    ],
)
def test_an_hour_before_a_number_is_no_part_of_it(said: str, folded: str) -> None:
    assert fold(said) == folded


# Old libraries, and another version of the fold


def revise(engine: Engine, direction: str, revision: str) -> None:
    config = Config()
    folder = Path(index.store.database.__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        getattr(command, direction)(config, revision)


def add_passage(engine: Engine, number: int, words: str) -> None:
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT OR IGNORE INTO recordings (id, title, source_name, duration, status, added_at, gaps, "
                "engine, seconds_taken) VALUES ('r', 'Talk', 'talk.wav', 9.0, 'ready', '', '[]', '', 0.0)"
            )
        )
        connection.execute(
            text(
                'INSERT INTO passages (id, recording_id, start, "end", text, segment_ids, embedder, '
                "embedding) VALUES (:id, 'r', 0.0, 9.0, :text, '[]', 'e', x'00000000')"
            ),
            {"id": number, "text": words},
        )


def found(database: Database, question: str) -> list[int]:
    assert keyword_index_is_whole(database)
    return PassageStore(database).keyword_matches(question, None, 9)


def test_an_old_library_is_folded_when_it_is_opened(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'library.sqlite'}"
    engine = create_engine(url)
    revise(engine, "upgrade", "0005")
    add_passage(engine, 3, "The roof came to 11500.")
    add_passage(engine, 4, "Die Königstraße ist gesperrt.")
    database = Database(url)
    assert found(database, "11,500") == [3]
    assert found(database, "KÖNIGSTRASSE") == [4]
    database.close()

    revise(engine, "downgrade", "0005")
    add_passage(engine, 5, "Twelve thousand, that was too much.")
    database = Database(url)
    assert found(database, "12,000") == [5]
    database.close()


def test_an_index_of_another_fold_is_made_anew_and_one_of_this_is_left_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'library.sqlite'}"
    Database(url).close()
    engine = create_engine(url)
    with engine.begin() as connection:
        assert connection.execute(text("PRAGMA user_version")).scalar() == FOLD_VERSION
    revise(engine, "downgrade", "0005")
    add_passage(engine, 1, "It was 11500.")
    Database(url).close()
    with engine.begin() as connection:
        connection.execute(text("UPDATE passages SET folded = 'as another version wrote it'"))
    kept = Database(url)
    assert found(kept, "11,500") == []
    kept.close()
    with engine.begin() as connection:
        connection.execute(text(f"PRAGMA user_version = {FOLD_VERSION + 1}"))
    remade = Database(url)
    assert found(remade, "11,500") == [1]
    assert found(remade, "version") == []
    remade.close()
