"""Commands as their callers send them; with `changes` a story sends a wrong value."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from domain import accepting, granting
from domain.catalog import CATALOG
from domain.offers import deciding, documents, price_books, quoting, withdrawing
from domain.offers.approvals import Decision
from tests.mutants.trial import Trial
from tests.support.as_read import Offer
from tests.support.offers import APPROVER, ENTRIES, PRICE_BOOK

WITHDRAWALS: dict[str, Any] = {
    "recall": (withdrawing.recall, withdrawing.RecallQuote),
    "decline": (withdrawing.decline, withdrawing.DeclineQuote),
    "cancel": (withdrawing.cancel, withdrawing.CancelQuote),
}


def edit(trial: Trial, offer: Offer, **changes: Any) -> None:
    given = {"expected_version": offer.version, "revision_id": offer.revision_id, "term_months": 36, **changes}
    with trial.uow() as uow:
        quoting.edit(uow, quoting.EditQuote(quote_id=offer.quote_id, reason_code="TEST", **given))


def price(trial: Trial, offer: Offer, **changes: Any) -> None:
    given = {
        "expected_version": offer.version,
        "config_result_id": offer.config_result_id,
        "catalog_version": CATALOG.catalog_version,
        **changes,
    }
    with trial.uow() as uow:
        quoting.price(uow, quoting.PriceQuote(quote_id=offer.quote_id, **given))


def submit(trial: Trial, offer: Offer, **changes: Any) -> None:
    given = {"expected_version": offer.version, **_ids(offer, "revision_id", "config_result_id", "price_result_id"), **changes}
    with trial.uow() as uow:
        quoting.submit(uow, quoting.SubmitQuote(quote_id=offer.quote_id, **given))


def document(trial: Trial, offer: Offer, **changes: Any) -> None:
    given = {"expected_version": offer.version, **_ids(offer, "revision_id", "price_result_id"), **changes}
    with trial.uow() as uow:
        documents.issue(uow, documents.IssueDocument(quote_id=offer.quote_id, **given))


def accept(trial: Trial, offer: Offer, **changes: Any) -> None:
    with trial.uow() as uow:
        accepting.accept(uow, trial.acceptance(offer, **changes))


def withdraw(verb: str, trial: Trial, offer: Offer, **changes: Any) -> None:
    """Recall, decline or cancel."""
    carry_out, command = WITHDRAWALS[verb]
    given = {"expected_version": offer.version, "revision_id": offer.revision_id, **changes}
    with trial.uow() as uow:
        carry_out(uow, command(quote_id=offer.quote_id, reason_code="TEST", **given))


def expire(trial: Trial, offer: Offer, **changes: Any) -> None:
    given = {"expected_version": offer.version, **changes}
    with trial.uow() as uow:
        withdrawing.expire(uow, withdrawing.ExpireQuote(quote_id=offer.quote_id, **given))


def decide(trial: Trial, offer: Offer, requirement_id: UUID, decision: Decision = Decision.APPROVE, **changes: Any) -> None:
    given = {
        "quote_revision_id": offer.revision_id,
        "price_result_id": offer.price_result_id,
        "decided_by": APPROVER,
        "roles": ("approverRsm",),
        "approval_task_id": str(requirement_id),
        **changes,
    }
    command = deciding.Decide(requirement_id=requirement_id, decision=decision, reason_code="TEST", **given)
    with trial.uow(command.decided_by) as uow:
        deciding.decide(uow, command)


def delegate(trial: Trial, grant: Any, **changes: Any) -> None:
    given = {"expected_version": grant.version, "delegated_by": grant.subject, "subject": "dora", **changes}
    with trial.uow(given["delegated_by"]) as uow:
        granting.delegate(uow, granting.DelegateAuthority(grant_id=grant.id, **given))


def revoke(trial: Trial, grant: Any, **changes: Any) -> None:
    given = {"expected_version": grant.version, "revoked_by": "admin", "as_administrator": True, **changes}
    with trial.uow(given["revoked_by"]) as uow:
        granting.revoke(uow, granting.RevokeAuthority(grant_id=grant.id, **given))


def publish(trial: Trial, version: str, replaces: str | None, **changes: Any) -> None:
    given = {"price_book": PRICE_BOOK, "entries": ENTRIES, **changes}
    command = price_books.PublishPriceBook(expected_active_version=replaces, price_book_version=version, **given)
    with trial.uow() as uow:
        price_books.publish(uow, command)


def _ids(offer: Offer, *names: str) -> dict[str, UUID]:
    return {name: getattr(offer, name) for name in names}
