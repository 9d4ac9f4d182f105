"""Every table and every move, imported once, for migrations, tests, and the generated pages in `docs/`."""

from __future__ import annotations

# ruff: noqa: F401 - imported for the tables and moves that they declare
from domain import accepting, archives, authority, findings, granting
from domain.delivery import (
    attempts,
    callbacks,
    cancellations,
    cancelling,
    compensating,
    contradictions,
    decomposing,
    evaluating,
    fulfilling,
    jeopardy,
    order_moves,
    orders,
    proposing,
    repairing,
    resolving,
    starting,
    step_moves,
    steps,
)
from domain.fallout import cases, casework, triaging
from domain.offers import (
    acceptances,
    approvals,
    approving,
    deciding,
    documents,
    escalating,
    price_books,
    prices,
    quotes,
    quoting,
    revising,
    withdrawing,
)
from domain.projections import tables
from domain.store import Base, facts, idempotency, leases
from domain.workflows import forms, instances, requests, restarts, starts

METADATA = Base.metadata
