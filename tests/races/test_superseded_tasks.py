"""A revision is superseded or withdrawn while its approver has a task in the engine.

The process ends as void, and nobody is asked any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pytest

from domain.offers.approvals import ApprovalDecision, ApprovalRequest, RequestStatus
from tests.support.suite import EVERYTHING, Shop, new_sample, open_shop, prepared, working
from tests.support.waiting import eventually
from workers.demo.driver import SampleQuote
from workers.demo.local_suite import LocalSuite
from workers.demo.people import MANAGER
from workers.local.stack import LocalStack
from workers.runtime.engine_history import EngineInstance

APPROVAL = "quote-approval"
ASKED = "20"  # a discount in percent that needs the manager
Act = Callable[[Shop, SampleQuote], None]


@pytest.fixture(scope="module")
def running_suite(stack: LocalStack) -> Iterator[LocalSuite]:
    """Run everything but the dispatcher: each race lets messages through at its own time."""
    with prepared(stack) as local, working(local.settings, *EVERYTHING.difference({"dispatch"})):
        yield local


@dataclass(frozen=True, slots=True, kw_only=True)
class Void:
    """What came of a quote that was withdrawn from its approver, when its process has ended."""

    ends: set[str]  # the end events that the process reached
    tasks: int  # user tasks that are open
    decisions: int
    requests: Sequence[str]  # their status
    quote: str  # its status
    newer: int  # revisions after the one that the approver was asked about


def void(local: LocalSuite, act: Act) -> Void:
    """Bring a quote to its approver, and let `act` withdraw it and end its process."""
    with open_shop(local) as shop:
        sample = asked_of_manager(shop)
        asked_about = sample.quote["revisionNo"]
        keys = shop.signature_keys(sample)

        act(shop, sample)

        status = shop.driver.refresh(sample)
        [instance] = ended(shop)
        return Void(
            ends=shop.ends(instance.id),
            tasks=sum(len(shop.engine.user_tasks(key)) for key in keys),
            decisions=len(shop.rows(ApprovalDecision)),
            requests=[request.status for request in shop.rows(ApprovalRequest)],
            quote=status,
            newer=sample.quote["revisionNo"] - asked_about,
        )


def asked_of_manager(shop: Shop) -> SampleQuote:
    """Bring a quote to its approver: the process waits in the user task."""
    sample = new_sample(ASKED)
    shop.driver.offer(sample)
    with working(shop.local.settings, "dispatch"):
        shop.driver.task_for(sample, MANAGER)
        eventually(lambda: shop.asked(sample), "the approver has the task")
    shop.driver.refresh(sample)
    return sample


def ended(shop: Shop) -> list[EngineInstance]:
    """The approvals that have ended."""
    return [instance for instance in shop.instances() if instance.definition_key == APPROVAL and not instance.is_running]


def ends_by_itself(shop: Shop) -> None:
    eventually(lambda: len(ended(shop)) == 1, "the process of the old revision ends")


@pytest.fixture(scope="module")
def completed_in_the_engine(running_suite: LocalSuite) -> Void:
    """The message of the edit has not arrived, and the approver completes the task in Camunda itself, past the product."""

    def act(shop: Shop, sample: SampleQuote) -> None:
        asked = shop.asked(sample)
        shop.driver.edit(sample)
        [task] = asked
        shop.engine.complete_user_task(task.id, {"decision": "APPROVE", "reasonCode": "WITHIN_POLICY", "comment": ""})
        ends_by_itself(shop)

    return void(running_suite, act)


@pytest.mark.stack
def test_the_process_of_a_task_of_the_old_revision_completed_in_the_engine_ends_as_void(completed_in_the_engine: Void) -> None:
    assert "Approval void" in completed_in_the_engine.ends


@pytest.mark.stack
def test_nobody_is_asked_again_after_a_task_of_the_old_revision_is_completed(completed_in_the_engine: Void) -> None:
    assert completed_in_the_engine.tasks == 0


@pytest.mark.stack
def test_a_task_of_the_old_revision_completed_in_the_engine_is_no_decision(completed_in_the_engine: Void) -> None:
    assert completed_in_the_engine.decisions == 0


@pytest.mark.stack
def test_a_task_of_the_old_revision_completed_in_the_engine_leaves_the_request_invalid(completed_in_the_engine: Void) -> None:
    assert completed_in_the_engine.requests == [RequestStatus.INVALIDATED]


@pytest.mark.stack
def test_a_task_of_the_old_revision_completed_in_the_engine_leaves_the_new_one_a_draft(completed_in_the_engine: Void) -> None:
    assert (completed_in_the_engine.quote, completed_in_the_engine.newer) == ("DRAFT", 1)


def is_edited(shop: Shop, sample: SampleQuote) -> None:
    shop.driver.edit(sample)


def is_recalled(shop: Shop, sample: SampleQuote) -> None:
    withdraw(shop, sample, "recalls")


def is_cancelled(shop: Shop, sample: SampleQuote) -> None:
    withdraw(shop, sample, "cancellations")


def withdraw(shop: Shop, sample: SampleQuote, how: str) -> None:
    body = {"revisionId": sample.quote["revisionId"], "reasonCode": "CUSTOMER_REQUEST"}
    shop.api.send(f"/quotes/{sample.quote['quoteId']}/{how}", body, version=sample.quote["version"]).expect(201)


@pytest.fixture(scope="module", params=[is_edited, is_recalled, is_cancelled], ids=lambda act: act.__name__)
def withdrawn(request: pytest.FixtureRequest, running_suite: LocalSuite) -> Void:
    """The message of the withdrawal reaches the process, which waits in the user task."""

    def act(shop: Shop, sample: SampleQuote) -> None:
        request.param(shop, sample)
        with working(shop.local.settings, "dispatch"):
            ends_by_itself(shop)

    return void(running_suite, act)


@pytest.mark.stack
def test_the_process_of_a_withdrawn_revision_ends_as_void(withdrawn: Void) -> None:
    assert "Approval void" in withdrawn.ends


@pytest.mark.stack
def test_a_withdrawn_revision_takes_its_task_from_the_approver(withdrawn: Void) -> None:
    assert withdrawn.tasks == 0


@pytest.mark.stack
def test_a_withdrawn_revision_has_no_decision(withdrawn: Void) -> None:
    assert withdrawn.decisions == 0
