"""Voices that are known again: profiles with the recordings they were learned from, and who may be whom."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # SQLite makes a table at once, so it is there already where the program was killed after that.
    there = set(sa.inspect(op.get_bind()).get_table_names())
    if "voices" not in there:
        op.create_table(
            "voices",
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("name", sa.String, nullable=False, unique=True),
            sa.Column("encoder", sa.String, nullable=False),
        )
    if "voice_samples" not in there:
        op.create_table(
            "voice_samples",
            _key("voice_id", sa.Integer, "voices.id"),
            _key("recording_id", sa.String, "recordings.id"),
            sa.Column("seconds", sa.Double, nullable=False),
            sa.Column("embedding", sa.LargeBinary, nullable=False),
        )
    if "voice_matches" not in there:
        op.create_table(
            "voice_matches",
            _key("speaker_id", sa.Integer, "speakers.id"),
            _key("voice_id", sa.Integer, "voices.id"),
            sa.Column("state", sa.String, nullable=False),
            sa.Column("label", sa.String, nullable=False),
            sa.Column("score", sa.Double, nullable=False),
        )
    if "voice_consent" not in there:
        op.create_table(
            "voice_consent",
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("given", sa.Boolean, nullable=False),
        )
    # Nothing of a voice stays when the last recording that it was learned from goes, in whatever way.
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION forget_voice() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "DELETE FROM voices WHERE id = old.voice_id "
            "AND NOT EXISTS (SELECT 1 FROM voice_samples WHERE voice_id = old.voice_id); "
            "RETURN NULL; END $$"
        )
        op.execute(
            "CREATE TRIGGER voices_forgotten AFTER DELETE ON voice_samples "
            "FOR EACH ROW EXECUTE FUNCTION forget_voice()"
        )
        return
    op.execute(
        "CREATE TRIGGER IF NOT EXISTS voices_forgotten AFTER DELETE ON voice_samples "
        "WHEN NOT EXISTS (SELECT 1 FROM voice_samples WHERE voice_id = old.voice_id) "
        "BEGIN DELETE FROM voices WHERE id = old.voice_id; END"
    )


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION forget_voice CASCADE")
    else:
        op.execute("DROP TRIGGER voices_forgotten")
    for table in ("voice_consent", "voice_matches", "voice_samples", "voices"):
        op.drop_table(table)


def _key(name: str, kind: type[sa.types.TypeEngine], target: str) -> sa.Column:
    """A part of the key that goes with the row it points at."""
    return sa.Column(name, kind, sa.ForeignKey(target, ondelete="CASCADE"), primary_key=True)
