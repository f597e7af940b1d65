"""The database, its migrations, and the library read and changed through it."""
