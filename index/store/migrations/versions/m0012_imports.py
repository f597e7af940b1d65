"""Imported transcripts, files of watched folders, and notes that are kept in folders."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # SQLite stores a new column at once, so it is there already where the program was killed after that.
    for name in ("imported", "media_id"):
        if name not in _columns("recordings"):
            op.add_column("recordings", sa.Column(name, sa.String))
    op.create_index("ix_recordings_media_id", "recordings", ["media_id"], if_not_exists=True)
    op.create_table(
        "watched_files",
        sa.Column("path_hash", sa.String, primary_key=True),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("modified", sa.BigInteger, nullable=False),
        sa.Column("recording_id", sa.String),
        if_not_exists=True,
    )
    op.create_index("ix_watched_files_recording_id", "watched_files", ["recording_id"], if_not_exists=True)
    op.create_table(
        "synced_notes",
        sa.Column("folder", sa.String, primary_key=True),
        sa.Column("recording_id", sa.String, primary_key=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("is_moved", sa.Boolean, nullable=False),
        sa.Column("fingerprint", sa.String, nullable=False),
        if_not_exists=True,
    )


def downgrade() -> None:
    op.drop_table("synced_notes")
    op.drop_table("watched_files")
    op.drop_index("ix_recordings_media_id", "recordings")
    for name in ("media_id", "imported"):
        op.drop_column("recordings", name)


def _columns(table: str) -> set[str]:
    return {column["name"] for column in sa.inspect(op.get_bind()).get_columns(table)}
