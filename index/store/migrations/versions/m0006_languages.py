"""The language of each window and sentence, and all languages of a recording."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

LANGUAGES = ("recordings", "languages")
COLUMNS = (LANGUAGES, ("windows", "language"), ("segments", "language"))


def upgrade() -> None:
    inspector = sa.inspect(op.get_bind())
    for table, name in COLUMNS:
        # SQLite stores a new column at once, so it is there already where the program was killed after that.
        if name in {known["name"] for known in inspector.get_columns(table)}:
            continue
        if (table, name) == LANGUAGES:
            op.add_column(table, sa.Column(name, sa.JSON, nullable=False, server_default="[]"))
        else:
            op.add_column(table, sa.Column(name, sa.String))
    if op.get_bind().dialect.name != "sqlite":
        return  # no version before this one wrote to another database
    # An older version transcribed all of a recording in one language.
    op.execute("UPDATE recordings SET languages = json_array(language) WHERE language IS NOT NULL")
    for table, which in (("windows", "done"), ("segments", "kind = 'speech'")):
        op.execute(
            f"UPDATE {table} SET language = "
            f"(SELECT language FROM recordings WHERE recordings.id = {table}.recording_id) WHERE {which}"
        )


def downgrade() -> None:
    for table, name in COLUMNS:
        op.drop_column(table, name)
