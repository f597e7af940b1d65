"""Correcting what was heard: sentences, speakers, splitting, merging, history, and what is embedded."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from index.corrections.correcting import LONGEST_SENTENCE, Corrections, turn_of
from index.export.formats import export
from index.recording_errors import ChangedMeanwhile, MossAgentError, SpeakerExists
from index.records import Segment, Word
from index.search.embeddings import Embedder
from index.search.indexing import index_recording
from index.search.passages import PassageStore
from index.search.searching import Search
from index.search.vectors import Vectors
from index.store.library import Library
from tests.servers import copy_home
from tests.support.indexed import embedder, heard, open_library, sentences, store


def timed(segment: Segment) -> Segment:
    """The sentence with a time for each of its words."""
    words = segment.text.split()
    step = (segment.end - segment.start) / len(words)
    return Segment(
        segment.start,
        segment.end,
        segment.text,
        speaker=segment.speaker,
        words=tuple(
            Word(segment.start + at * step, segment.start + (at + 1) * step, f" {word}", 0.9)
            for at, word in enumerate(words)
        ),
    )


DATABASES = ("sqlite", "postgresql")


class Counting(Embedder):
    """The packaged embedder, which notes what it embeds."""

    def __init__(self) -> None:
        super().__init__()
        self._model = embedder().load()
        self.texts: list[str] = []

    def encode_passages(self, texts):
        self.texts += texts
        return super().encode_passages(texts)


@pytest.fixture(scope="module")
def corrected_never(tmp_path_factory: pytest.TempPathFactory, database_kind: str) -> Path:
    """A home with the sample meeting, its words timed, indexed; copied, never changed."""
    home = tmp_path_factory.mktemp("heard") / "home"
    library = open_library(home)
    vectors = Vectors(home / "vectors", embedder())
    recording = store(library, [timed(segment) for segment in heard()[:40]], "Harbour")
    index_recording(library, embedder(), vectors, recording)
    vectors.close()
    library.database.close()
    return home


@pytest.fixture
def home(corrected_never: Path, tmp_path: Path) -> Path:
    """A home of the test's own."""
    return copy_home(corrected_never, tmp_path / "home")


@pytest.fixture
def meeting(library: Library) -> str:
    return library.recordings()[0].id


@pytest.fixture
def counting() -> Counting:
    return Counting()


@pytest.fixture
def corrections(library: Library, vectors: Vectors, counting: Counting) -> Corrections:
    return Corrections(library, counting, vectors)


def everything(library: Library, recording: str) -> list[tuple]:
    """What a reader sees of a recording, but for the count of changes."""
    return [
        (item.id, item.start, item.end, item.speaker, item.text, item.words)
        for item in library.segments(recording)
    ]


# Sentences


def test_a_corrected_sentence_is_what_every_reader_gets(
    library: Library, vectors: Vectors, corrections: Corrections, meeting: str
) -> None:
    search = Search(library, corrections.embedder, vectors)
    search.search("zeppelin", meeting)  # what is kept in memory must follow too
    wanted = library.segments(meeting)[5]
    changed = corrections.edit(meeting, wanted.id, "The zeppelin lands at the harbour at noon.")
    assert [item.id for item in changed.segments] == [wanted.id] == list(changed.corrected)
    assert changed.can_undo and not changed.can_redo
    hit = search.search("When does the zeppelin land?", meeting)[0]
    assert "zeppelin" in hit.text
    assert "zeppelin" in search.search("zeppelin")[0].text
    found = library.recording(meeting)
    for format in ("txt", "srt", "vtt", "md", "json"):
        assert "zeppelin" in export(found, library.segments(meeting), format).decode().replace("\n", " ")


def test_only_what_changed_is_embedded_again(
    library: Library, vectors: Vectors, corrections: Corrections, counting: Counting, meeting: str
) -> None:
    passages = PassageStore(library.database)
    before, _ = passages.of_recording(meeting)
    wanted = library.segments(meeting)[8]
    text = wanted.text.rsplit(" ", 1)[0] + " tomorrow."
    corrections.edit(meeting, wanted.id, text)
    after, _ = passages.of_recording(meeting)
    assert len(counting.texts) == 2 and text in counting.texts, "one sentence and the passage around it"
    assert [item.id for item in after] == [item.id for item in before]
    assert sum(old != new for old, new in zip(before, after, strict=True)) == 1
    assert vectors.count() == len(after)
    fresh = passages.vectors(meeting)
    for number, row in zip(fresh.ids, fresh.embeddings, strict=True):
        assert vectors.query(row, 1)[0][0] == number, "Chroma has the vectors of what is stored"


def test_a_speaker_alone_embeds_no_sentence(
    library: Library, corrections: Corrections, counting: Counting, meeting: str
) -> None:
    item = library.segments(meeting)[3]
    corrections.assign(meeting, [item.id], "Zora")
    texts = {segment.text for segment in library.segments(meeting)}
    assert not texts & set(counting.texts)


def test_words_that_are_kept_keep_their_times(
    library: Library, corrections: Corrections, meeting: str
) -> None:
    before = next(item for item in library.segments(meeting) if len(item.words) > 6)
    words = before.text.split()
    corrections.edit(meeting, before.id, " ".join([*words[:2], "brand", "new", *words[3:]]))
    after = library.segments_by_id([before.id])[0]
    assert [(word.start, word.end) for word in after.words[:2]] == [
        (word.start, word.end) for word in before.words[:2]
    ]
    assert [(word.start, word.end) for word in after.words[4:]] == [
        (word.start, word.end) for word in before.words[3:]
    ]


@pytest.mark.parametrize("text", ["", "  \n ", "\x00\x07", "…", "x " * LONGEST_SENTENCE])
def test_a_text_that_is_no_sentence_changes_nothing(
    library: Library, corrections: Corrections, meeting: str, text: str
) -> None:
    before = everything(library, meeting)
    with pytest.raises(MossAgentError):
        corrections.edit(meeting, library.segments(meeting)[0].id, text)
    assert everything(library, meeting) == before
    assert corrections.history(meeting) == []


def test_markup_is_text_and_control_characters_go(
    library: Library, corrections: Corrections, meeting: str
) -> None:
    item = library.segments(meeting)[0].id
    corrections.edit(meeting, item, "a\x00 <script>alert(1)</script>\r\n \ud800b")
    assert library.segments_by_id([item])[0].text == "a <script>alert(1)</script> b"
    assert "<script>" not in export(
        library.recording(meeting), library.segments(meeting), "md"
    ).decode().replace("\\<script", "")


def test_the_same_text_again_is_no_correction(
    library: Library, corrections: Corrections, meeting: str
) -> None:
    item = library.segments(meeting)[0]
    assert corrections.edit(meeting, item.id, f" {item.text} ").correction is None
    assert corrections.history(meeting) == [] and library.recording(meeting).revision == 0


def test_sounds_and_sentences_that_are_not_there_are_refused(
    library: Library, vectors: Vectors, corrections: Corrections
) -> None:
    recording = store(library, [*sentences("Hello there."), Segment(9, 10, "Door", kind="sound")], "Sounds")
    sound = library.segments(recording)[1].id
    for number in (sound, sound + 7):
        with pytest.raises(MossAgentError):
            corrections.edit(recording, number, "Hello.")


def test_a_sentence_that_was_changed_meanwhile_is_not_overwritten(
    library: Library, corrections: Corrections, meeting: str
) -> None:
    item = library.segments(meeting)[0]
    corrections.edit(meeting, item.id, "What the first one wrote.", {item.id: item.version})
    with pytest.raises(ChangedMeanwhile, match="What the first one wrote"):
        corrections.edit(meeting, item.id, "What the second one wrote.", {item.id: item.version})
    now = library.segments_by_id([item.id])[0]
    assert now.text == "What the first one wrote."
    corrections.edit(meeting, item.id, "What the second one wrote.", {item.id: now.version})


def test_two_who_correct_at_once_lose_nothing(
    library: Library, corrections: Corrections, meeting: str
) -> None:
    item = library.segments(meeting)[0]
    results: list[str] = []

    def correct(text: str) -> None:
        try:
            corrections.edit(meeting, item.id, text, {item.id: 0})
            results.append("done")
        except ChangedMeanwhile:
            results.append("refused")

    threads = [threading.Thread(target=correct, args=(f"Version number {at}.",)) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["done", "refused", "refused", "refused"]
    assert library.recording(meeting).revision == 1


# Speakers


def test_a_paragraph_gets_a_speaker_that_there_is_or_a_new_one(
    library: Library, corrections: Corrections, meeting: str
) -> None:
    turn = turn_of(library.segments(meeting), library.segments(meeting)[0].id)
    corrections.assign(meeting, turn, "speaker 2")
    assert {item.speaker for item in library.segments_by_id(turn)} == {"Speaker 2"}
    corrections.assign(meeting, turn[:1], " Zora  Bell ")
    assert library.segments_by_id(turn[:1])[0].speaker == "Zora Bell"
    assert "Zora Bell" in library.recording(meeting).speakers


def test_a_voice_that_says_nothing_any_more_is_gone_and_comes_back_when_undone(
    library: Library, corrections: Corrections, meeting: str
) -> None:
    before = everything(library, meeting)
    theirs = [item.id for item in library.segments(meeting) if item.speaker == "Speaker 3"]
    corrections.assign(meeting, theirs, "Speaker 1")
    assert "Speaker 3" not in library.recording(meeting).speakers
    corrections.undo(meeting)
    assert everything(library, meeting) == before


def test_a_name_that_exists_merges_only_when_that_is_wanted(
    library: Library, corrections: Corrections, meeting: str
) -> None:
    before = everything(library, meeting)
    with pytest.raises(SpeakerExists, match="Speaker 2"):
        corrections.rename(meeting, "Speaker 1", "speaker 2")
    assert everything(library, meeting) == before
    corrections.rename(meeting, "Speaker 1", "speaker 2", merge=True)
    assert "Speaker 1" not in {item.speaker for item in library.segments(meeting)}
    corrections.undo(meeting)
    assert everything(library, meeting) == before


def test_a_new_name_is_undone_too(library: Library, corrections: Corrections, meeting: str) -> None:
    name, changed = corrections.rename(meeting, "Speaker 1", "Anna")
    assert name == "Anna" and {item.speaker for item in changed.segments} == {"Anna"}
    changed = corrections.undo(meeting)
    assert {item.speaker for item in changed.segments} == {"Speaker 1"}
    assert corrections.redo(meeting).segments[0].speaker == "Anna"


# Splitting and merging


def test_a_sentence_is_split_and_merged_to_what_it_was(
    library: Library, corrections: Corrections, meeting: str
) -> None:
    whole = next(item for item in library.segments(meeting) if len(item.words) > 6)
    at = whole.text.index(" ", len(whole.text) // 2)
    first, second = corrections.split(meeting, whole.id, at).segments
    assert first.id == whole.id and second.id not in {item[0] for item in [(whole.id,)]}
    assert (first.start, second.end) == (whole.start, whole.end) and first.end <= second.start
    assert f"{first.text} {second.text}" == whole.text and first.speaker == second.speaker
    (merged,) = corrections.merge(meeting, [first.id, second.id]).segments
    assert (merged.id, merged.text, merged.start, merged.end) == (
        whole.id, whole.text, whole.start, whole.end,
    )  # fmt: skip
    assert merged.words == whole.words


def test_a_merged_sentence_is_told_from_one_that_never_was(
    library: Library, corrections: Corrections, meeting: str
) -> None:
    first, second = library.segments(meeting)[:2]
    changed = corrections.merge(meeting, [first.id, second.id])
    assert changed.gone == (second.id,)
    with pytest.raises(ChangedMeanwhile):
        corrections.edit(meeting, second.id, "Too late for this one.")


@pytest.mark.parametrize("at", [-3, 0, 10_000])
def test_nothing_is_split_off_that_is_empty(
    library: Library, corrections: Corrections, meeting: str, at: int
) -> None:
    with pytest.raises(MossAgentError):
        corrections.split(meeting, library.segments(meeting)[0].id, at)


def test_sentences_that_do_not_follow_each_other_stay_apart(
    library: Library, corrections: Corrections, meeting: str
) -> None:
    segments = library.segments(meeting)
    for numbers in ([segments[0].id, segments[2].id], [segments[0].id], []):
        with pytest.raises(MossAgentError):
            corrections.merge(meeting, numbers)


def test_the_number_of_a_sentence_that_is_gone_never_comes_again(
    library: Library, corrections: Corrections, meeting: str
) -> None:
    last = library.segments(meeting)[-2:]
    corrections.merge(meeting, [item.id for item in last])
    other = store(library, sentences("Something else."), "Other")
    assert library.segments(other)[0].id > last[-1].id
    corrections.undo(meeting)
    assert [item.id for item in library.segments(meeting)[-2:]] == [item.id for item in last]


# History


def test_the_history_has_the_original_who_and_when_and_survives_a_restart(
    library: Library, vectors: Vectors, corrections: Corrections, meeting: str, home: Path
) -> None:
    before = everything(library, meeting)
    item = library.segments(meeting)[0]
    corrections.edit(meeting, item.id, "First try.", by="page")
    corrections.edit(meeting, item.id, "Second try.", by="command line")
    vectors.close()
    library.database.close()
    again = open_library(home)
    reopened = Corrections(again, embedder(), Vectors(home / "vectors", embedder()))
    newest, oldest = reopened.history(meeting, item.id)
    assert (newest.by, oldest.by) == ("command line", "page")
    assert oldest.before[0]["text"] == item.text and newest.after[0]["text"] == "Second try."
    assert newest.at >= oldest.at and newest.start == item.start
    reopened.undo(meeting)
    reopened.undo(meeting)
    assert everything(again, meeting) == before
    assert reopened.changes(meeting).corrected == ()
    with pytest.raises(MossAgentError):
        reopened.undo(meeting)
    assert reopened.redo(meeting).segments[0].text == "First try."
    reopened.edit(meeting, item.id, "Third try.")
    with pytest.raises(MossAgentError):
        reopened.redo(meeting)
    again.database.close()


Step = Callable[[Corrections, str, list[Segment], int], object]
STEPS: list[Step] = [
    lambda made, id, now, at: made.edit(id, now[at].id, f"Word {at} of {len(now)} is new."),
    lambda made, id, now, at: made.assign(id, [now[at].id, now[-1 - at].id], f"Voice {at % 3}"),
    lambda made, id, now, at: made.split(id, now[at].id, now[at].text.find(" ")),
    lambda made, id, now, at: made.merge(id, [item.id for item in now[at : at + 2]]),
    lambda made, id, now, at: made.rename(id, now[at].speaker or "", f"Name {at}"),
    lambda made, id, now, at: made.rename(id, now[at].speaker or "", now[0].speaker or "", merge=True),
]


class Hashing(Embedder):
    """Embeds in no time: what is tested does not depend on what is near what."""

    def encode_passages(self, texts):
        rows = [np.random.default_rng(len(text)).normal(size=self.dimensions) for text in texts]
        return np.array(rows, dtype=np.float32).reshape(len(texts), self.dimensions)

    def load(self):
        return embedder().load()


class NoVectors(Vectors):
    """A collection that takes everything and keeps nothing."""

    def count(self) -> int:
        return 0

    def drop(self, recording, numbers) -> None:
        pass

    def add(self, passages, embeddings) -> None:
        pass


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, len(STEPS) - 1), st.integers(0, 4)), min_size=1, max_size=6))
def test_whatever_was_corrected_is_undone_and_made_again(
    library: Library, steps: list[tuple[int, int]]
) -> None:
    made_up = Hashing()
    corrections = Corrections(library, made_up, NoVectors(library.home, made_up))
    title = f"Call {len(library.recordings())}"
    texts = [f"Sentence number {at} is said here." for at in range(6)]
    spoken = [timed(item) for at, item in enumerate(sentences(*texts))]
    recording = store(library, spoken, title)
    original = everything(library, recording)
    made = 0
    for step, at in steps:
        now = library.segments(recording)
        try:
            changed = STEPS[step](corrections, recording, now, min(at, len(now) - 1))
        except MossAgentError:
            continue
        result = changed[1] if isinstance(changed, tuple) else changed
        made += result.correction is not None  # type: ignore[attr-defined]
    corrected = everything(library, recording)
    assert len({item[0] for item in corrected}) == len(corrected)
    for _ in range(made):
        corrections.undo(recording)
    assert everything(library, recording) == original
    for _ in range(made):
        corrections.redo(recording)
    assert everything(library, recording) == corrected


def test_changes_since_a_revision_are_exactly_those(
    library: Library, corrections: Corrections, meeting: str
) -> None:
    first, second, third = library.segments(meeting)[:3]
    item = corrections.edit(meeting, first.id, "The first correction.").revision
    corrections.edit(meeting, third.id, "The second correction.")
    assert [each.id for each in corrections.changes(meeting, item).segments] == [third.id]
    assert [each.id for each in corrections.changes(meeting).segments] == [first.id, third.id]
    assert second.id not in corrections.changes(meeting).corrected


@pytest.mark.one_database
def test_a_removed_recording_leaves_no_history(
    library: Library, corrections: Corrections, meeting: str, home: Path
) -> None:
    item = library.segments(meeting)[0].id
    corrections.edit(meeting, item, "Zebulonia was mentioned here.")
    corrections.edit(meeting, item, "And then she was not.")
    library.delete(meeting)
    assert b"Zebulonia" not in b"".join(path.read_bytes() for path in home.glob("library.sqlite*"))
