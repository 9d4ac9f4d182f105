"""Authority over HTTP: granting, delegating, revoking; which signatures a grant allows; and the explanation of an approval."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.http import ADMINISTRATOR, Api, Caller, decide, is_problem
from tests.support.offers import Offers
from workers.http.auth import Role

GRANTS = "/authority-grants"
END = "2100-01-01T00:00:00+00:00"


def grant(api: Api, subject: str, **changes: Any) -> dict[str, Any]:
    """Grant as much as one administrator may grant alone."""
    limits = {"maxDiscountPercent": "25", "maxDealAmount": "100000"}
    answer = api.administrator.post(GRANTS, {"subject": subject, "role": Role.APPROVER_RSM, **limits, **changes})
    assert answer.status_code == 201, answer.text
    given: dict[str, Any] = answer.json()
    return given


def rsm(api: Api, subject: str) -> Caller:
    return api.caller(subject, Role.APPROVER_RSM)


def delegate(api: Api, given: dict[str, Any], to: str, **changes: Any) -> Any:
    body = {"subject": to, "validUntil": END, **changes}
    return rsm(api, given["subject"]).post(f"{GRANTS}/{given['grantId']}/delegations", body, version=given["version"])


def revoke(caller: Caller, given: dict[str, Any]) -> Any:
    return caller.post(f"{GRANTS}/{given['grantId']}/revocations", {}, version=given["version"])


class TestGrants:
    def test_a_grant_lets_its_subject_sign(self, api: Api, offers: Offers) -> None:
        offer = offers.quote_in_approval()
        [requirement_id] = offers.requirement_ids(offer)
        is_problem(decide(rsm(api, "nils"), offer, requirement_id), 403, "AUTHORITY_EXCEEDED")

        given = grant(api, "nils", maxDealAmount="50000", region="EU")

        assert (given["status"], given["version"], given["maxDealAmount"]) == ("ACTIVE", 1, "50000.00")
        assert decide(rsm(api, "nils"), offer, requirement_id).status_code == 201

    @pytest.mark.parametrize("limit", [{"maxDiscountPercent": "19.99"}, {"maxDealAmount": "0.01"}, {"region": "elsewhere"}])
    def test_a_grant_with_a_lower_limit_does_not_let_its_subject_sign(
        self, api: Api, offers: Offers, limit: dict[str, str]
    ) -> None:
        offer = offers.quote_in_approval()
        [requirement_id] = offers.requirement_ids(offer)
        grant(api, "nils", **limit)

        is_problem(decide(rsm(api, "nils"), offer, requirement_id), 403, "AUTHORITY_EXCEEDED")

    @pytest.mark.parametrize(
        "changes", [{"role": "salesAgent"}, {"maxDiscountPercent": 101}, {"validFrom": END, "validUntil": END}, {"subject": ""}]
    )
    def test_an_invalid_grant_is_422(self, api: Api, changes: dict[str, Any]) -> None:
        body = {"subject": "nils", "role": Role.APPROVER_RSM, "maxDiscountPercent": "25", **changes}

        assert api.administrator.post(GRANTS, body).status_code == 422

    def test_an_administrator_finds_the_grants_of_a_subject(self, api: Api) -> None:
        given = grant(api, "nils")

        assert api.administrator.get(GRANTS, subject="nils").json() == {"items": [given], "next": None}

    def test_an_approver_sees_their_own_grants_and_their_delegations(self, api: Api) -> None:
        given = grant(api, "nils")
        passed_on = delegate(api, given, "olga").json()
        grant(api, "somebody else")

        assert {item["grantId"] for item in rsm(api, "nils").get(GRANTS).json()["items"]} == {
            given["grantId"],
            passed_on["grantId"],
        }
        assert rsm(api, "nils").get(GRANTS, subject="somebody else").json()["items"] == []

    def test_grants_come_in_pages(self, api: Api) -> None:
        made = {grant(api, f"nils-{number}")["grantId"] for number in range(3)} | {
            item["grantId"] for item in api.administrator.get(GRANTS).json()["items"]
        }

        first = api.administrator.get(GRANTS, limit=len(made) - 2).json()
        second = api.administrator.get(GRANTS, limit=2, after=first["next"]).json()

        assert {item["grantId"] for item in first["items"] + second["items"]} == made
        assert second["next"] is None


def confirm(caller: Caller, given: dict[str, Any]) -> Any:
    return caller.post(f"{GRANTS}/{given['grantId']}/confirmations", {}, version=given["version"])


class TestTwoAdministrators:
    @pytest.mark.parametrize("wide", [{"maxDiscountPercent": "25.01"}, {"maxDealAmount": "100000.01"}, {"maxDealAmount": None}])
    def test_a_wide_grant_counts_after_a_second_administrator_has_confirmed_it(
        self, api: Api, offers: Offers, wide: dict[str, Any]
    ) -> None:
        offer = offers.quote_in_approval()
        [requirement_id] = offers.requirement_ids(offer)
        given = grant(api, "nils", **wide)
        assert (given["status"], given["grantedBy"], given["confirmedBy"]) == ("PROPOSED", ADMINISTRATOR, None)
        is_problem(decide(rsm(api, "nils"), offer, requirement_id), 403, "AUTHORITY_EXCEEDED")

        confirmed = confirm(api.caller("second admin", Role.AUTHORITY_ADMIN), given).json()

        assert (confirmed["status"], confirmed["confirmedBy"]) == ("ACTIVE", "second admin")
        assert decide(rsm(api, "nils"), offer, requirement_id).status_code == 201

    def test_whoever_proposed_a_grant_does_not_confirm_it(self, api: Api) -> None:
        given = grant(api, "nils", maxDealAmount=None)

        is_problem(confirm(api.administrator, given), 403, "SECOND_ADMINISTRATOR_MISSING")

    def test_nobody_grants_confirms_or_delegates_authority_to_themselves(self, api: Api) -> None:
        nils = api.caller("nils", Role.AUTHORITY_ADMIN, Role.APPROVER_RSM)
        is_problem(nils.post(GRANTS, {"subject": "nils", "role": Role.APPROVER_RSM}), 403, "OWN_AUTHORITY")
        is_problem(confirm(nils, grant(api, "nils", maxDealAmount=None)), 403, "OWN_AUTHORITY")
        is_problem(delegate(api, grant(api, "nils"), "nils"), 403, "OWN_AUTHORITY")

    def test_one_administrator_is_enough_for_a_case_worker(self, api: Api) -> None:
        given = api.administrator.post(GRANTS, {"subject": "anton", "role": Role.FALLOUT_L1}).json()

        assert (given["status"], given["maxDiscountPercent"]) == ("ACTIVE", "0.00")

    def test_a_confirmed_grant_is_not_confirmed_again(self, api: Api) -> None:
        confirmed = confirm(api.caller("second admin", Role.AUTHORITY_ADMIN), grant(api, "nils", maxDealAmount=None)).json()

        is_problem(confirm(api.caller("third admin", Role.AUTHORITY_ADMIN), confirmed), 409, "INVALID_TRANSITION")


class TestDelegations:
    def test_the_holder_of_a_grant_delegates_it(self, api: Api, offers: Offers) -> None:
        given = grant(api, "nils", region="EU")

        answer = delegate(api, given, "olga", maxDiscountPercent="20")

        passed_on = answer.json()
        assert (answer.status_code, passed_on["delegatedBy"], passed_on["delegatedFrom"]) == (201, "nils", given["grantId"])
        assert (passed_on["maxDiscountPercent"], passed_on["region"]) == ("20.00", "EU")
        offer = offers.quote_in_approval()
        [requirement_id] = offers.requirement_ids(offer)
        assert decide(rsm(api, "olga"), offer, requirement_id).status_code == 201

    def test_a_grant_of_somebody_else_cannot_be_delegated(self, api: Api) -> None:
        given = grant(api, "nils")

        is_problem(delegate(api, {**given, "subject": "olga"}, "olga"), 403, "NOT_YOUR_AUTHORITY")

    def test_a_delegation_is_not_wider_than_its_grant(self, api: Api) -> None:
        is_problem(delegate(api, grant(api, "nils"), "olga", maxDiscountPercent="26"), 409, "DELEGATION_TOO_WIDE")

    def test_a_delegation_cannot_be_delegated(self, api: Api) -> None:
        passed_on = delegate(api, grant(api, "nils"), "olga").json()

        is_problem(delegate(api, passed_on, "pia"), 409, "AUTHORITY_NOT_DELEGABLE")

    def test_a_stale_version_is_409(self, api: Api) -> None:
        problem = is_problem(delegate(api, {**grant(api, "nils"), "version": 7}, "olga"), 409, "GRANT_VERSION_CONFLICT")

        assert (problem["expectedVersion"], problem["currentVersion"]) == (7, 1)


class TestRevocations:
    def test_neither_a_revoked_grant_nor_its_delegation_lets_anybody_sign(self, api: Api, offers: Offers) -> None:
        given = grant(api, "nils")
        delegate(api, given, "olga")
        offer = offers.quote_in_approval()
        [requirement_id] = offers.requirement_ids(offer)

        revoked = revoke(api.administrator, given)

        assert (revoked.status_code, revoked.json()["status"], revoked.headers["ETag"]) == (201, "REVOKED", '"2"')
        for subject in ("nils", "olga"):
            is_problem(decide(rsm(api, subject), offer, requirement_id), 403, "AUTHORITY_EXCEEDED")

    def test_the_delegator_revokes_a_delegation(self, api: Api) -> None:
        passed_on = delegate(api, grant(api, "nils"), "olga").json()

        assert revoke(rsm(api, "nils"), passed_on).json()["status"] == "REVOKED"

    def test_the_holder_of_a_grant_does_not_revoke_it(self, api: Api) -> None:
        is_problem(revoke(rsm(api, "nils"), grant(api, "nils")), 403, "NOT_YOUR_AUTHORITY")

    def test_a_revoked_grant_cannot_be_revoked_again(self, api: Api) -> None:
        revoked = revoke(api.administrator, grant(api, "nils")).json()

        is_problem(revoke(api.administrator, revoked), 409, "INVALID_TRANSITION")


class TestExplanations:
    def test_a_decision_is_explained_with_its_rule_its_signer_and_their_authority_at_that_time(
        self, api: Api, offers: Offers
    ) -> None:
        given = grant(api, "nils", region="EU")
        passed_on = delegate(api, given, "olga").json()
        offer = offers.quote_in_approval()
        [requirement_id] = offers.requirement_ids(offer)
        decide(rsm(api, "olga"), offer, requirement_id, comment="Three sites follow.")
        revoke(api.administrator, given)

        [request] = api.sales.get(f"/quotes/{offer.quote_id}/approvals").json()["items"]

        assert (request["status"], request["revisionNo"], request["priceResultId"]) == ("APPROVED", 1, str(offer.price_result_id))
        [requirement] = request["requirements"]
        assert requirement["because"]
        decision = requirement["decision"]
        assert (decision["decision"], decision["decidedBy"], decision["comment"]) == ("APPROVE", "olga", "Three sites follow.")
        assert decision["authoritySnapshot"] == {
            "grantId": passed_on["grantId"],
            "role": "approverRsm",
            "roles": ["approverRsm"],
            "region": "EU",
            "productFamily": None,
            "maxDiscountPercent": "25.00",
            "maxDealAmount": "100000.00",
            "minAuthority": "20.00",
            "delegatedBy": "nils",
        }

    def test_revisions_are_explained_in_pages_newest_first(self, api: Api, offers: Offers) -> None:
        first = offers.quote_in_approval()
        recalled = api.sales.post(
            f"/quotes/{first.quote_id}/recalls",
            {"revisionId": str(first.revision_id), "reasonCode": "AGAIN"},
            version=first.version,
        )
        assert recalled.status_code == 201
        offers.open_requirements(offers.submit(offers.price(offers.quote(first.quote_id))))
        path = f"/quotes/{first.quote_id}/approvals"

        newest = api.approver.get(path, limit=1).json()
        oldest = api.approver.get(path, limit=1, after=newest["next"]).json()

        assert [(item["revisionNo"], item["status"]) for item in newest["items"] + oldest["items"]] == [
            (2, "APPROVED"),
            (1, "RECALLED"),
        ]
        assert newest["items"][0]["requirements"] == []
        assert oldest["next"] is None


def test_approval_tasks_come_in_pages_most_urgent_first(api: Api, offers: Offers) -> None:
    made = [str(offers.requirement_ids(offers.quote_in_approval())[0]) for _ in range(3)]

    first = api.approver.get("/approval-tasks", limit=2).json()
    # The last one of the page is decided before the next page is asked for.
    offer = next(offers.quote(item["quoteId"]) for item in first["items"] if item["taskId"] == first["next"])
    decide(api.approver, offer, offers.requirement_ids(offer)[0])
    second = api.approver.get("/approval-tasks", limit=2, after=first["next"]).json()

    assert [item["taskId"] for item in first["items"] + second["items"]] == made
    assert second["next"] is None
