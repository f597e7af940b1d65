"""People: accounts, groups, sign-ins, keys, shares, links, the log; and whose recordings and voices are."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # SQLite stores tables and columns at once, so some are there already where the program was killed.
    bind = op.get_bind()
    if "owner_id" not in _columns("recordings"):
        op.add_column("recordings", sa.Column("owner_id", sa.Integer))
    op.create_index("ix_recordings_owner_id", "recordings", ["owner_id"], if_not_exists=True)
    if "person_id" not in _columns("jobs"):
        op.add_column("jobs", sa.Column("person_id", sa.Integer))
    if "by" not in _columns("comments"):
        op.add_column("comments", sa.Column("by", sa.String, nullable=False, server_default=""))
    if "owner_id" not in _columns("voices"):
        if bind.dialect.name == "sqlite":
            _make_voices_anew(bind)
        else:
            op.add_column("voices", sa.Column("owner_id", sa.Integer))
            op.drop_constraint("voices_name_key", "voices")
            op.create_unique_constraint("voices_owner_id_name_key", "voices", ["owner_id", "name"])
    _create(
        "people",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String, nullable=False, unique=True),
        sa.Column("folded", sa.String, nullable=False, unique=True),
        sa.Column("email", sa.String),
        sa.Column("password_hash", sa.String),
        sa.Column("is_admin", sa.Boolean, nullable=False),
        sa.Column("is_disabled", sa.Boolean, nullable=False),
        sa.Column("issuer", sa.String),
        sa.Column("subject", sa.String),
        sa.Column("created_at", sa.String, nullable=False),
        sa.UniqueConstraint("issuer", "subject"),
    )
    _create(
        "groups",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String, nullable=False, unique=True),
    )
    _create(
        "group_members",
        _points("group_id", "groups.id", primary_key=True),
        _points("person_id", "people.id", primary_key=True),
    )
    _create(
        "sign_ins",
        sa.Column("token_hash", sa.String, primary_key=True),
        _points("person_id", "people.id", nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        index="person_id",
    )
    _create(
        "api_keys",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("token_hash", sa.String, nullable=False, unique=True),
        _points("person_id", "people.id", nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("created_at", sa.String, nullable=False),
        sa.Column("used_at", sa.Double),
        index="person_id",
    )
    _create(
        "shares",
        sa.Column("id", sa.Integer, primary_key=True),
        _recording(),
        _points("person_id", "people.id"),
        _points("group_id", "groups.id"),
        sa.Column("can_edit", sa.Boolean, nullable=False),
        sa.UniqueConstraint("recording_id", "person_id", "group_id"),
    )
    for name in ("person_id", "group_id"):
        op.create_index(f"ix_shares_{name}", "shares", [name], if_not_exists=True)
    _create(
        "links",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("token_hash", sa.String, nullable=False, unique=True),
        _recording(),
        sa.Column("until", sa.Double),
        sa.Column("revoked_at", sa.Double),
        sa.Column("created_at", sa.String, nullable=False),
        index="recording_id",
    )
    _create(
        "log",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("person_id", sa.Integer),
        sa.Column("who", sa.String, nullable=False),
        sa.Column("what", sa.String, nullable=False),
        sa.Column("recording_id", sa.String),
        sa.Column("detail", sa.String, nullable=False),
    )
    op.create_index("ix_log_recording", "log", ["recording_id"], if_not_exists=True)
    op.create_index("ix_log_person", "log", ["person_id"], if_not_exists=True)
    _create(
        "sign_in_attempts",
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("since", sa.Double, nullable=False),
    )
    _create(
        "threads",
        sa.Column("thread_id", sa.String, primary_key=True),
        sa.Column("person_id", sa.Integer, nullable=False),
        index="person_id",
    )


def _make_voices_anew(bind: sa.Connection) -> None:
    """Names of voices were unique; now everybody has their own. SQLite cannot drop that from a table.

    The tables that point at it are made anew too: dropping it would delete their rows.
    """
    inspector = sa.inspect(bind)
    kinds = {"voice_samples": ("voice_id", "recording_id"), "voice_matches": ("speaker_id", "voice_id")}
    op.execute("DROP TRIGGER IF EXISTS voices_forgotten")
    op.create_table(
        "voices_owned",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("encoder", sa.String, nullable=False),
        sa.Column("owner_id", sa.Integer),
        sa.UniqueConstraint("owner_id", "name"),
    )
    op.execute("INSERT INTO voices_owned (id, name, encoder) SELECT id, name, encoder FROM voices")
    targets = {
        "voice_id": "voices_owned.id", "speaker_id": "speakers.id", "recording_id": "recordings.id",
    }  # fmt: skip
    for name, keys in kinds.items():
        columns = inspector.get_columns(name)
        op.create_table(
            f"{name}_owned",
            *(
                sa.Column(
                    column["name"],
                    column["type"],
                    *(
                        [sa.ForeignKey(targets[column["name"]], ondelete="CASCADE")]
                        if column["name"] in keys
                        else []
                    ),
                    primary_key=column["name"] in keys,
                    nullable=column["nullable"] and column["name"] not in keys,
                    server_default=column.get("default") and sa.text(str(column["default"])),
                )
                for column in columns
            ),
        )
        names = ", ".join(column["name"] for column in columns)
        op.execute(f"INSERT INTO {name}_owned ({names}) SELECT {names} FROM {name}")
    for name in (*kinds, "voices"):
        op.drop_table(name)
    for name in ("voices", *kinds):
        op.rename_table(f"{name}_owned", name)
    op.execute(
        "CREATE TRIGGER voices_forgotten AFTER DELETE ON voice_samples "
        "WHEN NOT EXISTS (SELECT 1 FROM voice_samples WHERE voice_id = old.voice_id) "
        "BEGIN DELETE FROM voices WHERE id = old.voice_id; END"
    )


def downgrade() -> None:
    for name in (
        "threads", "sign_in_attempts", "log", "links", "shares", "api_keys", "sign_ins", "group_members",
        "groups", "people",
    ):  # fmt: skip
        op.drop_table(name)
    op.drop_column("jobs", "person_id")
    op.drop_column("comments", "by")
    op.drop_index("ix_recordings_owner_id", "recordings")
    op.drop_column("recordings", "owner_id")
    # The column of voices stays: what has the same name twice could not be told apart any more.


def _create(name: str, *columns: sa.schema.SchemaItem, index: str = "") -> None:
    op.create_table(name, *columns, if_not_exists=True)
    if index:
        op.create_index(f"ix_{name}_{index}", name, [index], if_not_exists=True)


def _points(name: str, target: str, **more: Any) -> sa.Column:
    return sa.Column(name, sa.Integer, sa.ForeignKey(target, ondelete="CASCADE"), **more)


def _recording() -> sa.Column:
    return sa.Column(
        "recording_id", sa.String, sa.ForeignKey("recordings.id", ondelete="CASCADE"), nullable=False
    )


def _columns(table: str) -> set[str]:
    return {column["name"] for column in sa.inspect(op.get_bind()).get_columns(table)}
