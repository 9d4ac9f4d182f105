"""Helpers for tests of reconciliation: a provider that replies as the test says, and steps that were sent, timed out, or reported by callback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Engine, Row, select, text

from domain.delivery import callbacks, evaluating, fulfilling, reading, steps
from domain.delivery.callbacks import ReceiveCallback
from domain.delivery.fulfilling import Infer, OutcomeSource, RecordFact
from domain.delivery.starting import StartedStep
from domain.delivery.steps import StepEvent
from domain.delivery.unanswered import Silence
from domain.fallout.cases import FalloutCase
from domain.findings import ReconciliationFinding
from domain.store import table_of
from domain.store.facts import TransitionLog
from tests.support.as_read import Order
from tests.support.database import in_order
from tests.support.offers import Offers
from workers.providers.port import (
    CancelRequest,
    ProviderOutcomeUnknownError,
    ProviderReply,
    ProviderRequest,
    ProviderUnavailableError,
)

NOW, NEVER = timedelta(0), timedelta(hours=1)


def silence(
    *, attempt_stale_after: timedelta = NOW, request_safe_interval: timedelta = NOW, give_up_after: timedelta = NEVER
) -> Silence:
    """Make the silence intervals: by default every request is overdue, and none is given up."""
    return Silence(
        attempt_stale_after=attempt_stale_after, request_safe_interval=request_safe_interval, give_up_after=give_up_after
    )


def all_are_due(engine: Engine) -> None:
    """Let every wait until the next check be over, as if time had passed."""
    with engine.begin() as connection:
        for table in ("provider_attempt", "step_contradiction", "workflow_correlation", "reconciliation_lease"):
            connection.execute(text(f"UPDATE {table} SET next_check_at = clock_timestamp()"))


@contextmanager
def no_finding_about(engine: Engine, row_id: UUID) -> Iterator[None]:
    """Every repair records a finding in its transaction; the database refuses the one about this row."""
    with refusing(engine, "reconciliation_finding", f"NEW.aggregate_id = '{row_id}'"):
        yield


@contextmanager
def refusing(engine: Engine, table: str, which: str = "true") -> Iterator[None]:
    """Let the database refuse to insert these rows of a table."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "CREATE FUNCTION refuse_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'this row fails'; END $$"
            )
        )
        connection.execute(
            text(f"CREATE TRIGGER refuse_row BEFORE INSERT ON {table} FOR EACH ROW WHEN ({which}) EXECUTE FUNCTION refuse_row()")
        )
    try:
        yield
    finally:
        with engine.begin() as connection:
            connection.execute(text("DROP FUNCTION refuse_row CASCADE"))


class OnlyAsked:
    """A provider that may only be queried: sending to it fails the test."""

    def execute(self, request: ProviderRequest) -> ProviderReply:
        raise AssertionError(f"reconciliation sent {request}")

    def cancel(self, request: CancelRequest) -> ProviderReply | None:
        raise AssertionError(f"reconciliation sent {request}")


@dataclass
class Scripted(OnlyAsked):
    """A provider whose reply to a query is a function of the test."""

    answer: Callable[[], ProviderReply | None]
    asked: list[str] = field(default_factory=list)

    def query(self, idempotency_key: str) -> ProviderReply | None:
        self.asked.append(idempotency_key)
        return self.answer()


def unavailable() -> ProviderReply:
    raise ProviderUnavailableError("connection refused")


def no_answer() -> ProviderReply:
    raise ProviderOutcomeUnknownError("no answer in time")


def request_of(started: StartedStep) -> ProviderRequest:
    step = started.step
    return ProviderRequest(
        idempotency_key=started.idempotency_key,
        step_ref=steps.business_key(step.tenant_id, step.id),
        step_code=step.step_code,
        product_offering_id=started.product_offering_id,
        quantity=started.quantity,
        order_ref=str(step.order_id),
    )


def record(offers: Offers, step_id: UUID, event: StepEvent) -> None:
    with offers.uow("worker-1") as uow:
        fulfilling.record_fact(uow, RecordFact(step_id=step_id, event=event, source=OutcomeSource.RESPONSE))


def complete(offers: Offers, order: Order, *codes: str) -> None:
    """Complete steps without a fault."""
    for code in codes:
        offers.start_step(order.steps[code])
        record(offers, order.steps[code], StepEvent.COMPLETE)


def time_out(offers: Offers, started: StartedStep) -> None:
    """Let a request time out, as the worker does."""
    with offers.uow("worker-1") as uow:
        infer = Infer(
            step_id=started.step.id,
            expected_version=started.step.version,
            event=StepEvent.TIME_OUT,
            source=OutcomeSource.RESPONSE,
        )
        fulfilling.infer(uow, infer)


def callback(offers: Offers, step_id: UUID, event_type: str = "step.completed") -> None:
    """Receive the provider's callback and evaluate, as the HTTP edge does."""
    event_id = f"evt-{uuid4()}"
    command = ReceiveCallback(
        provider_name="sandbox",
        external_event_id=event_id,
        event_type=event_type,
        step_id=step_id,
        external_ref="REF-1",
        external_request_id="req-1",
        external_event_at=None,
        payload={"eventId": event_id},
    )
    with offers.uow("callback") as uow:
        received = callbacks.receive(uow, command)
    if received.order_id:
        with offers.uow("callback") as uow:
            evaluating.evaluate(uow, received.order_id)


def status(offers: Offers, step_id: UUID) -> str:
    with offers.uow() as uow:
        return str(reading.step(uow, step_id).status)


def history(offers: Offers, aggregate_id: UUID) -> list[str]:
    log = TransitionLog.__table__.c
    with offers.engine.connect() as connection:
        query = select(log.transition_to).where(log.aggregate_id == aggregate_id).order_by(log.aggregate_version)
        return list(connection.scalars(query))


def findings(offers: Offers) -> list[Row[Any]]:
    """The findings, oldest first."""
    table = table_of(ReconciliationFinding)
    with offers.engine.connect() as connection:
        return list(connection.execute(select(*table.c).order_by(table.c.created_at)))


def actions(offers: Offers) -> list[str]:
    return [finding.action for finding in findings(offers)]


def cases(offers: Offers) -> list[str]:
    """The types of the fallout cases."""
    table = table_of(FalloutCase)
    with offers.engine.connect() as connection:
        return list(connection.scalars(in_order(select(table.c.type), table)))


def conclude(offers: Offers, step_id: UUID, event: StepEvent) -> None:
    command = Infer(
        step_id=step_id, expected_version=look(offers, step_id).version, event=event, source=OutcomeSource.RECONCILIATION
    )
    with offers.uow("reconcile") as uow:
        fulfilling.infer(uow, command)


def look(offers: Offers, step_id: UUID) -> Row[Any]:
    with offers.uow() as uow:
        return reading.step(uow, step_id)
