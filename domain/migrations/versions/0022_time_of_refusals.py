"""Count the time of refusals for each class of failure: the changes as SQL beside this file."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The driver reads `%` as a placeholder.
    op.get_bind().exec_driver_sql(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8").replace("%", "%%"))


def downgrade() -> None:
    raise RuntimeError("the schema only goes forward: restore a backup instead")
