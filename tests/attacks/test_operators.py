"""Operators who work on external tasks in the place of a worker, as their right to change instances allows.

Whoever fetches a task may report it with any variables, and the operation log has no row of it. The workers of the tasks around people are
held back here, so that the operator comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from domain.fallout.cases import FalloutCase, resolution_key
from tests.support.logins import complete, logged_in
from tests.support.offered import APPROVE, Offered
from tests.support.suite import EVERYTHING, Shop, prepared, working
from tests.support.waiting import eventually
from workers.demo.local_suite import LocalSuite
from workers.demo.people import FIRST_LEVEL, OPERATOR, RSM
from workers.local.stack import LocalStack
from workers.pod.pod import Pod
from workers.runtime.engine import Engine, TopicRequest
from workers.runtime.variables import encode
from workers.sandbox.faults import FaultKind
from workers.tasks.topics import CONTRACTS, topics

pytestmark = pytest.mark.stack

PREPARE, RECORD, RESOLVE = "approval.prepare-form", "approval.record-decision", "fallout.apply-resolution"
HELD_BACK = frozenset({PREPARE, RECORD, RESOLVE})
LOCK = timedelta(seconds=30)
IN_TIME = "2099-01-01T00:00:00Z"
MADE_UP: dict[str, Any] = {
    "quoteNumber": "Q-1",
    "customerId": "C-1",
    "netTotal": "1.00",
    "maxDiscountPercent": 1.0,
    "linesText": "nothing",
    "because": "Nothing to see.",
    "isDecided": False,
    "approverGroup": RSM.groups[0],
    "requirementType": "DISCOUNT",
    "escalationLevel": 0,
    "remindAt": IN_TIME,
    "dueAt": IN_TIME,
}
"""What the model needs, and a part of what the form shows."""


@pytest.fixture(scope="module")
def running_suite(stack: LocalStack) -> Iterator[LocalSuite]:
    """Run the suite without the workers of the tasks that an operator takes."""
    others = ",".join(name for name in CONTRACTS if name not in HELD_BACK)
    with prepared(stack, Q2O_TOPICS=others) as local, working(local.settings, *EVERYTHING):
        yield local


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """The worker that was held back, one turn at a time."""

    pod: Pod

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Work until a condition holds."""

        def turn() -> Any:
            self.pod.run_once()
            return condition()

        return eventually(turn, what)


@pytest.fixture
def worker(shop: Shop) -> Iterator[Worker]:
    engine = Engine(shop.local.settings.engine_url, shop.local.settings.engine_user, shop.local.settings.engine_password)
    known = topics(shop.database, engine, {}, shop.local.settings)
    yield Worker(pod=Pod(engine, {name: known[name] for name in HELD_BACK}))
    engine.close()


@pytest.fixture
def rejected(shop: Shop) -> Iterator[UUID]:
    """An order of which the provider rejects a step."""
    shop.local.provider.faults.add(FaultKind.REJECT, step_code="CHECK_SERVICEABILITY", times=1)
    yield shop.accepted_order()
    shop.local.provider.faults.clear()


@contextmanager
def taken(shop: Shop, topic: str, key: str) -> Iterator[tuple[Engine, str]]:
    """Fetch the next task of a process as an operator."""
    with logged_in(shop, OPERATOR.id) as engine:
        request = TopicRequest(name=topic, lock_duration=LOCK, variables=())

        def fetch() -> list[str]:
            found = engine.fetch_and_lock([request], max_tasks=1, poll=timedelta())
            return [each.id for each in found if each.business_key == key]

        [task_id] = eventually(fetch, f"{topic} of {key} can be taken")
        yield engine, task_id


def report_failure(shop: Shop, topic: str, key: str, **variables: Any) -> None:
    """Give a task back as an operator, with variables: a failure has no row in the operation log."""
    with taken(shop, topic, key) as (engine, task_id):
        body = {"workerId": engine.worker_id, "errorMessage": "forged", "retries": 1, "retryTimeout": 0}
        engine.post(f"/external-task/{task_id}/failure", {**body, "variables": encode(variables)})


def test_an_operator_who_reports_another_decision_than_the_approver_s_signs_nothing(shop: Shop, worker: Worker) -> None:
    quote = Offered.at(shop, "18")
    [asked] = worker.until(quote.open_tasks, "somebody is asked")
    quote.complete(RSM.id, asked, **{**APPROVE, "decision": "REJECT"})

    report_failure(shop, RECORD, quote.key(), **APPROVE)

    worker.until(quote.decisions, "the decision is recorded")
    quote.ends_as("REJECTED")


def test_an_operator_who_prepares_the_form_cannot_make_up_what_is_signed(shop: Shop, worker: Worker) -> None:
    quote = Offered.at(shop, "18")
    with taken(shop, PREPARE, quote.key()) as (engine, task_id):
        engine.complete(task_id, encode(MADE_UP))
    [asked] = eventually(quote.open_tasks, "somebody is asked")

    quote.complete(RSM.id, asked, **APPROVE)

    [renewed] = worker.until(lambda: quote.open_tasks(after=asked.id), "the form is renewed")
    seen = shop.engine.task_variables(renewed.id)
    assert seen["decisionRefused"] == rf"{RSM.id}\: What the form shows has changed since it was opened\."
    assert seen["netTotal"] != MADE_UP["netTotal"]
    assert quote.decisions() == []


def test_an_operator_who_reports_another_resolution_resolves_nothing(shop: Shop, worker: Worker, rejected: UUID) -> None:
    case = shop.case_of(rejected)
    key = resolution_key(shop.tenant_id, case.id)
    [asked] = eventually(lambda: shop.engine.user_tasks(key), "somebody is asked")
    complete(shop, FIRST_LEVEL.id, asked, resolution="FAIL_STEP", evidence="The building is gone")

    report_failure(shop, RESOLVE, key, resolution="CANCEL_STEP", evidence="forged")

    worker.until(lambda: shop.rows(FalloutCase, id=case.id)[0].resolution, "the case is resolved")
    [resolved] = shop.rows(FalloutCase, id=case.id)
    assert (resolved.resolution, resolved.resolution_evidence) == ("FAIL_STEP", "The building is gone")
