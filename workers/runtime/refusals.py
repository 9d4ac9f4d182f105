"""Every refusal leaves one log record and one count, whichever door the command came through.

The field names are those of docs/domain.md#refusals-logs-and-metrics; `conflictCode`, the code in the answer and the metric's label are the
same word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import structlog

from domain.errors import Conflict, IdempotencyKeyReused, Refusal
from domain.fallout.casework import FalloutCaseConflict
from domain.offers.approvals import ApprovalMissing, StaleApproval
from domain.offers.price_books import PriceBookConflict
from domain.offers.prices import StalePrice
from domain.offers.quotes import QuoteExpired
from domain.store import Cause
from workers.runtime import metrics
from workers.runtime.log_fields import fields_of

_log = structlog.get_logger()


def record_refusal(refusal: Refusal, cause: Cause, facts: Mapping[str, Any]) -> None:
    """Log and count one refused command; `facts` are what its unit of work has noted."""
    about = {
        "aggregate_type": refusal.aggregate_type,
        "aggregate_id": refusal.aggregate_id,
        "expected_version": refusal.expected_version,
        "actual_version": refusal.current_version,
        "transition_from": refusal.current_status,
    }
    known = {**facts, **{name: value for name, value in about.items() if value is not None}}
    _log.warning("command_refused", conflictCode=refusal.code, detail=str(refusal), **fields_of(cause, known))
    count_refusal(refusal, cause.command)


def count_refusal(refusal: Refusal, command: str) -> None:
    """Count a refusal under the name of its race."""
    for kind, count in COUNTS.items():
        if isinstance(refusal, kind):
            count(refusal, command)
    if refusal.code.endswith("_VERSION_CONFLICT"):
        _count_optimistic(refusal, command)


def _count_transition(refusal: Refusal, _: str) -> None:
    if refusal.current_status is not None:
        event = str(refusal.evidence.get("event", ""))
        metrics.TRANSITION_REJECTIONS.labels(refusal.aggregate_type or "", refusal.current_status, event, refusal.code).inc()


def _count_optimistic(refusal: Refusal, command: str) -> None:
    metrics.OPTIMISTIC_LOCK_CONFLICTS.labels(command, refusal.aggregate_type or "").inc()


def _count_stale_price(refusal: Refusal, command: str) -> None:
    metrics.STALE_PRICE_REJECTIONS.labels(command, str(refusal.evidence.get("staleness_policy", "NOT_CURRENT"))).inc()


def _count_stale_approval(_: Refusal, command: str) -> None:
    metrics.STALE_APPROVAL_REJECTIONS.labels(command).inc()


COUNTS: dict[type[Refusal], Callable[[Refusal, str], None]] = {
    Conflict: _count_transition,
    StalePrice: _count_stale_price,
    StaleApproval: _count_stale_approval,
    ApprovalMissing: _count_stale_approval,
    PriceBookConflict: _count_optimistic,
    QuoteExpired: lambda _, __: metrics.QUOTE_EXPIRED_REJECTIONS.inc(),
    FalloutCaseConflict: lambda _, command: metrics.FALLOUT_CLAIM_CONFLICTS.labels(command).inc(),
    IdempotencyKeyReused: lambda _, command: metrics.IDEMPOTENCY_HASH_CONFLICTS.labels(command).inc(),
}
"""Refusal -> the function that counts it; one refusal may be counted by several."""
