"""What is still to be told to a webhook."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # SQLite stores a new table at once, so it is there already where the program was killed after that.
    if sa.inspect(op.get_bind()).has_table("webhook_deliveries"):
        return
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("recording_id", sa.String, sa.ForeignKey("recordings.id", ondelete="CASCADE")),
        sa.Column("body", sa.String, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_at", sa.Double, nullable=False),
        sa.Column("problem", sa.String, nullable=False),
    )
    op.create_index("ix_webhook_deliveries_recording_id", "webhook_deliveries", ["recording_id"])


def downgrade() -> None:
    op.drop_table("webhook_deliveries")
