"""The SQLite registry: all SQL, and its migrations."""
