"""A tenant whose business has come to rest, made by the domain's own commands: what an audit must find nothing wrong with.

The engine, Kafka and the provider stand beside it as plain records, which a test may falsify.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from domain import auditing, projections
from domain.delivery import attempts, callbacks, evaluating, fulfilling, steps, troubles
from domain.delivery.fulfilling import OutcomeSource
from domain.delivery.resolving import Resolution
from domain.delivery.steps import StepEvent
from domain.errors import Conflict
from domain.fallout import triaging
from domain.offers import quoting
from domain.store import Answer, outbox
from domain.store.idempotency import once, remember
from domain.workflows import requests, starts
from reconciliation.audit import AuditReport, Outside, compare
from reconciliation.audit_sources import EventRecord
from tests.support.fulfilment import ANNA, Fulfilment
from tests.support.offers import Offers
from workers.runtime.engine_history import EngineInstance, Incident, Trace

IN_ORDER = (
    "RESERVE_INVENTORY",
    "CHECK_SERVICEABILITY",
    "PROVISION_SERVICE",
    "SHIP_ROUTER",
    "ACTIVATE_BILLING",
    "UPDATE_INSTALLED_BASE",
    "NOTIFY_CUSTOMER",
)
CONSUMER = "order-search"
DAY = timedelta(days=1)


@dataclass
class RecordedEngine:
    """An engine's history as a list."""

    recorded: list[EngineInstance] = field(default_factory=list)
    traces: dict[str, Trace] = field(default_factory=dict)
    open_incidents: list[Incident] = field(default_factory=list)

    def instances(self, tenant_id: UUID) -> Sequence[EngineInstance]:
        return [one for one in self.recorded if f":{tenant_id}:" in one.business_key]

    def trace(self, instance_id: str) -> Trace:
        return self.traces[instance_id]

    def incidents(self) -> Sequence[Incident]:
        return self.open_incidents


@dataclass
class RecordedEvents:
    """Kafka's records of the one tenant as a list."""

    records: list[EventRecord]

    def read(self, tenant_id: UUID) -> Sequence[EventRecord]:  # noqa: ARG002 - the protocol's
        return self.records


@dataclass
class Surroundings:
    """What stands around the database; as it should be, until a test changes it."""

    engine: RecordedEngine
    kafka: RecordedEvents
    ledger: list[dict[str, Any]]

    def instance(self, business_key: str) -> EngineInstance:
        return next(one for one in self.engine.recorded if one.business_key == business_key)


class Settled:
    """The tenant. `audit` looks at it through a connection, so that what a test plants need not be committed."""

    def __init__(self, offers: Offers) -> None:
        self.offers = offers
        self.tenant_id = offers.tenant_id
        self.orders = [self._fulfil(offers.running_order().order_id) for _ in range(2)]
        self.steps = list(offers.order(self.orders[0]).steps.values())
        self.cancelled = self._cancel()
        self.open_quote = offers.quote_in_approval()
        self.revised_quote = self._revise()
        self._refuse_and_repeat()
        self._contradict()
        self._settle_the_engine_side()
        self._publish()
        self._consume()

    def surroundings(self, connection: Connection) -> Surroundings:
        """Make engine, Kafka and provider as they must be beside what the connection sees."""
        snapshot = auditing.inspect(connection, self.tenant_id)
        return Surroundings(
            engine=_engine_of(snapshot),
            kafka=RecordedEvents([_record(event, offset) for offset, event in enumerate(snapshot.events)]),
            ledger=[
                _entry(snapshot.tenant_id, step.step_id, net=int(step.is_wanted))
                for step in snapshot.steps
                if step.status == "COMPLETED"
            ],
        )

    def audit(self, connection: Connection, around: Surroundings | None = None) -> AuditReport:
        around = around or self.surroundings(connection)
        outside = Outside(engine=around.engine, events=around.kafka, ledger=lambda: around.ledger)
        return compare(auditing.inspect(connection, self.tenant_id), outside)

    def _fulfil(self, order_id: UUID) -> UUID:
        """One step answers by callback, one answer is lost and found again, the others answer at once."""
        order = self.offers.order(order_id)
        for code in IN_ORDER:
            step_id = order.steps[code]
            started = self.offers.start_step(step_id)
            if code == "PROVISION_SERVICE":
                self._call_back(step_id)
            elif code == "SHIP_ROUTER":
                self._lose_and_find(step_id, started.step.version)
            else:
                self._answer(step_id, OutcomeSource.RESPONSE)
            with self.offers.uow() as uow:
                evaluating.evaluate(uow, order_id)
        assert self.offers.order(order_id).status == "FULFILLED"
        return order_id

    def _cancel(self) -> UUID:
        """An order is cancelled after its first step was done, which is undone; a person looked at another step of it."""
        work = Fulfilment.running(self.offers)
        work.complete("RESERVE_INVENTORY")
        work.start("CHECK_SERVICEABILITY")
        work.say("CHECK_SERVICEABILITY", StepEvent.FAIL_FINALLY)
        held = work.step("CHECK_SERVICEABILITY")
        with self.offers.uow("worker-1") as uow:
            triaging.open_case(uow, troubles.of_held_step(held))
        work.claim(ANNA)
        work.resolve(ANNA, Resolution.RETRY)
        work.cancel()
        work.evaluate()
        work.complete("undo RESERVE_INVENTORY")
        assert work.status == "CANCELLED"
        return work.order_id

    def _answer(self, step_id: UUID, source: OutcomeSource, event: StepEvent = StepEvent.COMPLETE) -> None:
        with self.offers.uow("worker-1") as uow:
            fulfilling.record_fact(uow, fulfilling.RecordFact(step_id=step_id, event=event, source=source))

    def _call_back(self, step_id: UUID) -> None:
        callback = callbacks.ReceiveCallback(
            provider_name="sandbox",
            external_event_id=f"evt-{step_id}",
            event_type="step.completed",
            step_id=step_id,
            external_ref="ref-1",
            external_request_id="req-1",
            external_event_at=datetime.now(UTC),
            payload={"step": str(step_id)},
        )
        for payload in ({"step": str(step_id)}, {"step": str(step_id)}, {"step": "another content"}):
            with self.offers.uow("sandbox") as uow:
                callbacks.receive(uow, _with_payload(callback, payload))

    def _lose_and_find(self, step_id: UUID, version: int) -> None:
        with self.offers.uow("worker-1") as uow:
            lost = fulfilling.Infer(
                step_id=step_id, expected_version=version, event=StepEvent.TIME_OUT, source=OutcomeSource.RESPONSE
            )
            fulfilling.infer(uow, lost)
        self._answer(step_id, OutcomeSource.RECONCILIATION)

    def _revise(self) -> UUID:
        """An approved quote is changed before anybody accepts it: its approval is void."""
        offer = self.offers.approved_quote()
        change = quoting.EditQuote(
            quote_id=offer.quote_id,
            expected_version=offer.version,
            revision_id=offer.revision_id,
            reason_code="CUSTOMER_WISH",
            lines=[quoting.LineChange(line_no=1, discount_percent=Decimal(10))],
        )
        with self.offers.uow() as uow:
            quoting.edit(uow, change)
        priced = self.offers.price(self.offers.quote(offer.quote_id))
        return self.offers.price(priced).quote_id

    def _refuse_and_repeat(self) -> None:
        stale = self.offers.acceptance(self.open_quote, expected_version=1)
        try:
            with self.offers.uow() as uow:
                uow.apply(quoting.SUBMIT, stale, config_result_id=self.open_quote.config_result_id)
        except Conflict:
            pass
        with self.offers.uow() as uow:
            assert once(uow, "key-1", {"a": 1}) is None
            remember(uow, "key-1", Answer(status=200, body={"ok": True}))

    def _contradict(self) -> None:
        """The provider rejects what it had completed: both facts are kept."""
        step_id = self.offers.order(self.orders[0]).steps["NOTIFY_CUSTOMER"]
        self._answer(step_id, OutcomeSource.CALLBACK, StepEvent.FAIL_FINALLY)

    def _settle_the_engine_side(self) -> None:
        with self.offers.engine.connect() as connection:
            tenant = {"tenant": self.tenant_id}
            wanted = connection.execute(text("SELECT * FROM workflow_correlation WHERE tenant_id = :tenant"), tenant).all()
            asked = connection.execute(text("SELECT * FROM workflow_command WHERE tenant_id = :tenant"), tenant).all()
        for row in wanted:
            with self.offers.uow("dispatch") as uow:
                gate = starts.RegisterWorkflow(
                    business_key=row.business_key, start_token=row.start_token, process_instance_id=f"instance-{row.id}"
                )
                starts.register(uow, gate)
        for row in asked:
            with self.offers.uow("dispatch") as uow:
                requests.finish(uow, row.id, "DONE")

    def _publish(self) -> None:
        with self.offers.engine.begin() as connection:
            while events := outbox.claim(connection, 1000, DAY):
                outbox.mark_published(connection, [event.position for event in events])

    def _consume(self) -> None:
        with self.offers.engine.connect() as connection:
            query = "SELECT * FROM outbox_event WHERE tenant_id = :tenant AND aggregate_type = 'sales_order' ORDER BY position"
            events = connection.execute(text(query), {"tenant": self.tenant_id}).all()
        for event in events:
            with self.offers.uow(CONSUMER) as uow:
                projections.project_order(
                    uow,
                    projections.OrderChanged(
                        consumer_name=CONSUMER,
                        event_id=event.id,
                        event_type=event.event_type,
                        order_id=event.aggregate_id,
                        aggregate_version=event.aggregate_version,
                        order_number=event.payload["orderNumber"],
                        quote_id=UUID(event.payload["quoteId"]),
                        customer_id=event.payload["customerId"],
                        status=event.payload["status"],
                    ),
                )


def _with_payload(callback: callbacks.ReceiveCallback, payload: dict[str, Any]) -> callbacks.ReceiveCallback:
    fields = {name: getattr(callback, name) for name in callbacks.ReceiveCallback.__dataclass_fields__}
    return callbacks.ReceiveCallback(**{**fields, "payload": payload})


def _engine_of(snapshot: auditing.Snapshot) -> RecordedEngine:
    """Every workflow and step with its instance, and for each workflow one that was started twice and turned away."""
    engine = RecordedEngine()
    for workflow in snapshot.workflows:
        state = "COMPLETED" if workflow.is_settled else "ACTIVE"
        twin = f"twin-of-{workflow.business_key}"
        engine.recorded += [
            instance(str(workflow.process_instance_id), workflow.business_key, workflow.workflow_name, state),
            instance(twin, workflow.business_key, workflow.workflow_name),
        ]
        engine.traces[twin] = Trace(ends=frozenset({"Duplicate start"}), topics=frozenset({"workflow.register"}))
    for step in snapshot.steps:
        key = steps.business_key(snapshot.tenant_id, step.step_id)
        engine.recorded.append(instance(f"instance-{step.step_id}", key, "fulfillment-step"))
    return engine


def instance(instance_id: str, business_key: str, definition_key: str, state: str = "COMPLETED") -> EngineInstance:
    """Make an instance."""
    return EngineInstance(id=instance_id, business_key=business_key, definition_key=definition_key, state=state)


def _record(event: auditing.CommittedEvent, offset: int) -> EventRecord:
    return EventRecord(
        topic="events",
        partition=0,
        offset=offset,
        key=str(event.aggregate_id),
        event_id=event.event_id,
        aggregate_version=event.aggregate_version,
    )


def _entry(tenant_id: UUID, step_id: UUID, *, net: int) -> dict[str, Any]:
    return {
        "idempotencyKey": attempts.idempotency_key(step_id),
        "stepRef": steps.business_key(tenant_id, step_id),
        "status": "COMPLETED",
        "effects": 1,
        "net": net,
        "requests": 2,
        "callbacks": 1,
    }
