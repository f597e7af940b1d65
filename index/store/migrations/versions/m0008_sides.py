"""The channel of the copy that each window is about, and the file's audio tracks that are in the copy."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # SQLite stores a new column at once, so it is there already where the program was killed after that.
    if not _has("windows", "channel"):
        op.add_column("windows", sa.Column("channel", sa.Integer))
    if not _has("recordings", "tracks"):
        op.add_column("recordings", sa.Column("tracks", sa.JSON, nullable=False, server_default="[]"))


def downgrade() -> None:
    op.drop_column("recordings", "tracks")
    op.drop_column("windows", "channel")


def _has(table: str, name: str) -> bool:
    return name in {column["name"] for column in sa.inspect(op.get_bind()).get_columns(table)}
