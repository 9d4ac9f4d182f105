"""Open work of every kind that a sweep looks for, and any number of finished orders beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from hashlib import md5
from uuid import UUID, uuid4

from sqlalchemy import Connection, DateTime, Engine, Table, Text, UniqueConstraint, Uuid, text

from domain import archives, findings
from domain.catalog import CATALOG
from domain.delivery import incidents, jeopardy, orders, steps
from domain.delivery.incidents import FailedTask
from domain.delivery.jeopardy import JeopardyLevel
from domain.delivery.steps import StepEvent
from domain.findings import FindingStatus
from domain.retaining.dossiers import PARTS
from domain.schema import METADATA
from domain.workflows import instances, starts
from domain.workflows.instances import Called
from domain.workflows.starts import RegisterWorkflow
from tests.support.as_read import Offer
from tests.support.fulfilment import Fulfilment
from tests.support.held import CHECK, RESERVE, open_case
from tests.support.loading import copied_tenant, insert_copies, loading
from tests.support.offers import ANNA, Offers, offers_of_new_tenant
from tests.support.projected import show_all
from tests.support.reconciling import callback
from tests.support.settled import Settled

READ_BY_OWNER = {
    *(
        "quote_line",
        "configuration_result",
        "price_result",
        "quote_document",
        "quote_acceptance",
        "sales_order_line",
        "fulfillment_plan",
    ),
    *(
        "fulfillment_step_dependency",
        "fallout_note",
        "step_repair",
        "resolution_proposal",
        "shown_form",
        "external_callback_conflict",
    ),
}
"""Tables that nobody searches: their rows are read by the key of their owner alone (tests/migrations/test_indexes.py)."""
TECHNICAL = ("outbox_event", "workflow_command", "consumer_inbox", "idempotency_record", "conflict_log", "reconciliation_finding")
"""Tables in which a finished order leaves rows that belong to no dossier."""
LOADED = (*(name for name in PARTS if name not in READ_BY_OWNER), *TECHNICAL)
UNATTENDED = "instance-unattended"
FIRST, FIRST_ENDED = "few", timedelta(days=10)
"""The prefix of the first finished orders, and how long ago the last of them ended. The others ended at intervals of a minute before."""
ENDED = f"clock_timestamp() - interval '{FIRST_ENDED}' - n * interval '1 minute'"
NAMES = {
    "quote": ("quote_id",),
    "quote_revision": ("revision_id", "quote_revision_id", "current_revision_id"),
    "approval_request": ("request_id", "approval_request_id"),
    "approval_requirement": ("requirement_id",),
    "sales_order": ("order_id", "subject_id", "aggregate_id"),
    "fulfillment_step": ("step_id",),
    "fallout_case": ("case_id",),
}
"""Table -> the columns that hold its ids."""
FINAL: Mapping[str, Mapping[str, str]] = {
    "jeopardy_alert": {"status": "'CLEARED'"},
    "workflow_correlation": {"status": "'ENDED'"},
    "cancellation_request": {"status": "'DECLINED'"},
    "step_contradiction": {"answer": "'IN_EFFECT'", "answered_at": ENDED},
    "fallout_case": {"status": "'CLOSED'", "owner_user_id": "NULL", "claim_expires_at": "NULL"},
    "workflow_command": {"status": "'DONE'"},
    "outbox_event": {"status": "'PUBLISHED'", "published_at": ENDED},
    "external_callback_record": {"processed_status": "'APPLIED'"},
    "quote": {"status": "'ACCEPTED'"},
    "sales_order": {"status": "'FULFILLED'", "order_kind": "'CHANGE'"},
    "fulfillment_step": {"status": "'COMPLETED'"},
    "provider_attempt": {"status": "'SUCCEEDED'", "settled_at": ENDED},
    "approval_request": {"status": "'APPROVED'"},
    "reconciliation_finding": {
        "evidence": "jsonb_build_object('processInstanceId', gen_random_uuid()::text)",
        "status": "'REPAIRED'",
    },
}
"""Table -> what its row has when an order is finished. Other orders of one revision are changes, so that copies do not meet."""
OF_NO_ORDER: Mapping[str, Mapping[str, str]] = {
    "transition_log": {"aggregate_type": "'workflow_command'", "aggregate_id": "gen_random_uuid()"},
    "fallout_case": {**FINAL["fallout_case"], "order_id": "NULL", "step_id": "NULL"},
}
"""Table -> the values of a row that is a dossier by itself: the log of a deleted command, or a case without an order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Tenants with open work, and parts of that work by name. The tenant of `offers` gets the finished orders, which are copies of rows of `settled`."""

    offers: Offers
    settled: UUID
    approved: Offer
    late: Fulfilment
    ready: Fulfilment

    def finish(self, connection: Connection, number: int, prefix: str) -> None:
        """Insert so many finished orders, with a row in every table that somebody searches."""
        for name in LOADED:
            self._copy(connection, METADATA.tables[name], number, prefix, FINAL.get(name, {}))
        for name, changes in OF_NO_ORDER.items():
            self._copy(connection, METADATA.tables[name], number, f"{prefix} alone", changes)

    @staticmethod
    def quotes(number: int) -> list[UUID]:
        """The quotes of the first finished orders."""
        return [UUID(md5(f"quote {FIRST}{n}".encode(), usedforsecurity=False).hexdigest()) for n in range(1, number + 1)]

    def _copy(self, connection: Connection, table: Table, number: int, prefix: str, changes: Mapping[str, str]) -> None:
        mine, its = self.offers.tenant_id, self.settled
        row = f"ctid = (SELECT ctid FROM {table.name} WHERE tenant_id IN ('{mine}', '{its}') ORDER BY tenant_id = '{mine}' LIMIT 1)"
        insert_copies(connection, table, number, {"tenant_id": f"'{mine}'", **dict(_as_copy(table, prefix)), **changes}, row)


def _as_copy(table: Table, prefix: str) -> Iterator[tuple[str, str]]:
    """The values of a copied row: its own ids, which all rows of one finished order share, and an earlier time than the copy before it."""
    owners = {column: owner for owner, columns in NAMES.items() for column in columns} | {"id": table.name}
    texts = {*_unique_texts(table), "business_key", "process_instance_id"}
    for column in table.columns:
        if column.name == "tenant_id" or column.identity is not None:
            continue
        if isinstance(column.type, Uuid):
            own = f"md5('{prefix}' || t.{column.name} || n)::uuid"
            named = f"md5('{owners.get(column.name)} {prefix}' || n)::uuid"
            yield column.name, named if column.name in owners else own
        elif isinstance(column.type, DateTime):
            yield column.name, f"t.{column.name} - interval '{FIRST_ENDED}' - n * interval '1 minute'"
        elif column.name in texts and isinstance(column.type, Text):
            yield column.name, f"t.{column.name} || ' {prefix} ' || n"


def _unique_texts(table: Table) -> Iterator[str]:
    """The last column of each unique constraint that names no id."""
    unique = [each for each in table.constraints if isinstance(each, UniqueConstraint) or each is table.primary_key]
    for constraint in unique:
        ids = [column for column in constraint.columns if isinstance(column.type, Uuid) and column.name != "tenant_id"]
        if not ids:
            yield list(constraint.columns)[-1].name


def make_open_work(engine: Engine, tenants: int) -> Load:
    """Make tenants with open work of every kind, and one in which everything is settled."""
    settled = Settled(offers_of_new_tenant(engine)).tenant_id
    offers = offers_of_new_tenant(engine)
    late, approved, ready = _held_and_unknown(offers), _waiting_for_the_engine(offers), _disturbed(offers)
    _leave_unattended(ready)
    show_all(engine)
    with loading(engine) as connection:
        # Its processes ended, so none of them becomes due while something is measured.
        connection.execute(text(f"UPDATE workflow_correlation SET status = 'ENDED' WHERE tenant_id = '{settled}'"))
        for statement in _faults(late):
            connection.execute(text(f"{statement} AND tenant_id = '{offers.tenant_id}'"))
        for _ in range(tenants - 1):
            copied_tenant(connection, offers.tenant_id)
    return Load(offers=offers, settled=settled, approved=approved, late=late, ready=ready)


def _held_and_unknown(offers: Offers) -> Fulfilment:
    """A late order with an UNKNOWN step, and with a held step whose case has an owner."""
    work = Fulfilment.running(offers)
    work.start(CHECK)
    work.infer(CHECK, StepEvent.TIME_OUT)
    work.start(RESERVE)
    work.say(RESERVE, StepEvent.FAIL_FINALLY)
    open_case(work)
    work.claim(ANNA)
    offers.process_of_case(work.case().id)
    return work


def _waiting_for_the_engine(offers: Offers) -> Offer:
    """Quotes and orders whose processes were asked for, a signature that was given while its task is open, and an approved quote."""
    offers.accepted_quote()
    offers.submitted_quote()
    offers.draft_quote()
    offer = offers.quote_in_approval()
    [requirement] = offers.requirement_ids(offer)
    offers.process_of_signature(requirement)
    offers.decide(offer, requirement)
    return offers.approved_quote()


def _disturbed(offers: Offers) -> Fulfilment:
    """Make what faults leave behind, such as silent steps, held steps and contradictions. Returns an order without a fault."""
    Fulfilment.contradicted(offers)
    unevaluated = Fulfilment.of_steps(offers, CATALOG.steps[0])
    unevaluated.start(CATALOG.steps[0].step_code)
    unevaluated.say_only(CATALOG.steps[0].step_code, StepEvent.COMPLETE)
    silent, cancelled, asked = (Fulfilment.running(offers) for _ in range(3))
    silent.start(CHECK)
    silent.start(RESERVE)
    silent.say_only(RESERVE, StepEvent.FAIL_FINALLY)
    cancelled.start(RESERVE)
    cancelled.cancel()
    asked.ask_to_cancel()
    callback(offers, uuid4())
    with offers.uow() as uow:
        jeopardy.raise_alert(uow, asked.order_id, JeopardyLevel.HAZARD)
        archives.register(uow.connection, offers.tenant_id, 1, name="000001", lines=1, first_hash="a", last_hash="a")
        incidents.open_case_of(uow, _failed_task(orders.business_key(offers.tenant_id, asked.order_id)))
        for instance_id, status in (("instance-known", FindingStatus.REPAIRED), ("instance-ended", FindingStatus.OPEN)):
            findings.record(
                uow,
                kind="instance",
                aggregate_type="sales_order",
                aggregate_id=asked.order_id,
                evidence={"processInstanceId": instance_id},
                action="terminated",
                status=status,
            )
    return Fulfilment.running(offers)


def _leave_unattended(work: Fulfilment) -> None:
    """Let the process of a step end before it has sent the step, which has been ready for an hour."""
    step = work.step(CHECK)
    order = orders.business_key(work.offers.tenant_id, work.order_id)
    with work.offers.uow() as uow:
        starts.start_timed_out(uow, order)
    with work.offers.uow() as uow:
        gate = RegisterWorkflow(
            business_key=order, start_token=starts.find(uow, order).start_token, process_instance_id=f"{UNATTENDED} root"
        )
        starts.register(uow, gate)
        called = Called(process_instance_id=UNATTENDED, business_key=steps.business_key(work.offers.tenant_id, step.id))
        instances.record_called(uow, gate.process_instance_id, [called])
        aged = "UPDATE fulfillment_step SET ready_at = ready_at - interval '1 hour', updated_at = updated_at - interval '1 hour' WHERE id = :id"
        uow.connection.execute(text(aged), {"id": step.id})
        due = text("UPDATE workflow_correlation SET next_check_at = clock_timestamp() WHERE business_key = :key")
        uow.connection.execute(due, {"key": order})


def _failed_task(business_key: str) -> FailedTask:
    return FailedTask(
        business_key=business_key,
        process_instance_id="instance-1",
        activity_id="ship-router",
        incident_id="incident-1",
        incident_type="failedExternalTask",
        message="no places left",
    )


def _faults(work: Fulfilment) -> Iterator[str]:
    """SQL that lets time pass for these rows, and faults happen to them."""
    of_quote = "aggregate_type = 'quote_revision' AND id ="
    correlation = (
        "(SELECT id FROM workflow_correlation WHERE tenant_id = '{}' AND aggregate_type = '{}' ORDER BY created_at {} LIMIT 1)"
    )
    first, last, case = (
        correlation.format(work.offers.tenant_id, *each)
        for each in (("quote_revision", "ASC"), ("quote_revision", "DESC"), ("fallout_case", "ASC"))
    )
    registered = "next_check_at = clock_timestamp(), process_instance_id = 'instance-' || id"
    yield f"UPDATE sales_order SET created_at = created_at - interval '1 year' WHERE id = '{work.order_id}'"
    yield "UPDATE fallout_case SET claim_expires_at = clock_timestamp() WHERE status = 'IN_PROGRESS'"
    yield (
        "UPDATE external_callback_record SET external_event_id = 'without a case', received_at = received_at - interval '2 days' "
        "WHERE processed_status = 'UNMATCHED'"
    )
    yield "UPDATE quote SET valid_until = clock_timestamp() WHERE status = 'DRAFT'"
    yield "UPDATE jeopardy_alert SET held_steps = 1 WHERE true"
    yield "UPDATE quote_search SET gap_since = clock_timestamp() WHERE status = 'DRAFT'"
    yield "UPDATE step_contradiction SET answer = NULL, answered_at = NULL WHERE true"
    yield "UPDATE workflow_command SET status = 'DONE' WHERE kind IN ('COMPLETE_TASK', 'ASSIGN_TASK')"
    yield "UPDATE outbox_event SET status = 'REFUSED', refused_since = clock_timestamp() WHERE event_type = 'OrderJeopardyRaised'"
    yield f"UPDATE workflow_correlation SET status = 'STARTED', {registered} WHERE {of_quote} {first}"
    yield f"UPDATE workflow_correlation SET status = 'LOST', {registered} WHERE {of_quote} {last}"
    yield f"UPDATE workflow_correlation SET status = 'START_FAILED', updated_at = updated_at - interval '1 hour' WHERE id = {case}"
