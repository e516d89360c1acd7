"""A job names the folder of the store that holds its run, for a worker on another machine."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("snapshot", sa.Text(), nullable=True))
