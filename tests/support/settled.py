"""A settled tenant, made by the domain's own commands: an audit must find nothing wrong with it.

The records of the engine, Kafka and the provider are in `surroundings`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from domain import auditing
from domain.delivery import callbacks, evaluating, fulfilling, troubles
from domain.delivery.fulfilling import OutcomeSource
from domain.delivery.resolving import Resolution
from domain.delivery.steps import StepEvent
from domain.errors import Conflict
from domain.fallout import triaging
from domain.offers import quoting
from domain.store import Answer, outbox
from domain.store.idempotency import once, remember
from domain.workflows import requests, starts
from reconciliation import archived_rows
from reconciliation.audit import compare
from reconciliation.audit_clients import Operation
from reconciliation.audit_report import AuditReport
from tests.support.fulfilment import Fulfilment
from tests.support.offers import ANNA, Offers
from tests.support.projected import feed_all
from tests.support.surroundings import RecordedEvents, Surroundings, engine_of, ledger_of, record

IN_ORDER = (
    "RESERVE_INVENTORY",
    "CHECK_SERVICEABILITY",
    "PROVISION_SERVICE",
    "SHIP_ROUTER",
    "ACTIVATE_BILLING",
    "UPDATE_INSTALLED_BASE",
    "NOTIFY_CUSTOMER",
)
DAY = timedelta(days=1)
# What clients were told: the first answer to a command was lost, its repeat was answered, another command was refused.
COMMAND, BODY = "test", {"ok": True}
LOST_ANSWER, ANSWERED = (COMMAND, "key-1", None), (COMMAND, "key-1", 200, BODY)
REFUSED = (COMMAND, "key-2", 409, {"code": "STALE_PRICE"})


class Settled:
    """The tenant. `audit` reads it through a connection, so that a test need not commit what it plants."""

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
        self._consume()
        self._publish()

    def surroundings(self, connection: Connection, happened: datetime | None = None) -> Surroundings:
        """Make the records of engine, Kafka and provider that fit what the connection sees; `happened` is when it came about there."""
        return self._around(auditing.inspect(connection, self.tenant_id), happened)

    def audit(self, connection: Connection, around: Surroundings | None = None, *, settled: bool = True) -> AuditReport:
        keys = {each.identity for each in (around.operations if around else self._told())}
        snapshot = auditing.inspect(connection, self.tenant_id, settled=settled, keys=keys)
        outside = (around or self._around(snapshot)).outside
        return compare(snapshot, archived_rows.load(connection, self.tenant_id, None), outside)

    def _around(self, snapshot: auditing.Snapshot, happened: datetime | None = None) -> Surroundings:
        return Surroundings(
            engine=engine_of(snapshot, happened),
            kafka=RecordedEvents([record(event, offset, happened) for offset, event in enumerate(snapshot.events)]),
            ledger=ledger_of(snapshot),
            operations=self._told(),
            increases={"q2o_stale_price_rejections_total": 1},
        )

    def _told(self) -> list[Operation]:
        return [Operation(self.tenant_id, *each) for each in (LOST_ANSWER, ANSWERED, REFUSED)]

    def _fulfil(self, order_id: UUID) -> UUID:
        """One step is reported by callback, one reply is lost and found by reconciliation, the others come at once."""
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
        """An order is cancelled after its first step was completed; that step is undone, and a person resolved the case of another."""
        work = Fulfilment.running(self.offers)
        work.complete("RESERVE_INVENTORY")
        work.start("CHECK_SERVICEABILITY")
        work.say("CHECK_SERVICEABILITY", StepEvent.FAIL_FINALLY)
        held = work.step("CHECK_SERVICEABILITY")
        with self.offers.uow("worker-1") as uow:
            triaging.open_case(uow, troubles.of_held_step(held))
        work.claim(ANNA)
        work.claim(ANNA)
        work.resolve(ANNA, Resolution.RETRY)
        work.ask_to_cancel()
        work.assess()
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
        """An approved quote is edited before it is accepted: its approval is void."""
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
            remember(uow, "key-1", Answer(status=200, body=BODY))

    def _contradict(self) -> None:
        """The provider rejects a step that it had completed: both facts are kept."""
        step_id = self.offers.order(self.orders[0]).steps["NOTIFY_CUSTOMER"]
        self._answer(step_id, OutcomeSource.CALLBACK, StepEvent.FAIL_FINALLY)

    def _settle_the_engine_side(self) -> None:
        with self.offers.engine.connect() as connection:
            tenant = {"tenant": self.tenant_id}
            wanted = connection.execute(text("SELECT * FROM workflow_correlation WHERE tenant_id = :tenant"), tenant).all()
            asked = connection.execute(
                text("SELECT * FROM workflow_command WHERE tenant_id = :tenant AND status = 'PENDING'"), tenant
            ).all()
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
            # One event was marked by a relay of the release before.
            connection.execute(text("UPDATE outbox_event SET status = 'PUBLISHED' WHERE event_type = 'QuoteAccepted'"))
            while events := outbox.claim(connection, 1000, DAY):
                outbox.delete_published(connection, [event.position for event in events])

    def _consume(self) -> None:
        feed_all(self.offers.engine, self.tenant_id)


def _with_payload(callback: callbacks.ReceiveCallback, payload: dict[str, Any]) -> callbacks.ReceiveCallback:
    fields = {name: getattr(callback, name) for name in callbacks.ReceiveCallback.__dataclass_fields__}
    return callbacks.ReceiveCallback(**{**fields, "payload": payload})
