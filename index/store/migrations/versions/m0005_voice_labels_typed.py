"""What a model calls a speaker, and in which part of the window, in two columns instead of one text."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    columns = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("segments")}
    # SQLite stores the new column at once, so it is there already where the program was killed after that.
    if "voice_label_part" not in columns:
        op.add_column("segments", sa.Column("voice_label_part", sa.Integer))
    if op.get_bind().dialect.name != "sqlite":
        return  # no version before this one wrote to another database
    # "0.S01" becomes 0 and "S01"; anything else was never written by the program, and is dropped.
    op.execute(
        "UPDATE segments SET "
        "voice_label_part = CAST(substr(voice_label, 1, instr(voice_label, '.') - 1) AS INTEGER), "
        "voice_label = substr(voice_label, instr(voice_label, '.') + 1) "
        "WHERE voice_label GLOB '[0-9]*.*'"
    )
    op.execute("UPDATE segments SET voice_label = NULL WHERE voice_label_part IS NULL")


def downgrade() -> None:
    op.execute("UPDATE segments SET voice_label = voice_label_part || '.' || voice_label")
    op.drop_column("segments", "voice_label_part")
