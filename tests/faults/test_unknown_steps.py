"""T15, and steps whose worker died: what is not known is asked for, never sent again blindly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Row, select

from domain import evaluating, fulfilling, reading, receiving, starting, step_moves, steps, sweeping
from domain.findings import ReconciliationFinding
from domain.fulfilling import Infer, OutcomeSource, RecordFact
from domain.receiving import ReceiveCallback
from domain.starting import StartedStep
from domain.steps import StepEvent, StepObsolete
from domain.store import Effect
from domain.store.facts import ConflictLog, TransitionLog, WorkflowCommand
from domain.store.unit_of_work import housekeeping
from reconciliation.orders import Orders
from reconciliation.patience import Patience
from reconciliation.repairs import Repairs
from reconciliation.steps import StepIntervals, Steps
from tests.support.metrics import metric
from tests.support.offers import Offers, Order
from tests.support.waiting import eventually
from workers.providers.http_provider import HttpProvider
from workers.providers.port import (
    CancelRequest,
    Provider,
    ProviderOutcomeUnknownError,
    ProviderReply,
    ProviderRequest,
    ProviderUnavailableError,
    ReplyStatus,
)
from workers.providers.signatures import new_secret
from workers.sandbox.faults import FaultKind
from workers.sandbox.provider import SandboxProvider

NOW, NEVER = timedelta(0), timedelta(hours=1)
RESERVE, CHECK, PROVISION = "RESERVE_INVENTORY", "CHECK_SERVICEABILITY", "PROVISION_SERVICE"


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[SandboxProvider]:
    """A provider whose callbacks reach nobody."""
    with SandboxProvider(tmp_path, "http://127.0.0.1:9/", new_secret(), callback_latency=timedelta(0)) as sandbox:
        yield sandbox


@pytest.fixture
def provider(sandbox: SandboxProvider) -> Iterator[HttpProvider]:
    with HttpProvider(sandbox.url, "token") as provider:
        yield provider


@dataclass
class Scripted:
    """A provider whose answer to a question is a function of the test."""

    answer: Callable[[], ProviderReply | None]
    asked: list[str] = field(default_factory=list)

    def execute(self, request: ProviderRequest) -> ProviderReply:
        raise AssertionError(f"reconciliation sent {request}")

    def cancel(self, request: CancelRequest) -> ProviderReply | None:
        raise AssertionError(f"reconciliation sent {request}")

    def query(self, idempotency_key: str) -> ProviderReply | None:
        self.asked.append(idempotency_key)
        return self.answer()


def unavailable() -> ProviderReply:
    raise ProviderUnavailableError("connection refused")


def no_answer() -> ProviderReply:
    raise ProviderOutcomeUnknownError("no answer in time")


def sweep(
    offers: Offers, provider: Provider, *, stale_after: timedelta = NOW, absence: timedelta = NOW, dry_run: bool = False
) -> int:
    intervals = StepIntervals(stale_after=stale_after, absence_interval=absence)
    return Steps(offers.engine, {"sandbox": provider}, Repairs(offers.engine, dry_run=dry_run), intervals).sweep()


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
    """Carry steps out without a fault."""
    for code in codes:
        offers.start_step(order.steps[code])
        record(offers, order.steps[code], StepEvent.COMPLETE)


def time_out(offers: Offers, started: StartedStep) -> None:
    """Give an answer up, as the worker does."""
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
        received = receiving.receive(uow, command)
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


def actions(offers: Offers) -> list[str]:
    finding = ReconciliationFinding.__table__.c
    with offers.engine.connect() as connection:
        return list(connection.scalars(select(finding.action).order_by(finding.created_at)))


def test_a_step_whose_worker_died_between_effect_and_report_completes_without_a_second_effect(
    offers: Offers, sandbox: SandboxProvider, provider: HttpProvider
) -> None:
    order = offers.running_order()
    started = offers.start_step(order.steps[RESERVE])
    provider.execute(request_of(started))
    resolved = metric("q2o_provider_unknown_outcomes_resolved_total", provider="sandbox", resolution="completed")

    assert sweep(offers, provider) == 2

    (entry,) = sandbox.ledger.entries()
    assert (entry["effects"], entry["requests"]) == (1, 1)
    assert history(offers, started.step.id) == ["PENDING", "IN_PROGRESS", "UNKNOWN", "COMPLETED"]
    assert actions(offers) == ["timed_out", "completed"]
    assert metric("q2o_provider_unknown_outcomes_resolved_total", provider="sandbox", resolution="completed") == resolved + 1
    assert sweep(offers, provider) == 0


def test_a_worker_that_gives_signs_of_life_is_left_to_its_work(offers: Offers, provider: HttpProvider) -> None:
    step_id = offers.start_step(offers.running_order().steps[RESERVE], external_task_id="task-1").step.id
    with offers.uow("worker-1") as uow:
        starting.heartbeat(uow, "task-1", "worker-1")

    assert sweep(offers, provider, stale_after=timedelta(seconds=20)) == 0

    assert status(offers, step_id) == "IN_PROGRESS"


def test_a_lost_answer_is_settled_by_asking_and_its_process_and_order_hear_of_it(
    offers: Offers, sandbox: SandboxProvider, provider: HttpProvider
) -> None:
    order = offers.running_order()
    complete(offers, order, *(code for code in (RESERVE, CHECK) if code in order.steps))
    with offers.uow() as uow:
        evaluating.evaluate(uow, order.order_id)
    sandbox.faults.add(FaultKind.LOSE_ANSWER)
    started = offers.start_step(order.steps[PROVISION])
    with pytest.raises(ProviderOutcomeUnknownError):
        provider.execute(request_of(started))
    time_out(offers, started)

    assert sweep(offers, provider) == 1

    assert history(offers, started.step.id)[-2:] == ["UNKNOWN", "COMPLETED"]
    command = WorkflowCommand.__table__.c
    key = steps.business_key(offers.tenant_id, started.step.id)
    with offers.engine.connect() as connection:
        messages = connection.execute(select(command.name, command.variables).where(command.business_key == key)).all()
        ready = connection.scalars(select(command.business_key).where(command.name == "FulfillmentStepReady")).all()
    assert messages[-1].name == "ProviderCallbackReceived"
    assert messages[-1].variables["stepOutcome"] == "COMPLETED"
    assert steps.business_key(offers.tenant_id, order.steps["ACTIVATE_BILLING"]) in ready


def test_an_accepted_request_whose_callback_never_comes_is_asked_about_again(
    offers: Offers, sandbox: SandboxProvider, provider: HttpProvider
) -> None:
    started = offers.start_step(offers.running_order().steps[RESERVE])
    provider.execute(request_of(started))
    record(offers, started.step.id, StepEvent.ACKNOWLEDGE)

    assert sweep(offers, provider, stale_after=NEVER) == 0
    assert sweep(offers, provider, stale_after=NOW) == 1

    assert history(offers, started.step.id) == ["PENDING", "IN_PROGRESS", "COMPLETED"]


def test_an_unknown_request_that_the_provider_has_accepted_goes_on_waiting_for_its_callback(offers: Offers) -> None:
    started = offers.start_step(offers.running_order().steps[RESERVE])
    time_out(offers, started)
    provider = Scripted(lambda: ProviderReply(status=ReplyStatus.ACCEPTED, request_id="req-1"))

    assert sweep(offers, provider, stale_after=NEVER) == 1
    assert sweep(offers, provider, stale_after=NEVER) == 0
    assert sweep(offers, provider, stale_after=NOW) == 0  # asked once more, and told nothing new
    callback(offers, started.step.id)

    assert len(provider.asked) == 2
    assert history(offers, started.step.id)[2:] == ["UNKNOWN", "IN_PROGRESS", "COMPLETED"]


def test_a_request_that_the_provider_rejected_is_held(offers: Offers, sandbox: SandboxProvider, provider: HttpProvider) -> None:
    sandbox.faults.add(FaultKind.REJECT)
    started = offers.start_step(offers.running_order().steps[RESERVE])
    provider.execute(request_of(started))

    sweep(offers, provider)

    assert history(offers, started.step.id)[2:] == ["UNKNOWN", "HELD"]


def test_a_request_that_never_arrived_may_be_sent_again_after_the_safe_interval_under_the_same_key(
    offers: Offers, sandbox: SandboxProvider, provider: HttpProvider
) -> None:
    started = offers.start_step(offers.running_order().steps[RESERVE])
    time_out(offers, started)

    assert sweep(offers, provider, absence=NEVER) == 0
    assert status(offers, started.step.id) == "UNKNOWN"
    assert sweep(offers, provider, absence=NOW) == 1
    again = offers.start_step(started.step.id)
    provider.execute(request_of(again))

    assert again.idempotency_key == started.idempotency_key
    assert history(offers, started.step.id)[2:] == ["UNKNOWN", "RETRYABLE", "IN_PROGRESS"]
    assert [entry["effects"] for entry in sandbox.ledger.entries()] == [1]


def test_a_callback_that_commits_after_the_provider_was_read_as_absent_wins(offers: Offers) -> None:
    started = offers.start_step(offers.running_order().steps[RESERVE])
    time_out(offers, started)
    lost = metric("q2o_reconciliation_actions_total", kind="step", result="lost_to_callback")

    def absent_and_then_called_back() -> None:
        callback(offers, started.step.id)

    assert sweep(offers, Scripted(absent_and_then_called_back)) == 0

    assert history(offers, started.step.id) == ["PENDING", "IN_PROGRESS", "UNKNOWN", "COMPLETED"]
    assert actions(offers) == []
    assert metric("q2o_reconciliation_actions_total", kind="step", result="lost_to_callback") == lost + 1
    conflict = ConflictLog.__table__.c
    with offers.engine.connect() as connection:
        (row,) = connection.execute(select(conflict.command, conflict.actual_version, conflict.expected_version)).all()
    assert (row.command, row.actual_version - row.expected_version) == ("reconcile-step", 1)


def test_a_callback_that_was_faster_than_the_providers_own_word_leaves_nothing_to_do(offers: Offers) -> None:
    started = offers.start_step(offers.running_order().steps[RESERVE])
    time_out(offers, started)

    def completed_and_called_back() -> ProviderReply:
        callback(offers, started.step.id)
        return ProviderReply(status=ReplyStatus.COMPLETED, external_ref="REF-1")

    assert sweep(offers, Scripted(completed_and_called_back)) == 0

    assert history(offers, started.step.id)[2:] == ["UNKNOWN", "COMPLETED"]
    assert actions(offers) == []


def test_a_callback_after_the_absence_was_concluded_completes_the_step_and_stops_the_retry(offers: Offers) -> None:
    started = offers.start_step(offers.running_order().steps[RESERVE])
    time_out(offers, started)

    assert sweep(offers, Scripted(lambda: None)) == 1
    callback(offers, started.step.id)

    assert history(offers, started.step.id)[2:] == ["UNKNOWN", "RETRYABLE", "COMPLETED"]
    with pytest.raises(StepObsolete):
        offers.start_step(started.step.id)


@pytest.mark.parametrize("answer", [unavailable, no_answer])
def test_a_provider_that_does_not_answer_proves_nothing(offers: Offers, answer: Callable[[], ProviderReply]) -> None:
    started = offers.start_step(offers.running_order().steps[RESERVE])
    time_out(offers, started)

    assert sweep(offers, Scripted(answer)) == 0

    assert status(offers, started.step.id) == "UNKNOWN"


def test_a_provider_that_is_down_is_asked_once_per_sweep_and_not_once_per_step(offers: Offers) -> None:
    for _ in range(3):
        time_out(offers, offers.start_step(offers.running_order().steps[RESERVE]))
    provider = Scripted(unavailable)

    assert sweep(offers, provider) == 0

    assert len(provider.asked) == 1


def test_a_dry_run_asks_and_changes_nothing(offers: Offers, provider: HttpProvider) -> None:
    started = offers.start_step(offers.running_order().steps[RESERVE])
    provider.execute(request_of(started))
    silent = offers.start_step(offers.running_order().steps[RESERVE])
    time_out(offers, started)

    assert sweep(offers, provider, dry_run=True) == 2

    assert (status(offers, started.step.id), status(offers, silent.step.id)) == ("UNKNOWN", "IN_PROGRESS")
    assert actions(offers) == []


def test_an_order_whose_last_worker_died_before_the_evaluation_is_evaluated(offers: Offers) -> None:
    order = offers.running_order()
    waiting = set(order.steps)
    sweep_orders = Orders(offers.engine, Repairs(offers.engine, dry_run=False), grace=NOW).sweep
    while waiting:
        with offers.uow() as uow:
            ready = [code for code in waiting if reading.readiness(uow, order.steps[code]) == "READY"]
        complete(offers, order, *ready)
        waiting -= set(ready)
        assert sweep_orders() == 1
        assert sweep_orders() == 0

    assert offers.order(order.order_id).status == "FULFILLED"
    assert set(actions(offers)) == {"evaluated"}


def test_an_order_that_the_normal_path_may_still_evaluate_is_left_to_it(offers: Offers) -> None:
    order = offers.running_order()
    complete(offers, order, RESERVE, CHECK)

    assert Orders(offers.engine, Repairs(offers.engine, dry_run=False), grace=NEVER).sweep() == 0


def test_patience_doubles_and_is_forgotten_with_its_step() -> None:
    seconds = 0.0
    patience, step_id = Patience(timedelta(seconds=1), timedelta(seconds=4), clock=lambda: seconds), uuid4()

    pauses = []
    for _ in range(4):
        patience.wait(step_id)
        start = seconds
        while not patience.is_over(step_id):
            seconds += 0.5
        pauses.append(seconds - start)
    patience.wait(step_id)
    patience.forget_all_but(set())

    assert pauses == [1, 2, 4, 4]
    assert patience.is_over(step_id)


def test_unanswered_steps_are_settled_while_callbacks_arrive_and_nothing_happens_twice(
    offers: Offers, sandbox: SandboxProvider, provider: HttpProvider
) -> None:
    started = [offers.start_step(offers.running_order().steps[RESERVE]) for _ in range(6)]
    for one in started[::2]:
        provider.execute(request_of(one))
    for one in started[1::2]:
        time_out(offers, one)

    def all_settled() -> bool:
        sweep(offers, provider)
        return all(status(offers, one.step.id) in {"COMPLETED", "RETRYABLE"} for one in started)

    eventually(all_settled, "every step is settled")

    assert [status(offers, one.step.id) for one in started] == ["COMPLETED", "RETRYABLE"] * 3
    assert all(entry["effects"] == 1 for entry in sandbox.ledger.entries())


def test_a_call_that_was_given_up_says_nothing_about_the_attempt_after_it(offers: Offers) -> None:
    first = offers.start_step(offers.running_order().steps[RESERVE])
    step_id = first.step.id
    time_out(offers, first)
    conclude(offers, step_id, StepEvent.FIND_ABSENT)
    offers.start_step(step_id)

    late = RecordFact(
        step_id=step_id, event=StepEvent.FAIL_WITHOUT_EFFECT, source=OutcomeSource.RESPONSE, attempt_id=first.attempt_id
    )
    with offers.uow("worker-1") as uow:
        effect, step = fulfilling.record_fact(uow, late)

    assert (effect, step.status) == (Effect.KEEP, "IN_PROGRESS")
    assert look(offers, step_id).attempt_status == "SENT"


def test_an_acknowledgement_of_a_request_taken_for_absent_has_it_asked_about_again(offers: Offers) -> None:
    first = offers.start_step(offers.running_order().steps[RESERVE])
    step_id = first.step.id
    time_out(offers, first)
    conclude(offers, step_id, StepEvent.FIND_ABSENT)

    with offers.uow("callback") as uow:
        effect, step = fulfilling.record_fact(
            uow, RecordFact(step_id=step_id, event=StepEvent.ACKNOWLEDGE, source=OutcomeSource.CALLBACK, external_event_id="e-1")
        )

    assert (effect, step.status) == (Effect.CONTRADICTION, "UNKNOWN")
    with housekeeping(offers.engine) as connection:
        asked = sweeping.unanswered_steps(connection, 10, timedelta(0), timedelta(0))
    assert [row.id for row in asked] == [step_id]


def test_a_time_out_loses_to_an_acknowledgement(offers: Offers) -> None:
    started = offers.start_step(offers.running_order().steps[RESERVE])
    with offers.uow("callback") as uow:
        fulfilling.record_fact(uow, RecordFact(step_id=started.step.id, event=StepEvent.ACKNOWLEDGE, source=OutcomeSource.RESPONSE))

    with pytest.raises(step_moves.AttemptAlive):
        time_out(offers, started)

    assert look(offers, started.step.id).attempt_status == "ACKNOWLEDGED"


def conclude(offers: Offers, step_id: UUID, event: StepEvent) -> None:
    command = Infer(
        step_id=step_id, expected_version=look(offers, step_id).version, event=event, source=OutcomeSource.RECONCILIATION
    )
    with offers.uow("reconcile") as uow:
        fulfilling.infer(uow, command)


def look(offers: Offers, step_id: UUID) -> Row[Any]:
    with offers.uow() as uow:
        return reading.step(uow, step_id)
