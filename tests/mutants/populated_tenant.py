"""A tenant with a row in every table, for the statements that tests write by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, Table, select, text
from sqlalchemy.exc import DBAPIError

from domain import archives, findings, rebuilding
from domain.delivery import callbacks, compensating, jeopardy, repairing
from domain.delivery.callbacks import ReceiveCallback
from domain.delivery.jeopardy import JeopardyLevel
from domain.delivery.steps import StepEvent
from domain.errors import NotFound
from domain.fallout import casework
from domain.projections.merging import Seen, consume
from domain.projections.tables import Projection
from domain.store import Answer, leases, once, remember
from domain.store.isolation import name_tenant
from domain.workflows.forms import FORM
from tests.mutants.trial import Trial
from tests.support.as_read import Offer
from tests.support.fulfilment import REPAIR, Fulfilment
from tests.support.offers import BERT


class PopulatedTenant(Trial):
    """A draft, an accepted quote, a quote in approval with the first of two signatures, an order in delivery with every kind of trouble,
    and a neighbour that has the same.
    """

    def __init__(self, connection: Connection, neighbour: PopulatedTenant | None = None) -> None:
        super().__init__(connection)
        self.neighbour = neighbour
        self.draft = self.draft_quote()
        self.accepted = self.accepted_quote()
        self.in_approval, self.signed, self.unsigned = self.two_levels()
        self.instance_id = self.process_of_signature(self.signed)
        self.decide(self.in_approval, self.signed)
        with self.uow() as uow:
            once(uow, "a key", {})
            remember(uow, "a key", Answer(status=200, body={}))
            uow.flag_conflict(NotFound())
        self.work = Fulfilment.running(self)
        self.deliver()

    def deliver(self) -> None:
        """Put a row into every table of delivery: one step completed, one contradicted, one in progress."""
        self.work.complete("RESERVE_INVENTORY")
        self.work.start("CHECK_SERVICEABILITY")
        self.work.say("PROVISION_SERVICE", StepEvent.COMPLETE)
        self.work.claim(BERT)
        self.work.propose(BERT, external_ref="r-1")
        with self.uow() as uow:
            compensating.plan_undo(uow, [self.work.step("RESERVE_INVENTORY")])
            casework.request_information(uow, self.work.as_seen(BERT), "Which one?")
            jeopardy.raise_alert(uow, self.work.order_id, JeopardyLevel.HAZARD)
            leases.take(uow.connection, "order", [self.work.row()], timedelta(seconds=30))
            findings.record(
                uow, kind="order", aggregate_type="sales_order", aggregate_id=self.work.order_id, evidence={}, action="EVALUATED"
            )
            consume(
                uow,
                Seen(consumer_name="search", event_id=uuid4(), event_type="OrderStarted", aggregate_id=self.work.order_id),
                None,
            )
            archives.register(uow.connection, self.tenant_id, 1, name="000001", lines=1, first_hash="a", last_hash="a")
            archives.keys_for(uow.connection, self.tenant_id, ["customer-1"])
            for content in ({}, {"other": "content"}):
                callbacks.receive(uow, callback(content))
            repairing.keep(uow, self.work.case().id, self.work.step("RESERVE_INVENTORY"), REPAIR, BERT)
        self.work.ask_to_cancel()
        self.show()

    def show(self) -> None:
        """Put a row into every projection."""
        row_ids = {
            Projection.QUOTES: self.accepted.quote_id,
            Projection.ORDERS: self.work.order_id,
            Projection.DECISIONS: self.id_in("approval_decision"),
        }
        with self.uow() as uow:
            assert all(rebuilding.rebuild_row(uow, projection, row_id) for projection, row_id in row_ids.items())

    def forms_of(self, subject_id: UUID) -> list[UUID]:
        """The forms that were shown about a subject."""
        with self.uow() as uow:
            return list(uow.connection.scalars(select(FORM.c.id).filter_by(tenant_id=self.tenant_id, subject_id=subject_id)))

    def planned(self, code: str) -> dict[str, Any]:
        """The columns by which the plan names a step."""
        row = self.work.step(code)
        return {name: getattr(row, name) for name in ("plan_id", "line_id", "step_code", "kind")}

    @property
    def neighbour_or_fail(self) -> PopulatedTenant:
        """The neighbour. Fails for a tenant that has none."""
        assert self.neighbour is not None
        return self.neighbour

    def copy(self, table: Table, changes: Mapping[str, Any], *beside: tuple[Table, Mapping[str, Any]]) -> int:
        """Insert a copy of a row that the product wrote, with `changes`; rows that it needs (`beside`) are inserted by the same statement."""
        rows = ((table, changes), *beside)
        given = {f"changes_{number}": json.dumps(changed, default=str) for number, (_, changed) in enumerate(rows)}
        first, *others = (_copying(copied, parameter) for (copied, _), parameter in zip(rows, given, strict=True))
        along = ", ".join(f"along_{number} AS ({statement})" for number, statement in enumerate(others))
        return self.by_hand(f"WITH {along} {first}" if along else first, **given)

    def id_in(self, table: str, of: PopulatedTenant | None = None) -> UUID:
        """Find the id of any row of this tenant (or of another one)."""
        tenant_id = (of or self).tenant_id
        name_tenant(self.connection, tenant_id)
        query = text(f"SELECT id FROM {table} WHERE tenant_id = :tenant LIMIT 1")
        return UUID(str(self.connection.execute(query, {"tenant": tenant_id}).scalar_one()))

    def change(self, statement: str, **values: Any) -> None:
        """Run a statement, which must change a row."""
        assert self.by_hand(statement, **values) > 0, f"no row to change for {statement}"

    def each_refused(self, *attempts: Callable[[], object]) -> None:
        """Run each attempt by itself, and raise the error of the first. All of them must fail, or none."""
        outcomes = [self._error_of(attempt) for attempt in attempts]
        errors = [error for error in outcomes if error is not None]
        assert len(errors) in {0, len(outcomes)}, [
            attempt for attempt, error in zip(attempts, outcomes, strict=True) if error is None
        ]
        if errors:
            raise errors[0]

    def _error_of(self, attempt: Callable[[], object]) -> DBAPIError | None:
        savepoint = self.connection.begin_nested()
        try:
            attempt()
        except DBAPIError as error:
            return error
        finally:
            savepoint.rollback()
        return None


def callback(payload: dict[str, Any]) -> ReceiveCallback:
    return ReceiveCallback(
        provider_name="sandbox",
        external_event_id="e-1",
        event_type="step.completed",
        step_id=None,
        external_ref=None,
        external_request_id=None,
        external_event_at=None,
        payload=payload,
    )


def of(offer: Offer) -> dict[str, UUID]:
    """The columns by which other rows name an offer."""
    names = ("quote_id", "price_result_id", "approval_request_id")
    return {"quote_revision_id": offer.revision_id, **{name: getattr(offer, name) for name in names}}


def _copying(table: Table, changes: str) -> str:
    names = ", ".join(column.name for column in table.columns if column.identity is None)
    return (
        f"INSERT INTO {table.name} ({names}) SELECT {names} FROM jsonb_populate_record(NULL::{table.name}, "
        f"(SELECT to_jsonb(r) FROM {table.name} r WHERE tenant_id = :tenant LIMIT 1) || CAST(:{changes} AS jsonb))"
    )
