"""Locks, clocks and claims of the commands about offers.

Each story is told with the statement as it is, and again with the statement rewritten on its way to PostgreSQL: without the lock, or with
another clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from unittest.mock import patch

from sqlalchemy import Engine, insert, select, text

from domain import accepting, granting
from domain.offers import approving, deciding, price_books
from domain.offers.approvals import Decision
from domain.offers.prices import StalenessPolicy
from domain.store import Answer, UnitOfWork, idempotency, remember
from domain.store.idempotency import RECORD
from domain.store.isolation import EVERY_TENANT, name_tenant
from tests.mutants.rivalry import begun, meanwhile, outcome_of, rewritten, rivals
from tests.mutants.stories.authority import in_hours
from tests.support.offers import APPROVER, CUSTOMER, ENTRIES, PRICE_BOOK, PRICE_BOOK_VERSION, SIGNATURE, Offers
from tests.support.waiting import eventually

SHARE_HEAD = (r"^SELECT price_result", r" FOR SHARE OF price_book_head")
LOCK_QUOTE = (r"^SELECT quote\.", r" FOR NO KEY UPDATE")
LOCK_GRANT = (r"^SELECT authority_grant", r" FOR SHARE OF authority_grant")
CLOCK_OF_ACCEPT = (r"^UPDATE quote SET version", r"clock_timestamp\(\)")
CLOCK_OF_GRANT = (r"authority_grant\.valid_until", r"clock_timestamp\(\)")
BEGIN = "now()"  # of the transaction


@contextmanager
def claim_after_a_read(_engine: Engine) -> Iterator[None]:
    def read_then_insert(uow: UnitOfWork, key: str, _: object) -> Answer | None:
        identity = {"tenant_id": uow.tenant_id, "command_name": uow.cause.command, "idempotency_key": key}
        known = uow.connection.execute(select(*RECORD.c).filter_by(**identity)).one_or_none()
        if known is not None:
            return Answer(status=known.response_status, body=known.response_body, replayed=True)
        claim = {"request_hash": "", "status": "IN_PROGRESS", "actor": uow.cause.actor}
        uow.connection.execute(insert(RECORD), {**identity, **claim})
        return None

    with patch.object(idempotency, "once", read_then_insert):
        yield


@rivals(
    "FOR SHARE on the price book's head",
    partial(rewritten, SHARE_HEAD, ""),
    kind="lock",
    protects="A publication waits for an acceptance that has checked the price, so that no stale price is accepted after it.",
    kept=(False, "done"),
    broken=(True, "done"),
)
def a_publication_while_the_acceptance_waits_for_its_quote(engine: Engine, offers: Offers) -> object:
    """Whether the publication finished before the acceptance at the price that it makes stale, and how the acceptance ends."""
    offer = offers.priced_quote(StalenessPolicy.REPRICE_REQUIRED_ON_PUBLISH)
    offer = offers.open_requirements(offers.submit(offer), SIGNATURE)
    offer = offers.issue_document(offers.decide(offer, offers.requirement_ids(offer)[0]))
    publication = price_books.PublishPriceBook(
        price_book=PRICE_BOOK, expected_active_version=PRICE_BOOK_VERSION, price_book_version="p-45", entries=ENTRIES
    )
    with engine.connect() as blocker, ThreadPoolExecutor(2) as pool:
        lock_quote(blocker)
        accepted = pool.submit(outcome_of, offers, CUSTOMER, lambda uow: accepting.accept(uow, offers.acceptance(offer)))
        eventually(lambda: waiting(blocker) >= 1, "the acceptance waits for its quote")
        published = pool.submit(outcome_of, offers, "admin", lambda uow: price_books.publish(uow, publication))
        eventually(lambda: published.done() or waiting(blocker) >= 2, "the publication waits, or has finished")
        went_ahead = published.done()
        blocker.rollback()
    return went_ahead, accepted.result()


def lock_quote(blocker: Any) -> None:
    name_tenant(blocker, EVERY_TENANT)
    blocker.execute(text("SELECT id FROM quote FOR UPDATE"))


def waiting(blocker: Any) -> int:
    return int(blocker.scalar(text("SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted")))


@rivals(
    "the clock of the acceptance",
    partial(rewritten, CLOCK_OF_ACCEPT, BEGIN),
    kind="clock",
    protects="An acceptance that began in time and waited past the end is refused: the time of the UPDATE counts.",
    kept="QUOTE_EXPIRED",
    broken="done",
)
def an_acceptance_that_waits_past_the_end_of_the_offer(engine: Engine, offers: Offers) -> object:
    """How the acceptance ends when the offer ends between its BEGIN and its UPDATE."""
    offer = offers.approved_quote()
    with engine.connect() as blocker, ThreadPoolExecutor(1) as pool:
        lock_quote(blocker)
        accepted = pool.submit(outcome_of, offers, CUSTOMER, lambda uow: accepting.accept(uow, offers.acceptance(offer)))
        eventually(lambda: waiting(blocker) >= 1, "the acceptance waits for its quote")
        blocker.execute(text("UPDATE quote SET valid_until = clock_timestamp()"))
        blocker.commit()
    return accepted.result()


@rivals(
    "the clock of a signature",
    partial(rewritten, CLOCK_OF_GRANT, BEGIN),
    kind="clock",
    protects="A signature that waited past the end of its signer's authority is refused.",
    kept="AUTHORITY_EXCEEDED",
    broken="done",
)
def a_signature_that_waits_past_the_end_of_its_grant(engine: Engine, offers: Offers) -> object:
    """How the signature ends when the grant ends between its BEGIN and its INSERT."""
    offers.grant_authority("robin", valid_until=in_hours(1))
    offer, (requirement_id, _) = with_two_requirements(offers)
    command = signature(offer, requirement_id, decided_by="robin")
    with engine.connect() as blocker, ThreadPoolExecutor(1) as pool:
        lock_quote(blocker)
        signed = pool.submit(outcome_of, offers, "robin", lambda uow: deciding.decide(uow, command))
        eventually(lambda: waiting(blocker) >= 1, "the signature waits for its quote")
        blocker.execute(text("UPDATE authority_grant SET valid_until = clock_timestamp() WHERE subject = 'robin'"))
        blocker.commit()
    return signed.result()


def with_two_requirements(offers: Offers) -> tuple[Any, list[Any]]:
    offer = offers.quote_in_approval(SIGNATURE, replace(SIGNATURE, type="MARGIN"))
    return offer, offers.requirement_ids(offer)


def signature(offer: Any, requirement_id: Any, decided_by: str = APPROVER) -> deciding.Decide:
    return deciding.Decide(
        requirement_id=requirement_id,
        quote_revision_id=offer.revision_id,
        price_result_id=offer.price_result_id,
        decision=Decision.APPROVE,
        reason_code="TEST",
        decided_by=decided_by,
        roles=("approverRsm",),
        approval_task_id=str(requirement_id),
    )


@rivals(
    "locking the quote while signing",
    partial(rewritten, LOCK_QUOTE, ""),
    kind="lock",
    protects="When the last two approvers sign at once, one sees the other's signature, so that the quote does not stay in approval for ever.",
    kept="APPROVED",
    broken="APPROVAL_IN_PROGRESS",
)
def the_last_two_signatures_at_once(engine: Engine, offers: Offers) -> object:
    """The status of the quote after both."""
    offer, (first, second) = with_two_requirements(offers)
    one = begun(offers, APPROVER, lambda uow: deciding.decide(uow, signature(offer, first)))
    meanwhile(engine, lambda: outcome_of(offers, APPROVER, lambda uow: deciding.decide(uow, signature(offer, second))), one)
    return offers.quote(offer.quote_id).status


@rivals(
    "locking the quote while opening requirements",
    partial(rewritten, LOCK_QUOTE, ""),
    kind="lock",
    protects="Two workers that open the requirements of one revision at once find the same request.",
    kept="done",
    broken="STALE_APPROVAL",
)
def two_workers_that_open_the_requirements_of_one_revision_at_once(engine: Engine, offers: Offers) -> object:
    """How the second worker ends."""
    offer = offers.submitted_quote()
    names = ("quote_id", "quote_revision_id", "price_result_id")
    ids: dict[str, Any] = dict(zip(names, (offer.quote_id, offer.revision_id, offer.price_result_id), strict=True))
    command = approving.OpenRequirements(
        policy_definition_id="approval-requirements:1", process_instance_id="instance", requirements=(SIGNATURE,), **ids
    )

    def opening(uow: UnitOfWork) -> object:
        return approving.open_requirements(uow, command)

    _, second = meanwhile(engine, lambda: outcome_of(offers, "worker", opening), begun(offers, "worker", opening))
    return second.result()


@rivals(
    "locking the grant while signing",
    partial(rewritten, LOCK_GRANT, ""),
    kind="lock",
    protects="A revocation waits for a signature that uses the grant, so that no signature is written after the grant is revoked.",
    kept=False,
    broken=True,
)
def a_revocation_while_the_grant_is_used_to_sign(engine: Engine, offers: Offers) -> object:
    """Whether the revocation finished before the signature."""
    grant = offers.grant_authority("robin")
    offer, (requirement_id, _) = with_two_requirements(offers)
    command = signature(offer, requirement_id, decided_by="robin")
    one = begun(offers, "robin", lambda uow: deciding.decide(uow, command))
    went_ahead, _ = meanwhile(engine, lambda: outcome_of(offers, "admin", revoking(grant)), one)
    return went_ahead


def revoking(grant: Any) -> Callable[[UnitOfWork], object]:
    command = granting.RevokeAuthority(grant_id=grant.id, expected_version=grant.version, revoked_by="admin", as_administrator=True)
    return lambda uow: granting.revoke(uow, command)


@rivals(
    "locking the grant while delegating it",
    partial(rewritten, LOCK_GRANT, ""),
    kind="lock",
    protects="A revocation waits for a delegation of the grant, so that the delegation ends together with its grant.",
    kept="REVOKED",
    broken="ACTIVE",
)
def a_revocation_while_the_grant_is_delegated(engine: Engine, offers: Offers) -> object:
    """The status of the delegation after both."""
    grant = offers.grant_authority("robin")
    command = granting.DelegateAuthority(
        grant_id=grant.id, expected_version=grant.version, delegated_by="robin", subject="dora", valid_until=in_hours(8)
    )
    one = begun(offers, "robin", lambda uow: granting.delegate(uow, command))
    meanwhile(engine, lambda: outcome_of(offers, "admin", revoking(grant)), one)
    with engine.connect() as connection:
        return connection.scalar(text("SELECT status FROM authority_grant WHERE subject = 'dora'"))


@rivals(
    "claiming an idempotency key before reading it",
    claim_after_a_read,
    kind="claim",
    protects="Of two callers with one key the second waits for the first and gets its answer.",
    kept="replayed",
    broken="IntegrityError",
)
def two_callers_with_one_idempotency_key_at_once(engine: Engine, offers: Offers) -> object:
    """How the second caller ends."""

    def call(uow: UnitOfWork) -> object:
        answer = idempotency.once(uow, "key", {})
        if answer is None:
            remember(uow, "key", Answer(status=200, body={}))
        return answer

    def second() -> str:
        with offers.uow(CUSTOMER) as uow:
            return "replayed" if call(uow) else "carried out"

    _, later = meanwhile(engine, second, begun(offers, CUSTOMER, call))
    error = later.exception()
    return type(error).__name__ if error else later.result()
