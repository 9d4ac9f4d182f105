"""Records what the sandbox provider has really done, whatever the product has recorded about it.

The rule: the first arrival of an idempotency key decides everything about it (effect, reply, callback) in one transaction.
Every later arrival gets the same reply and changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import uuid4

from workers.sandbox import cancellations
from workers.sandbox.callbacks import CallbackEvent, new_event_id, promise, say
from workers.sandbox.faults import FaultKind, strike
from workers.sandbox.store import Store


class RequestStatus(StrEnum):
    """The status of a request, as the provider replies it."""

    ACCEPTED = "ACCEPTED"
    COMPLETED = "COMPLETED"
    REJECTED = "REJECTED"


ASYNCHRONOUS_STEPS = frozenset({"PROVISION_SERVICE", "SHIP_ROUTER"})
CALLBACK_LATENCY = timedelta(milliseconds=300)
_ENTRIES = """
    SELECT request.*,
        (SELECT count(*) FROM effect WHERE effect.idempotency_key = request.idempotency_key) AS effects,
        (SELECT count(*) FROM callback
            WHERE callback.idempotency_key = request.idempotency_key AND state IN ('DELIVERED', 'CONFLICT')) AS callbacks,
        (SELECT coalesce(sum(attempts), 0) FROM callback
            WHERE callback.idempotency_key = request.idempotency_key) AS callback_attempts,
        (SELECT count(*) FROM reversal WHERE reversal.idempotency_key = request.idempotency_key) AS reversals
    FROM request ORDER BY received_at, request.rowid
"""
STATUS_CODE = {RequestStatus.COMPLETED: 200, RequestStatus.ACCEPTED: 202, RequestStatus.REJECTED: 422}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRequest:
    """What the provider is asked to do."""

    step_ref: str
    step_code: str
    product_offering_id: str
    quantity: int
    order_ref: str
    compensates: str | None = None
    instructions: str | None = None

    def fingerprint(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxReply:
    """The reply to a request, the pause before it, and whether the connection is cut in its place."""

    status_code: int
    body: Mapping[str, str]
    pause: timedelta
    is_lost: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """The first status of a request, its final status, and when the final one begins (seconds since the epoch)."""

    first: RequestStatus
    final: RequestStatus
    completes_at: float


class KeyReusedError(Exception):
    """The idempotency key came before with another body."""


class Ledger:
    """The requests and effects in a store. `clock` returns seconds since the epoch."""

    def __init__(
        self,
        store: Store,
        *,
        asynchronous: frozenset[str] = ASYNCHRONOUS_STEPS,
        callback_latency: timedelta = CALLBACK_LATENCY,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._asynchronous = asynchronous
        self._latency = callback_latency
        self._clock = clock

    def receive(self, idempotency_key: str, request: ServiceRequest) -> SandboxReply:
        """Carry out the request if its key is new, and return the reply that belongs to the key.

        Raises KeyReusedError.
        """
        with self._store.transaction() as connection:
            # Insert before reading: the primary key decides which of two simultaneous arrivals is the first.
            if self._is_first(connection, idempotency_key, request):
                self._carry_out(connection, idempotency_key, request)
            row = connection.execute(
                "UPDATE request SET requests = requests + 1 WHERE idempotency_key = ? RETURNING *", (idempotency_key,)
            ).fetchone()
            if row["body_hash"] != request.fingerprint():
                raise KeyReusedError(f"{idempotency_key} came before with another body")
            return _reply(connection, row)

    def find(self, idempotency_key: str) -> Mapping[str, str] | None:
        """Describe the request or cancellation with this key as it stands now; None if it never arrived."""
        with self._store.transaction() as connection:
            row = connection.execute("SELECT * FROM request WHERE idempotency_key = ?", (idempotency_key,)).fetchone()
            if row is None:
                return cancellations.find(connection, idempotency_key, self._clock())
            is_reversed = cancellations.is_reversed(connection, idempotency_key)
        return _description(row, cancellations.CANCELLED if is_reversed else self._present_status(row))

    def cancel(self, idempotency_key: str, request_key: str) -> Mapping[str, str]:
        """Cancel a request if that is still possible, and return the reply that belongs to the cancellation's key.

        Raises RequestUnknownError.
        """
        with self._store.transaction() as connection:
            return cancellations.cancel(connection, idempotency_key, request_key, self._clock())

    def say(self, idempotency_key: str, event_type: str) -> str:
        """Send an event about a request at once, by hand and whether it is true or not. Returns its id. Raises RequestUnknownError."""
        with self._store.transaction() as connection:
            row = connection.execute("SELECT * FROM request WHERE idempotency_key = ?", (idempotency_key,)).fetchone()
            if row is None:
                raise cancellations.RequestUnknownError(f"{idempotency_key} never arrived here")
            event = replace(_event(row), event_type=event_type, occurred_at=_iso(self._clock()))
            say(connection, event, idempotency_key, self._clock())
        return event.event_id

    def entries(self) -> list[dict[str, str | int]]:
        """List every key with its numbers of effects, reversals, effects that are left, arrivals, delivered callbacks, and attempts to deliver them."""
        with self._store.transaction() as connection:
            rows = connection.execute(_ENTRIES).fetchall()
        return [
            {
                "idempotencyKey": row["idempotency_key"],
                "stepRef": row["step_ref"],
                "stepCode": row["step_code"],
                "requestId": row["request_id"],
                "status": self._present_status(row),
                "effects": row["effects"],
                "reversals": row["reversals"],
                "net": row["effects"] - row["reversals"],
                "requests": row["requests"],
                "callbacks": row["callbacks"],
                "callbackAttempts": row["callback_attempts"],
                "firstAt": _iso(row["received_at"]),
            }
            for row in rows
        ]

    def _is_first(self, connection: sqlite3.Connection, key: str, request: ServiceRequest) -> bool:
        inserted = connection.execute(
            """
            INSERT INTO request (idempotency_key, body_hash, step_ref, step_code, order_ref, request_id, received_at)
            VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (idempotency_key) DO NOTHING
            """,
            (key, request.fingerprint(), request.step_ref, request.step_code, request.order_ref, f"req-{uuid4()}", self._clock()),
        )
        return inserted.rowcount == 1

    def _carry_out(self, connection: sqlite3.Connection, key: str, request: ServiceRequest) -> None:
        outcome = self._decide(connection, request.step_code)
        reason = "rejected on request by the sandbox"
        would_do_it = outcome.final is not RequestStatus.REJECTED
        if request.compensates and would_do_it and not self._undo(connection, key, request.compensates):
            reason = "there is nothing to undo"
            outcome = _Outcome(first=RequestStatus.REJECTED, final=RequestStatus.REJECTED, completes_at=self._clock())
        is_rejected = outcome.final is RequestStatus.REJECTED
        row = connection.execute(
            """
            UPDATE request SET first_status = ?, final_status = ?, completes_at = ?, external_ref = ?, reason = ?
            WHERE idempotency_key = ? RETURNING *
            """,
            (
                outcome.first,
                outcome.final,
                outcome.completes_at,
                None if is_rejected else f"{request.step_code}-{uuid4().hex[:12]}",
                reason if is_rejected else None,
                key,
            ),
        ).fetchone()
        if not is_rejected:
            connection.execute("INSERT INTO effect (idempotency_key, at) VALUES (?, ?)", (key, self._clock()))
        if outcome.first is RequestStatus.ACCEPTED:
            due_at, now = outcome.completes_at, self._clock()
            promise(connection, _event(row), idempotency_key=key, step_code=request.step_code, due_at=due_at, now=now)

    def _undo(self, connection: sqlite3.Connection, key: str, undone_key: str) -> bool:
        return cancellations.reverse(connection, undone_key, key, self._clock())

    def _decide(self, connection: sqlite3.Connection, step_code: str) -> _Outcome:
        now = self._clock()
        if strike(connection, FaultKind.REJECT, step_code) is not None:
            return _Outcome(first=RequestStatus.REJECTED, final=RequestStatus.REJECTED, completes_at=now)
        if step_code not in self._asynchronous:
            return _Outcome(first=RequestStatus.COMPLETED, final=RequestStatus.COMPLETED, completes_at=now)
        is_rejected = strike(connection, FaultKind.REJECT_LATER, step_code) is not None
        final = RequestStatus.REJECTED if is_rejected else RequestStatus.COMPLETED
        return _Outcome(first=RequestStatus.ACCEPTED, final=final, completes_at=now + self._latency.total_seconds())

    def _present_status(self, row: sqlite3.Row) -> str:
        status: str = row["final_status"] if row["completes_at"] <= self._clock() else row["first_status"]
        return status


def _reply(connection: sqlite3.Connection, row: sqlite3.Row) -> SandboxReply:
    pause = strike(connection, FaultKind.HOLD_ANSWER, row["step_code"])
    return SandboxReply(
        status_code=STATUS_CODE[RequestStatus(row["first_status"])],
        body=_description(row, row["first_status"]),
        pause=pause or timedelta(0),
        is_lost=strike(connection, FaultKind.LOSE_ANSWER, row["step_code"]) is not None,
    )


def _description(row: sqlite3.Row, status: str) -> dict[str, str]:
    description = {"requestId": row["request_id"], "status": status}
    if status == RequestStatus.COMPLETED:
        description["externalRef"] = row["external_ref"]
    if status == RequestStatus.REJECTED:
        description["reason"] = row["reason"]
    return description


def _event(row: sqlite3.Row) -> CallbackEvent:
    return CallbackEvent(
        event_id=new_event_id(),
        event_type=f"step.{row['final_status'].lower()}",
        step_ref=row["step_ref"],
        request_id=row["request_id"],
        external_ref=row["external_ref"],
        occurred_at=_iso(row["completes_at"]),
    )


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
