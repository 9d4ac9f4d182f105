"""Fallout cases and cancellations over HTTP: one owner of a case, answers to the others, effect of a resolution."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine

from domain.delivery import given_up
from domain.delivery.steps import StepEvent
from domain.fallout.cases import FalloutCase
from domain.store import table_of
from domain.workflows import starts
from domain.workflows.keys import Kind, key_of
from tests.support.fulfilment import Fulfilment
from tests.support.http import Api, Caller, is_problem
from tests.support.offers import ANNA, BERT, MONA, Offers
from tests.support.projected import show_all
from tests.support.races import race_for_row
from workers.http.auth import Role

RESERVE, CHECK = "RESERVE_INVENTORY", "CHECK_SERVICEABILITY"


@pytest.fixture
def work(offers: Offers) -> Fulfilment:
    """An order with a case of the second level: a step was completed before it was started."""
    work = Fulfilment.running(offers)
    work.say(RESERVE, StepEvent.COMPLETE, external_event_id="e-1")
    return work


@pytest.fixture
def bert(api: Api) -> Caller:
    return api.caller(BERT, Role.FALLOUT_L2)


@pytest.fixture
def mona(api: Api) -> Caller:
    return api.caller(MONA, Role.FALLOUT_MANAGERS)


def act(caller: Caller, work: Fulfilment, what: str, body: dict[str, Any] | None = None, **options: Any) -> httpx.Response:
    case = work.case()
    options.setdefault("version", case.version)
    return caller.post(f"/fallout-cases/{case.id}/{what}", body or {}, **options)


def resolution(work: Fulfilment, name: str, **more: Any) -> dict[str, Any]:
    return {"resolution": name, "expectedStepVersion": work.step(RESERVE).version, "evidence": "seen", **more}


def test_of_two_claims_one_succeeds_and_the_other_names_the_owner(work: Fulfilment, bert: Caller, mona: Caller) -> None:
    seen = work.case().version

    claimed = act(bert, work, "claims")
    problem = is_problem(act(mona, work, "claims", version=seen), 409, "FALLOUT_CASE_CONFLICT")

    assert (claimed.status_code, claimed.json()["ownerUserId"], claimed.headers["etag"]) == (201, BERT, f'"{seen + 1}"')
    assert (problem["detail"], problem["currentVersion"]) == (f"{BERT} is working on the case.", seen + 1)


def test_of_ten_parallel_claims_one_succeeds(db: Engine, api: Api, work: Fulfilment) -> None:
    case = work.case()
    people = [f"worker {number}" for number in range(10)]
    for person in people:
        work.offers.grant_authority(person, Role.FALLOUT_L2)
    callers = [api.caller(person, Role.FALLOUT_L2) for person in people]
    claims: list[Callable[[], httpx.Response]] = [
        lambda caller=caller: caller.post(f"/fallout-cases/{case.id}/claims", {}, version=case.version)  # type: ignore[misc]
        for caller in callers
    ]

    answers = [future.result() for future in race_for_row(db, table_of(FalloutCase), case.id, *claims)]

    assert sorted(answer.status_code for answer in answers) == [201, *[409] * 9]


def test_a_resolution_lets_the_order_go_on(api: Api, work: Fulfilment, bert: Caller) -> None:
    work.complete(CHECK)
    assert work.status == "HELD"
    act(bert, work, "claims")

    answer = act(bert, work, "resolutions", resolution(work, "RETRY"))

    assert (answer.status_code, answer.json()["status"], answer.json()["stepStatus"]) == (201, "RESOLVED", "RETRYABLE")
    assert api.sales.get(f"/orders/{work.order_id}").json()["status"] == "IN_PROGRESS"


def test_a_resolution_is_carried_out_once(work: Fulfilment, bert: Caller) -> None:
    act(bert, work, "claims")
    body, version = resolution(work, "FAIL_STEP"), work.case().version

    first = act(bert, work, "resolutions", body, key="one", version=version)
    again = act(bert, work, "resolutions", body, key="one", version=version)

    assert (first.status_code, again.json(), again.headers["idempotent-replayed"]) == (201, first.json(), "true")


def test_a_person_of_a_lower_level_cannot_claim_from_a_higher_queue(api: Api, work: Fulfilment) -> None:
    is_problem(act(api.caller(ANNA, Role.FALLOUT_L1), work, "claims"), 403, "QUEUE_NOT_YOURS")


def test_a_resolution_above_ones_level_is_403(api: Api, offers: Offers) -> None:
    work = Fulfilment.contradicted(offers)
    with offers.engine.begin() as connection:
        connection.execute(table_of(FalloutCase).update().values(queue="falloutL1"))
    anna = api.caller(ANNA, Role.FALLOUT_L1)
    act(anna, work, "claims")

    is_problem(act(anna, work, "resolutions", resolution(work, "SKIP")), 403, "RESOLUTION_NEEDS_AUTHORITY")
    assert "SKIP" not in anna.get(f"/fallout-cases/{work.case().id}").json()["resolutions"]


def test_a_resolution_without_evidence_is_422(work: Fulfilment, bert: Caller) -> None:
    act(bert, work, "claims")

    is_problem(act(bert, work, "resolutions", resolution(work, "FAIL_STEP") | {"evidence": ""}), 422, "EVIDENCE_MISSING")


def test_a_resolution_on_an_older_version_of_the_step_is_409(work: Fulfilment, bert: Caller) -> None:
    act(bert, work, "claims")

    is_problem(
        act(bert, work, "resolutions", resolution(work, "FAIL_STEP") | {"expectedStepVersion": 1}), 409, "STEP_VERSION_CONFLICT"
    )


def test_a_step_is_marked_completed_by_two_people_over_http(work: Fulfilment, bert: Caller, mona: Caller) -> None:
    act(bert, work, "claims")
    body = resolution(work, "MARK_COMPLETED", externalRef="r-7")
    is_problem(act(bert, work, "resolutions", body), 409, "SECOND_PERSON_MISSING")
    proposal = act(bert, work, "proposals", body).json()["proposal"]
    assert (proposal["externalRef"], proposal["proposedBy"]) == ("r-7", BERT)

    answer = act(mona, work, "confirmations", {"proposalId": proposal["proposalId"], "text": "seen"})

    assert (answer.json()["status"], work.step(RESERVE).status, work.step(RESERVE).external_ref) == ("CLOSED", "COMPLETED", "r-7")


def test_a_second_person_declines_a_proposal_over_http(work: Fulfilment, bert: Caller, mona: Caller) -> None:
    act(bert, work, "claims")
    proposal = act(bert, work, "proposals", resolution(work, "MARK_COMPLETED", externalRef="r-7")).json()["proposal"]

    answer = act(mona, work, "declines", {"proposalId": proposal["proposalId"], "text": "not at the provider"})

    assert (answer.json()["status"], answer.json().get("proposal")) == ("IN_PROGRESS", None)


def test_several_people_work_on_one_case(api: Api, work: Fulfilment, bert: Caller) -> None:
    act(bert, work, "claims")
    ways = [
        (bert, "information-requests", {"question": "Which one?"}, "AWAITING_INFORMATION"),
        (api.sales, "information", {"information": "This one."}, "IN_PROGRESS"),
        (bert, "holds", {"reason": "until Monday"}, "ON_HOLD"),
        (bert, "resumptions", {}, "IN_PROGRESS"),
        (bert, "releases", {}, "OPEN"),
        (bert, "escalations", {}, "OPEN"),
    ]

    for caller, what, body, status in ways:
        assert act(caller, work, what, body).json()["status"] == status

    shown = bert.get(f"/fallout-cases/{work.case().id}").json()
    assert [(note["kind"], note["author"]) for note in shown["notes"]] == [
        ("INFORMATION_REQUEST", BERT),
        ("INFORMATION", "sally"),
        ("HOLD", BERT),
    ]
    assert (shown["queue"], shown["resolutions"]) == ("falloutManagers", [])


def test_cases_are_found_by_status_queue_and_order(work: Fulfilment, bert: Caller) -> None:
    found = bert.get("/fallout-cases", status="OPEN", queue="falloutL2", orderId=str(work.order_id)).json()["items"]

    assert [case["caseNumber"] for case in found] == [work.case().case_number]
    assert bert.get("/fallout-cases", queue="falloutL1").json()["items"] == []


def test_orders_are_found_by_status_and_show_why_their_steps_are_held(api: Api, work: Fulfilment) -> None:
    show_all(work.offers.engine)
    [found] = api.sales.get("/orders", status="IN_PROGRESS").json()["items"]
    body = api.sales.get(f"/orders/{work.order_id}").json()

    assert found["orderId"] == str(work.order_id)
    assert api.sales.get("/orders", status="HELD").json()["items"] == []
    [held] = [step for step in body["steps"] if step["status"] == "HELD"]
    assert (held["failureClass"], held["compensatesStepId"], held["cancelRequestedAt"]) == ("CONTRADICTION", None, None)
    assert body["ponrReached"] is False


def test_the_timeline_shows_both_facts_of_a_contradiction_with_both_clocks(api: Api, work: Fulfilment, bert: Caller) -> None:
    work.start(CHECK)
    entries = bert.get(f"/orders/{work.order_id}/timeline").json()["entries"]

    [contradiction] = [entry for entry in entries if entry["kind"] == "CONTRADICTION"]
    assert (contradiction["said"], contradiction["known"], contradiction["stepCode"]) == ("COMPLETE", "PENDING", RESERVE)
    assert [entry["at"] for entry in entries] == sorted(entry["at"] for entry in entries)
    assert {"TRANSITION", "ATTEMPT_SENT", "CONTRADICTION"} <= {entry["kind"] for entry in entries}
    assert {entry.get("aggregateType") for entry in entries if entry["kind"] == "TRANSITION"} == {
        "sales_order",
        "fulfillment_step",
        "fallout_case",
    }


def cancel(caller: Caller, work: Fulfilment, **options: Any) -> httpx.Response:
    order = work.order
    options.setdefault("version", order.version)
    body = {"expectedStatus": options.pop("status", order.status), "reason": "CHANGED_MIND"}
    return caller.post(f"/orders/{work.order_id}/cancellations", body, **options)


def test_a_customer_requests_a_cancellation_and_reads_its_status(api: Api, offers: Offers) -> None:
    work = Fulfilment.running(offers)

    requested = cancel(api.customer, work)
    work.decide(accept=True)
    work.evaluate()

    assert (requested.status_code, requested.json()["status"]) == (201, "ACKNOWLEDGED")
    [shown] = api.customer.get(f"/orders/{work.order_id}/cancellations").json()["items"]
    assert (shown["cancellationId"], shown["status"]) == (requested.json()["cancellationId"], "DONE")
    is_problem(cancel(api.customer, work), 409, "ORDER_TERMINAL")


def test_a_cancellation_must_name_the_version_and_status_of_the_order(api: Api, offers: Offers) -> None:
    work = Fulfilment.running(offers)

    is_problem(cancel(api.customer, work, version=1), 409, "ORDER_VERSION_CONFLICT")
    is_problem(cancel(api.customer, work, status="HELD"), 409, "ORDER_VERSION_CONFLICT")
    is_problem(cancel(api.customer, work, version=None), 428, "PRECONDITION_REQUIRED")
    assert cancel(api.customer, work).status_code == 201
    is_problem(cancel(api.customer, work), 409, "CANCELLATION_ALREADY_OPEN")


def test_of_two_cancellations_at_once_one_is_recorded(db: Engine, api: Api, offers: Offers) -> None:
    work = Fulfilment.running(offers)
    version = work.order.version

    with ThreadPoolExecutor(2) as pool:
        answers = list(
            pool.map(lambda caller: cancel(caller, work, version=version, status="IN_PROGRESS"), (api.customer, api.sales))
        )

    assert sorted(answer.status_code for answer in answers) == [201, 409]


def test_a_repair_is_shown_with_its_case_as_a_difference(work: Fulfilment, bert: Caller) -> None:
    claimed = act(bert, work, "claims").json()
    repair = {"field": "instructions", "old": None, "new": "Ring twice"}

    resolved = act(bert, work, "resolutions", resolution(work, "REPAIR_AND_RETRY", repairs=[repair]))

    assert claimed["request"] == {"productOfferingId": "ROUTER_PRO", "quantity": 1, "instructions": None}
    [shown] = resolved.json()["repairs"]
    assert (resolved.status_code, {name: shown[name] for name in repair}, shown["repairedBy"]) == (201, repair, BERT)


@pytest.mark.parametrize(
    ("repairs", "code"),
    [([], "REPAIR_MISSING"), ([{"field": "quantity", "old": 1, "new": 9}], "REPAIR_NOT_FITTING")],
)
def test_a_repair_that_names_nothing_or_does_not_fit_is_refused(
    work: Fulfilment, bert: Caller, repairs: list[dict[str, Any]], code: str
) -> None:
    act(bert, work, "claims")

    refused = act(bert, work, "resolutions", resolution(work, "REPAIR_AND_RETRY", repairs=repairs))

    is_problem(refused, 422, code)
    assert work.case().status == "IN_PROGRESS"


def test_a_failed_start_is_asked_for_again_over_http(offers: Offers, bert: Caller) -> None:
    work = Fulfilment(offers, offers.accepted_quote().order_id)
    key = key_of(Kind.ORDER, offers.tenant_id, work.order_id)
    with offers.uow("dispatch") as uow:
        starts.start_refused(uow, key)
        given_up.open_case(uow, key, "The engine does not start it: no", {"last_reason": "no"})
    shown = act(bert, work, "claims").json()
    assert (shown["businessKey"], shown["evidence"]["lastReason"], shown["resolutions"]) == (key, "no", ["RETRY", "KEEP_AS_IS"])

    resolved = act(bert, work, "resolutions", {"resolution": "RETRY"})

    with offers.uow() as uow:
        assert (resolved.status_code, resolved.json()["status"], starts.status_of(uow, key)) == (201, "CLOSED", "REQUESTED")
