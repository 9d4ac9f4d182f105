"""What happened to an order, in order: every transition, alert, attempt, callback, contradiction and note, by our clock and by the provider's.

Reads only, of one tenant. Two facts that contradict each other both appear, with the verdict on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, Table, select

from domain.delivery import compensating
from domain.delivery.attempts import ATTEMPT
from domain.delivery.callbacks import ExternalCallbackConflict, ExternalCallbackRecord
from domain.delivery.cancellations import CancellationRequest
from domain.delivery.jeopardy import JeopardyAlert
from domain.delivery.orders import SalesOrder
from domain.delivery.repairing import REPAIR
from domain.delivery.steps import of_order
from domain.fallout.cases import FalloutNote
from domain.fallout.triaging import CASE
from domain.store import UnitOfWork, as_json, table_of
from domain.store.facts import TransitionLog

LOG, RECORD, CONFLICT, REQUEST, NOTE, ALERT = (
    table_of(entity)
    for entity in (TransitionLog, ExternalCallbackRecord, ExternalCallbackConflict, CancellationRequest, FalloutNote, JeopardyAlert)
)
Entry = dict[str, Any]


def timeline(uow: UnitOfWork, order_id: UUID) -> list[dict[str, Any]]:
    """The whole history of an order, oldest first. `providerAt` is the provider's own clock, where it sends one. Raises NotFound."""
    uow.read(SalesOrder, order_id)
    return in_order(entries(uow, order_id))


def in_order(found: Iterable[Entry]) -> list[dict[str, Any]]:
    """Entries as JSON, oldest first. The changes of one command have one time, its end: they were committed together, and follow their cause."""
    told = list(found)
    ends: dict[UUID, datetime] = {}
    for each in told:
        if command := each.get("command_id"):
            ends[command] = max(each["at"], ends.get(command, each["at"]))
    for each in told:
        each["at"] = ends.get(each.pop("command_id", None), each["at"])
    return [as_json(each) for each in sorted(told, key=lambda each: (each["at"], each["kind"], each.get("version") or 0))]


def entries(uow: UnitOfWork, order_id: UUID) -> list[Entry]:
    """The entries of a timeline, in no order."""
    steps = {step.id: step for step in of_order(uow, order_id)}
    cases = {case.id: case for case in _rows(uow, CASE, order_id=order_id)}
    requests = [row.id for row in _rows(uow, REQUEST, order_id=order_id)]
    return [
        *transitions(
            uow,
            {"sales_order": [order_id], "fulfillment_step": steps, "fallout_case": cases, "cancellation_request": requests},
            steps,
            cases,
        ),
        *_attempts(uow, steps),
        *_callbacks(uow, steps),
        *_contradictions(uow, order_id, steps),
        *_notes(uow, cases),
        *_repairs(uow, steps),
        *_alerts(uow, order_id),
    ]


def _rows(uow: UnitOfWork, table: Table, **named: Any) -> Sequence[Row[Any]]:
    query: Select[Any] = select(*table.c).filter_by(tenant_id=uow.tenant_id, **named)
    return uow.connection.execute(query).all()


def among(uow: UnitOfWork, table: Table, column: str, ids: Iterable[UUID]) -> Sequence[Row[Any]]:
    """The tenant's rows of a table that name one of these ids."""
    query: Select[Any] = select(*table.c).where(table.c.tenant_id == uow.tenant_id, table.c[column].in_(list(ids)))
    return uow.connection.execute(query).all()


def entry(kind: str, at: Any, step: Row[Any] | None = None, **facts: Any) -> Entry:
    """One entry: what happened, when, and to which step; facts that are not known are left out."""
    named = {"step_id": step.id, "step_code": step.step_code} if step is not None else {}
    return {"kind": kind, "at": at, **named, **{name: value for name, value in facts.items() if value is not None}}


def transitions(
    uow: UnitOfWork, ids: Mapping[str, Iterable[UUID]], steps: Mapping[UUID, Row[Any]], cases: Mapping[UUID, Row[Any]]
) -> Iterator[Entry]:
    """Every change of these aggregates (type -> ids), with the command that made it."""
    query = select(*LOG.c).where(LOG.c.tenant_id == uow.tenant_id, LOG.c.aggregate_type.in_(list(ids)))
    for row in uow.connection.execute(query.where(LOG.c.aggregate_id.in_(list(chain(*ids.values()))))):
        case = cases.get(row.aggregate_id)
        yield entry(
            "TRANSITION",
            row.created_at,
            steps.get(row.aggregate_id),
            aggregate_type=row.aggregate_type,
            aggregate_id=row.aggregate_id,
            version=row.aggregate_version,
            transition_from=row.transition_from,
            transition_to=row.transition_to,
            reason=row.reason,
            actor=row.actor,
            external_event_id=row.external_event_id,
            case_number=case.case_number if case is not None else None,
            command_id=row.command_id,
        )


def _attempts(uow: UnitOfWork, steps: Mapping[UUID, Row[Any]]) -> Iterator[Entry]:
    for row in among(uow, ATTEMPT, "step_id", steps):
        request = {
            "command": row.command,
            "attempt_no": row.attempt_no,
            "idempotency_key": row.idempotency_key,
            "actor": row.worker_id,
            "external_request_id": row.external_request_id,
        }
        yield entry("ATTEMPT_SENT", row.sent_at, steps[row.step_id], **request)
        if row.settled_at is not None:
            outcome = {"status": row.status, "source": row.outcome_source, "reason": row.reason}
            yield entry("ATTEMPT_SETTLED", row.settled_at, steps[row.step_id], **request, **outcome)


def _repairs(uow: UnitOfWork, steps: Mapping[UUID, Row[Any]]) -> Iterator[Entry]:
    for row in among(uow, REPAIR, "step_id", steps):
        changed = {"field": row.field, "old": row.old, "new": row.new, "request_no": row.request_no}
        yield entry("REPAIR", row.created_at, steps[row.step_id], actor=row.repaired_by, **changed)


def _alerts(uow: UnitOfWork, order_id: UUID) -> Iterator[Entry]:
    alerts = {row.id: row for row in _rows(uow, ALERT, order_id=order_id)}
    for change in transitions(uow, {"jeopardy_alert": alerts}, {}, {}):
        yield {**change, "level": alerts[change["aggregate_id"]].level}


def _callbacks(uow: UnitOfWork, steps: Mapping[UUID, Row[Any]]) -> Iterator[Entry]:
    received = {(row.provider_name, row.external_event_id): row for row in among(uow, RECORD, "step_id", steps)}
    for row in received.values():
        yield entry(
            "CALLBACK",
            row.received_at,
            steps[row.step_id],
            provider_at=row.external_event_at,
            actor=row.provider_name,
            external_event_id=row.external_event_id,
            event_type=row.event_type,
            status=row.processed_status,
        )
    query = select(*CONFLICT.c).where(CONFLICT.c.tenant_id == uow.tenant_id)
    names = [event_id for _, event_id in received]
    for row in uow.connection.execute(query.where(CONFLICT.c.external_event_id.in_(names))):
        first = received.get((row.provider_name, row.external_event_id))
        if first is not None:
            facts = {"actor": row.provider_name, "external_event_id": row.external_event_id}
            yield entry("CALLBACK_CONFLICT", row.created_at, steps[first.step_id], **facts)


def _contradictions(uow: UnitOfWork, order_id: UUID, steps: Mapping[UUID, Row[Any]]) -> Iterator[Entry]:
    for row in compensating.contradictions_of(uow, order_id):
        facts = {"said": row.said, "known": row.known, "source": row.source, "external_event_id": row.external_event_id}
        yield entry(
            "CONTRADICTION", row.created_at, steps[row.step_id], provider_at=row.external_event_at, reason=row.reason, **facts
        )
        if row.answered_at is not None:
            yield entry(
                "CONTRADICTION_ANSWERED", max(row.answered_at, row.created_at), steps[row.step_id], status=row.answer, **facts
            )


def _notes(uow: UnitOfWork, cases: Mapping[UUID, Row[Any]]) -> Iterator[Entry]:
    for row in among(uow, NOTE, "case_id", cases):
        yield entry(
            "NOTE",
            row.created_at,
            case_number=cases[row.case_id].case_number,
            actor=row.author,
            status=row.kind,
            reason=row.text,
            external_ref=row.external_ref,
        )
