"""The sweep of the audit: a page of quotes at a time, each violation logged once and counted while it is there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, text
from structlog.testing import capture_logs

from domain.auditing.excerpts import Excerpts
from domain.store import leases
from domain.store.unit_of_work import housekeeping
from reconciliation import audits
from reconciliation import rounds as reconciliation_rounds
from reconciliation.audits import Audits
from tests.support.database import acting
from tests.support.fulfilment import Fulfilment
from tests.support.metrics import metric
from tests.support.offers import Offers, offers_of_new_tenant
from tests.support.projected import show_all

INTERVAL = timedelta(seconds=10)


@dataclass
class Rounds:
    """Makes rounds at a time of its own."""

    database: Engine
    page: int = 50
    now: float = 0.0

    def __post_init__(self) -> None:
        self.audits = Audits(acting(self.database, "reconcile"), INTERVAL, page=self.page, clock=lambda: self.now)

    def round(self) -> list[str]:
        """Make a round when it is due; returns the invariants of the violations that it logged."""
        with capture_logs() as logs:
            self.audits.sweep()
        self.now += INTERVAL.total_seconds()
        return [log["invariant"] for log in logs if log["event"] == "audit_violation_found"]


def change_past_the_product(database: Engine, quote_id: object, by: int = 1) -> None:
    with database.begin() as connection:
        connection.execute(text("UPDATE quote SET version = version + :by WHERE id = :id"), {"by": by, "id": quote_id})


def test_an_order_on_its_way_is_no_violation(db: Engine, offers: Offers) -> None:
    Fulfilment.running(offers)

    assert Rounds(db).round() == []


def test_a_violation_is_logged_once_and_counted_while_it_is_there(db: Engine, offers: Offers) -> None:
    quote_id = offers.draft_quote().quote_id
    change_past_the_product(db, quote_id)
    rounds = Rounds(db)

    logged = [rounds.round(), rounds.round()]
    counted = metric("q2o_audit_violations", invariant="I5")
    change_past_the_product(db, quote_id, by=-1)
    rounds.round()

    assert logged == [["I5"], []]
    assert (counted, metric("q2o_audit_violations", invariant="I5")) == (1, 0)


def test_a_violation_names_its_tenant_and_its_ids(db: Engine, offers: Offers) -> None:
    quote_id = offers.draft_quote().quote_id
    change_past_the_product(db, quote_id)

    with capture_logs() as logs:
        Rounds(db).audits.sweep()

    [log] = [log for log in logs if log["event"] == "audit_violation_found"]
    assert (log["tenantId"], log["log_level"]) == (str(offers.tenant_id), "error")
    assert str(quote_id) in log["violation"]


def test_the_audit_walks_through_all_quotes_and_begins_again(db: Engine, offers: Offers) -> None:
    quotes = [offers.draft_quote().quote_id for _ in range(3)]
    change_past_the_product(db, max(quotes, key=str))
    rounds = Rounds(db, page=2)
    before = metric("q2o_audited_quotes_total")

    logged = [rounds.round(), rounds.round()]
    change_past_the_product(db, min(quotes, key=str))
    logged += [rounds.round(), rounds.round()]

    assert logged == [[], ["I5"], ["I5"], []]
    assert metric("q2o_audited_quotes_total") == before + 6


def test_quotes_that_cannot_be_audited_stop_no_others_and_nothing_about_them_is_forgotten(
    db: Engine, offers: Offers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kills: a page that fails in every round, so that no quote behind it is ever audited."""
    first, last = sorted((offers.draft_quote().quote_id for _ in range(2)), key=str)
    change_past_the_product(db, first)
    rounds = Rounds(db, page=1)
    known = [rounds.round() for _ in range(3)]
    change_past_the_product(db, last)
    audit = Excerpts.violations
    before = metric("q2o_items_set_aside_total", loop="reconcile", item="audited_quotes")

    def violations(rules: Excerpts, connection: Connection, tenant_id: UUID, quotes: Sequence[UUID]) -> Iterator[tuple[str, str]]:
        if first in quotes:
            raise RuntimeError("this page fails")
        return audit(rules, connection, tenant_id, quotes)

    monkeypatch.setattr(Excerpts, "violations", violations)

    assert known == [["I5"], [], []]
    assert [rounds.round() for _ in range(3)] == [[], ["I5"], []]
    assert metric("q2o_items_set_aside_total", loop="reconcile", item="audited_quotes") == before + 1
    assert metric("q2o_audit_violations", invariant="I5") == 2


def test_a_rule_that_cannot_be_checked_counts_and_the_others_are_checked(db: Engine, offers: Offers) -> None:
    """Kills: a page of quotes that is left after the first query that fails, and a metric that says all is well."""
    quote_id = offers.draft_quote().quote_id
    show_all(db)
    change_past_the_product(db, quote_id)
    say = text(
        "UPDATE outbox_event SET payload = jsonb_set(payload, '{validUntil}', to_jsonb(CAST(:said AS text))) WHERE aggregate_type = 'quote'"
    )
    with db.begin() as connection:
        said = connection.scalar(text("SELECT payload ->> 'validUntil' FROM outbox_event WHERE aggregate_type = 'quote' LIMIT 1"))
        connection.execute(text("UPDATE quote_search SET gap_since = now() - interval '1 hour'"))  # which is a violation of I20
    rounds = Rounds(db)

    logged = [rounds.round()]
    with db.begin() as connection:
        connection.execute(say, {"said": "2026-02-30T00:00:00+00:00"})
        connection.execute(text("UPDATE quote_search SET gap_since = NULL"))
    logged += [rounds.round(), rounds.round()]
    counted = metric("q2o_audit_violations", invariant="I20")
    with db.begin() as connection:
        connection.execute(say, {"said": said})
    rounds.round()

    assert logged == [["I5", "I20"], ["I20"], []]
    assert (counted, metric("q2o_audit_violations", invariant="I20")) == (2, 0)


def test_a_round_comes_after_its_interval(db: Engine, offers: Offers) -> None:
    rounds = Rounds(db)
    rounds.round()
    change_past_the_product(db, offers.draft_quote().quote_id)
    rounds.now -= 1

    early = rounds.round()

    assert (early, rounds.round()) == ([], ["I5"])


def test_quotes_that_another_reconciler_audits_are_left_to_it(db: Engine, offers: Offers) -> None:
    change_past_the_product(db, offers.draft_quote().quote_id)
    with housekeeping(db) as connection:
        rows = list(connection.execute(text("SELECT tenant_id, id FROM quote")))
        taken = leases.take(connection, Audits.kind, rows, timedelta(minutes=1))
    rounds = Rounds(db)

    beside = rounds.round()
    with housekeeping(db) as connection:
        leases.end(connection, Audits.kind, taken)

    assert (beside, rounds.round()) == ([], ["I5"])


def test_a_violation_of_quotes_that_another_reconciler_audits_is_not_forgotten(db: Engine, offers: Offers) -> None:
    """Kills: a walk that counts quotes as audited which it has left to another reconciler."""
    change_past_the_product(db, offers.draft_quote().quote_id)
    rounds = Rounds(db)
    rounds.round()
    with housekeeping(db) as connection:
        leases.take(
            connection, Audits.kind, list(connection.execute(text("SELECT tenant_id, id FROM quote"))), timedelta(minutes=1)
        )

    for _ in range(3):
        rounds.round()

    assert metric("q2o_audit_violations", invariant="I5") == 1


def test_no_more_violations_of_an_invariant_are_remembered_than_there_is_room_for(
    db: Engine, offers: Offers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kills: a limit for all invariants together, so that many violations of one keep those of the others out of the log."""
    monkeypatch.setattr(audits, "MOST", 1)
    quotes = [offers.draft_quote().quote_id for _ in range(2)]
    show_all(db)
    for quote_id in quotes:
        change_past_the_product(db, quote_id)
    with db.begin() as connection:
        connection.execute(text("UPDATE quote_search SET gap_since = now() - interval '1 hour'"))  # which is a violation of I20

    assert Rounds(db).round() == ["I5", "I20"]


def test_a_round_ends_when_its_time_is_over_and_the_next_one_goes_on_behind_it(db: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills: a round that audits the quotes of many tenants while every other sweep waits."""
    monkeypatch.setattr(reconciliation_rounds, "BUDGET", timedelta(0))
    quotes = sorted(quote_of_new_tenant(db) for _ in range(3))
    for _, quote_id in quotes:
        change_past_the_product(db, quote_id)
    rounds = Rounds(db)

    logged = [rounds.round() for _ in quotes]
    for _, quote_id in quotes:
        change_past_the_product(db, quote_id, by=-1)
    counted = []
    for _ in quotes:
        rounds.round()
        counted.append(metric("q2o_audit_violations", invariant="I5"))

    assert logged == [["I5"], ["I5"], ["I5"]]
    assert counted == [3, 3, 0]


def quote_of_new_tenant(database: Engine) -> tuple[UUID, UUID]:
    """Make a tenant with a quote; returns the ids of both."""
    offers = offers_of_new_tenant(database)
    return offers.tenant_id, offers.draft_quote().quote_id
