"""Every table, imported once: for migrations, for tests, for the pages in `docs/`."""

from __future__ import annotations

from domain import (  # noqa: F401 - imported for the tables and moves that they declare
    accepting,
    approvals,
    approving,
    authority,
    callbacks,
    cancellations,
    cancelling,
    casework,
    compensating,
    contradictions,
    deciding,
    decomposing,
    documents,
    escalating,
    evaluating,
    fallouts,
    findings,
    fulfilling,
    jeopardy,
    order_moves,
    orders,
    price_books,
    prices,
    projections,
    quotes,
    quoting,
    receiving,
    resolving,
    revising,
    starting,
    step_moves,
    steps,
    triaging,
    watching,
    withdrawing,
    workflows,
)
from domain.store import Base, facts, idempotency  # noqa: F401 - as above

METADATA = Base.metadata
