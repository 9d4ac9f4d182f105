"""Authority grants: their limits, their delegation, and the copy of a grant in a decision."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Row, select

from domain import granting
from domain.errors import Invalid
from domain.offers.approvals import ApprovalDecision, AuthorityExceeded, FourEyesViolation
from domain.offers.quotes import QuoteStatus
from domain.store import table_of
from tests.support.as_read import Offer
from tests.support.offers import APPROVER, OWNER, Offers

DEPUTY = "dora"


def in_time(**delta: float) -> datetime:
    return datetime.now(UTC) + timedelta(**delta)


def sign(offers: Offers, offer: Offer, by: str) -> Offer:
    return offers.decide(offer, offers.requirement_ids(offer)[0], by=by)


def delegate(offers: Offers, grant: Row[Any], **changes: Any) -> Row[Any]:
    given = {"delegated_by": grant.subject, "subject": DEPUTY, "valid_until": in_time(days=7), **changes}
    with offers.uow(grant.subject) as uow:
        return granting.delegate(uow, granting.DelegateAuthority(grant_id=grant.id, expected_version=grant.version, **given))


def revoke(offers: Offers, grant: Row[Any], by: str = "admin", *, as_administrator: bool = True) -> None:
    with offers.uow(by) as uow:
        command = granting.RevokeAuthority(
            grant_id=grant.id, expected_version=grant.version, revoked_by=by, as_administrator=as_administrator
        )
        granting.revoke(uow, command)


def snapshot(offers: Offers) -> dict[str, Any]:
    with offers.engine.connect() as connection:
        kept: dict[str, Any] = connection.execute(select(table_of(ApprovalDecision).c.authority_snapshot)).scalar_one()
    return kept


def test_a_decision_has_a_copy_of_the_authority_that_it_was_made_with(offers: Offers) -> None:
    grant = offers.grant_authority("sara", region="EU", max_discount_percent=Decimal(25), max_deal_amount=Decimal(50_000))

    approved = sign(offers, offers.quote_in_approval(), by="sara")

    assert approved.status == QuoteStatus.APPROVED
    assert snapshot(offers) == {
        "grantId": str(grant.id),
        "role": "approverRsm",
        "region": "EU",
        "productFamily": None,
        "maxDiscountPercent": "25.00",
        "maxDealAmount": "50000.00",
        "delegatedBy": None,
        "minAuthority": "20.00",
        "roles": ["approverRsm"],
    }


@pytest.mark.parametrize(
    "limit",
    [
        {"max_discount_percent": Decimal(19)},
        {"max_deal_amount": Decimal(10)},
        {"region": "APAC"},
        {"product_family": "SERVICE"},
        {"role": "approverDirector"},
        {"valid_from": datetime(2999, 1, 1, tzinfo=UTC)},
    ],
    ids=lambda limit: next(iter(limit)),
)
def test_a_signature_reaches_no_further_than_its_grant(offers: Offers, limit: dict[str, Any]) -> None:
    offers.grant_authority("sara", **limit)

    with pytest.raises(AuthorityExceeded):
        sign(offers, offers.quote_in_approval(), by="sara")


@pytest.mark.parametrize(
    ("granted", "sentence"),
    [
        ({"region": "APAC"}, "Your authority does not reach as far as this requirement demands."),
        (None, "You have no authority grant for the role approverRsm: ask an administrator for one."),
        ({"role": "approverDirector"}, "You have no authority grant for the role approverRsm: ask an administrator for one."),
        ({"valid_from": in_time(days=1)}, "You have no authority grant for the role approverRsm: ask an administrator for one."),
    ],
)
def test_a_refused_signature_says_whether_there_is_a_grant(offers: Offers, granted: dict[str, Any] | None, sentence: str) -> None:
    if granted is not None:
        offers.grant_authority("sara", **granted)

    with pytest.raises(AuthorityExceeded) as refusal:
        sign(offers, offers.quote_in_approval(), by="sara")

    assert str(refusal.value) == sentence


def test_a_grant_that_has_ended_allows_no_signature(offers: Offers) -> None:
    offers.grant_authority("sara", valid_from=in_time(days=-7), valid_until=in_time(days=-1))

    with pytest.raises(AuthorityExceeded):
        sign(offers, offers.quote_in_approval(), by="sara")


def test_the_widest_grant_that_reaches_far_enough_is_recorded(offers: Offers) -> None:
    offers.grant_authority("sara", max_discount_percent=Decimal(90), region="APAC")
    offers.grant_authority("sara", max_discount_percent=Decimal(20), region="EU")
    wide = offers.grant_authority("sara", max_discount_percent=Decimal(40))

    sign(offers, offers.quote_in_approval(), by="sara")

    assert snapshot(offers)["grantId"] == str(wide.id)


def test_a_deputy_signs_with_the_delegation_and_the_decision_names_the_delegator(offers: Offers) -> None:
    own = offers.grant_authority("sara", max_discount_percent=Decimal(40))
    delegate(offers, own, max_discount_percent=Decimal(20))

    sign(offers, offers.quote_in_approval(), by=DEPUTY)

    kept = snapshot(offers)
    assert (kept["delegatedBy"], kept["maxDiscountPercent"]) == ("sara", "20.00")


def test_the_owner_of_a_quote_does_not_sign_it_through_a_deputy(offers: Offers) -> None:
    delegate(offers, offers.grant_authority(OWNER))

    with pytest.raises(AuthorityExceeded):
        sign(offers, offers.quote_in_approval(), by=DEPUTY)


def test_the_owner_of_a_quote_does_not_sign_it_with_a_grant_of_their_own(offers: Offers) -> None:
    offers.grant_authority(OWNER)

    with pytest.raises(FourEyesViolation):
        sign(offers, offers.quote_in_approval(), by=OWNER)


@pytest.mark.parametrize(
    "wider",
    [
        {"max_discount_percent": Decimal(41)},
        {"max_deal_amount": Decimal(1001)},
        {"valid_until": datetime(2999, 1, 1, tzinfo=UTC)},
    ],
    ids=lambda wider: next(iter(wider)),
)
def test_a_delegation_is_not_wider_than_its_grant(offers: Offers, wider: dict[str, Any]) -> None:
    own = offers.grant_authority(
        "sara", max_discount_percent=Decimal(40), max_deal_amount=Decimal(1000), valid_until=in_time(days=30)
    )

    with pytest.raises(granting.DelegationTooWide):
        delegate(offers, own, **wider)


def test_only_the_holder_of_a_grant_delegates_it_and_a_delegation_is_not_delegated(offers: Offers) -> None:
    own = offers.grant_authority("sara")
    deputy = delegate(offers, own)

    with pytest.raises(granting.AuthorityNotDelegable):
        delegate(offers, deputy, subject="dan")
    with pytest.raises(granting.NotYourAuthority):
        delegate(offers, own, delegated_by="dan")


def test_a_revocation_ends_the_delegations_of_the_grant_and_keeps_what_was_signed(offers: Offers) -> None:
    own = offers.grant_authority("sara")
    delegate(offers, own)
    approved = sign(offers, offers.quote_in_approval(), by=DEPUTY)

    revoke(offers, own)

    assert offers.quote(approved.quote_id).status == QuoteStatus.APPROVED
    for signer in ("sara", DEPUTY):
        with pytest.raises(AuthorityExceeded):
            sign(offers, offers.quote_in_approval(), by=signer)


def test_only_the_delegator_and_an_administrator_revoke_a_delegation(offers: Offers) -> None:
    own = offers.grant_authority("sara")
    deputy = delegate(offers, own)

    for by in (DEPUTY, APPROVER):
        with pytest.raises(granting.NotYourAuthority):
            revoke(offers, deputy, by, as_administrator=False)
    revoke(offers, deputy, "sara", as_administrator=False)
    with pytest.raises(AuthorityExceeded):
        sign(offers, offers.quote_in_approval(), by=DEPUTY)


def test_authority_does_not_end_before_it_begins(offers: Offers) -> None:
    with pytest.raises(Invalid):
        offers.grant_authority("sara", valid_from=in_time(days=2), valid_until=in_time(days=1))
    with pytest.raises(Invalid):
        delegate(offers, offers.grant_authority("sara"), valid_until=in_time(days=-1))


def test_authority_of_one_tenant_does_not_count_in_another(offers: Offers) -> None:
    stranger = Offers(offers.engine, UUID(int=7))
    stranger.publish_prices()

    with pytest.raises(AuthorityExceeded):
        sign(stranger, stranger.quote_in_approval(), by=APPROVER)
