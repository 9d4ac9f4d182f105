"""Recalling, declining, cancelling, expiring and renewing a quote, with the effect of each on approval and process."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, text

from domain.errors import InvalidTransition
from domain.offers import quoting, withdrawing
from domain.offers.approvals import ApprovalRequest, ApprovalRequirement, RequestStatus, RequirementStatus, StaleApproval
from domain.offers.quotes import QuoteExpired, QuoteStatus, QuoteVersionConflict, RevisionStatus, read_revision
from domain.store import table_of
from domain.store.facts import OutboxEvent, TransitionLog, WorkflowCommand
from reconciliation.quotes import Quotes
from reconciliation.repairs import Repairs
from tests.support.as_read import Offer
from tests.support.database import acting, count, in_order
from tests.support.offers import SIGNATURE, Offers

REASON = "CUSTOMER_ASKED"


def recall(offers: Offers, offer: Offer) -> Offer:
    return withdraw(offers, offer, withdrawing.recall, withdrawing.RecallQuote)


def decline(offers: Offers, offer: Offer) -> Offer:
    return withdraw(offers, offer, withdrawing.decline, withdrawing.DeclineQuote)


def cancel(offers: Offers, offer: Offer) -> Offer:
    return withdraw(offers, offer, withdrawing.cancel, withdrawing.CancelQuote)


def withdraw(offers: Offers, offer: Offer, command: Callable[..., Any], form: Callable[..., Any]) -> Offer:
    names: dict[str, Any] = {"quote_id": offer.quote_id, "expected_version": offer.version, "revision_id": offer.revision_id}
    with offers.uow() as uow:
        command(uow, form(reason_code=REASON, **names))
    return offers.quote(offer.quote_id)


def let_pass(offers: Offers, offer: Offer) -> Offer:
    """Put the end of an offer into the past."""
    with offers.engine.begin() as connection:
        connection.execute(
            text("UPDATE quote SET valid_until = clock_timestamp() - interval '1 second' WHERE id = :id"), {"id": offer.quote_id}
        )
    return offers.quote(offer.quote_id)


def expire(offers: Offers, offer: Offer) -> Offer:
    with offers.uow() as uow:
        withdrawing.expire(uow, withdrawing.ExpireQuote(quote_id=offer.quote_id, expected_version=offer.version))
    return offers.quote(offer.quote_id)


def messages(offers: Offers) -> list[str]:
    command = table_of(WorkflowCommand)
    with offers.engine.connect() as connection:
        query = select(command.c.name).where(command.c.kind == "CORRELATE", command.c.tenant_id == offers.tenant_id)
        return list(connection.scalars(in_order(query, command)))


def only(offers: Offers, entity: Any, column: str) -> list[str]:
    table = table_of(entity)
    with offers.engine.connect() as connection:
        query = select(table.c[column]).where(table.c.tenant_id == offers.tenant_id)
        return list(connection.scalars(in_order(query, table)))


def revision_status(offers: Offers, offer: Offer) -> str:
    with offers.uow() as uow:
        return str(read_revision(uow, offer.revision_id).status)


@pytest.mark.parametrize("state", ["submitted", "in approval"])
def test_a_recalled_quote_goes_on_as_the_next_revision_and_the_old_one_cannot_be_signed(offers: Offers, state: str) -> None:
    sent = offers.submitted_quote() if state == "submitted" else offers.quote_in_approval()
    before = offers.body(sent)

    recalled = offers.body(recall(offers, sent))

    assert (recalled["status"], recalled["revisionNo"], recalled["reasonCode"]) == (QuoteStatus.DRAFT, 2, REASON)
    assert recalled["lines"] == before["lines"]
    assert revision_status(offers, sent) == RevisionStatus.SUPERSEDED
    assert messages(offers) == ["QuoteApprovalRecalled"]
    if state == "in approval":
        assert only(offers, ApprovalRequest, "status") == [RequestStatus.RECALLED]
        assert only(offers, ApprovalRequirement, "status") == [RequirementStatus.INVALIDATED]
        with pytest.raises(StaleApproval):
            offers.decide(sent, offers.requirement_ids(sent)[0])


def test_a_late_process_opens_no_requirements_for_a_recalled_revision(offers: Offers) -> None:
    sent = offers.submitted_quote()
    recall(offers, sent)

    with pytest.raises(StaleApproval):
        offers.open_requirements(sent, SIGNATURE)


def test_an_approved_quote_that_was_declined_can_be_edited_into_another_offer(offers: Offers) -> None:
    declined = decline(offers, offers.approved_quote())

    assert (declined.status, offers.body(declined)["reasonCode"]) == (QuoteStatus.DECLINED, REASON)
    with offers.uow() as uow:
        quoting.edit(
            uow,
            quoting.EditQuote(
                quote_id=declined.quote_id,
                expected_version=declined.version,
                revision_id=declined.revision_id,
                reason_code="BETTER_OFFER",
                term_months=24,
            ),
        )
    edited = offers.quote(declined.quote_id)
    assert (edited.status, offers.body(edited)["revisionNo"]) == (QuoteStatus.DRAFT, 2)
    assert only(offers, ApprovalRequest, "status") == [RequestStatus.INVALIDATED]


@pytest.mark.parametrize("build", [Offers.draft_quote, Offers.priced_quote, Offers.quote_in_approval, Offers.approved_quote])
def test_a_quote_is_cancelled_from_every_open_state(offers: Offers, build: Callable[[Offers], Offer]) -> None:
    open_quote = build(offers)

    cancelled = cancel(offers, open_quote)

    assert cancelled.status == QuoteStatus.CANCELLED
    assert only(offers, ApprovalRequest, "status") in ([], [RequestStatus.INVALIDATED])
    # A quote that was never submitted has no process to tell.
    assert messages(offers) == ([] if open_quote.status in (QuoteStatus.DRAFT, QuoteStatus.PRICED) else ["QuoteCancelled"])


def test_cancelling_a_cancelled_quote_changes_nothing(offers: Offers) -> None:
    cancelled = cancel(offers, offers.draft_quote())
    transitions, events = count(offers.engine, TransitionLog), count(offers.engine, OutboxEvent)

    assert cancel(offers, cancelled).version == cancelled.version
    assert (count(offers.engine, TransitionLog), count(offers.engine, OutboxEvent)) == (transitions, events)


def test_a_cancellation_on_an_older_version_is_refused_even_when_the_quote_is_cancelled(offers: Offers) -> None:
    loaded = offers.draft_quote()
    cancel(offers, loaded)

    with pytest.raises(QuoteVersionConflict):
        cancel(offers, loaded)


def test_an_accepted_quote_is_neither_cancelled_nor_declined(offers: Offers) -> None:
    accepted = offers.accepted_quote()

    for command in (cancel, decline):
        with pytest.raises(InvalidTransition):
            command(offers, accepted)


def test_the_sweep_expires_each_overdue_quote_once_and_leaves_the_others(offers: Offers) -> None:
    late = let_pass(offers, offers.quote_in_approval())
    valid = offers.draft_quote()
    sweep = Quotes(acting(offers.engine, "reconcile"), Repairs(acting(offers.engine, "reconcile"), dry_run=False))

    assert (sweep.sweep(), sweep.sweep()) == (1, 0)

    assert (offers.quote(late.quote_id).status, offers.quote(valid.quote_id).status) == (QuoteStatus.EXPIRED, QuoteStatus.DRAFT)
    assert only(offers, ApprovalRequest, "status") == [RequestStatus.EXPIRED]
    assert messages(offers) == ["QuoteExpired"]


def test_a_dry_run_of_the_sweep_counts_and_changes_nothing(offers: Offers) -> None:
    late = let_pass(offers, offers.draft_quote())

    assert Quotes(acting(offers.engine, "reconcile"), Repairs(acting(offers.engine, "reconcile"), dry_run=True)).sweep() == 1
    assert offers.quote(late.quote_id).status == QuoteStatus.DRAFT


def test_an_expired_quote_is_renewed_only_by_an_edit_with_a_new_end(offers: Offers) -> None:
    expired = expire(offers, let_pass(offers, offers.approved_quote()))

    def edit(**changes: Any) -> None:
        named: dict[str, Any] = {"expected_version": expired.version, "revision_id": expired.revision_id, "reason_code": "RENEWED"}
        with offers.uow() as uow:
            quoting.edit(uow, quoting.EditQuote(quote_id=expired.quote_id, **named, **changes))

    with pytest.raises(QuoteExpired):
        edit(term_months=24)
    edit(valid_until=datetime.now(UTC) + timedelta(days=14))
    renewed = offers.quote(expired.quote_id)
    assert (renewed.status, offers.body(renewed)["revisionNo"]) == (QuoteStatus.DRAFT, 2)


def test_a_quote_past_its_end_cannot_be_submitted(offers: Offers) -> None:
    late = let_pass(offers, offers.priced_quote())

    with pytest.raises(QuoteExpired):
        offers.submit(late)
