"""Every table, imported once: for migrations, for tests, for the pages in `docs/`."""

from __future__ import annotations

from domain import (
    accepting,
    approvals,
    approving,
    callbacks,
    decomposing,
    documents,
    evaluating,
    findings,
    fulfilling,
    orders,
    prices,
    projections,
    quotes,
    quoting,
    receiving,
    starting,
    steps,
    workflows,
)
from domain.store import Base, facts, idempotency

MODULES = (
    accepting,
    approvals,
    approving,
    callbacks,
    decomposing,
    documents,
    evaluating,
    facts,
    findings,
    fulfilling,
    idempotency,
    orders,
    prices,
    projections,
    quotes,
    quoting,
    receiving,
    starting,
    steps,
    workflows,
)
METADATA = Base.metadata
