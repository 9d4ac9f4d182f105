"""Cases that name no step: what a person may decide on them, where they are found, and what they say."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Row, select, text

from domain.delivery import callbacks, unsettled
from domain.delivery.callbacks import ReceiveCallback
from domain.delivery.steps import StepEvent
from domain.fallout.cases import FalloutCase
from domain.fallout.triaging import CASE
from domain.store.facts import ConflictLog
from reconciliation.repairs import Repairs
from reconciliation.unmatched import Unmatched
from tests.support.database import acting, count
from tests.support.fulfilment import ROLES, Fulfilment
from tests.support.held import CHECK, RESERVE
from tests.support.http import Api, Caller, is_problem
from tests.support.offers import BERT, Offers


@pytest.fixture
def work(offers: Offers) -> Fulfilment:
    return Fulfilment.running(offers)


@pytest.fixture
def bert(api: Api) -> Caller:
    return api.caller(BERT, *ROLES[BERT])


def receive(work: Fulfilment, event_type: str, provider: str = "sandbox", step: str | None = CHECK) -> Row[Any]:
    """Receive a callback that changes no step, and return the case that it opens."""
    event_id = f"evt-{uuid4()}"
    event = ReceiveCallback(
        provider_name=provider,
        external_event_id=event_id,
        event_type=event_type,
        step_id=work.step(step).id if step else uuid4(),
        external_ref=None,
        external_request_id=None,
        external_event_at=None,
        payload={"eventId": event_id},
    )
    with work.offers.uow(f"provider:{provider}") as uow:
        assert callbacks.receive(uow, event).processed_status == "UNMATCHED"
        newest = select(*CASE.c).filter_by(tenant_id=uow.tenant_id).order_by(CASE.c.created_at.desc()).limit(1)
        return uow.connection.execute(newest).one()


def test_an_event_of_an_unknown_type_leads_to_its_order(work: Fulfilment) -> None:
    """Kills: a provider's "failed" under a name of its own that no list of the order's cases shows."""
    case = receive(work, "step.exploded")

    assert (case.order_id, case.step_id) == (work.order_id, None)
    assert case.detail.endswith("of sandbox names step CHECK_SERVICEABILITY and is of a type that we do not know.")


@pytest.mark.parametrize(("provider", "step"), [("another", CHECK), ("sandbox", None)])
def test_an_event_about_a_step_that_is_not_its_provider_s_leads_nowhere(work: Fulfilment, provider: str, step: str | None) -> None:
    case = receive(work, "step.completed", provider, step)

    assert case.order_id is None
    assert case.detail.endswith(f"of {provider} belongs to no step of this provider.")


def test_a_dry_run_promises_no_match_that_a_run_would_not_make(work: Fulfilment) -> None:
    receive(work, "step.exploded")
    database = acting(work.offers.engine, "reconcile")
    before = count(work.offers.engine, ConflictLog), count(work.offers.engine, FalloutCase)

    promised = Unmatched(database, Repairs(database, dry_run=True)).sweep()

    assert promised == Unmatched(database, Repairs(database, dry_run=False)).sweep() == 0
    assert before == (count(work.offers.engine, ConflictLog), count(work.offers.engine, FalloutCase))


def test_a_case_about_another_trouble_does_not_stand_for_the_one_of_a_held_step(work: Fulfilment) -> None:
    work.start(RESERVE)
    work.say(RESERVE, StepEvent.FAIL_FINALLY)
    receive(work, "step.exploded")
    with work.offers.engine.begin() as connection:
        connection.execute(text("UPDATE fallout_case SET step_id = :id"), {"id": work.step(RESERVE).id})

        found = unsettled.held_without_case(connection, 10, timedelta(0))

    assert [row.id for row in found] == [work.step(RESERVE).id]


def test_where_nothing_was_given_up_nothing_can_be_asked_for_again(work: Fulfilment, bert: Caller) -> None:
    case = claimed(bert, receive(work, "step.exploded"))

    refused = bert.post(f"/fallout-cases/{case['caseId']}/resolutions", {"resolution": "RETRY"}, version=case["version"])

    assert case["resolutions"] == ["KEEP_AS_IS"]
    problem = is_problem(refused, 409, "RESOLUTION_NOT_ALLOWED")
    assert (problem["currentVersion"], problem["safeUserAction"]) == (case["version"], "CORRECT_THE_REQUEST")
    assert problem["detail"] == "It is about no step: choose KEEP_AS_IS."


def test_a_case_that_is_over_offers_nothing(work: Fulfilment, bert: Caller) -> None:
    case = claimed(bert, receive(work, "step.exploded"))
    decided = {"resolution": "KEEP_AS_IS", "evidence": "seen"}

    resolved = bert.post(f"/fallout-cases/{case['caseId']}/resolutions", decided, version=case["version"]).json()

    assert (resolved["status"], resolved["resolutions"]) == ("CLOSED", [])


def test_who_resolves_a_case_that_nobody_has_claimed_is_told_to_claim_it(work: Fulfilment, bert: Caller) -> None:
    case = receive(work, "step.exploded")
    decided = {"resolution": "KEEP_AS_IS", "evidence": "seen"}

    refused = bert.post(f"/fallout-cases/{case.id}/resolutions", decided, version=case.version)

    assert is_problem(refused, 409, "FALLOUT_CASE_CONFLICT")["detail"] == "Nobody has claimed the case: claim it first."


def claimed(person: Caller, case: Row[Any]) -> dict[str, Any]:
    response = person.post(f"/fallout-cases/{case.id}/claims", {}, version=case.version)
    assert response.status_code == 201
    return dict(response.json())
