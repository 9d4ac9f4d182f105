"""Signatures carry over to a new revision when the policy allows it, pass the same guards, and are recorded as REUSED."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import func, select

from domain import granting
from domain.offers import approving, escalating, quoting, reading
from domain.offers.approvals import (
    AlreadyEscalated,
    ApprovalAlreadyDecided,
    ApprovalDecision,
    AuthorityExceeded,
    Decision,
    RequirementStatus,
    StaleApproval,
)
from domain.offers.quotes import QuoteStatus
from domain.store import table_of
from domain.workflows.timers import NotDue
from tests.support.as_read import Offer
from tests.support.offers import APPROVER, SIGNATURE, Offers

DIRECTOR = approving.Requirement(
    type="DISCOUNT",
    level=2,
    approver_group="approverDirector",
    min_authority=Decimal(20),
    because="A discount above 25 % needs the director.",
    sla=SIGNATURE.sla * 2,
)


def next_revision(offers: Offers, offer: Offer, discount: int = 15) -> Offer:
    """Edit, price and submit an approved quote, with another discount on the first line."""
    change = quoting.LineChange(line_no=1, discount_percent=Decimal(discount))
    with offers.uow() as uow:
        named = {"quote_id": offer.quote_id, "expected_version": offer.version, "revision_id": offer.revision_id}
        quoting.edit(uow, quoting.EditQuote(reason_code="BETTER", lines=[change], **named))  # type: ignore[arg-type]  # named above
    return offers.submit(offers.price(offers.quote(offer.quote_id)))


def decisions(offers: Offers) -> list[tuple[str, str]]:
    table = table_of(ApprovalDecision)
    with offers.engine.connect() as connection:
        rows = connection.execute(select(table.c.decision, table.c.decided_by).order_by(table.c.created_at))
        return [(row.decision, row.decided_by) for row in rows]


def statuses(offers: Offers, offer: Offer) -> list[str]:
    with offers.uow() as uow:
        return [row.status for row in reading.requirements_of(uow, offer.approval_request_id)]


def test_a_signature_approves_the_next_revision_when_the_policy_allows_it(offers: Offers) -> None:
    resubmitted = next_revision(offers, offers.approved_quote())

    approved = offers.open_requirements(resubmitted, SIGNATURE, reuse=True)

    assert approved.status == QuoteStatus.APPROVED
    assert decisions(offers) == [("APPROVE", APPROVER), ("REUSED", APPROVER)]


def test_a_signature_that_is_reused_repeatedly_names_the_decision_of_the_person(offers: Offers) -> None:
    first = offers.approved_quote()
    second = offers.open_requirements(next_revision(offers, first, 15), SIGNATURE, reuse=True)
    offers.open_requirements(next_revision(offers, second, 12), SIGNATURE, reuse=True)

    table = table_of(ApprovalDecision)
    with offers.engine.connect() as connection:
        [made] = connection.scalars(select(table.c.id).where(table.c.basis_decision_id.is_(None))).all()
        bases = connection.scalars(select(table.c.basis_decision_id).where(table.c.basis_decision_id.is_not(None))).all()
    assert bases == [made, made]


def test_no_signature_carries_over_when_the_policy_does_not_allow_it(offers: Offers) -> None:
    in_approval = offers.open_requirements(next_revision(offers, offers.approved_quote()), SIGNATURE)

    assert (in_approval.status, statuses(offers, in_approval)) == (QuoteStatus.APPROVAL_IN_PROGRESS, [RequirementStatus.PENDING])


def test_only_signed_requirements_carry_over_and_the_others_are_open(offers: Offers) -> None:
    in_approval = offers.open_requirements(next_revision(offers, offers.approved_quote()), SIGNATURE, DIRECTOR, reuse=True)

    assert statuses(offers, in_approval) == [RequirementStatus.APPROVED, RequirementStatus.PENDING]
    assert in_approval.status == QuoteStatus.APPROVAL_IN_PROGRESS


def test_a_signature_whose_authority_was_revoked_does_not_carry_over(offers: Offers) -> None:
    grant = offers.grant_authority("sara")
    offer = offers.quote_in_approval()
    offer = offers.decide(offer, offers.requirement_ids(offer)[0], by="sara")
    with offers.uow("admin") as uow:
        granting.revoke(
            uow,
            granting.RevokeAuthority(grant_id=grant.id, expected_version=grant.version, revoked_by="admin", as_administrator=True),
        )

    in_approval = offers.open_requirements(next_revision(offers, offer), SIGNATURE, reuse=True)

    assert statuses(offers, in_approval) == [RequirementStatus.PENDING]


def test_a_rejection_is_no_precedent(offers: Offers) -> None:
    refused = offers.quote_in_approval()
    refused = offers.decide(refused, offers.requirement_ids(refused)[0], Decision.REWORK)

    in_approval = offers.open_requirements(next_revision(offers, refused), SIGNATURE, reuse=True)

    assert statuses(offers, in_approval) == [RequirementStatus.PENDING]


def test_the_policy_gets_the_last_approved_revision_and_every_decision(offers: Offers) -> None:
    first = offers.approved_quote()
    resubmitted = next_revision(offers, first)

    with offers.uow() as uow:
        facts = approving.collect_facts(uow, resubmitted.quote_id, resubmitted.revision_id, resubmitted.price_result_id)

    assert facts.precedent is not None
    assert (facts.precedent.revision_no, facts.revision_no) == (1, 2)
    assert facts.precedent.price.id == first.price_result_id
    assert facts.precedent.age_days is not None
    assert [line.discount_percent for line in facts.precedent.lines] == [Decimal(20), Decimal(20)]
    assert [priced.line.discount_percent for priced in facts.lines] == [Decimal(15), Decimal(20)]
    assert [(made.revision_no, made.decision, made.decided_by) for made in facts.decisions] == [(1, "APPROVE", APPROVER)]


def test_the_time_of_a_level_begins_after_the_longest_time_of_the_level_before(offers: Offers) -> None:
    in_approval = offers.quote_in_approval(SIGNATURE, DIRECTOR)

    with offers.uow() as uow:
        first, second = reading.requirements_of(uow, in_approval.approval_request_id)

    assert second.due_at - first.due_at == DIRECTOR.sla
    assert first.due_at - first.remind_at == SIGNATURE.sla / 2
    assert second.due_at - second.remind_at == DIRECTOR.sla / 2


def now(offers: Offers) -> datetime:
    """The clock of the database, which sets the deadlines."""
    with offers.uow() as uow:
        time: datetime = uow.connection.execute(select(func.clock_timestamp())).scalar_one()
    return time


def test_the_time_of_a_level_begins_when_the_level_before_has_signed(offers: Offers) -> None:
    """An escalation or an early decision of one level changes nothing in the time of the next level."""
    in_approval = offers.quote_in_approval(SIGNATURE, DIRECTOR)
    first, second = offers.requirement_ids(in_approval)
    offers.make_late()
    with offers.uow() as uow:
        escalating.escalate(uow, escalation(first))
    offers.grant_authority("dan", "approverDirector")
    before = now(offers)

    offers.decide(in_approval, first, by="dan", roles=("approverDirector",))

    with offers.uow() as uow:
        begun = reading.requirement(uow, second)
    assert before + DIRECTOR.sla <= begun.due_at <= now(offers) + DIRECTOR.sla
    assert begun.due_at - begun.remind_at == pytest.approx(DIRECTOR.sla / 2, abs=timedelta(seconds=1))
    assert begun.status == RequirementStatus.PENDING


def escalation(requirement_id: Any, level: int = 0) -> escalating.EscalateRequirement:
    return escalating.EscalateRequirement(
        requirement_id=requirement_id, expected_escalation_level=level, approver_group="approverDirector", sla=SIGNATURE.sla
    )


def test_an_escalated_requirement_is_signed_by_the_next_group_and_no_longer_by_the_first(offers: Offers) -> None:
    in_approval = offers.quote_in_approval()
    [requirement_id] = offers.requirement_ids(in_approval)
    offers.grant_authority("dan", "approverDirector")
    offers.make_late()

    with offers.uow() as uow:
        row = escalating.escalate(uow, escalation(requirement_id))

    assert (row.approver_group, row.escalation_level, row.status) == ("approverDirector", 1, RequirementStatus.PENDING)
    with pytest.raises(AuthorityExceeded):
        offers.decide(in_approval, requirement_id)
    assert offers.decide(in_approval, requirement_id, by="dan", roles=("approverDirector",)).status == QuoteStatus.APPROVED


def test_a_timer_that_fires_twice_escalates_once(offers: Offers) -> None:
    [requirement_id] = offers.requirement_ids(offers.quote_in_approval())
    offers.make_late()
    with offers.uow() as uow:
        escalating.escalate(uow, escalation(requirement_id))

    with pytest.raises(AlreadyEscalated), offers.uow() as uow:
        escalating.escalate(uow, escalation(requirement_id))


def test_a_decided_or_void_requirement_is_neither_escalated_nor_reminded_of(offers: Offers) -> None:
    signed = offers.quote_in_approval()
    [decided] = offers.requirement_ids(signed)
    offers.decide(signed, decided)
    voided = offers.quote_in_approval()
    [void] = offers.requirement_ids(voided)
    with offers.uow() as uow:
        named: dict[str, Any] = {
            "quote_id": voided.quote_id,
            "expected_version": voided.version,
            "revision_id": voided.revision_id,
        }
        quoting.edit(uow, quoting.EditQuote(reason_code="X", **named))

    offers.make_late()

    for requirement_id, refusal in ((decided, ApprovalAlreadyDecided), (void, StaleApproval)):
        with pytest.raises(refusal), offers.uow() as uow:
            escalating.escalate(uow, escalation(requirement_id))
        with pytest.raises(refusal), offers.uow() as uow:
            escalating.remind(uow, requirement_id)


def test_a_reminder_is_recorded_once_and_again_after_an_escalation(offers: Offers) -> None:
    [requirement_id] = offers.requirement_ids(offers.quote_in_approval())
    offers.make_late()

    with offers.uow() as uow:
        first = escalating.remind(uow, requirement_id)
    with offers.uow() as uow:
        again = escalating.remind(uow, requirement_id)
    assert again.reminded_at == first.reminded_at is not None
    with offers.uow() as uow:
        assert escalating.escalate(uow, escalation(requirement_id)).reminded_at is None
    offers.make_late()
    with offers.uow() as uow:
        assert escalating.remind(uow, requirement_id).version > first.version


def test_a_signature_is_neither_escalated_nor_reminded_of_before_its_time(offers: Offers) -> None:
    """Kills: a timer that an operator has fired by hand."""
    [requirement_id] = offers.requirement_ids(offers.quote_in_approval())

    with pytest.raises(NotDue), offers.uow() as uow:
        escalating.escalate(uow, escalation(requirement_id))
    with pytest.raises(NotDue), offers.uow() as uow:
        escalating.remind(uow, requirement_id)
