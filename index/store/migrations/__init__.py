"""Alembic migrations of the database; ``index.database.migrate`` runs them at every start."""
