"""Locks, clocks and claims of the commands about orders: workers, callbacks, customers and case workers at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

from sqlalchemy import Engine, insert, select, text

from domain.delivery import callbacks, cancelling, evaluating, fulfilling, starting
from domain.delivery.callbacks import RECORD, ProcessedStatus, Received
from domain.delivery.fulfilling import OutcomeSource, RecordFact
from domain.delivery.starting import StartStep
from domain.delivery.steps import StepEvent
from domain.fallout import casework, triaging
from domain.messages import FALLOUT_CASE_CHANGED
from domain.store import UnitOfWork
from domain.workflows import requests
from domain.workflows.requests import COMMAND
from tests.mutants.populated_tenant import callback
from tests.mutants.rivalry import begun, meanwhile, outcome_of, rewritten, rivals
from tests.support.fulfilment import Fulfilment
from tests.support.offers import ANNA, BERT, CUSTOMER, Offers

RESERVE = "RESERVE_INVENTORY"
SHARE_ORDER = (r"FROM sales_order", r" FOR SHARE OF sales_order")
LOCK_ORDER = (r"^SELECT sales_order\.", r" FOR NO KEY UPDATE")
LOCK_MESSAGES = (r"^SELECT workflow_command\.", r" FOR UPDATE")
LOCK_STEP = (r"^SELECT fulfillment_step\.", r" FOR NO KEY UPDATE")
CLOCK_OF_LEASE = (r"claim_expires_at <= ", r"clock_timestamp\(\)")
BEGIN = "now()"  # of the transaction
Command = Callable[[UnitOfWork], object]


def asking(work: Fulfilment) -> Command:
    order = work.order
    command = cancelling.RequestCancellation(
        order_id=work.order_id,
        expected_version=order.version,
        expected_status=order.status,
        reason="CHANGED_MIND",
        requested_by=CUSTOMER,
    )
    return lambda uow: cancelling.request(uow, command)


def saying(work: Fulfilment, event: StepEvent) -> Command:
    fact = RecordFact(step_id=work.step(RESERVE).id, event=event, source=OutcomeSource.CALLBACK)
    return lambda uow: fulfilling.record_fact(uow, fact)


@rivals(
    "FOR SHARE on the order of a step that starts",
    partial(rewritten, SHARE_ORDER, ""),
    kind="lock",
    protects="After a cancellation was requested no step starts.",
    kept="ORDER_NOT_RUNNING",
    broken="done",
)
def a_start_while_the_cancellation_is_requested(engine: Engine, offers: Offers) -> object:
    """How the start ends."""
    work = Fulfilment.running(offers)
    step = work.step(RESERVE)
    command = StartStep(step_id=step.id, expected_version=step.version, worker_id="worker-1", external_task_id=None)

    def start() -> str:
        return outcome_of(offers, "worker-1", lambda uow: starting.start_step(uow, command))

    _, started = meanwhile(engine, start, begun(offers, CUSTOMER, asking(work)))
    return started.result()


@rivals(
    "locking the steps of an order that is cancelled",
    partial(rewritten, LOCK_STEP, ""),
    kind="lock",
    protects="A decision to cancel waits for a step that completes at the same time, and leaves it completed.",
    kept="done",
    broken="INVALID_TRANSITION",
)
def a_cancellation_that_is_accepted_while_a_step_completes(engine: Engine, offers: Offers) -> object:
    """How the decision ends."""
    work = Fulfilment.running(offers)
    work.start(RESERVE)
    work.ask_to_cancel()
    command = cancelling.DecideCancellation(
        cancellation_id=work.cancellation().id, accept=True, reason="POLICY", decided_by="policy"
    )
    completing = begun(offers, "provider:sandbox", saying(work, StepEvent.COMPLETE))
    _, decided = meanwhile(engine, lambda: outcome_of(offers, "policy", lambda uow: cancelling.decide(uow, command)), completing)
    return decided.result()


@rivals(
    "locking the order while it is evaluated",
    partial(rewritten, LOCK_ORDER, ""),
    kind="lock",
    protects="An evaluation waits for a command that changes the order, and reads the state after it.",
    kept="done",
    broken="INVALID_TRANSITION",
)
def an_evaluation_while_the_cancellation_is_requested(engine: Engine, offers: Offers) -> object:
    """How the evaluation of a blocked order ends."""
    work = Fulfilment.running(offers)
    with engine.begin() as connection:
        connection.execute(text("UPDATE fulfillment_step SET status = 'HELD'"))

    def evaluate() -> str:
        return outcome_of(offers, "worker-1", lambda uow: evaluating.evaluate(uow, work.order_id))

    _, evaluated = meanwhile(engine, evaluate, begun(offers, CUSTOMER, asking(work)))
    return evaluated.result()


@rivals(
    "locking the step that a fact is about",
    partial(rewritten, LOCK_STEP, ""),
    kind="lock",
    protects="Of two facts at once the second sees the first, so that a contradiction between them is recorded.",
    kept=["FAIL_FINALLY"],
    broken=[],
)
def a_failure_while_the_completion_is_recorded(engine: Engine, offers: Offers) -> object:
    """Which contradictions are recorded."""
    work = Fulfilment.running(offers)
    work.start(RESERVE)
    completing = begun(offers, "provider:sandbox", saying(work, StepEvent.COMPLETE))
    meanwhile(engine, lambda: outcome_of(offers, "provider:sandbox", saying(work, StepEvent.FAIL_FINALLY)), completing)
    return [row.said for row in work.contradictions()]


@contextmanager
def record_after_a_read(_engine: Engine) -> Iterator[None]:
    def read_then_insert(uow: UnitOfWork, command: callbacks.ReceiveCallback) -> Received:
        names = ("provider_name", "external_event_id", "event_type", "payload")
        row = {"tenant_id": uow.tenant_id, **{name: getattr(command, name) for name in names}}
        identity = {name: row[name] for name in ("tenant_id", "provider_name", "external_event_id")}
        known = uow.connection.execute(select(RECORD.c.processed_status).filter_by(**identity)).one_or_none()
        if known is None:
            uow.connection.execute(insert(RECORD), {**row, "payload_hash": "", "processed_status": "UNMATCHED"})
        return Received(processed_status=ProcessedStatus.UNMATCHED, replayed=known is not None)

    with patch.object(callbacks, "receive", read_then_insert):
        yield


@rivals(
    "recording a callback before reading its record",
    record_after_a_read,
    kind="claim",
    protects="Of two deliveries of one event the second waits for the first and gets the same answer.",
    kept="replayed",
    broken="IntegrityError",
)
def two_deliveries_of_one_callback_at_once(engine: Engine, offers: Offers) -> object:
    """How the second delivery ends."""
    Fulfilment.running(offers)  # a tenant without any step gets no callbacks

    def receive(uow: UnitOfWork) -> Received:
        return callbacks.receive(uow, callback({}))

    def second() -> str:
        with offers.uow("provider:sandbox") as uow:
            return "replayed" if receive(uow).replayed else "recorded"

    _, later = meanwhile(engine, second, begun(offers, "provider:sandbox", receive))
    error = later.exception()
    return type(error).__name__ if error else later.result()


@rivals(
    "the clock of a lease",
    partial(rewritten, CLOCK_OF_LEASE, BEGIN),
    kind="clock",
    protects="A lease that ran out while a claim waited can be claimed: the time of the UPDATE counts.",
    kept=BERT,
    broken=ANNA,
)
def a_claim_that_waits_while_the_lease_runs_out(engine: Engine, offers: Offers) -> object:
    """Who owns the case in the end."""
    work = Fulfilment.contradicted(offers)
    with engine.begin() as connection:
        connection.execute(text("UPDATE fallout_case SET queue = 'falloutL1'"))
    work.claim(ANNA)
    command: Any = work.as_seen(BERT)
    with offers.uow(BERT) as uow:
        uow.connection.execute(select(RECORD.c.tenant_id).limit(1))  # its transaction has begun
        with engine.begin() as connection:
            connection.execute(text("UPDATE fallout_case SET claim_expires_at = clock_timestamp()"))
        try:
            casework.claim(uow, command)
        except casework.FalloutCaseConflict:
            uow.connection.rollback()
    return work.case().owner_user_id


@rivals(
    "FOR UPDATE on the messages that a process no longer needs",
    partial(rewritten, LOCK_MESSAGES, ""),
    kind="lock",
    protects="A process reads its case although the dispatcher settles a message about it at the same time.",
    kept="done",
    broken="INVALID_TRANSITION",
)
def a_process_that_reads_its_case_while_a_message_is_settled(engine: Engine, offers: Offers) -> object:
    """How the process's read of its case ends."""
    work = Fulfilment.contradicted(offers)
    with work.offers.uow(BERT) as uow:
        casework.hand_on(uow, work.as_seen(BERT))
    with engine.connect() as connection:
        [message] = connection.scalars(select(COMMAND.c.id).where(COMMAND.c.name == FALLOUT_CASE_CHANGED.name))
    delivered = begun(offers, "dispatch", lambda uow: requests.finish(uow, message, "DELIVERED"))
    _, reading = meanwhile(
        engine, lambda: outcome_of(offers, "worker-1", lambda uow: triaging.take_up(uow, work.case().id)), delivered
    )
    return reading.result()
