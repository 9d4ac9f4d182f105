"""Every refusal leaves one log record and one count, whichever door the command came through.

The field names are those of docs/domain.md#refusals-logs-and-metrics; `conflictCode`, the code in the answer and the metric's label are the
same word.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import structlog

from domain.errors import Conflict, IdempotencyKeyReused, Refusal
from domain.offers.approvals import ApprovalMissing, StaleApproval
from domain.offers.price_books import PriceBookConflict
from domain.offers.prices import StalePrice
from domain.offers.quotes import QuoteExpired
from domain.store import Cause
from workers.runtime import metrics

_log = structlog.get_logger()


def record_refusal(refusal: Refusal, cause: Cause) -> None:
    """Log and count one refused command."""
    _log.warning(
        "command_refused",
        conflictCode=refusal.code,
        detail=str(refusal),
        command=cause.command,
        actor=cause.actor,
        tenantId=str(cause.tenant_id),
        commandId=str(cause.command_id),
        **_known(
            aggregateType=refusal.aggregate_type,
            aggregateId=refusal.aggregate_id,
            expectedVersion=refusal.expected_version,
            actualVersion=refusal.current_version,
            transitionFrom=refusal.current_status,
            idempotencyKey=fingerprint(cause.idempotency_key),
            eventId=cause.event_id,
            externalEventId=cause.external_event_id,
            processInstanceId=cause.process_instance_id,
            businessKey=cause.business_key,
        ),
    )
    count_refusal(refusal, cause.command)


def count_refusal(refusal: Refusal, command: str) -> None:
    """Count a refusal under the name of its race."""
    for kind, count in COUNTS.items():
        if isinstance(refusal, kind):
            count(refusal, command)
    if refusal.code.endswith("_VERSION_CONFLICT"):
        _count_optimistic(refusal, command)


def fingerprint(idempotency_key: str | None) -> str | None:
    """The hash of a key, for the log: a client may put anything into its key."""
    return idempotency_key and hashlib.sha256(idempotency_key.encode()).hexdigest()[:16]


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
    IdempotencyKeyReused: lambda _, command: metrics.IDEMPOTENCY_HASH_CONFLICTS.labels(command).inc(),
}
"""Refusal -> the function that counts it; one refusal may be counted by several."""


def _known(**fields: object) -> dict[str, object]:
    return {name: value if isinstance(value, int) else str(value) for name, value in fields.items() if value is not None}
