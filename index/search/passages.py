"""Passages: the pieces of a transcript that are embedded and retrieved; cut, stored, found by keyword.

A passage is a run of whole segments, 30 to 60 s where the talk allows it. Among all ways to cut a recording,
the cheapest is taken (dynamic programming over the boundaries), so a cut moves to the longest pause or to a
change of speaker near the target length instead of falling where a clock runs out.

Passages are stored with their embeddings and their folded words; triggers keep the full-text index over these
in step (see migration 0007).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sqlalchemy import BindParameter, Select, Text, bindparam, case, cast, delete, func, select
from sqlalchemy.orm import Session, undefer

from index.folding import fold
from index.records import Passage, Segment
from index.search.ranking import Talk
from index.store.access import CHECKED, is_limited, narrowed
from index.store.database import Database, PassageRow, RecordingRow, SegmentRow, SpeakerRow
from index.text import character_bigrams, searched_phrases

TARGET_WORDS = 130
TARGET_SECONDS = 52.0
LONGEST_WORDS = 150
LONGEST_SECONDS = 60.0
"""No passage of more than one segment is longer."""

MOST_PIECES = 230
"""Estimated word pieces of a passage; the packaged embedder reads 256 and drops the rest."""

LONG_PAUSE_SECONDS = 2.0
"""From this pause on, a longer one is no better a place to cut."""

PAUSE_REWARD = 0.6
TURN_REWARD = 0.2
"""What a long pause, and a change of speaker, are worth, in units of one passage that is all too short."""

# Characters of scripts that are written without spaces: the tokenizer makes a piece of each.
_DENSE = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
# BERT takes a Hangul syllable apart into two or three letters.
_HANGUL = re.compile(r"[\uac00-\ud7af]")
_TOKEN = re.compile(r"[^\W_]+|[^\w\s]|_")


def estimated_pieces(text: str) -> int:
    """About how many word pieces a text has, rather too many than too few for English.

    A word of up to six ASCII letters counts as one piece, longer ones add half a piece for each seven
    letters; in an English vocabulary, letters of other alphabets are mostly pieces of their own.
    """
    count = 0.0
    for token in _TOKEN.findall(_HANGUL.sub(" x x ", _DENSE.sub(" x ", text))):
        if token.isascii() and token.isalpha():
            count += 1 + 0.5 * (len(token) // 7)
        elif token.isdigit():
            count += (len(token) + 1) // 2
        elif max(token) < "\u0250":  # Latin with accents
            count += max(1.0, len(token) / 3)
        else:
            count += len(token)
    return int(count) + 1


def cut_passages(segments: Sequence[Segment]) -> list[Passage]:
    """Put every segment into exactly one passage, in time order.

    A passage of several segments lasts at most ``LONGEST_SECONDS`` and has at most ``MOST_PIECES``
    estimated word pieces; one segment that is longer alone is a passage of its own.

    Args:
        segments: The segments of one recording, in any order.
    """
    ordered = sorted(segments, key=lambda segment: (segment.start, segment.end, segment.id))
    rewards = [_cut_reward(ordered, index) for index in range(len(ordered) + 1)]
    pieces = [estimated_pieces(segment.text) for segment in ordered]
    words = [len(segment.text.split()) for segment in ordered]
    cost = [0.0] + [float("inf")] * len(ordered)
    best_start = [0] * (len(ordered) + 1)
    for first in range(len(ordered)):
        end, total, spoken = ordered[first].end, 0, 0
        for last in range(first, len(ordered)):
            end = max(end, ordered[last].end)
            total += pieces[last]
            spoken += words[last]
            seconds = end - ordered[first].start
            too_long = seconds > LONGEST_SECONDS or spoken > LONGEST_WORDS or total > MOST_PIECES
            if last > first and too_long:
                break
            candidate = cost[first] + _length_cost(seconds, spoken, total) - rewards[last + 1]
            if candidate < cost[last + 1]:
                cost[last + 1], best_start[last + 1] = candidate, first
    return [_passage(ordered[first:last]) for first, last in _bounds(best_start)]


def _bounds(best_start: list[int]) -> list[tuple[int, int]]:
    """Walk the best cuts back from the end; ``[first, last)`` of each passage in order."""
    bounds: list[tuple[int, int]] = []
    last = len(best_start) - 1
    while last > 0:
        bounds.append((best_start[last], last))
        last = best_start[last]
    return bounds[::-1]


def _length_cost(seconds: float, words: int, pieces: int) -> float:
    """0 at the target, 1 for a passage of no length; a constant keeps the number of passages down.

    A passage that is full of words is as long as it may be, however few seconds it lasts.
    """
    fullness = max(seconds / TARGET_SECONDS, words / TARGET_WORDS, pieces / (0.85 * MOST_PIECES))
    return 1.0 + (1.0 - fullness) ** 2


def _cut_reward(segments: Sequence[Segment], index: int) -> float:
    """How good a cut before ``segments[index]`` is, from 0 to ``PAUSE_REWARD + TURN_REWARD``."""
    if index in (0, len(segments)):
        return 0.0
    before, after = segments[index - 1], segments[index]
    pause = min(max(0.0, after.start - before.end), LONG_PAUSE_SECONDS) / LONG_PAUSE_SECONDS
    return PAUSE_REWARD * pause + (TURN_REWARD if before.speaker != after.speaker else 0.0)


def _passage(segments: Sequence[Segment]) -> Passage:
    return Passage(
        recording=segments[0].recording,
        start=segments[0].start,
        end=max(segment.end for segment in segments),
        text=" ".join(_shown(segment) for segment in segments if segment.text.strip()),
        segment_ids=tuple(segment.id for segment in segments),
    )


def _shown(segment: Segment) -> str:
    """A segment's words; sounds stand in parentheses, and music is called music.

    The kind of other sounds is not named: a search for a “sound stage” should not find every door.
    """
    text = segment.text.strip()
    if segment.kind == "music" and "music" not in text.casefold():
        text = f"music: {text}"
    return text if segment.kind == "speech" else f"({text})"


BATCH = 5_000
"""Rows per query; SQLite takes at most 32,766 parameters in one statement."""


@dataclass(frozen=True)
class PassageVectors:
    """Embeddings of stored passages.

    Attributes:
        ids: Passage numbers.
        embeddings: float32 ``[n_passages, dimensions]``, unit length, in the order of ``ids``.
        embedders: Names of the models that made them.
    """

    ids: list[int]
    embeddings: np.ndarray
    embedders: frozenset[str]


def _state_of_recording() -> Select[Any]:
    """See ``PassageStore.state``: long texts, which databases make and Python compares faster than a thousand
    rows. What is joined is put in order first, mostly in that of an index."""
    recording: BindParameter[str] = bindparam("recording")
    said = (
        select(
            SegmentRow.start,
            SegmentRow.end,
            SegmentRow.embedding.is_not(None).label("embedded"),
            (
                cast(SegmentRow.id, Text)
                + " "
                + func.coalesce(cast(SegmentRow.speaker_id, Text), "")
                + SegmentRow.kind
                + SegmentRow.text
            ).label("said"),
        )
        .where(SegmentRow.recording_id == recording)
        .order_by(SegmentRow.start, SegmentRow.end, SegmentRow.id)
        .subquery()
    )
    named = (
        select((cast(SpeakerRow.id, Text) + " " + SpeakerRow.name).label("named"))
        .where(SpeakerRow.recording_id == recording)
        .order_by(SpeakerRow.name)
        .subquery()
    )
    row = cast(PassageRow.id, Text) + " " + PassageRow.embedder + " " + cast(PassageRow.segment_ids, Text)
    cut = (
        select(row.label("cut"))
        .where(PassageRow.recording_id == recording)
        .order_by(PassageRow.start, PassageRow.id)
        .subquery()
    )
    return select(
        func.sum(said.c.start),
        func.sum(said.c.end),
        func.sum(case((said.c.embedded, 1), else_=0)),
        func.aggregate_strings(said.c.said, "\n"),
        select(func.aggregate_strings(named.c.named, "\n")).scalar_subquery(),
        select(func.aggregate_strings(cut.c.cut, "\n")).scalar_subquery(),
    )


_STATE = _state_of_recording()


class PassageStore:
    """The passages of a database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def count(self) -> int:
        """Number of passages of all recordings."""
        with self.database.transaction() as session:
            return session.scalar(select(func.count()).select_from(PassageRow)) or 0

    def of_recording(self, recording: str) -> tuple[list[Passage], frozenset[str]]:
        """A recording's passages in time order, and the names of the models that embedded them."""
        query = select(PassageRow).where(PassageRow.recording_id == recording)
        with self.database.transaction() as session:
            rows = session.scalars(query.order_by(PassageRow.start, PassageRow.id)).all()
            return [_stored_passage(row) for row in rows], frozenset(row.embedder for row in rows)

    def by_id(self, ids: Sequence[int]) -> dict[int, Passage]:
        """Passages by their numbers; numbers that do not exist are left out."""
        found: dict[int, Passage] = {}
        with self.database.transaction() as session:
            for at in range(0, len(ids), BATCH):
                query = select(PassageRow).where(PassageRow.id.in_(ids[at : at + BATCH]))
                found.update((row.id, _stored_passage(row)) for row in session.scalars(query))
        return found

    def newest_vectors(self, most: int) -> PassageVectors:
        """The vectors of the passages that were stored last."""
        query = select(PassageRow.id, PassageRow.embedding, PassageRow.embedder)
        with self.database.transaction() as session:
            return _as_vectors(session.execute(query.order_by(PassageRow.id.desc()).limit(most)).all())

    def for_index(
        self, recording: str | None = None, ids: Sequence[int] = ()
    ) -> tuple[list[Passage], np.ndarray]:
        """What a collection stores of passages, whoever may see them: without their text, and their vectors.

        Args:
            recording: All passages of this one.
            ids: Or these; numbers that do not exist are left out.

        Returns:
            The passages, and float32 ``[n_passages, dimensions]``.
        """
        columns = PassageRow.__table__.c
        query = select(columns.id, columns.recording_id, columns.start, columns.end, columns.embedding)
        chosen = columns.id.in_(ids) if recording is None else columns.recording_id == recording
        with self.database.transaction() as session:
            rows = session.connection().execute(query.where(chosen).order_by(columns.id)).all()
        width = max((len(row.embedding) for row in rows), default=0)
        rows = [row for row in rows if len(row.embedding) == width]  # two models, for a moment
        passages = [Passage(row.recording_id, row.start, row.end, "", (), row.id) for row in rows]
        data = b"".join(row.embedding for row in rows)
        matrix = np.frombuffer(data, dtype=np.float32).reshape(len(rows), -1) if rows else np.zeros((0, 0))
        return passages, matrix

    def owners(self) -> dict[int, str]:
        """Which recording each passage of the library is of, whoever may see it, by its number."""
        columns = PassageRow.__table__.c
        with self.database.transaction() as session:
            rows = session.connection().execute(select(columns.id, columns.recording_id)).all()
        return {row.id: row.recording_id for row in rows}

    def size(self) -> int:
        """Number of passages of the library, whoever may see them."""
        with self.database.transaction() as session:
            return self.database.backend.passages(session)

    def indexed_recordings(self) -> list[str]:
        """Ids of the recordings that are indexed or should be: those that are ready or have passages."""
        has_passages = select(PassageRow.recording_id)
        wanted = (RecordingRow.status == "ready") | RecordingRow.id.in_(has_passages)
        with self.database.transaction() as session:
            query = select(RecordingRow.id).where(wanted).order_by(RecordingRow.added_at, RecordingRow.id)
            return list(session.scalars(query))

    def embedders(self) -> set[str]:
        """Names of the models that made the stored embeddings."""
        with self.database.transaction() as session:
            return set(session.scalars(select(PassageRow.embedder).distinct()))

    def vectors(self, recording: str | None = None) -> PassageVectors:
        """Embeddings of one recording's passages, or of all, by number."""
        query = select(PassageRow.id, PassageRow.embedding, PassageRow.embedder).order_by(PassageRow.id)
        if recording is not None:
            query = query.where(PassageRow.recording_id == recording)
        with self.database.transaction() as session:
            return _as_vectors(session.execute(query).all())

    def state(self, recording: str) -> tuple[Any, ...]:
        """What ``talk`` depends on, but for the vectors themselves: equal as long as it would give the same.

        Vectors follow from the texts and the embedder's name, which are in it. Numbers of rows alone would
        not do: SQLite gives those of deleted ones again.
        """
        with self.database.transaction() as session:
            if is_limited(self.database) and session.get(RecordingRow, recording) is None:
                return ()
            values = {"recording": recording}
            return tuple(session.execute(_STATE, values, execution_options=CHECKED).one())

    def talk(self, recording: str) -> tuple[Talk | None, frozenset[str]]:
        """A recording as it is ranked, and the names of the models that embedded it.

        None where nothing of it is indexed. Its ``embeddings`` are empty where a sentence has none yet.
        """
        rows = select(
            SegmentRow.id,
            SegmentRow.start,
            SegmentRow.end,
            SegmentRow.kind,
            SegmentRow.text,
            SpeakerRow.name,
            SegmentRow.embedding,
        ).outerjoin(SpeakerRow, SegmentRow.speaker_id == SpeakerRow.id)
        rows = rows.where(SegmentRow.recording_id == recording).order_by(SegmentRow.start, SegmentRow.id)
        with self.database.transaction() as session:
            spoken = {row.id: row for row in session.execute(rows)}
        passages, embedders = self.of_recording(recording)
        stored = self.vectors(recording)
        vectors = dict(zip(stored.ids, stored.embeddings, strict=True))
        ordered: list[Any] = []
        bounds: list[tuple[int, int]] = []
        kept: list[Passage] = []
        for passage in passages:
            inside = [spoken[number] for number in passage.segment_ids if number in spoken]
            if inside and passage.id in vectors:
                bounds.append((len(ordered), len(ordered) + len(inside)))
                ordered += inside
                kept.append(passage)
        if not kept:
            return None, embedders
        sentences = np.zeros((0, 0), dtype=np.float16)
        if all(row.embedding is not None for row in ordered):
            data = b"".join(row.embedding for row in ordered)
            sentences = np.frombuffer(data, dtype=np.float16).reshape(len(ordered), -1)
        talk = Talk(
            [
                Segment(row.start, row.end, row.text, row.kind, row.name, id=row.id, recording=recording)
                for row in ordered
            ],
            sentences.astype(np.float32),
            kept,
            np.stack([vectors[passage.id] for passage in kept]),
            bounds,
        )
        return talk, embedders

    def in_other_languages(self, language: str) -> list[str]:
        """Recordings with passages whose language is known and another one, the newest first."""
        query = (
            select(RecordingRow.id)
            .where(RecordingRow.language.is_not(None), RecordingRow.language != language)
            .where(RecordingRow.id.in_(select(PassageRow.recording_id)))
            .order_by(RecordingRow.added_at.desc(), RecordingRow.id)
        )
        with self.database.transaction() as session:
            return list(session.scalars(query))

    def batches(self) -> Iterator[tuple[list[Passage], np.ndarray]]:
        """All passages with their embeddings, in pieces that fit into memory."""
        last = 0
        while True:
            query = select(PassageRow, PassageRow.embedding).where(PassageRow.id > last)
            with self.database.transaction() as session:
                rows = session.execute(query.order_by(PassageRow.id).limit(BATCH)).all()
            if not rows:
                return
            passages = [_stored_passage(row) for row, _ in rows]
            yield passages, np.stack([np.frombuffer(data, dtype=np.float32) for _, data in rows])
            last = passages[-1].id

    def keyword_matches(self, question: str, recording: str | None, limit: int) -> list[int]:
        """Numbers of the passages that have words of the question, best first.

        Words are ranked by BM25; scripts without spaces by how many character bigrams a passage shares.
        """
        by_word = self._bm25_matches(question, recording, limit)
        return list(dict.fromkeys(by_word + self._bigram_matches(question, recording, limit)))

    def _bm25_matches(self, question: str, recording: str | None, limit: int) -> list[int]:
        phrases = searched_phrases(question)
        if not phrases:
            return []
        among = narrowed(self.database)
        with self.database.transaction() as session:
            return self.database.backend.best_passages(session, phrases, recording, limit, among)

    def _bigram_matches(self, question: str, recording: str | None, limit: int) -> list[int]:
        bigrams = character_bigrams(question)
        if not bigrams:
            return []
        position = getattr(func, self.database.backend.position)
        has = [case((position(PassageRow.folded, bigram) > 0, 1), else_=0) for bigram in bigrams]
        shared = sum(has[1:], start=has[0])
        query = select(PassageRow.id).where(shared > 0).order_by(shared.desc(), PassageRow.id).limit(limit)
        if recording is not None:
            query = query.where(PassageRow.recording_id == recording)
        with self.database.transaction() as session:
            return list(session.scalars(query))


def store_passages(
    session: Session,
    recording: str,
    passages: Sequence[Passage],
    embeddings: Mapping[str, np.ndarray],
    embedder: str,
) -> tuple[list[int], list[int]]:
    """Put these passages in the place of those that a recording has; what stays the same keeps its number.

    A recording's numbers stay without a gap between them, which ``PassageStore.keyword_matches`` relies on.

    Args:
        session: Of a transaction.
        recording: Its id.
        passages: In time order; their ``id`` is not used.
        embeddings: float32 ``[dimensions]`` by text; those of passages that are stored so are not needed.
        embedder: Name of the model that made them.

    Returns:
        The numbers of the passages that are new or changed, and those that are gone.
    """
    query = select(PassageRow).where(PassageRow.recording_id == recording).order_by(PassageRow.id)
    rows = list(session.scalars(query.options(undefer(PassageRow.embedding))))
    known = dict(embeddings)
    known |= {row.text: np.frombuffer(row.embedding, np.float32) for row in rows if row.embedder == embedder}
    gone = [row.id for row in rows[len(passages) :]]
    if len(rows) < len(passages):
        # Between the last number and the next recording's there may be no room, so all get new ones.
        gone, rows = [row.id for row in rows], []
    for at in range(0, len(gone), BATCH):
        session.execute(delete(PassageRow).where(PassageRow.id.in_(gone[at : at + BATCH])))
    changed: list[PassageRow] = []
    for number, passage in enumerate(passages):
        if number < len(rows):
            row = rows[number]
            if row.embedder == embedder and replace(_stored_passage(row), id=0) == replace(passage, id=0):
                continue
        else:
            row = PassageRow(recording_id=recording)
            session.add(row)
        row.start, row.end, row.text = passage.start, passage.end, passage.text
        row.folded = fold(passage.text)
        row.segment_ids = list(passage.segment_ids)
        row.embedder = embedder
        row.embedding = known[passage.text].astype(np.float32).tobytes()
        changed.append(row)
    session.flush()
    numbers = [row.id for row in changed]
    return numbers, sorted(set(gone) - set(numbers))


def _as_vectors(rows: Sequence[Any]) -> PassageVectors:
    widths = {len(row.embedding) for row in rows}
    if len(widths) > 1:  # two models; the caller sees it by their names
        rows = [row for row in rows if len(row.embedding) == max(widths)]
    data = b"".join(row.embedding for row in rows)
    matrix = np.frombuffer(data, dtype=np.float32).reshape(len(rows), -1) if rows else np.zeros((0, 0))
    return PassageVectors([row.id for row in rows], matrix, frozenset(row.embedder for row in rows))


def _stored_passage(row: PassageRow) -> Passage:
    return Passage(
        recording=row.recording_id,
        start=row.start,
        end=row.end,
        text=row.text,
        segment_ids=tuple(row.segment_ids),
        id=row.id,
    )
