"""What should be impossible is an alarm: a finding, a metric and one case. A foreign key makes an order without its acceptance impossible."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from unittest.mock import Mock

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from domain.delivery import orphans
from domain.fallout.cases import FalloutCase
from domain.findings import ReconciliationFinding
from domain.store import table_of
from domain.store.unit_of_work import housekeeping
from reconciliation.orphans import Orphans
from reconciliation.repairs import Repairs
from tests.support.database import acting
from tests.support.fulfilment import Fulfilment
from tests.support.metrics import metric
from tests.support.offers import Offers
from workers.runtime.outages import OutageError


def sweep(offers: Offers, grace: timedelta = timedelta(0), *, dry_run: bool = False) -> int:
    database = acting(offers.engine, "reconcile")
    return Orphans(database, Repairs(database, dry_run=dry_run), grace).sweep()


def by_hand(offers: Offers, *statements: str) -> None:
    """Do what the domain never does: without triggers, foreign keys included."""
    with offers.engine.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        for statement in statements:
            connection.execute(text(statement), {"tenant": offers.tenant_id})


def lose_correlations(offers: Offers) -> None:
    by_hand(offers, "DELETE FROM workflow_correlation WHERE tenant_id = :tenant")


def reported(offers: Offers) -> list[tuple[str, str]]:
    table = table_of(ReconciliationFinding).c
    with offers.engine.connect() as connection:
        query = select(table.aggregate_type, table.status).where(table.tenant_id == offers.tenant_id, table.kind == "orphan")
        return [(row.aggregate_type, row.status) for row in connection.execute(query)]


def cases(offers: Offers) -> list[Any]:
    table = table_of(FalloutCase).c
    with offers.engine.connect() as connection:
        query = select(*table).where(table.tenant_id == offers.tenant_id, table.type == "DATA_INVALID")
        return list(connection.execute(query))


def test_nothing_is_reported_of_what_the_domain_writes(offers: Offers) -> None:
    offers.accepted_quote()
    offers.submitted_quote()
    Fulfilment.contradicted(offers)
    Fulfilment.running(offers).ask_to_cancel()

    assert sweep(offers) == 0


def test_an_order_without_a_process_is_reported_once(offers: Offers) -> None:
    order_id = offers.accepted_quote().order_id
    lose_correlations(offers)
    before = metric("q2o_reconciliation_actions_total", kind="orphan", result="case_opened")

    assert sweep(offers, timedelta(hours=1)) == 0
    assert sweep(offers) == 1
    assert sweep(offers) == 0

    assert reported(offers) == [("sales_order", "OPEN")]
    assert [case.order_id for case in cases(offers)] == [order_id]
    assert metric("q2o_reconciliation_actions_total", kind="orphan", result="case_opened") == before + 1


def test_a_submitted_quote_without_a_process_is_reported(offers: Offers) -> None:
    offers.submitted_quote()
    lose_correlations(offers)

    assert sweep(offers) == 1

    assert reported(offers) == [("quote", "OPEN")]


def test_a_case_without_a_process_is_reported(offers: Offers) -> None:
    work = Fulfilment.contradicted(offers)
    by_hand(offers, "DELETE FROM workflow_correlation WHERE tenant_id = :tenant AND aggregate_type = 'fallout_case'")

    assert sweep(offers) == 1

    assert [case.order_id for case in cases(offers)] == [work.order_id]


def test_a_cancellation_whose_order_has_no_process_is_reported(offers: Offers) -> None:
    Fulfilment.running(offers).ask_to_cancel()
    lose_correlations(offers)

    assert sweep(offers) == 1

    assert reported(offers) == [("cancellation_request", "OPEN")]


def test_an_accepted_quote_without_its_acceptance_is_reported(offers: Offers) -> None:
    offers.accepted_quote()
    by_hand(offers, "DELETE FROM quote_acceptance WHERE tenant_id = :tenant")

    assert sweep(offers) == 1

    assert reported(offers) == [("quote", "OPEN")]


def test_an_orphan_that_two_reconcilers_find_is_reported_once(offers: Offers, monkeypatch: pytest.MonkeyPatch) -> None:
    offers.accepted_quote()
    lose_correlations(offers)
    with housekeeping(acting(offers.engine, "reconcile")) as connection:
        seen = orphans.without_process(connection, 10, timedelta(0))
    taken = [[], seen, [], seen]
    monkeypatch.setattr(orphans, "without_process", lambda *_, **__: taken.pop())

    assert [sweep(offers), sweep(offers)] == [1, 0]

    assert (len(reported(offers)), len(cases(offers))) == (1, 1)


def test_an_accepted_quote_that_an_outage_has_left_is_reported_after_it(offers: Offers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills: a place in the order of acceptances that moves on before the alarm is raised."""
    offers.accepted_quote()
    by_hand(offers, "DELETE FROM quote_acceptance WHERE tenant_id = :tenant")
    database = acting(offers.engine, "reconcile")
    sweeps = Orphans(database, Repairs(database, dry_run=False), timedelta(0))
    monkeypatch.setattr(Repairs, "make", Mock(side_effect=OutageError("away")))
    with pytest.raises(OutageError):
        sweeps.sweep()
    monkeypatch.undo()
    by_hand(offers, "UPDATE quote SET updated_at = updated_at - interval '1 hour' WHERE tenant_id = :tenant")

    assert sweeps.sweep() == 1


def test_every_accepted_quote_is_looked_at_however_many_come_within_a_minute(
    offers: Offers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kills: going back a minute after each page, so that a minute with more than a page of quotes is never passed."""
    monkeypatch.setattr("reconciliation.orphans.ACCEPTED", 2)
    for _ in range(4):
        offers.accepted_quote()
    last = "(SELECT id FROM quote WHERE tenant_id = :tenant ORDER BY updated_at DESC LIMIT 1)"
    by_hand(offers, f"DELETE FROM quote_acceptance WHERE quote_id = {last}")
    database = acting(offers.engine, "reconcile")
    sweeps = Orphans(database, Repairs(database, dry_run=False), timedelta(0))

    assert sum(sweeps.sweep() for _ in range(5)) == 1


def test_accepted_quotes_are_looked_at_once(offers: Offers) -> None:
    offers.accepted_quote()
    database = acting(offers.engine, "reconcile")
    sweeps = Orphans(database, Repairs(database, dry_run=False), timedelta(0))
    sweeps.sweep()
    by_hand(
        offers,
        "UPDATE quote SET updated_at = updated_at - interval '1 hour' WHERE tenant_id = :tenant",
        "DELETE FROM quote_acceptance WHERE tenant_id = :tenant",
    )

    assert sweeps.sweep() == 0


def test_an_order_without_its_acceptance_cannot_be_committed(offers: Offers) -> None:
    offer = offers.approved_quote()
    insert = (
        "INSERT INTO sales_order (tenant_id, id, version, status, order_kind, quote_id, quote_revision_id, customer_id) "
        "VALUES (:tenant, gen_random_uuid(), 1, 'CREATED', 'PRIMARY', :quote, :revision, 'c')"
    )

    with pytest.raises(IntegrityError, match="fk_sales_order_acceptance"), offers.uow() as uow:
        uow.connection.execute(text(insert), {"tenant": offers.tenant_id, "quote": offer.quote_id, "revision": offer.revision_id})


def test_a_dry_run_reports_nothing(offers: Offers) -> None:
    offers.submitted_quote()
    lose_correlations(offers)

    assert sweep(offers, dry_run=True) == 1

    assert (reported(offers), cases(offers)) == ([], [])
