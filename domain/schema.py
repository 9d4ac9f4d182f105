"""Every table, imported once: for migrations, for tests, for the pages in `docs/`."""

from __future__ import annotations

from domain import (  # noqa: F401 - imported for the tables and moves that they declare
    accepting,
    approvals,
    approving,
    authority,
    callbacks,
    deciding,
    decomposing,
    documents,
    escalating,
    evaluating,
    findings,
    fulfilling,
    orders,
    price_books,
    prices,
    projections,
    quotes,
    quoting,
    receiving,
    revising,
    starting,
    steps,
    withdrawing,
    workflows,
)
from domain.store import Base, facts, idempotency  # noqa: F401 - as above

METADATA = Base.metadata
