"""Each offer has one document, levels sign one after the other, and a rejection ends the approval."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from sqlalchemy import select

from domain import accepting
from domain.offers import documents, reading
from domain.offers.approvals import Decision
from domain.offers.quotes import Quote
from domain.store import table_of
from domain.store.facts import WorkflowCommand
from tests.support.as_read import Offer
from tests.support.offers import CUSTOMER, SIGNATURE, Offers
from tests.support.races import race_for_row

DIRECTOR = replace(SIGNATURE, level=2, approver_group="approverDirector")
DEAL_DESK = replace(SIGNATURE, type="PAYMENT_TERMS", approver_group="dealDesk")
COMMAND = table_of(WorkflowCommand)


def issue(offers: Offers, offer: Offer) -> UUID:
    names = ("quote_id", "revision_id", "price_result_id")
    command = documents.IssueDocument(expected_version=offer.version, **{name: getattr(offer, name) for name in names})
    with offers.uow() as uow:
        return documents.issue(uow, command)


def waiting_for(offers: Offers, *roles: str) -> list[str]:
    with offers.uow() as uow:
        return [task["approverGroup"] for task in reading.approval_tasks(uow, roles, limit=10)]


def statuses(offers: Offers, offer: Offer) -> list[str]:
    with offers.uow() as uow:
        return [row.status for row in reading.requirements_of(uow, offer.approval_request_id)]


def test_an_offer_priced_again_at_the_same_total_gets_a_document_of_its_own_and_is_accepted(offers: Offers) -> None:
    first = offers.issue_document(offers.priced_quote())
    repriced = offers.submit(offers.price(first))
    approved = offers.issue_document(offers.open_requirements(repriced))

    assert approved.document_id != first.document_id
    with offers.uow(CUSTOMER) as uow:
        assert accepting.accept(uow, offers.acceptance(approved)).is_new


def test_two_callers_that_issue_at_once_get_the_same_document(offers: Offers) -> None:
    offer = offers.priced_quote()

    first, second = race_for_row(
        offers.engine, table_of(Quote), offer.quote_id, lambda: issue(offers, offer), lambda: issue(offers, offer)
    )

    assert first.result() == second.result()


def test_a_higher_level_is_open_only_when_the_level_below_has_signed(offers: Offers) -> None:
    offer = offers.quote_in_approval(SIGNATURE, DIRECTOR)
    manager, _ = offers.requirement_ids(offer)

    before = waiting_for(offers, "approverRsm", "approverDirector")
    offers.decide(offer, manager)

    assert before == ["approverRsm"]
    assert waiting_for(offers, "approverRsm", "approverDirector") == ["approverDirector"]


def test_a_rejection_ends_the_requirements_of_every_level(offers: Offers) -> None:
    offer = offers.quote_in_approval(SIGNATURE, DEAL_DESK, DIRECTOR)
    manager = offers.requirement_ids(offer)[0]

    rejected = offers.decide(offer, manager, Decision.REJECT)

    assert rejected.status == "REJECTED"
    assert sorted(statuses(offers, offer)) == ["INVALIDATED", "INVALIDATED", "REJECTED"]
    assert waiting_for(offers, "approverRsm", "dealDesk", "approverDirector") == []


def test_a_message_that_is_sent_only_once_never_expires(offers: Offers) -> None:
    offer = offers.approved_quote()
    offers.price(offer)  # makes the next revision, and sends a message to the process of the old one

    with offers.engine.connect() as connection:
        [message] = connection.execute(select(*COMMAND.c).filter_by(name="QuoteRevisionSuperseded")).all()
    assert message.expires_at is None
