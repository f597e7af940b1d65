"""Questions in another language than the recording: told apart, embedded, ranked, answered or refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import update

from index.recording_errors import WeightsError
from index.search import multilingual
from index.search.indexing import index_recording
from index.search.multilingual import MultilingualEncoder
from index.search.searching import Search, choose
from index.search.vectors import Vectors
from index.store.database import RecordingRow
from index.text import written_in
from tests.support.indexed import embedder, heard, open_library, sentences, store

GERMAN = [
    "Guten Morgen, wir haben heute drei Punkte.",
    "Zuerst die Turnhalle.",
    "Die Heizung in der Turnhalle ist seit Montag kaputt, und die Kinder frieren.",
    "Der Handwerker kommt am Donnerstag und bringt ein neues Ventil mit.",
    "Bis dahin findet der Sport draußen statt, wenn es nicht regnet.",
    "Was kostet die Reparatur?",
    "Ungefähr achthundert Euro, das zahlt die Gemeinde.",
    "Dann zum Sommerfest: Wir brauchen noch jemanden, der die Musik macht.",
    "Ich frage die Blaskapelle aus dem Nachbardorf, ob sie am Sonntag spielen will.",
    "Und wer backt die Kuchen?",
    "Die Kuchen backen die Eltern der dritten Klasse.",
    "Gut, und die Getränke bestelle ich beim Händler im Ort.",
    "Der letzte Punkt ist der Schulbus.",
    "Der Bus fährt ab September zehn Minuten früher, weil die Brücke gesperrt ist.",
    "Das müssen wir den Familien noch vor den Ferien schreiben.",
    "Den Brief schreibt das Sekretariat bis Freitag.",
]


class Languages:
    """An English meeting and a German one."""

    def __init__(self, home: Path) -> None:
        self.library = open_library(home)
        self.vectors = Vectors(home / "vectors", embedder())
        self.meeting = store(self.library, heard(), "Harbour meeting")
        self.school = store(self.library, sentences(*GERMAN), "Schule")
        for recording, language in ((self.meeting, "en"), (self.school, "de")):
            with self.library.database.transaction() as session:
                session.execute(
                    update(RecordingRow).where(RecordingRow.id == recording).values(language=language)
                )
            index_recording(self.library, embedder(), self.vectors, recording)
        self.search = Search(self.library, embedder(), self.vectors)

    def best(self, question: str, recording: str | None = None) -> list[str]:
        """What an answer would quote, best first."""
        return [segment.text for segment, _ in choose(question, self.search.find(question, recording))]


@pytest.fixture(scope="module")
def languages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Languages]:
    made = Languages(tmp_path_factory.mktemp("languages"))
    yield made
    made.vectors.close()
    made.library.database.close()


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("who calls the rowing club?", "en"),
        ("Wer hat das gesagt?", "de"),
        ("¿Quién llama al club?", "es"),
        ("Qu'est-ce que nous avons décidé ?", "fr"),
        ("Кто позвонит в клуб?", "cyrillic"),
        ("谁给俱乐部打电话？", "zh"),
        ("誰がクラブに電話しますか？", "ja"),
        ("누가 클럽에 전화합니까?", "ko"),
        ("Bosa, Calum", ""),
        ("4,200?", ""),
    ],
)
def test_the_language_of_a_question_is_told_by_its_letters_and_commonest_words(
    text: str, language: str
) -> None:
    assert written_in(text) == language


def test_a_sentence_is_nearest_to_its_translations() -> None:
    encoder = MultilingualEncoder()
    english = encoder.encode(["The cat sleeps on the sofa.", "The invoice was paid twice.", "It will snow."])
    for translated in (
        ["Die Katze schläft auf dem Sofa.", "Die Rechnung wurde zweimal bezahlt.", "Es wird schneien."],
        ["El gato duerme en el sofá.", "La factura se pagó dos veces.", "Va a nevar."],
        ["Кошка спит на диване.", "Счёт был оплачен дважды.", "Будет снег."],
        ["猫在沙发上睡觉。", "发票付了两次。", "要下雪了。"],
        ["猫がソファーで寝ている。", "請求書は二度支払われた。", "雪が降るでしょう。"],
    ):
        assert (encoder.encode(translated) @ english.T).argmax(axis=1).tolist() == [0, 1, 2]


def test_what_a_text_is_computed_with_does_not_change_it() -> None:
    encoder = MultilingualEncoder()
    texts = ["One.", "", "x " * 900, "A longer sentence, with a few more words than the first.", "Zwei."]
    together = encoder.encode(texts)
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    assert together.shape == (5, multilingual.DIMENSIONS)
    assert np.abs(together - alone).max() < 1e-5
    assert np.square(together).sum(axis=1) == pytest.approx([1.0] * 5, abs=1e-5)
    assert encoder.encode([]).shape == (0, multilingual.DIMENSIONS)


@pytest.mark.parametrize(
    "question",
    [
        "Wer ruft den Ruderverein an?",
        "¿Quién llama al club de remo?",
        "Кто позвонит в гребной клуб?",
        "谁给划船俱乐部打电话？",
        "誰がボートクラブに電話しますか？",
    ],
)
def test_a_question_in_another_language_finds_what_was_said(languages: Languages, question: str) -> None:
    found = languages.best(question, languages.meeting)
    assert any("call the rowing club" in text or "calls the rowing club" in text for text in found)
    everywhere = languages.search.find(question)
    assert any(hit.recording == languages.meeting for hit in everywhere.hits)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("what is wrong with the heating in the gym?", "Heizung"),
        ("who will play the music at the summer party?", "Blaskapelle"),
        ("why does the school bus leave earlier?", "Brücke"),
    ],
)
@pytest.mark.parametrize("everywhere", [False, True])
def test_an_english_question_finds_what_was_said_in_another_language(
    languages: Languages, question: str, answer: str, everywhere: bool
) -> None:
    found = languages.best(question, None if everywhere else languages.school)
    assert any(answer in text for text in found)


@pytest.mark.parametrize(
    "question",
    [
        "Was wurde über Pinguine gesagt?",
        "¿Quién ganó el partido de fútbol?",
        "Сколько стоит биткоин?",
        "谁点了披萨？",
        "ペンギンについて何と言いましたか？",
    ],
)
def test_what_was_never_said_is_refused_in_every_language(languages: Languages, question: str) -> None:
    assert not languages.best(question, languages.meeting)


def test_a_question_in_the_recordings_own_language_does_not_need_the_encoder(
    languages: Languages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.search.searching.MultilingualEncoder", None)
    search = Search(languages.library, embedder(), languages.vectors)
    assert search.find("who calls the rowing club?", languages.meeting).is_answer
    assert search.find("Wann kommt der Handwerker?", languages.school).hits


def test_without_its_weights_other_languages_find_nothing_and_the_log_says_why(
    languages: Languages, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(multilingual, "package_folder", lambda _: None)
    search = Search(languages.library, embedder(), languages.vectors)
    for question in ("Wer ruft den Ruderverein an?", "谁给划船俱乐部打电话？"):
        assert not search.find(question, languages.meeting).is_answer
    assert len([record for record in caplog.records if "moss-agent[embedded]" in record.message]) == 1


def test_changed_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "resources").mkdir()
    (tmp_path / "resources" / "weights.npz").write_bytes(b"not the ones that were measured")
    monkeypatch.setattr(multilingual, "package_folder", lambda _: tmp_path)
    with pytest.raises(WeightsError):
        MultilingualEncoder()
