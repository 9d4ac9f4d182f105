"""What the inbox has lost is rebuilt from the authority: once by reconciliation (R10), as a whole by `q2o rebuild`, while events come in."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from uuid import UUID

import pytest
from sqlalchemy import Engine, Row, delete, select, text, update

from domain.findings import ReconciliationFinding
from domain.projections.merging import Change, Seen, consume
from domain.projections.tables import TABLES, Projection
from domain.store import table_of
from domain.store.unit_of_work import housekeeping
from reconciliation import alone
from reconciliation.projections import Projections
from reconciliation.repairs import Repairs
from tests.integration.test_command_line import assert_one_line, q2o
from tests.support.database import acting
from tests.support.metrics import metric
from tests.support.offers import Offers, offers_of_new_tenant
from tests.support.projected import ask_to_cancel, envelope_of, events_of, feed, feed_all, show_all
from tests.support.races import started
from tests.support.reconciling import no_finding_about
from workers.kafka.views import ORDERS, View
from workers.local.logins import addresses_of_processes
from workers.rebuilds import Rebuilt, rebuild
from workers.runtime.outages import OutageError
from workers.runtime.set_aside import Pauses

NOW, LATER = timedelta(0), timedelta(hours=1)
ORDER = TABLES[Projection.ORDERS]


def sweep(engine: Engine, limit: timedelta = NOW) -> int:
    return new_sweep(engine, limit).sweep()


def new_sweep(engine: Engine, limit: timedelta = NOW) -> Projections:
    database = acting(engine, "reconcile")
    return Projections(database, Repairs(database, dry_run=False), limit)


def findings(engine: Engine) -> list[Row[Any]]:
    table = table_of(ReconciliationFinding)
    with engine.connect() as connection:
        return list(connection.execute(select(*table.c).order_by(table.c.created_at)).all())


def shown(engine: Engine, projection: Projection = Projection.ORDERS) -> list[Row[Any]]:
    with engine.connect() as connection:
        return list(connection.execute(select(*TABLES[projection].c)).all())


def rebuilt() -> float:
    return metric("q2o_reconciliation_actions_total", kind="projection", result="rebuilt")


def feed_but(engine: Engine, view: View, *lost: int) -> None:
    """Let a view consume the events of its aggregates, except those of the lost versions."""
    events = [envelope_of(event) for event in events_of(engine, view.aggregate_type)]
    feed(engine, view, [event for event in events if event.aggregate_version not in lost])


@pytest.fixture
def order_id(offers: Offers) -> UUID:
    """An order at version 3; quotes and decisions are shown already."""
    order_id = offers.running_order().order_id
    show_all(offers.engine)
    with offers.engine.begin() as connection:
        connection.execute(delete(ORDER))
    return order_id


def test_a_gap_that_is_older_than_the_limit_is_rebuilt_once(db: Engine, order_id: UUID) -> None:
    feed_but(db, ORDERS, 2)
    before = rebuilt()

    assert [sweep(db), sweep(db)] == [1, 0]

    [row] = shown(db)
    [finding] = findings(db)
    assert (row.aggregate_version, row.status, row.missing, row.gap_since) == (3, "IN_PROGRESS", [], None)
    assert (finding.kind, finding.aggregate_id, finding.action, finding.status) == ("projection", order_id, "rebuilt", "REPAIRED")
    assert finding.evidence == {
        "projection": "order_search",
        "version": 3,
        "shownVersion": 3,
        "missingVersions": "{[2,3)}",
    }
    assert rebuilt() == before + 1


def test_a_younger_gap_is_left_to_the_events(db: Engine, order_id: UUID) -> None:
    feed_but(db, ORDERS, 2)

    assert sweep(db, LATER) == 0

    assert shown(db)[0].gap_since is not None


def test_an_event_that_comes_after_the_rebuild_changes_nothing(db: Engine, order_id: UUID) -> None:
    feed_but(db, ORDERS, 2)
    sweep(db)
    [before] = shown(db)

    feed_but(db, ORDERS, 1, 3)

    assert shown(db) == [before]


def test_a_row_that_no_event_has_made_is_rebuilt_once(db: Engine, order_id: UUID) -> None:
    assert [sweep(db), sweep(db)] == [1, 0]

    assert [(row.order_id, row.aggregate_version) for row in shown(db)] == [(order_id, 3)]
    assert [finding.evidence["shownVersion"] for finding in findings(db)] == [None]


def test_a_last_event_that_was_lost_is_found_without_a_next_one(db: Engine, order_id: UUID) -> None:
    feed_but(db, ORDERS, 3)

    assert [sweep(db), sweep(db)] == [1, 0]

    assert [(row.status, row.aggregate_version) for row in shown(db)] == [("IN_PROGRESS", 3)]


def test_a_change_is_looked_at_although_older_ones_were_before(db: Engine, offers: Offers, order_id: UUID) -> None:
    feed_but(db, ORDERS)
    sweeps = new_sweep(db)
    assert sweeps.sweep() == 0
    with offers.uow() as uow:
        ask_to_cancel(uow, offers.order(order_id))

    assert sweeps.sweep() == 1

    assert [row.status for row in shown(db)] == ["CANCEL_REQUESTED"]


@pytest.mark.parametrize("projection", list(Projection))
def test_every_projection_is_rebuilt(db: Engine, order_id: UUID, projection: Projection) -> None:
    show_all(db)
    with db.begin() as connection:
        connection.execute(delete(TABLES[projection]))

    assert sweep(db) == 1

    assert len(shown(db, projection)) == 1


def test_a_view_of_no_order_is_left_and_stops_no_other(db: Engine, order_id: UUID) -> None:
    feed_but(db, ORDERS, 2)
    with db.begin() as connection:
        connection.execute(text("UPDATE order_search_projection SET order_id = gen_random_uuid()"))

    assert [sweep(db), sweep(db)] == [1, 0]

    assert {row.order_id == order_id for row in shown(db)} == {True, False}


@pytest.fixture
def two_absent(offers: Offers) -> list[UUID]:
    """Two orders that no view shows; the first has the older change."""
    ids = [offers.running_order().order_id for _ in range(2)]
    show_all(offers.engine)
    with offers.engine.begin() as connection:
        connection.execute(delete(ORDER))
    return ids


def test_a_row_that_cannot_be_rebuilt_stops_no_other_and_is_rebuilt_later(
    db: Engine, two_absent: list[UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kills: one row that fails in every sweep, so that no row behind it is ever rebuilt."""
    sweeps = new_sweep(db)
    with no_finding_about(db, two_absent[0]):
        assert sweeps.sweep() == 1
        assert [row.order_id for row in shown(db)] == [two_absent[1]]

    monkeypatch.setattr(alone, "_pauses", Pauses())
    assert sweeps.sweep() == 1
    assert {row.order_id for row in shown(db)} == set(two_absent)


def test_rows_that_an_outage_has_left_are_rebuilt_after_it(
    db: Engine, two_absent: list[UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kills: a place in the order of changes that moves on before the rows are rebuilt."""
    sweeps = new_sweep(db)
    monkeypatch.setattr(Repairs, "make", Mock(side_effect=OutageError("away")))
    with pytest.raises(OutageError):
        sweeps.sweep()
    monkeypatch.undo()

    assert sweeps.sweep() == 2


def test_a_dry_run_changes_nothing(db: Engine, order_id: UUID) -> None:
    database = acting(db, "reconcile")

    assert Projections(database, Repairs(database, dry_run=True), NOW).sweep() == 1

    assert shown(db) == []
    assert findings(db) == []


def test_a_rebuild_goes_through_every_row_and_writes_the_wrong_ones(db: Engine, offers: Offers) -> None:
    orders = [offers.running_order().order_id for _ in range(5)]
    feed_all(db, offers.tenant_id)
    with db.begin() as connection:
        connection.execute(update(ORDER).where(ORDER.c.order_id == orders[0]).values(customer_id="wrong"))
        connection.execute(delete(ORDER).where(ORDER.c.order_id == orders[1]))
    steps: list[int] = []

    done = rebuild(acting(db, "reconcile"), Projection.ORDERS, None, steps.append, batch=2)

    assert done == Rebuilt(5, 2)
    assert steps == [2, 2, 1] * 2  # the authority, then the projection
    assert {(row.order_id, row.customer_id) for row in shown(db)} == {(order_id, "customer-1") for order_id in orders}


def test_a_rebuild_of_one_tenant_leaves_the_others(db: Engine, offers: Offers) -> None:
    offers.running_order()
    offers_of_new_tenant(db).running_order()

    done = rebuild(acting(db, "reconcile"), Projection.ORDERS, offers.tenant_id, lambda _: None)

    assert done == Rebuilt(1, 1)
    assert [row.tenant_id for row in shown(db)] == [offers.tenant_id]


def test_a_rebuild_does_not_take_back_what_the_inbox_writes_meanwhile(db: Engine, offers: Offers, order_id: UUID) -> None:
    """Kills: a rebuild without the guard on the version."""
    feed_but(db, ORDERS)
    newest = max(events_of(db, "sales_order"), key=lambda event: int(event.aggregate_version))
    change = ORDERS.change_by(envelope_of(newest))
    assert change is not None
    header = {**change.header, "aggregate_version": 4, "status": "CANCEL_REQUESTED"}
    seen = Seen(consumer_name="x", event_id=order_id, event_type="OrderCancelRequested", aggregate_id=order_id)
    with db.begin() as connection:
        connection.execute(update(ORDER).values(customer_id="wrong"))

    with ThreadPoolExecutor(1) as pool, offers.uow("inbox") as uow:
        consume(uow, seen, Change(projection=Projection.ORDERS, header=header))
        waiting = started(pool, uow.connection, lambda: rebuild(acting(db, "reconcile"), Projection.ORDERS, None, lambda _: None))
        # The rebuild has read version 3, so the command of version 4 may as well commit now as before its event was merged.
        with offers.uow() as command:
            ask_to_cancel(command, offers.order(order_id))

    assert waiting.result(30) == Rebuilt(1, 0)
    assert [(row.aggregate_version, row.status) for row in shown(db)] == [(4, "CANCEL_REQUESTED")]


@pytest.mark.parametrize("projection", list(Projection))
def test_a_row_that_retention_deletes_does_not_come_back(db: Engine, order_id: UUID, projection: Projection) -> None:
    """Kills: a rebuild that writes a row after retention has deleted what it shows."""
    with db.begin() as connection:
        connection.execute(delete(TABLES[projection]))
    with db.connect() as holder:
        for table in ("quote", "sales_order"):
            holder.execute(text(f"SELECT id FROM {table} FOR UPDATE"))

        while_deleted = rebuild(acting(db, "reconcile"), projection, None, lambda _: None)
        in_a_sweep = sweep(db)

    assert (while_deleted.changed, in_a_sweep, shown(db, projection)) == (0, 0, [])
    sweep(db)
    assert len(shown(db, projection)) == 1


def test_an_unknown_projection_is_one_line_and_changes_nothing(tmp_path: Path) -> None:
    assert_one_line(q2o(tmp_path, "rebuild", "nope"), "nope", "quote_search, order_search, approval_decisions")


def test_the_command_rebuilds_and_says_how_much(db: Engine, order_id: UUID, tmp_path: Path) -> None:
    address = db.url.render_as_string(hide_password=False)
    settings = {name.removeprefix("Q2O_"): value for name, value in addresses_of_processes(address).items()}

    ended = q2o(tmp_path, "rebuild", "order_search", **settings)

    assert ended.returncode == 0, ended.stderr
    assert "order_search: 1 row read, 1 of them rebuilt" in ended.stderr
    assert [row.order_id for row in shown(db)] == [order_id]


def test_counting_and_rebuilding_need_no_right_to_write_the_authority(db: Engine, order_id: UUID) -> None:
    with housekeeping(acting(db, "reconcile")) as connection:
        rights = connection.execute(text("SELECT has_table_privilege('approval_decision', 'UPDATE')")).scalar_one()

    assert rights is False
