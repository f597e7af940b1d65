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
    if op.get_bind().dialect.name == "postgresql":
        for statement in POSTGRESQL:
            op.execute(statement)
        return
    # What the fold removed is gone already. Marks that it kept belong to words, in Devanagari for example.
    _index("folded", "porter unicode61 remove_diacritics 0 categories ''L* N* Co Mn Mc''")
    # Says that nothing is folded yet; see `migrate`.
    op.execute("PRAGMA user_version = 0")


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP TABLE passage_words, passage_totals")
        op.execute("DROP FUNCTION index_words CASCADE")
        op.execute("DROP FUNCTION words_of, library_stem")
        op.execute("DROP TEXT SEARCH DICTIONARY library_stem")
        op.drop_column("passages", "folded")
        return
    _index("text", "porter unicode61 remove_diacritics 2")
    op.drop_column("passages", "folded")


# What FTS5 keeps by itself: which passages have a word how often, with the number of words of each passage;
# and how many passages and words each recording has, so that no transaction waits for another recording's.
# PostgreSQL's own index of texts does not tell how often a word is in one, which BM25 asks. Words of two
# letters have no stem (FTS5's Porter leaves them alone); one of hundreds of letters would not fit an index.
POSTGRESQL = (
    "CREATE TEXT SEARCH DICTIONARY library_stem (TEMPLATE = snowball, LANGUAGE = porter)",
    """
    CREATE FUNCTION library_stem(word text) RETURNS text LANGUAGE sql IMMUTABLE STRICT AS $$
        SELECT CASE WHEN length(word) < 3 THEN word ELSE (ts_lexize('library_stem', left(word, 100)))[1] END
    $$
    """,
    """
    CREATE FUNCTION words_of(folded text) RETURNS TABLE (word text, times integer, words integer)
    LANGUAGE sql IMMUTABLE STRICT AS $$
        SELECT library_stem(written), count(*)::integer, (sum(count(*)) OVER ())::integer
        FROM regexp_split_to_table(folded, '[ .,:]+') AS written WHERE written <> '' GROUP BY 1
    $$
    """,
    """
    CREATE TABLE passage_words (
        word text NOT NULL, passage_id integer NOT NULL, times integer NOT NULL, words integer NOT NULL,
        PRIMARY KEY (word, passage_id) INCLUDE (times, words)
    )
    """,
    """
    CREATE TABLE passage_totals (
        recording_id varchar PRIMARY KEY REFERENCES recordings (id) ON DELETE CASCADE,
        passages integer NOT NULL, words integer NOT NULL
    )
    """,
    """
    CREATE FUNCTION index_words() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        total integer;
    BEGIN
        IF tg_op <> 'INSERT' THEN
            WITH gone AS (
                DELETE FROM passage_words AS known USING words_of(old.folded) AS left_out
                WHERE known.word = left_out.word AND known.passage_id = old.id RETURNING known.words
            )
            SELECT coalesce(max(words), 0) INTO total FROM gone;
            UPDATE passage_totals SET passages = passages - 1, words = passage_totals.words - total
            WHERE recording_id = old.recording_id;
        END IF;
        IF tg_op <> 'DELETE' THEN
            WITH added AS (
                INSERT INTO passage_words (word, passage_id, times, words)
                SELECT found.word, new.id, found.times, found.words FROM words_of(new.folded) AS found
                RETURNING words
            )
            SELECT coalesce(max(words), 0) INTO total FROM added;
            INSERT INTO passage_totals AS known VALUES (new.recording_id, 1, total)
            ON CONFLICT (recording_id) DO UPDATE
            SET passages = known.passages + 1, words = known.words + excluded.words;
        END IF;
        RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER index_words AFTER INSERT OR DELETE OR UPDATE OF folded ON passages
    FOR EACH ROW EXECUTE FUNCTION index_words()
    """,
    # Those that an earlier version left, where there are any, are indexed when they are folded.
    "UPDATE passages SET folded = ''",
)


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
