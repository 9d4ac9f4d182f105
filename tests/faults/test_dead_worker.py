"""A worker outlives its lock, or dies in the middle of a call (race 11): its step is sent once, and its order is fulfilled.

The lock of the worker lasts two seconds. A proxy delays the reply of the provider until the test has made its observations, and drops every
heartbeat on its way to the engine.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest

from domain.delivery.attempts import AttemptStatus
from domain.delivery.steps import FulfillmentStep, StepStatus
from domain.findings import ReconciliationFinding
from tests.support.audits import wrong
from tests.support.engines import running
from tests.support.metrics import metric
from tests.support.suite import EVERYTHING, Shop, prepared, working
from tests.support.waiting import eventually
from workers import suite
from workers.demo.local_suite import LocalSuite
from workers.local.stack import LocalStack
from workers.pod.pod import Pod
from workers.providers.budget import CallBudget
from workers.providers.http_provider import HttpProvider
from workers.runtime.engine import Engine, EngineRefusedError
from workers.sandbox.proxy import ALWAYS, FaultProxy
from workers.tasks.topics import CONTRACTS, topics

pytestmark = pytest.mark.stack

TASKS = [sys.executable, "-m", "workers", "tasks"]
EXECUTE = "fulfillment.execute-step"
SHORT_LOCK = timedelta(seconds=2)
LONG_LOCK = timedelta(seconds=60)
SOON = timedelta(seconds=3)
PATIENT = timedelta(minutes=2)
OFTEN = timedelta(seconds=0.2)


@pytest.fixture(scope="module")
def running_suite(stack: LocalStack) -> Iterator[LocalSuite]:
    """Run the suite without the reconciler and the workers of steps: each test starts its own."""
    others = ",".join(name for name in CONTRACTS if name != EXECUTE)
    with prepared(stack, Q2O_TOPICS=others) as local, working(local.settings, *EVERYTHING - {"reconcile"}):
        yield local


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """The proxies between one worker and the engine and the provider. `release` lets the reply of the provider through."""

    engine: FaultProxy
    provider: FaultProxy
    release: Event


@contextmanager
def bad_wire(local: LocalSuite) -> Iterator[Wire]:
    """Delay the first reply of the provider, and drop every heartbeat to the engine."""
    engine, provider = urlsplit(local.settings.engine_url), urlsplit(local.settings.provider_url)
    with (
        FaultProxy(str(engine.hostname), int(engine.port or 80)) as to_engine,
        FaultProxy(str(provider.hostname), int(provider.port or 80)) as to_provider,
    ):
        wire = Wire(engine=to_engine, provider=to_provider, release=Event())
        wire.engine.drop_request("/extendLock", times=ALWAYS)
        wire.provider.hold("POST /v1/requests", wire.release)
        try:
            yield wire
        finally:
            wire.release.set()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepWorker:
    """A pod that executes steps, and its engine client."""

    pod: Pod
    engine: Engine


@contextmanager
def step_worker(
    shop: Shop, *, lock: timedelta, attempt_stale_after: timedelta, capacity: int = 8, wire: Wire | None = None
) -> Iterator[StepWorker]:
    """Make a worker as the suite does, which executes steps only."""
    settings = shop.local.settings.of("tasks").having(attempt_stale_after_seconds=str(attempt_stale_after.total_seconds()))
    if wire is not None:
        engine_url = f"{wire.engine.url}{urlsplit(settings.engine_url).path}"
        settings = settings.having(engine_url=engine_url, provider_url=wire.provider.url)
    engine = suite.engine_of(settings)
    # Even on a slow machine a call must last until the test lets its reply through.
    with HttpProvider(settings.provider_url, settings.provider_token, CallBudget(total=PATIENT)) as provider:
        known = topics(shop.database, engine, {"sandbox": provider}, settings)
        pod = Pod(engine, {EXECUTE: known[EXECUTE]}, capacity=capacity, lock_duration=lock, poll=OFTEN)
        yield StepWorker(pod=pod, engine=engine)


def unanswered_step(shop: Shop, done: int = 0) -> UUID:
    """Wait until the provider has done a step whose reply is delayed, and `done` others; returns the step."""

    def unanswered() -> list[UUID]:
        ledger = shop.ledger()
        open_steps = [step_id for step_id in ledger if status_of(shop, step_id) == StepStatus.IN_PROGRESS]
        return open_steps if (len(ledger), len(open_steps)) == (done + 1, 1) else []

    [step_id] = eventually(unanswered, "the provider has done a step whose reply is delayed")
    return step_id


def status_of(shop: Shop, step_id: UUID) -> str:
    [step] = shop.rows(FulfillmentStep, id=step_id)
    return str(step.status)


def task_of(shop: Shop, step_id: UUID) -> dict[str, Any]:
    """The external task of the step in the engine; empty when it is completed."""
    [instance] = shop.engine.find_instances(shop.step_key(step_id))
    tasks = shop.engine.rows("/external-task", processInstanceId=instance.id)
    return dict(tasks[0]) if tasks else {}


def incidents(shop: Shop) -> list[Any]:
    ids = [instance.id for instance in shop.instances()]
    return [incident for instance_id in ids for incident in shop.engine.rows("/incident", processInstanceId=instance_id)]


def advanced_once(shop: Shop, step_id: UUID) -> None:
    """Assert that the process of the step executed it once and ended."""
    [instance] = shop.engine.find_instances(shop.step_key(step_id))
    rows = shop.engine.rows("/history/activity-instance", processInstanceId=instance.id)
    assert [row["activityId"] for row in rows].count("execute-step") == 1
    assert [row["activityName"] for row in rows if row["activityType"].endswith("EndEvent")] == ["Step completed"]


def one_effect_each(shop: Shop, order_id: UUID) -> None:
    """Assert that the order is fulfilled, and that the provider got each step once and did it once."""
    shop.comes_to_rest()
    assert shop.order(order_id)["status"] == "FULFILLED"
    assert len(shop.ledger()) == 7
    assert {(entry["requests"], entry["effects"]) for entry in shop.ledger().values()} == {(1, 1)}
    assert incidents(shop) == []
    assert wrong(shop.audit()) == []


def refuses(engine: Engine, task_id: str) -> bool:
    """Whether the engine refuses this worker's completion of a task."""
    try:
        engine.complete(task_id, {})
    except EngineRefusedError:
        return True
    return False


def test_the_step_of_a_worker_that_outlives_its_lock_is_sent_once(shop: Shop) -> None:
    """Kills: sending a step in progress again; taking a slow worker for a dead one."""
    order_id = shop.accepted_order()
    lost = metric("q2o_external_task_lock_lost_total", topic=EXECUTE)
    with (
        bad_wire(shop.local) as wire,
        step_worker(shop, lock=SHORT_LOCK, attempt_stale_after=LONG_LOCK, capacity=1, wire=wire) as slow,
    ):
        # At its capacity the pod does not poll, so it cannot get its own task back.
        with running(slow.pod):
            step_id = unanswered_step(shop)
            task_id = task_of(shop, step_id)["id"]
            with step_worker(shop, lock=LONG_LOCK, attempt_stale_after=LONG_LOCK) as other, running(other.pod):
                eventually(
                    lambda: task_of(shop, step_id).get("workerId") == other.engine.worker_id, "the other worker gets the task"
                )
                eventually(
                    lambda: "carrying out" in (task_of(shop, step_id).get("errorMessage") or ""),
                    "the other worker leaves the step alone",
                )
                [attempt] = shop.attempts(step_id)
                assert (attempt.status, attempt.worker_id) == (AttemptStatus.SENT, slow.engine.worker_id)
                assert refuses(slow.engine, task_id)
                wire.release.set()
                eventually(lambda: status_of(shop, step_id) == StepStatus.COMPLETED, "the reply to the slow worker is recorded")
                one_effect_each(shop, order_id)

        assert refuses(slow.engine, task_id)

    assert metric("q2o_external_task_lock_lost_total", topic=EXECUTE) == lost + 1
    [attempt] = shop.attempts(step_id)
    assert (attempt.status, attempt.worker_id) == (AttemptStatus.SUCCEEDED, slow.engine.worker_id)
    assert shop.changes(step_id) == ["PLAN", "START", "COMPLETE"]
    advanced_once(shop, step_id)


@contextmanager
def process(shop: Shop, wire: Wire, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the worker of steps as a process of its own, behind the proxies."""
    added = {
        "Q2O_TOPICS": EXECUTE,
        "Q2O_LOCK_DURATION_SECONDS": "3",  # the shortest that a process takes
        "Q2O_PROVIDER_URL": wire.provider.url,
    }
    environment = {**os.environ, **shop.local.settings.of("tasks").variables, **added}
    with log.open("wb") as output:
        worker = subprocess.Popen(TASKS, env=environment, stdout=output, stderr=output)
    try:
        yield worker
    finally:
        worker.kill()
        worker.wait()


def test_the_step_of_a_killed_worker_is_asked_for_and_never_sent_again(shop: Shop, tmp_path: Path) -> None:
    """Kills: sending the step of a dead worker again; giving it up without a query to the provider."""
    order_id = shop.accepted_order()
    with bad_wire(shop.local) as wire, process(shop, wire, tmp_path / "worker.log") as worker:
        step_id = unanswered_step(shop, done=1)
        worker.send_signal(signal.SIGKILL)
        worker.wait()

    with step_worker(shop, lock=LONG_LOCK, attempt_stale_after=SOON) as other, running(other.pod):
        eventually(lambda: status_of(shop, step_id) == StepStatus.UNKNOWN, "the dead worker's step is UNKNOWN")
        assert [attempt.status for attempt in shop.attempts(step_id)] == [AttemptStatus.UNKNOWN]
        settings = shop.local.settings.of("reconcile")
        reconciler = suite.reconcile(settings.having(attempt_stale_after_seconds=str(SOON.total_seconds())))
        eventually(lambda: reconciler.run_once() and shop.rows(ReconciliationFinding), "the provider is asked")
        one_effect_each(shop, order_id)

    assert shop.changes(step_id) == ["PLAN", "START", "TIME_OUT", "COMPLETE"]
    [attempt] = shop.attempts(step_id)
    assert (attempt.status, attempt.outcome_source) == (AttemptStatus.SUCCEEDED, "RECONCILIATION")
    [finding] = shop.rows(ReconciliationFinding)
    assert (finding.aggregate_id, finding.status) == (step_id, "REPAIRED")
    advanced_once(shop, step_id)


def test_a_worker_id_that_other_workers_may_share_is_refused_at_start_up(running_suite: LocalSuite) -> None:
    """Kills: accepting any worker id, with which the engine would let each of two workers complete the tasks of the other."""
    environment = {**os.environ, **running_suite.environment, "Q2O_WORKER_ID": "pod"}

    refused = subprocess.run(TASKS, env=environment, capture_output=True, text=True, check=False, timeout=120)

    assert refused.returncode == 2
    [line] = refused.stderr.splitlines()
    assert line.startswith("q2o: Q2O_WORKER_ID=pod is not a name that ends in a dash and eight random hex digits")
