"""Samples of voices that must be learned again, since their sentences were given to somebody else."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # SQLite stores a new column at once, so it is there already where the program was killed after that.
    if any(column["name"] == "stale" for column in sa.inspect(op.get_bind()).get_columns("voice_samples")):
        return
    op.add_column("voice_samples", sa.Column("stale", sa.Boolean, nullable=False, server_default=sa.false()))


def downgrade() -> None:
    op.drop_column("voice_samples", "stale")
