"""Steps with an unknown outcome: the sweep asks the provider, never sends a step again blindly, and loses to a callback (race 16)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from domain.delivery import evaluating, starting, steps
from domain.delivery.steps import StepEvent, StepObsolete
from domain.delivery.unanswered import Silence
from domain.store import table_of
from domain.store.facts import ConflictLog, WorkflowCommand
from reconciliation.repairs import Repairs
from reconciliation.steps import Steps
from tests.support.database import acting, in_order
from tests.support.metrics import metric
from tests.support.offers import Offers
from tests.support.reconciling import (
    NEVER,
    NOW,
    Scripted,
    actions,
    all_are_due,
    callback,
    cases,
    complete,
    history,
    no_answer,
    record,
    request_of,
    silence,
    status,
    time_out,
    unavailable,
)
from workers.providers.http_provider import HttpProvider
from workers.providers.port import (
    Provider,
    ProviderOutcomeUnknownError,
    ProviderReply,
    ReplyStatus,
)
from workers.providers.signatures import new_secret
from workers.sandbox.faults import FaultKind
from workers.sandbox.provider import SandboxProvider

RESERVE, CHECK, PROVISION = "RESERVE_INVENTORY", "CHECK_SERVICEABILITY", "PROVISION_SERVICE"


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[SandboxProvider]:
    """A provider whose callbacks have an address at which no server listens."""
    with SandboxProvider(tmp_path, "http://127.0.0.1:9/", new_secret(), callback_latency=timedelta(0)) as sandbox:
        yield sandbox


@pytest.fixture
def provider(sandbox: SandboxProvider) -> Iterator[HttpProvider]:
    with HttpProvider(sandbox.url, "token") as provider:
        yield provider


def sweep(
    offers: Offers,
    provider: Provider,
    *,
    attempt_stale_after: timedelta = NOW,
    request_safe_interval: timedelta = NOW,
    dry_run: bool = False,
) -> int:
    all_are_due(offers.engine)
    waits = silence(attempt_stale_after=attempt_stale_after, request_safe_interval=request_safe_interval)
    return sweeping(offers, provider, waits, dry_run=dry_run).sweep()


def sweeping(offers: Offers, provider: Provider, waits: Silence | None = None, *, dry_run: bool = False) -> Steps:
    """The sweep of steps, which asks this provider."""
    database = acting(offers.engine, "reconcile")
    return Steps(database, {"sandbox": provider}, Repairs(database, dry_run=dry_run), waits or silence())


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


def test_the_step_of_a_worker_that_sends_heartbeats_is_left_alone(offers: Offers, provider: HttpProvider) -> None:
    step_id = offers.start_step(offers.running_order().steps[RESERVE], external_task_id="task-1").step.id
    with offers.uow("worker-1") as uow:
        starting.heartbeat(uow, "task-1", "worker-1")

    assert sweep(offers, provider, attempt_stale_after=timedelta(seconds=20)) == 0

    assert status(offers, step_id) == "IN_PROGRESS"


def test_a_lost_reply_is_asked_for_by_the_key_and_the_processes_are_notified(
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
    table = table_of(WorkflowCommand)
    command = table.c
    key = steps.business_key(offers.tenant_id, started.step.id)
    with offers.engine.connect() as connection:
        of_step = in_order(select(command.name, command.variables), table).where(command.business_key == key)
        messages = connection.execute(of_step).all()
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

    assert sweep(offers, provider, attempt_stale_after=NEVER) == 0
    assert sweep(offers, provider, attempt_stale_after=NOW) == 1

    assert history(offers, started.step.id) == ["PENDING", "IN_PROGRESS", "COMPLETED"]


def test_a_step_whose_request_the_provider_has_accepted_waits_for_its_callback(offers: Offers) -> None:
    started = offers.start_step(offers.running_order().steps[RESERVE])
    time_out(offers, started)
    provider = Scripted(lambda: ProviderReply(status=ReplyStatus.ACCEPTED, request_id="req-1"))

    assert sweep(offers, provider, attempt_stale_after=NEVER) == 1
    assert sweep(offers, provider, attempt_stale_after=NEVER) == 0
    assert sweep(offers, provider, attempt_stale_after=NOW) == 0  # asked once more, with the same reply
    callback(offers, started.step.id)

    assert len(provider.asked) == 2
    assert history(offers, started.step.id)[2:] == ["UNKNOWN", "IN_PROGRESS", "COMPLETED"]


def test_a_step_whose_request_the_provider_rejected_is_held(
    offers: Offers, sandbox: SandboxProvider, provider: HttpProvider
) -> None:
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

    assert sweep(offers, provider, request_safe_interval=NEVER) == 0
    assert status(offers, started.step.id) == "UNKNOWN"
    assert sweep(offers, provider, request_safe_interval=NOW) == 1
    again = offers.start_step(started.step.id)
    provider.execute(request_of(again))

    assert again.idempotency_key == started.idempotency_key
    assert history(offers, started.step.id)[2:] == ["UNKNOWN", "RETRYABLE", "IN_PROGRESS"]
    assert [entry["effects"] for entry in sandbox.ledger.entries()] == [1]


def test_a_callback_wins_against_the_conclusion_that_the_request_is_absent(offers: Offers) -> None:
    started = offers.start_step(offers.running_order().steps[RESERVE])
    time_out(offers, started)
    lost = metric("q2o_reconciliation_actions_total", kind="step", result="lost_to_callback")

    def absent_and_then_called_back() -> None:
        callback(offers, started.step.id)

    assert sweep(offers, Scripted(absent_and_then_called_back)) == 0

    assert history(offers, started.step.id) == ["PENDING", "IN_PROGRESS", "UNKNOWN", "COMPLETED"]
    assert (actions(offers), cases(offers)) == ([], [])
    assert metric("q2o_reconciliation_actions_total", kind="step", result="lost_to_callback") == lost + 1
    conflict = ConflictLog.__table__.c
    with offers.engine.connect() as connection:
        (row,) = connection.execute(select(conflict.command, conflict.actual_version, conflict.expected_version)).all()
    assert (row.command, row.actual_version - row.expected_version) == ("reconcile-step", 1)


def test_a_callback_before_the_reply_to_the_query_leaves_no_repair(offers: Offers) -> None:
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
    assert cases(offers) == []


@pytest.mark.parametrize("answer", [unavailable, no_answer])
def test_a_query_without_a_reply_changes_nothing(offers: Offers, answer: Callable[[], ProviderReply]) -> None:
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
