"""Real components that several integration tests share."""

from tests.postgres import durable_server, postgres_database, postgres_server, postgres_url

__all__ = ["durable_server", "postgres_database", "postgres_server", "postgres_url"]
