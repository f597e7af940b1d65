"""The queue of files, where several processes work on it."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # SQLite stores a new table at once, so it is there already where the program was killed after that.
    op.create_table(
        "jobs",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("source", sa.String, unique=True),
        sa.Column("title", sa.String, nullable=False),
        sa.Column("path", sa.String, nullable=False),
        sa.Column("speakers", sa.Integer),
        sa.Column("track", sa.Integer),
        sa.Column("recording", sa.String),
        sa.Column("losing", sa.Integer),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("error", sa.String),
        sa.Column("can_retry", sa.Boolean, nullable=False),
        sa.Column("progress", sa.JSON),
        sa.Column("queued_at", sa.Double, nullable=False),
        sa.Column("cancelled", sa.Boolean, nullable=False),
        sa.Column("worker", sa.String),
        sa.Column("lease_until", sa.Double),
        sa.Column("begun", sa.Integer, nullable=False),
        sa.Column("left_at", sa.Double),
        if_not_exists=True,
    )
    op.create_index("ix_jobs_recording", "jobs", ["recording"], if_not_exists=True)
    op.create_index("ix_jobs_left_at", "jobs", ["left_at"], if_not_exists=True)


def downgrade() -> None:
    op.drop_table("jobs")
