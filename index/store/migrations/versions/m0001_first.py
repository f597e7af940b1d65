"""The first schema: recordings, windows, speakers, segments, passages, and their full-text index."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _recording_key() -> sa.Column:
    return sa.Column(
        "recording_id",
        sa.String,
        sa.ForeignKey("recordings.id", ondelete="CASCADE"),
        nullable=False,
    )


def upgrade() -> None:
    op.create_table(
        "recordings",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("title", sa.String, nullable=False),
        sa.Column("source_name", sa.String, nullable=False),
        sa.Column("duration", sa.Double, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("added_at", sa.String, nullable=False),
        sa.Column("language", sa.String),
        sa.Column("coverage", sa.Double),
        sa.Column("gaps", sa.JSON, nullable=False),
        sa.Column("speech", sa.JSON),
        sa.Column("engine", sa.String, nullable=False),
        sa.Column("expected_speakers", sa.Integer),
        sa.Column("error", sa.String),
        sa.Column("note", sa.String),
        sa.Column("seconds_taken", sa.Double, nullable=False),
    )
    op.create_table(
        "windows",
        sa.Column("id", sa.Integer, primary_key=True),
        _recording_key(),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("start", sa.Double, nullable=False),
        sa.Column("end", sa.Double, nullable=False),
        sa.Column("done", sa.Boolean, nullable=False),
        sa.UniqueConstraint("recording_id", "number"),
    )
    op.create_table(
        "speakers",
        sa.Column("id", sa.Integer, primary_key=True),
        _recording_key(),
        sa.Column("name", sa.String, nullable=False),
        sa.UniqueConstraint("recording_id", "name"),
    )
    op.create_table(
        "segments",
        sa.Column("id", sa.Integer, primary_key=True),
        _recording_key(),
        sa.Column("window_id", sa.Integer, sa.ForeignKey("windows.id", ondelete="CASCADE")),
        sa.Column("speaker_id", sa.Integer, sa.ForeignKey("speakers.id", ondelete="SET NULL")),
        sa.Column("start", sa.Double, nullable=False),
        sa.Column("end", sa.Double, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("text", sa.String, nullable=False),
        sa.Column("words", sa.JSON, nullable=False),
        sa.Column("engine", sa.String, nullable=False),
        sa.Column("embedding", sa.LargeBinary),
        # Numbers are never used again, so an old citation cannot come to mean another sentence.
        sqlite_autoincrement=True,
    )
    op.create_index("ix_segments_time", "segments", ["recording_id", "start", "end"])
    op.create_index("ix_segments_window_id", "segments", ["window_id"])
    op.create_index("ix_segments_speaker_id", "segments", ["speaker_id"])
    op.create_table(
        "passages",
        sa.Column("id", sa.Integer, primary_key=True),
        _recording_key(),
        sa.Column("start", sa.Double, nullable=False),
        sa.Column("end", sa.Double, nullable=False),
        sa.Column("text", sa.String, nullable=False),
        sa.Column("segment_ids", sa.JSON, nullable=False),
        sa.Column("embedder", sa.String, nullable=False),
        sa.Column("embedding", sa.LargeBinary, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_passages_time", "passages", ["recording_id", "start"])
    op.create_table(
        "thread_recordings",
        sa.Column("thread_id", sa.String, primary_key=True),
        sa.Column(
            "recording_id", sa.String, sa.ForeignKey("recordings.id", ondelete="CASCADE"), primary_key=True
        ),
    )
    if op.get_bind().dialect.name != "sqlite":
        return  # see migration 0007
    # External-content FTS5: the words live once, in `passages`; triggers keep the index in step.
    # https://www.sqlite.org/fts5.html#external_content_tables
    op.execute(
        "CREATE VIRTUAL TABLE passages_fts USING fts5("
        "text, content='passages', content_rowid='id', tokenize='porter unicode61 remove_diacritics 2')"
    )
    op.execute(
        "CREATE TRIGGER passages_fts_insert AFTER INSERT ON passages BEGIN "
        "INSERT INTO passages_fts(rowid, text) VALUES (new.id, new.text); END"
    )
    op.execute(
        "CREATE TRIGGER passages_fts_delete AFTER DELETE ON passages BEGIN "
        "INSERT INTO passages_fts(passages_fts, rowid, text) VALUES('delete', old.id, old.text); END"
    )
    op.execute(
        "CREATE TRIGGER passages_fts_update AFTER UPDATE OF text ON passages BEGIN "
        "INSERT INTO passages_fts(passages_fts, rowid, text) VALUES('delete', old.id, old.text); "
        "INSERT INTO passages_fts(rowid, text) VALUES (new.id, new.text); END"
    )


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.drop_table("passages_fts")
    for table in (
        "thread_recordings",
        "passages",
        "segments",
        "speakers",
        "windows",
        "recordings",
    ):
        op.drop_table(table)
