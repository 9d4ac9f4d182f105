"""Undoes effects at the sandbox provider: of requests that are cancelled in time, and of requests that an undo step compensates.

The rule: an effect is reversed at most once, whatever asks for it. The first arrival of a cancellation decides it, in one transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime
from uuid import uuid4

from workers.sandbox.callbacks import CallbackEvent, new_event_id, say
from workers.sandbox.faults import FaultKind, strike

CANCELLED = "CANCELLED"


class RequestUnknownError(Exception):
    """The request never arrived. The cancellation is not recorded, because the request may still be on its way."""


def cancel(connection: sqlite3.Connection, key: str, request_key: str, now: float) -> Mapping[str, str]:
    """Decide a cancellation the first time that its key arrives, and describe the decision. Raises RequestUnknownError."""
    known = find(connection, key, now)
    if known is not None:
        return known
    request = connection.execute("SELECT * FROM request WHERE idempotency_key = ?", (request_key,)).fetchone()
    if request is None:
        raise RequestUnknownError(f"{request_key} never arrived here")
    reason = _refusal(connection, request, now)
    if reason is None:
        reverse(connection, request_key, key, now)
        connection.execute("UPDATE callback SET state = 'LOST' WHERE idempotency_key = ? AND state = 'PENDING'", (request_key,))
    status = "COMPLETED" if reason is None else "REJECTED"
    delay = strike(connection, FaultKind.CANCEL_LATER, request["step_code"])
    decided_at = now + (delay.total_seconds() if delay else 0.0)
    connection.execute(
        "INSERT INTO cancellation VALUES (?, ?, ?, ?, ?, ?)", (key, request_key, f"can-{uuid4()}", status, reason, decided_at)
    )
    row = connection.execute("SELECT * FROM cancellation WHERE idempotency_key = ?", (key,)).fetchone()
    if delay is not None:
        say(connection, _event(request, row), request_key, decided_at)
    return _describe(row, now)


def _event(request: sqlite3.Row, cancellation: sqlite3.Row) -> CallbackEvent:
    return CallbackEvent(
        event_id=new_event_id(),
        event_type="step.cancelled" if cancellation["status"] == "COMPLETED" else "step.cancel_refused",
        step_ref=request["step_ref"],
        request_id=request["request_id"],
        external_ref=None,
        occurred_at=datetime.fromtimestamp(cancellation["decided_at"], UTC).isoformat(),
    )


def _refusal(connection: sqlite3.Connection, request: sqlite3.Row, now: float) -> str | None:
    if strike(connection, FaultKind.REFUSE_CANCEL, request["step_code"]) is not None:
        return "refused on request by the sandbox"
    is_over = request["completes_at"] <= now and request["final_status"] == "COMPLETED"
    if is_over and strike(connection, FaultKind.TAKE_BACK, request["step_code"]) is None:
        return "too late: the request is completed"
    return None


def find(connection: sqlite3.Connection, key: str, now: float) -> Mapping[str, str] | None:
    """Describe a cancellation as it stands, or None if it never arrived."""
    row = connection.execute("SELECT * FROM cancellation WHERE idempotency_key = ?", (key,)).fetchone()
    return None if row is None else _describe(row, now)


def reverse(connection: sqlite3.Connection, request_key: str, by_key: str, now: float) -> bool:
    """Reverse an effect; False when there is none, or when it is reversed already."""
    if connection.execute("SELECT 1 FROM effect WHERE idempotency_key = ?", (request_key,)).fetchone() is None:
        return False
    statement = "INSERT INTO reversal VALUES (?, ?, ?) ON CONFLICT (idempotency_key) DO NOTHING"
    return connection.execute(statement, (request_key, by_key, now)).rowcount == 1


def is_reversed(connection: sqlite3.Connection, request_key: str) -> bool:
    """Whether the effect of a request has been reversed."""
    return connection.execute("SELECT 1 FROM reversal WHERE idempotency_key = ?", (request_key,)).fetchone() is not None


def _describe(row: sqlite3.Row, now: float) -> Mapping[str, str]:
    if row["decided_at"] > now:
        return {"requestId": row["request_id"], "status": "ACCEPTED"}
    description = {"requestId": row["request_id"], "status": row["status"]}
    if row["status"] == "COMPLETED":
        return {**description, "externalRef": row["request_id"]}
    return {**description, "reason": row["reason"]}
