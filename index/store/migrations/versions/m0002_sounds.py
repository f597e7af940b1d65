"""Which stretches of a recording were listened to for sounds."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sound_windows",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column(
            "recording_id", sa.String, sa.ForeignKey("recordings.id", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("start", sa.Double, nullable=False),
        sa.Column("end", sa.Double, nullable=False),
        sa.Column("done", sa.Boolean, nullable=False),
        sa.UniqueConstraint("recording_id", "number"),
    )


def downgrade() -> None:
    op.drop_table("sound_windows")
