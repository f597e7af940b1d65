"""The full-text index holds folded words: one form for case, marks, width and numbers (``index.folding``).

The column is filled when the database is opened, since the fold may change without the schema.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    columns = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("passages")}
    # SQLite stores the new column at once, so it is there already where the program was killed after that.
    if "folded" not in columns:
        op.add_column("passages", sa.Column("folded", sa.String, nullable=False, server_default=""))
    # What the fold removed is gone already. Marks that it kept belong to words, in Devanagari for example.
    _index("folded", "porter unicode61 remove_diacritics 0 categories ''L* N* Co Mn Mc''")
    # Says that nothing is folded yet; see `migrate`.
    op.execute("PRAGMA user_version = 0")


def downgrade() -> None:
    _index("text", "porter unicode61 remove_diacritics 2")
    op.drop_column("passages", "folded")


def _index(column: str, tokenizer: str) -> None:
    """External-content FTS5 over one column of ``passages``; triggers keep the index in step.

    https://www.sqlite.org/fts5.html#external_content_tables
    """
    for event in ("insert", "delete", "update"):
        op.execute(f"DROP TRIGGER IF EXISTS passages_fts_{event}")
    op.execute("DROP TABLE IF EXISTS passages_fts")
    op.execute(
        f"CREATE VIRTUAL TABLE passages_fts USING fts5("
        f"{column}, content='passages', content_rowid='id', tokenize='{tokenizer}')"
    )
    forget = (
        f"INSERT INTO passages_fts(passages_fts, rowid, {column}) VALUES('delete', old.id, old.{column}); "
    )
    learn = f"INSERT INTO passages_fts(rowid, {column}) VALUES (new.id, new.{column}); "
    op.execute(f"CREATE TRIGGER passages_fts_insert AFTER INSERT ON passages BEGIN {learn}END")
    op.execute(f"CREATE TRIGGER passages_fts_delete AFTER DELETE ON passages BEGIN {forget}END")
    op.execute(
        f"CREATE TRIGGER passages_fts_update AFTER UPDATE OF {column} ON passages BEGIN {forget}{learn}END"
    )
    op.execute("INSERT INTO passages_fts(passages_fts) VALUES('rebuild')")
