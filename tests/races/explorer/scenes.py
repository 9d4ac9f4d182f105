"""Scenes: a quote in a state, with every row that commands in that state may name, prepared by commands of the product."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from unittest.mock import patch
from uuid import UUID

from sqlalchemy import Row, select

from domain import granting
from domain.authority import AuthorityGrant
from domain.fallout.cases import Queue
from domain.granting import GrantAuthority
from domain.offers import withdrawing
from domain.offers.approvals import Decision
from domain.offers.prices import StalenessPolicy
from domain.offers.quotes import QuoteStatus
from domain.store import table_of
from tests.races.explorer.delivery_scenes import DELIVERIES, Delivery
from tests.races.explorer.stage import Stage
from tests.support.as_read import Offer
from tests.support.grants import ADMINISTRATORS
from tests.support.offers import ANNA, SIGNATURE, Offers

TENANT = UUID("7e2a2e00-0000-4000-8000-000000000001")
RITA, RALPH, FIONA, DORA, PETRA = "rita", "ralph", "fiona", "dora", "petra"
"""Petra's grant is only proposed; Dora signs in some scenes, for Rita."""
RSM, FINANCE = SIGNATURE.approver_group, "approverFinance"
OF_FINANCE = replace(SIGNATURE, type="MARGIN", approver_group=FINANCE)
OF_STALE_PRICE = replace(SIGNATURE, type="STALE_PRICE")
OF_SECOND_LEVEL = replace(OF_FINANCE, level=2)
# Longer than any offer of a scene is valid.
AFTER_THE_END = timedelta(days=365)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A prepared tenant: the quote as every actor has read it, its requirements, and who may sign."""

    offers: Offers
    offer: Offer
    requirement_ids: Sequence[UUID]
    grants: Mapping[str, Row[Any]]


Preparation = Callable[[Offers], Offer]


def in_approval(offers: Offers) -> Offer:
    """A quote with two open requirements of one level: a regional sales manager's and finance's."""
    return offers.quote_in_approval(SIGNATURE, OF_FINANCE)


def decided(decision: Decision) -> Preparation:
    def prepare(offers: Offers) -> Offer:
        offer = offers.quote_in_approval()
        return offers.decide(offer, offers.requirement_ids(offer)[0], decision)

    return prepare


def declined(offers: Offers) -> Offer:
    return _withdrawn(offers, offers.approved_quote(), withdrawing.decline, withdrawing.DeclineQuote)


def cancelled(offers: Offers) -> Offer:
    return _withdrawn(offers, offers.approved_quote(), withdrawing.cancel, withdrawing.CancelQuote)


def _withdrawn(offers: Offers, offer: Offer, verb: Callable[..., Any], command: Callable[..., Any]) -> Offer:
    with offers.uow() as uow:
        verb(
            uow,
            command(
                quote_id=offer.quote_id, expected_version=offer.version, revision_id=offer.revision_id, reason_code="NO_INTEREST"
            ),
        )
    return offers.quote(offer.quote_id)


def approved(policy: StalenessPolicy) -> Preparation:
    return lambda offers: offers.approved_quote(policy=policy)


def approved_although_stale(offers: Offers) -> Offer:
    """A quote whose approvers have also approved its older price."""
    offer = offers.quote_in_approval(SIGNATURE, OF_STALE_PRICE, policy=StalenessPolicy.APPROVAL_REQUIRED_IF_STALE)
    for requirement_id in offers.requirement_ids(offer):
        offer = offers.decide(offer, requirement_id)
    return offers.issue_document(offer)


def of_two_levels(offers: Offers) -> Offer:
    """A quote that finance signs after the regional sales manager."""
    return offers.quote_in_approval(SIGNATURE, OF_SECOND_LEVEL)


def delegated(offers: Offers) -> Offer:
    """Dora signs while Rita is away."""
    own = _grants(offers)[RITA]
    with offers.uow(RITA) as uow:
        granting.delegate(
            uow,
            granting.DelegateAuthority(
                grant_id=own.id,
                expected_version=own.version,
                delegated_by=RITA,
                subject=DORA,
                valid_until=datetime.now(UTC) + AFTER_THE_END,
            ),
        )
    return offers.quote_in_approval()


def approved_once_and_submitted_again(offers: Offers) -> Offer:
    """A quote whose former revision has Rita's signature, and whose present one offers the same."""
    offer = offers.approved_quote()
    return offers.submit(offers.price(offer))


BY_STATE: Mapping[QuoteStatus, Preparation] = {
    QuoteStatus.DRAFT: lambda offers: offers.draft_quote(),
    QuoteStatus.PRICED: lambda offers: offers.priced_quote(),
    QuoteStatus.SUBMITTED_FOR_APPROVAL: lambda offers: offers.submitted_quote(),
    QuoteStatus.APPROVAL_IN_PROGRESS: in_approval,
    QuoteStatus.APPROVED: lambda offers: offers.approved_quote(),
    QuoteStatus.REWORK_REQUIRED: decided(Decision.REWORK),
    QuoteStatus.REJECTED: decided(Decision.REJECT),
    QuoteStatus.DECLINED: declined,
    QuoteStatus.CANCELLED: cancelled,
}
"""Status -> the function that prepares it, for a quote before its end; whether it expires depends on the clock (`prepare`)."""
OTHERS: Mapping[str, Preparation] = {
    **{f"APPROVED, {policy}": approved(policy) for policy in StalenessPolicy},
    "APPROVED, a stale price too": approved_although_stale,
    "APPROVAL_IN_PROGRESS, two levels": of_two_levels,
    "APPROVAL_IN_PROGRESS, delegated": delegated,
    "SUBMITTED_FOR_APPROVAL, approved before": approved_once_and_submitted_again,
}
SCENES: Mapping[str, Preparation] = {**{str(state): prepare for state, prepare in BY_STATE.items()}, **OTHERS}
OVERDUE = ", overdue"
"""The end of the name of a scene whose quote is past its end."""


def set_the_scene(stage: Stage, name: str) -> Scene | Delivery:
    """Prepare a scene and keep it: `<scene>`, `<scene>, overdue`, or `EXPIRED`.

    Its ids are the same every time: rows are locked in the order of their ids, so with other ids a token would name another schedule.
    """
    stage.clear()
    with patch.object(os, "urandom", Random(name).randbytes):  # noqa: S311 - ids that are the same every time
        scene = _prepared(stage, Offers(stage.engine, TENANT), name)
    stage.keep()
    return scene


def _prepared(stage: Stage, offers: Offers, name: str) -> Scene | Delivery:
    offers.publish_prices()
    if name in DELIVERIES:
        offers.grant_staff()
        offers.grant_authority(ANNA, Queue.SECOND_LEVEL)  # some resolutions are for the second level
        work = DELIVERIES[name](offers)
        offers.make_late()
        return Delivery.of(work)
    for subject, role in ((RITA, RSM), (RALPH, RSM), (FIONA, FINANCE)):
        offers.grant_authority(subject, role)
    with offers.uow(ADMINISTRATORS[0]) as uow:
        granting.grant(uow, GrantAuthority(subject=PETRA, role=RSM, granted_by=ADMINISTRATORS[0]))
    if name == QuoteStatus.EXPIRED:
        offer = _expired(stage, offers)
    else:
        offer = SCENES[name.removesuffix(OVERDUE)](offers)
        if name.endswith(OVERDUE):
            stage.set_clock(AFTER_THE_END)
    offers.make_late()
    return Scene(offers=offers, offer=offer, requirement_ids=offers.requirement_ids(offer), grants=_grants(offers))


def _grants(offers: Offers) -> Mapping[str, Row[Any]]:
    with offers.uow() as uow:
        return {row.subject: row for row in uow.connection.execute(select(*table_of(AuthorityGrant).c))}


def _expired(stage: Stage, offers: Offers) -> Offer:
    offer = offers.approved_quote()
    stage.set_clock(AFTER_THE_END)
    with offers.uow("sweep") as uow:
        withdrawing.expire(uow, withdrawing.ExpireQuote(quote_id=offer.quote_id, expected_version=offer.version))
    return offers.quote(offer.quote_id)
