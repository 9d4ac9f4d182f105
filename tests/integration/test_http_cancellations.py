"""A person decides on a cancellation over HTTP, on the version that they saw and within their authority."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.fulfilment import Fulfilment
from tests.support.http import Api, Caller, is_problem
from tests.support.offers import CUSTOMER, FELIX, STAFF, Offers
from workers.http.auth import Role

ACCEPT, DECLINE = ({"decision": decision, "reason": "AFTER_A_CALL"} for decision in ("ACCEPT", "DECLINE"))


@pytest.fixture
def work(offers: Offers) -> Fulfilment:
    """An order that its customer wants to cancel."""
    work = Fulfilment.running(offers)
    work.ask_to_cancel()
    return work


@pytest.fixture
def felix(api: Api) -> Caller:
    return api.caller(FELIX, Role.FULFILLMENT_MANAGERS)


def decide(caller: Caller, work: Fulfilment, body: dict[str, Any], **options: Any) -> Any:
    request = work.cancellation()
    return caller.post(f"/cancellations/{request.id}/decisions", body, **{"version": request.version, **options})


def test_a_fulfilment_manager_declines_a_cancellation(work: Fulfilment, felix: Caller) -> None:
    answer = decide(felix, work, DECLINE)

    decided = answer.json()
    assert (answer.status_code, decided["status"], decided["decidedBy"], decided["decisionReason"]) == (
        *(201, "DECLINED"),
        *(FELIX, "AFTER_A_CALL"),
    )
    assert answer.headers["ETag"] == f'"{work.cancellation().version}"'
    assert work.status == "IN_PROGRESS"


def test_a_fulfilment_manager_accepts_a_cancellation(work: Fulfilment, felix: Caller) -> None:
    assert decide(felix, work, ACCEPT).json()["status"] == "EXECUTING"

    assert work.status == "CANCELLING"


def test_a_cancellation_is_decided_once(work: Fulfilment, felix: Caller) -> None:
    decide(felix, work, DECLINE)

    assert is_problem(decide(felix, work, ACCEPT), 409, "CANCELLATION_DECIDED")["safeUserAction"] == "NOTHING_TO_DO"


def test_a_decision_on_an_older_version_is_refused(work: Fulfilment, felix: Caller) -> None:
    is_problem(decide(felix, work, ACCEPT, version=work.cancellation().version + 1), 409, "CANCELLATION_VERSION_CONFLICT")


def test_whoever_asked_for_it_does_not_decide(work: Fulfilment, api: Api, offers: Offers) -> None:
    offers.grant_authority(CUSTOMER, STAFF[FELIX])

    is_problem(decide(api.caller(CUSTOMER, Role.FULFILLMENT_MANAGERS), work, ACCEPT), 403, "OWN_CANCELLATION")


def test_a_manager_without_a_grant_does_not_decide(work: Fulfilment, api: Api) -> None:
    is_problem(decide(api.caller("frank", Role.FULFILLMENT_MANAGERS), work, ACCEPT), 403, "CANCELLATION_NOT_YOURS")
