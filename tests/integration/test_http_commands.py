"""From a quote to an order over HTTP, step by step. Each command must name version, revision, price and approval."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, select

from domain.catalog import CATALOG, SUPPORT
from domain.offers import approvals
from domain.store import table_of
from domain.store.facts import ConflictLog, WorkflowCommand
from tests.support.database import count
from tests.support.http import (
    Api,
    accept,
    acceptance,
    decide,
    edit,
    is_problem,
    named,
    new_quote,
    opened,
    priced,
)
from tests.support.offers import APPROVER, OWNER, SIGNATURE, Offers
from tests.support.projected import show_all
from workers.http.auth import Role


class TestTheWholeWay:
    def test_a_quote_becomes_an_order(self, api: Api, offers: Offers) -> None:
        quote = priced(api.sales, opened(api))
        path = f"/quotes/{quote['quoteId']}"
        submission = named(quote, "revisionId", "configResultId", "priceResultId")
        submitted = api.sales.post(f"{path}/submissions", submission, version=quote["version"])
        assert (submitted.status_code, submitted.json()["status"]) == (201, "SUBMITTED_FOR_APPROVAL")
        offers.open_requirements(offers.quote(UUID(quote["quoteId"])), SIGNATURE)
        [task] = api.approver.get("/approval-tasks", status="open").json()["items"]
        decision = named(task, "requirementId", "quoteRevisionId", "priceResultId") | {
            "expectedRequirementVersion": task["requirementVersion"],
            "decision": "APPROVE",
            "reasonCode": "WITHIN_POLICY",
        }
        decided = api.approver.post(f"/approval-tasks/{task['taskId']}/decisions", decision)
        assert (decided.status_code, decided.json()["quoteStatus"]) == (201, "APPROVED")
        quote = api.sales.get(path).json()
        document = api.sales.post(f"{path}/documents", named(quote, "revisionId", "priceResultId"), version=quote["version"])
        assert document.status_code == 201
        offer = offers.quote(UUID(quote["quoteId"]))
        assert str(offer.document_id) == document.json()["documentId"]

        accepted = accept(api.customer, offer)

        assert accepted.status_code == 201, accepted.text
        order = api.customer.get(accepted.headers["Location"]).json()
        assert (order["status"], order["quoteId"]) == ("CREATED", quote["quoteId"])
        assert api.customer.get(path).json()["orderId"] == order["orderId"]
        show_all(offers.engine)
        assert [found["orderId"] for found in api.customer.get("/orders", quoteId=quote["quoteId"]).json()["items"]] == [
            order["orderId"]
        ]

    def test_a_quote_shows_the_order_of_its_own_acceptance_and_none_before(self, api: Api, offers: Offers) -> None:
        waiting, bought = offers.approved_quote(), offers.approved_quote()

        order_id = accept(api.customer, bought).json()["orderId"]

        assert api.sales.get(f"/quotes/{bought.quote_id}").json()["orderId"] == order_id
        assert api.sales.get(f"/quotes/{waiting.quote_id}").json()["orderId"] is None

    def test_the_owner_is_the_subject_and_the_version_travels_as_etag(self, api: Api) -> None:
        response = api.sales.post("/quotes", new_quote())

        quote = response.json()
        assert quote["ownerUserId"] == OWNER
        assert response.headers["ETag"] == '"1"'
        assert response.headers["Location"] == f"/quotes/{quote['quoteId']}"
        assert api.sales.get(response.headers["Location"]).headers["ETag"] == '"1"'

    def test_an_edit_changes_adds_and_removes_lines(self, api: Api) -> None:
        quote = opened(api)
        added = {"productOfferingId": SUPPORT, "quantity": 2, "termMonths": 12}
        changes = edit(quote, lines=[{"lineNo": 1, "discountPercent": 12.5}], addLines=[added], removeLines=[2], termMonths=24)

        response = api.sales.patch(f"/quotes/{quote['quoteId']}", changes, version=1)

        assert response.status_code == 200, response.text
        lines = [(line["lineNo"], line["discountPercent"], line["termMonths"]) for line in response.json()["lines"]]
        assert lines == [(1, "12.50", 24), (3, "0.00", 24)]
        assert response.headers["ETag"] == '"2"'

    def test_an_edit_after_approval_makes_the_next_revision_and_voids_the_approval(self, api: Api, offers: Offers) -> None:
        offer = offers.approved_quote()

        edited = api.sales.patch(f"/quotes/{offer.quote_id}", edit(offer.ids, termMonths=24), version=offer.version)

        assert (edited.json()["revisionNo"], edited.json()["status"], edited.json()["approvalRequestId"]) == (2, "DRAFT", None)
        stale = accept(api.customer, offer, version=edited.json()["version"])
        assert is_problem(stale, 409, "STALE_APPROVAL")["safeUserAction"] == "REQUEST_APPROVAL"

    def test_a_decision_completes_the_task_of_the_engine_in_the_same_transaction(
        self, api: Api, offers: Offers, db: Engine
    ) -> None:
        offer = offers.quote_in_approval()
        [requirement_id] = offers.requirement_ids(offer)

        decide(api.approver, offer, requirement_id)

        command = table_of(WorkflowCommand)
        with db.connect() as connection:
            completion = connection.execute(select(*command.c).where(command.c.kind == "COMPLETE_TASK")).one()
        assert completion.business_key == approvals.business_key(offers.tenant_id, requirement_id)
        assert (completion.name, completion.variables["decision"]) == ("approve-quote", "APPROVE")


class TestPreconditions:
    def test_a_missing_version_is_428(self, api: Api) -> None:
        quote = opened(api)

        is_problem(api.sales.patch(f"/quotes/{quote['quoteId']}", edit(quote)), 428, "PRECONDITION_REQUIRED")

    @pytest.mark.parametrize("tag", ["17", 'W/"17"', "*", '"1", "2"', '"one"', '""', '"9999999999999999999"'])
    def test_an_etag_that_does_not_name_one_version_is_400(self, api: Api, tag: str) -> None:
        quote = opened(api)

        response = api.sales.patch(f"/quotes/{quote['quoteId']}", edit(quote), **{"If-Match": tag})

        is_problem(response, 400, "PRECONDITION_INVALID")

    def test_a_stale_version_is_409_with_advice(self, api: Api, db: Engine) -> None:
        quote = opened(api)
        path = f"/quotes/{quote['quoteId']}"
        api.sales.patch(path, edit(quote, termMonths=24), version=1)
        conflicts = api.metric("q2o_optimistic_lock_conflicts_total", aggregate_type="quote", command="edit-quote")

        response = api.sales.patch(path, edit(quote, termMonths=36), version=1)

        assert is_problem(response, 409, "QUOTE_VERSION_CONFLICT") == {
            "type": "https://errors.example.com/quote-version-conflict",
            "title": "Quote has changed",
            "status": 409,
            "code": "QUOTE_VERSION_CONFLICT",
            "detail": "The quote has changed since this version of it was read.",
            "quoteId": quote["quoteId"],
            "expectedVersion": 1,
            "currentVersion": 2,
            "safeUserAction": "RELOAD_AND_REAPPLY",
        }
        assert api.metric("q2o_optimistic_lock_conflicts_total", aggregate_type="quote", command="edit-quote") == conflicts + 1
        assert count(db, ConflictLog) == 1

    def test_a_stale_revision_is_409(self, api: Api) -> None:
        quote = opened(api)
        body = edit(quote) | {"expectedRevisionId": str(uuid4())}

        is_problem(api.sales.patch(f"/quotes/{quote['quoteId']}", body, version=1), 409, "STALE_REVISION")

    def test_a_stale_price_is_409_and_counted_by_policy(self, api: Api, offers: Offers) -> None:
        offer = offers.approved_quote(policy="REPRICE_REQUIRED_ON_PUBLISH")
        offers.publish_prices("p-45", replaces="p-44")
        labels = {"command": "accept-quote", "policy": "REPRICE_REQUIRED_ON_PUBLISH"}
        stale = api.metric("q2o_stale_price_rejections_total", **labels)

        response = accept(api.customer, offer)

        assert is_problem(response, 409, "STALE_PRICE")["safeUserAction"] == "REPRICE"
        assert api.metric("q2o_stale_price_rejections_total", **labels) == stale + 1

    def test_a_document_of_another_quote_is_a_mismatch(self, api: Api, offers: Offers) -> None:
        offer, other = offers.approved_quote(), offers.approved_quote()
        body = acceptance(offer) | {"documentId": str(other.document_id)}

        response = api.customer.post(f"/quotes/{offer.quote_id}/acceptances", body, version=offer.version)

        is_problem(response, 409, "DOCUMENT_MISMATCH")

    def test_a_price_of_an_older_catalog_is_refused(self, api: Api) -> None:
        quote = opened(api)
        body = {"configResultId": quote["configResultId"], "catalogVersion": f"{CATALOG.catalog_version}-older"}

        response = api.sales.post(f"/quotes/{quote['quoteId']}/price", body, version=1)

        assert is_problem(response, 409, "CATALOG_CHANGED")["safeUserAction"] == "RECONFIGURE"

    def test_a_command_in_the_wrong_state_is_409_and_counted(self, api: Api, offers: Offers) -> None:
        offer = offers.submitted_quote()
        labels = {"aggregate_type": "quote", "code": "INVALID_TRANSITION", "event": "SUBMIT", "from_state": offer.status}
        rejected = api.metric("q2o_transition_rejections_total", **labels)
        body = named(offer.ids, "revisionId", "configResultId", "priceResultId")

        response = api.sales.post(f"/quotes/{offer.quote_id}/submissions", body, version=offer.version)

        is_problem(response, 409, "INVALID_TRANSITION")
        assert api.metric("q2o_transition_rejections_total", **labels) == rejected + 1


class TestApprovals:
    def test_a_requirement_is_decided_once(self, api: Api, offers: Offers) -> None:
        offer = offers.quote_in_approval()
        [requirement_id] = offers.requirement_ids(offer)
        decide(api.approver, offer, requirement_id)

        response = decide(api.caller("rudi", Role.APPROVER_RSM), offer, requirement_id)

        is_problem(response, 409, "APPROVAL_ALREADY_DECIDED")

    def test_the_owner_of_a_quote_does_not_approve_it(self, api: Api, offers: Offers) -> None:
        offer = offers.quote_in_approval()
        [requirement_id] = offers.requirement_ids(offer)

        response = decide(api.caller(OWNER, Role.SALES_AGENT, Role.APPROVER_RSM), offer, requirement_id)

        is_problem(response, 403, "FOUR_EYES_VIOLATION")

    def test_another_group_lacks_the_authority(self, api: Api, offers: Offers) -> None:
        offer = offers.quote_in_approval()
        [requirement_id] = offers.requirement_ids(offer)

        response = decide(api.caller("leo", Role.APPROVER_LEGAL), offer, requirement_id)

        assert is_problem(response, 403, "AUTHORITY_EXCEEDED")["safeUserAction"] == "ASK_SOMEONE_WITH_AUTHORITY"

    def test_a_decision_on_another_price_is_stale(self, api: Api, offers: Offers) -> None:
        offer = offers.quote_in_approval()
        [requirement_id] = offers.requirement_ids(offer)
        stale = api.metric("q2o_stale_approval_rejections_total", command="decide-approval")

        response = decide(api.approver, offer, requirement_id, priceResultId=str(uuid4()))

        is_problem(response, 409, "STALE_APPROVAL")
        assert api.metric("q2o_stale_approval_rejections_total", command="decide-approval") == stale + 1

    def test_a_decision_on_another_version_of_the_requirement_is_stale(self, api: Api, offers: Offers) -> None:
        offer = offers.quote_in_approval()
        [requirement_id] = offers.requirement_ids(offer)

        is_problem(decide(api.approver, offer, requirement_id, expectedRequirementVersion=2), 409, "STALE_APPROVAL")

    def test_path_and_body_must_name_the_same_task(self, api: Api, offers: Offers) -> None:
        offer = offers.quote_in_approval()
        [requirement_id] = offers.requirement_ids(offer)

        is_problem(decide(api.approver, offer, requirement_id, requirementId=str(uuid4())), 422, "OTHER_TASK")

    def test_an_approver_sees_the_tasks_of_their_own_roles_only(self, api: Api, offers: Offers) -> None:
        offers.quote_in_approval()

        assert len(api.caller(APPROVER, Role.APPROVER_RSM).get("/approval-tasks").json()["items"]) == 1
        assert api.caller("leo", Role.APPROVER_LEGAL).get("/approval-tasks").json()["items"] == []
