"""Who made a link, so that it ends with their account; of those there are, the recording's owner did."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # SQLite stores a new column at once, so it is there already where the program was killed after that.
    if not any(column["name"] == "person_id" for column in sa.inspect(op.get_bind()).get_columns("links")):
        op.add_column("links", sa.Column("person_id", sa.Integer))
    op.execute(
        "UPDATE links SET person_id = coalesce("
        "(SELECT owner_id FROM recordings WHERE recordings.id = links.recording_id), "
        "(SELECT min(id) FROM people WHERE is_admin AND NOT is_disabled)) WHERE person_id IS NULL"
    )


def downgrade() -> None:
    op.drop_column("links", "person_id")
