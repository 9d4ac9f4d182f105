"""The limits of an authority grant, for a signature and for a delegation: one story for each limit."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from domain.offers.approvals import RECALL_REQUEST
from tests.mutants.conditions import ON, REACHING
from tests.mutants.stories.approving import DECISION_OF_ITS_QUOTE, apply
from tests.mutants.stories.authority import in_hours, read
from tests.mutants.stories.commands import decide, delegate, revoke
from tests.mutants.stories.escalating import hand_on
from tests.mutants.telling import Tell, allowed_by, refused_by
from tests.mutants.trial import Trial
from tests.support.offers import OWNER, SIGNATURE

SIGNER = "robin"
NOT_ASKED = "approval_requirement.hand_on/NOT_ASKED#2"
TOO_WIDE = "authority_grant.delegate/DELEGATION_TOO_WIDE"
NOT_DELEGABLE = "authority_grant.delegate/AUTHORITY_NOT_DELEGABLE"
OF_THIS_OFFER = "approval_requirement.*/STALE_APPROVAL"
EARLIER_LEVEL = "approval_requirement.*/EARLIER_LEVEL_OPEN"
DECISION_OF_ITS_PRICE = "fk_approval_decision_tenant_id_quote_revision_id_price__6a38"


def a_grant_of_somebody_else(trial: Trial) -> None:
    sign(trial)


def a_grant_that_was_revoked(trial: Trial) -> None:
    revoke(trial, trial.grant_authority(SIGNER))
    sign(trial)


def a_grant_that_the_owner_of_the_quote_delegated(trial: Trial) -> None:
    delegate(trial, trial.grant_authority(OWNER), subject=SIGNER, valid_until=in_hours(8))
    sign(trial)


def a_grant_for_another_role(trial: Trial) -> None:
    sign_within(trial, role="approverDirector")


def a_grant_for_another_region(trial: Trial) -> None:
    sign_within(trial, region="US")


def a_grant_for_other_products(trial: Trial) -> None:
    sign_within(trial, product_family="SERVICE")


def a_grant_for_less_discount(trial: Trial) -> None:
    sign_within(trial, max_discount_percent=Decimal("19.99"))


def a_grant_for_smaller_deals(trial: Trial) -> None:
    sign_within(trial, max_deal_amount=Decimal(1))


def a_grant_that_has_not_begun(trial: Trial) -> None:
    sign_within(trial, valid_from=in_hours(1))


def a_grant_that_has_ended(trial: Trial) -> None:
    sign_within(trial, valid_from=in_hours(-2), valid_until=in_hours(-1))


def sign_within(trial: Trial, **limits: Any) -> None:
    trial.grant_authority(SIGNER, **limits)
    sign(trial)


def sign(trial: Trial) -> None:
    offer = trial.quote_in_approval()
    [requirement_id] = trial.requirement_ids(offer)
    decide(trial, offer, requirement_id, decided_by=SIGNER)


LIMITS: dict[str, Tell] = {
    "subject": a_grant_of_somebody_else,
    "status": a_grant_that_was_revoked,
    "delegated_by": a_grant_that_the_owner_of_the_quote_delegated,
    "role": a_grant_for_another_role,
    "region": a_grant_for_another_region,
    "product_family": a_grant_for_other_products,
    "max_discount_percent": a_grant_for_less_discount,
    "max_deal_amount": a_grant_for_smaller_deals,
    "valid_from": a_grant_that_has_not_begun,
    "valid_until": a_grant_that_has_ended,
}
for column, tell in LIMITS.items():
    refused_by(f"{REACHING}{ON}authority_grant.{column}")(tell)


def hand_on_within(trial: Trial, **limits: Any) -> None:
    trial.grant_authority(SIGNER, **limits)
    hand_on_as_signer(trial)


def hand_on_as_signer(trial: Trial) -> None:
    [requirement_id] = trial.requirement_ids(trial.quote_in_approval())
    hand_on(trial, requirement_id, decided_by=SIGNER)


@refused_by(f"{NOT_ASKED}{ON}authority_grant.subject")
def handing_on_by_the_grant_of_somebody_else(trial: Trial) -> None:
    hand_on_as_signer(trial)


@refused_by(f"{NOT_ASKED}{ON}authority_grant.role")
def handing_on_by_a_grant_for_another_role(trial: Trial) -> None:
    hand_on_within(trial, role="approverDirector")


@refused_by(f"{NOT_ASKED}{ON}authority_grant.status")
def handing_on_by_a_grant_that_was_revoked(trial: Trial) -> None:
    revoke(trial, trial.grant_authority(SIGNER))
    hand_on_as_signer(trial)


@refused_by(f"{NOT_ASKED}{ON}authority_grant.valid_from")
def handing_on_by_a_grant_that_has_not_begun(trial: Trial) -> None:
    hand_on_within(trial, valid_from=in_hours(1))


@refused_by(f"{NOT_ASKED}{ON}authority_grant.valid_until")
def handing_on_by_a_grant_that_has_ended(trial: Trial) -> None:
    hand_on_within(trial, valid_from=in_hours(-2), valid_until=in_hours(-1))


@refused_by(f"{NOT_DELEGABLE}{ON}authority_grant.status")
def delegating_a_grant_that_is_not_active(trial: Trial) -> None:
    grant = trial.grant_authority()
    revoke(trial, grant)
    delegate(trial, read(trial, grant), valid_until=in_hours(8))


@refused_by(f"{NOT_DELEGABLE}{ON}authority_grant.delegated_from")
def delegating_a_delegation(trial: Trial) -> None:
    delegate(trial, trial.grant_authority(), valid_until=in_hours(8))
    [delegated] = trial.grants_of("dora")
    delegate(trial, delegated, subject="dana", valid_until=in_hours(4))


@refused_by(f"{NOT_DELEGABLE}{ON}authority_grant.valid_until")
def delegating_a_grant_that_has_ended(trial: Trial) -> None:
    grant = trial.grant_authority(valid_from=in_hours(-3), valid_until=in_hours(-1))
    delegate(trial, grant, valid_until=in_hours(-2))


@refused_by(f"{TOO_WIDE}{ON}authority_grant.max_discount_percent")
def delegating_a_higher_discount(trial: Trial) -> None:
    grant = trial.grant_authority(max_discount_percent=Decimal(20))
    delegate(trial, grant, max_discount_percent=Decimal(21), valid_until=in_hours(8))


@refused_by(f"{TOO_WIDE}{ON}authority_grant.max_deal_amount")
def delegating_a_larger_amount(trial: Trial) -> None:
    grant = trial.grant_authority(max_deal_amount=Decimal(1000))
    delegate(trial, grant, max_deal_amount=Decimal(1001), valid_until=in_hours(8))


@refused_by(f"{TOO_WIDE}{ON}authority_grant.valid_until")
def delegating_beyond_the_end_of_the_grant(trial: Trial) -> None:
    delegate(trial, trial.grant_authority(valid_until=in_hours(8)), valid_until=in_hours(9))


@refused_by(f"{OF_THIS_OFFER}{ON}approval_request.quote_revision_id", masked_by=(DECISION_OF_ITS_PRICE, DECISION_OF_ITS_QUOTE))
def a_signature_that_names_another_revision(trial: Trial) -> None:
    offer, other = trial.quote_in_approval(), trial.quote_in_approval()
    decide(trial, offer, trial.requirement_ids(offer)[0], quote_revision_id=other.revision_id)


@refused_by(f"{OF_THIS_OFFER}{ON}approval_request.price_result_id")
def a_signature_that_names_an_earlier_price_of_the_revision(trial: Trial) -> None:
    priced = trial.priced_quote()
    offer = trial.open_requirements(trial.submit(trial.price(priced)), SIGNATURE)
    decide(trial, offer, trial.requirement_ids(offer)[0], price_result_id=priced.price_result_id)


@refused_by(f"{OF_THIS_OFFER}{ON}approval_request.status")
def a_signature_for_a_request_that_was_recalled(trial: Trial) -> None:
    offer, first, _ = trial.two_levels()
    apply(trial, RECALL_REQUEST, request_id=offer.approval_request_id)
    decide(trial, offer, first)


@allowed_by(f"{EARLIER_LEVEL}{ON}earlier.request_id")
def a_second_level_while_another_quote_waits_for_its_first(trial: Trial) -> None:
    trial.quote_in_approval()
    both_levels_sign(trial)


@allowed_by(f"{EARLIER_LEVEL}{ON}earlier.status")
def a_second_level_after_the_first_has_signed(trial: Trial) -> None:
    both_levels_sign(trial)


def both_levels_sign(trial: Trial) -> None:
    trial.grant_authority("dana", "approverDirector")
    offer, first, second = trial.two_levels()
    decide(trial, offer, first)
    decide(trial, offer, second, decided_by="dana", roles=("approverDirector",))


@allowed_by(f"{EARLIER_LEVEL}{ON}earlier.level")
def one_of_two_signatures_of_one_level(trial: Trial) -> None:
    offer = trial.quote_in_approval(SIGNATURE, replace(SIGNATURE, type="MARGIN", sla=timedelta(hours=1)))
    decide(trial, offer, trial.requirement_ids(offer)[0])
