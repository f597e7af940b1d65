"""What a model calls the speaker of each sentence, and of which windows it was asked."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("windows", sa.Column("labelled", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("segments", sa.Column("voice_label", sa.String))


def downgrade() -> None:
    op.drop_column("segments", "voice_label")
    op.drop_column("windows", "labelled")
