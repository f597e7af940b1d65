"""Files in the queue that are the media of an imported transcript."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # SQLite stores a new column at once, so it is there already where the program was killed after that.
    if any(column["name"] == "is_attached" for column in sa.inspect(op.get_bind()).get_columns("jobs")):
        return
    op.add_column("jobs", sa.Column("is_attached", sa.Boolean, nullable=False, server_default=sa.false()))


def downgrade() -> None:
    op.drop_column("jobs", "is_attached")
