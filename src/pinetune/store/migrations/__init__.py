"""Alembic's scripts, one file a version of the schema; `migrate.py` runs them."""
