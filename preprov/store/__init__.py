"""Intent and history: SQLModel rows with Alembic migrations, samples in Parquet read by DuckDB."""
