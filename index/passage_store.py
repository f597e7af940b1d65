"""Stored passages: written with their embeddings, read by number, by recording and by keyword.

The full-text index over them is kept in step by triggers (see the first migration).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import case, delete, func, select, text, update

from index.database import Database, PassageRow, RecordingRow, SegmentRow
from index.records import Passage
from index.terms import fts_query, unspaced_pairs

BATCH = 5_000
"""Rows a query; SQLite takes at most 32,766 parameters in one statement."""


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
            return [_passage(row) for row in rows], frozenset(row.embedder for row in rows)

    def by_id(self, ids: Sequence[int]) -> dict[int, Passage]:
        """Passages by their numbers; numbers that do not exist are left out."""
        found: dict[int, Passage] = {}
        with self.database.transaction() as session:
            for at in range(0, len(ids), BATCH):
                query = select(PassageRow).where(PassageRow.id.in_(ids[at : at + BATCH]))
                found.update((row.id, _passage(row)) for row in session.scalars(query))
        return found

    def indexed_recordings(self) -> list[str]:
        """Recordings that have been, or should have been, put into the index."""
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
            rows = session.execute(query).all()
        widths = {len(row.embedding) for row in rows}
        if len(widths) > 1:  # two models; the caller sees it by their names
            rows = [row for row in rows if len(row.embedding) == max(widths)]
        data = b"".join(row.embedding for row in rows)
        matrix = np.frombuffer(data, dtype=np.float32).reshape(len(rows), -1) if rows else np.zeros((0, 0))
        return PassageVectors([row.id for row in rows], matrix, frozenset(row.embedder for row in rows))

    def batches(self) -> Iterator[tuple[list[Passage], np.ndarray]]:
        """All passages with their embeddings, in pieces that fit into memory."""
        last = 0
        while True:
            query = select(PassageRow, PassageRow.embedding).where(PassageRow.id > last)
            with self.database.transaction() as session:
                rows = session.execute(query.order_by(PassageRow.id).limit(BATCH)).all()
            if not rows:
                return
            passages = [_passage(row) for row, _ in rows]
            yield passages, np.stack([np.frombuffer(data, dtype=np.float32) for _, data in rows])
            last = passages[-1].id

    def replace(
        self,
        recording: str,
        passages: Sequence[Passage],
        embeddings: np.ndarray,
        embedder: str,
        segment_embeddings: dict[int, np.ndarray],
    ) -> None:
        """Store a recording's passages instead of those it had, and sentence embeddings, in one transaction.

        Args:
            recording: Its id.
            passages: In time order; their ``id`` is not used.
            embeddings: float32 ``[n_passages, dimensions]``.
            embedder: Name of the model that made them.
            segment_embeddings: By segment number; kept as float16.
        """
        with self.database.transaction() as session:
            session.execute(delete(PassageRow).where(PassageRow.recording_id == recording))
            for passage, embedding in zip(passages, embeddings, strict=True):
                session.add(
                    PassageRow(
                        recording_id=recording,
                        start=passage.start,
                        end=passage.end,
                        text=passage.text,
                        segment_ids=list(passage.segment_ids),
                        embedder=embedder,
                        embedding=embedding.astype(np.float32).tobytes(),
                    )
                )
            rows = [
                {"id": number, "embedding": one.astype(np.float16).tobytes()}
                for number, one in segment_embeddings.items()
            ]
            if rows:
                session.execute(update(SegmentRow), rows)

    def unembedded_segments(self, recording: str) -> set[int]:
        """Numbers of a recording's segments that have no embedding yet."""
        query = select(SegmentRow.id).where(
            SegmentRow.recording_id == recording, SegmentRow.embedding.is_(None)
        )
        with self.database.transaction() as session:
            return set(session.scalars(query))

    def keyword_matches(self, question: str, recording: str | None, limit: int) -> list[int]:
        """Numbers of the passages that have words of the question, best first.

        Words are ranked by bm25; scripts without spaces by how many character pairs a passage shares.
        """
        return list(
            dict.fromkeys(self._bm25(question, recording, limit) + self._pairs(question, recording, limit))
        )

    def _bm25(self, question: str, recording: str | None, limit: int) -> list[int]:
        expression = fts_query(question)
        if expression is None:
            return []
        # Alone, FTS5 keeps only the best rows while it ranks; a join would fetch every match's passage first.
        sql = "SELECT rowid FROM passages_fts WHERE passages_fts MATCH :words {} ORDER BY rank LIMIT :most"
        # A recording's passages are numbered without a gap, in the one transaction that stores them, so a
        # range of numbers is exact; `rowid IN (…)` would rank the whole library's matches first.
        inside = (
            "AND rowid BETWEEN (SELECT min(id) FROM passages WHERE recording_id = :recording)"
            " AND (SELECT max(id) FROM passages WHERE recording_id = :recording)"
            if recording
            else ""
        )
        values = {"words": expression, "recording": recording, "most": limit}
        with self.database.transaction() as session:
            return list(session.scalars(text(sql.format(inside)), values))

    def _pairs(self, question: str, recording: str | None, limit: int) -> list[int]:
        pairs = unspaced_pairs(question)
        if not pairs:
            return []
        has = [case((func.instr(PassageRow.text, pair) > 0, 1), else_=0) for pair in pairs]
        shared = sum(has[1:], start=has[0])
        query = select(PassageRow.id).where(shared > 0).order_by(shared.desc(), PassageRow.id).limit(limit)
        if recording is not None:
            query = query.where(PassageRow.recording_id == recording)
        with self.database.transaction() as session:
            return list(session.scalars(query))


def _passage(row: PassageRow) -> Passage:
    return Passage(
        recording=row.recording_id,
        start=row.start,
        end=row.end,
        text=row.text,
        segment_ids=tuple(row.segment_ids),
        id=row.id,
    )
