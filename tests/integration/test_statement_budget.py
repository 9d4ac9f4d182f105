"""The number of statements of each command about offers. A statement is a round trip, and a command spends most of its time on them.

The first statement begins the transaction and names its tenant; COMMIT is one more round trip and no statement. A number that must grow is
changed here, with the reason in the commit.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from domain import accepting, granting
from domain.offers import escalating, quoting, withdrawing
from domain.store import Answer, Cause, once, remember, unit_of_work
from tests.support.as_read import Offer
from tests.support.evidence import record
from tests.support.offers import CUSTOMER, SIGNATURE, Offers
from tests.support.statements import listening

Act = Callable[[], object]


def accept(offers: Offers) -> Act:
    """Accept as the HTTP edge does: with the claim of a key and the stored answer."""
    offer, key = offers.approved_quote(), str(uuid4())

    def act() -> None:
        cause = Cause(tenant_id=offers.tenant_id, actor=CUSTOMER, command="accept-quote", idempotency_key=key)
        with unit_of_work(offers.engine, cause) as uow:
            once(uow, key, {})
            accepted = accepting.accept(uow, offers.acceptance(offer))
            remember(uow, key, Answer(status=201, body={}, version=accepted.quote_version))

    return act


def edit(offers: Offers, offer: Offer) -> Act:
    def act() -> None:
        command = quoting.EditQuote(
            quote_id=offer.quote_id,
            revision_id=offer.revision_id,
            expected_version=offer.version,
            reason_code="TEST",
            term_months=24,
        )
        with offers.uow() as uow:
            quoting.edit(uow, command)

    return act


def withdraw(offers: Offers, offer: Offer, command: Callable[..., Any], form: Callable[..., Any]) -> Act:
    def act() -> None:
        given = {"quote_id": offer.quote_id, "expected_version": offer.version, "revision_id": offer.revision_id}
        with offers.uow() as uow:
            command(uow, form(reason_code="TEST", **given))

    return act


def expire(offers: Offers) -> Act:
    offer = offers.quote_in_approval()
    with offers.engine.begin() as connection:
        connection.execute(text("UPDATE quote SET valid_until = clock_timestamp() - interval '1 second'"))

    def act() -> None:
        with offers.uow() as uow:
            withdrawing.expire(uow, withdrawing.ExpireQuote(quote_id=offer.quote_id, expected_version=offer.version))

    return act


def decide(offers: Offers) -> Act:
    offer = offers.quote_in_approval()
    [requirement_id] = offers.requirement_ids(offer)
    return lambda: offers.decide(offer, requirement_id)


def escalate(offers: Offers) -> Act:
    [requirement_id] = offers.requirement_ids(offers.quote_in_approval())
    command = escalating.EscalateRequirement(
        requirement_id=requirement_id, expected_escalation_level=0, approver_group="approverDirector", sla=timedelta(hours=4)
    )
    offers.make_late()

    def act() -> None:
        with offers.uow() as uow:
            escalating.escalate(uow, command)

    return act


def remind(offers: Offers) -> Act:
    [requirement_id] = offers.requirement_ids(offers.quote_in_approval())
    offers.make_late()

    def act() -> None:
        with offers.uow() as uow:
            escalating.remind(uow, requirement_id)

    return act


def delegate(offers: Offers) -> Act:
    grant = offers.grant_authority("sara")
    command = granting.DelegateAuthority(
        grant_id=grant.id,
        expected_version=grant.version,
        delegated_by="sara",
        subject="dora",
        max_discount_percent=Decimal(10),
        valid_until=datetime.now(UTC) + timedelta(days=7),
    )

    def act() -> None:
        with offers.uow("sara") as uow:
            granting.delegate(uow, command)

    return act


def revoke(offers: Offers) -> Act:
    grant = offers.grant_authority("sara")
    command = granting.RevokeAuthority(grant_id=grant.id, expected_version=grant.version, revoked_by="admin", as_administrator=True)

    def act() -> None:
        with offers.uow("admin") as uow:
            granting.revoke(uow, command)

    return act


def now(offers: Offers, make: Callable[[], Offer], act: Callable[[Offer], object]) -> Act:
    """Prepare first, act when asked."""
    offer = make()
    return lambda: act(offer)


BUDGETS: dict[str, tuple[int, Callable[[Offers], Act]]] = {
    "create": (6, lambda o: o.draft_quote),
    "edit a draft": (5, lambda o: edit(o, o.draft_quote())),
    "edit an approved quote": (12, lambda o: edit(o, o.approved_quote())),
    "price": (7, lambda o: now(o, o.draft_quote, o.price)),
    "submit": (3, lambda o: now(o, o.priced_quote, o.submit)),
    "open requirements": (9, lambda o: now(o, o.submitted_quote, lambda offer: o.open_requirements(offer, SIGNATURE))),
    # Eight of them read what was shown: it is kept with the decision.
    "decide": (20, decide),
    "remind": (3, remind),
    "escalate": (3, escalate),
    "issue a document": (6, lambda o: now(o, o.priced_quote, o.issue_document)),
    "accept": (6, accept),
    "recall": (13, lambda o: withdraw(o, o.quote_in_approval(), withdrawing.recall, withdrawing.RecallQuote)),
    "decline": (3, lambda o: withdraw(o, o.approved_quote(), withdrawing.decline, withdrawing.DeclineQuote)),
    "cancel": (8, lambda o: withdraw(o, o.quote_in_approval(), withdrawing.cancel, withdrawing.CancelQuote)),
    "expire": (8, expire),
    "publish prices": (5, lambda o: lambda: o.publish_prices("p-45", replaces="p-44")),
    "grant authority": (5, lambda o: lambda: o.grant_authority("sara")),
    "delegate authority": (4, delegate),
    "revoke authority": (4, revoke),
}


@pytest.mark.parametrize("name", BUDGETS)
def test_a_command_sends_no_more_statements_than_it_has_to(name: str, offers: Offers) -> None:
    budget, prepare = BUDGETS[name]
    act = prepare(offers)

    with listening(offers.engine) as transactions:
        act()

    sent = transactions[0]
    record(f"statements: {name}", len(sent), "statements")
    assert len(sent) <= budget, "\n".join(statement for statement, _ in sent)
