"""Comments at a moment of a recording."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # SQLite makes a table at once, so it is there already where the program was killed after that.
    if sa.inspect(op.get_bind()).has_table("comments"):
        return
    op.create_table(
        "comments",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column(
            "recording_id", sa.String, sa.ForeignKey("recordings.id", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("text", sa.String, nullable=False),
        sa.Column("created_at", sa.String, nullable=False),
    )
    op.create_index("ix_comments_time", "comments", ["recording_id", "at"])


def downgrade() -> None:
    op.drop_index("ix_comments_time", "comments")
    op.drop_table("comments")
