"""What people corrected, with what was there before; when a sentence changed; numbers that never come again.

A conversation may cite a sentence that was merged into another, so its number must not become that of a
new one: SQLite gives the largest number again once its row is gone, unless the table says AUTOINCREMENT.
"""

from typing import Literal

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "corrections",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column(
            "recording_id", sa.String, sa.ForeignKey("recordings.id", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("at", sa.String, nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("before", sa.JSON, nullable=False),
        sa.Column("after", sa.JSON, nullable=False),
        sa.Column("undone_at", sa.String),
        sa.Column("superseded", sa.Boolean, nullable=False, server_default="0"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_corrections_recording", "corrections", ["recording_id", "id"])
    op.add_column("recordings", sa.Column("revision", sa.Integer, nullable=False, server_default="0"))
    # Sequences of other databases never give a number twice.
    recreate: Literal["always", "auto"] = "always" if op.get_bind().dialect.name == "sqlite" else "auto"
    with op.batch_alter_table(
        "segments", recreate=recreate, table_kwargs={"sqlite_autoincrement": True}
    ) as segments:
        segments.add_column(sa.Column("version", sa.Integer, nullable=False, server_default="0"))


def downgrade() -> None:
    with op.batch_alter_table("segments") as segments:
        segments.drop_column("version")
    op.drop_column("recordings", "revision")
    op.drop_table("corrections")
