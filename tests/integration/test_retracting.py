"""What a forged event has put into a projection is taken back by `q2o rebuild`, while commands and the inbox go on."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, text, update

from domain import retracting
from domain.projections.tables import IDENTITY, TABLES, Projection
from domain.rebuilding import START
from domain.retracting import Key, Retracted
from domain.store.unit_of_work import housekeeping
from tests.integration.test_command_line import q2o
from tests.support.database import acting
from tests.support.offers import Offers, offers_of_new_tenant
from tests.support.projected import ask_to_cancel, feed_all, rows, show_all
from tests.support.races import started
from workers.local.logins import addresses_of_processes
from workers.rebuilds import Rebuilt, rebuild

ORDERS = TABLES[Projection.ORDERS]
WITH_VERSION = (Projection.QUOTES, Projection.ORDERS)


@pytest.fixture
def order_id(offers: Offers) -> UUID:
    """An order at version 3, with its quote and a decision; every projection shows them."""
    order_id = offers.running_order().order_id
    show_all(offers.engine)
    return order_id


def put_ahead(engine: Engine, projection: Projection = Projection.ORDERS) -> None:
    """Change the row as an event of version 1000 would, although no command has written one."""
    table = TABLES[projection]
    forged = {"aggregate_version": 1000, "status": "FORGED", "missing": text("'{[4,1000)}'"), "gap_since": text("created_at")}
    with engine.begin() as connection:
        connection.execute(update(table).values(forged))


def put_beside(engine: Engine, projection: Projection = Projection.ORDERS) -> None:
    """As an event does of something that does not exist: for each row one more, with another id."""
    name, identity = TABLES[projection].name, IDENTITY[projection]
    other = f"jsonb_build_object('{identity}', gen_random_uuid())"
    with engine.begin() as connection:
        connection.execute(text(f"INSERT INTO {name} SELECT (jsonb_populate_record(r, {other})).* FROM {name} r"))


def headers(engine: Engine, projection: Projection) -> list[dict[str, Any]]:
    """Every row, but for the time when it was written."""
    return [{name: value for name, value in row._mapping.items() if name != "projected_at"} for row in rows(engine, projection)]


def run(engine: Engine, projection: Projection = Projection.ORDERS, tenant_id: UUID | None = None) -> Rebuilt:
    return rebuild(acting(engine, "reconcile"), projection, tenant_id, lambda _: None)


def shown(engine: Engine) -> list[tuple[int, str]]:
    return [(row.aggregate_version, row.status) for row in rows(engine, Projection.ORDERS)]


def cancel(offers: Offers, order_id: UUID) -> None:
    """Take the order to version 4."""
    with offers.uow() as uow:
        ask_to_cancel(uow, offers.order(order_id))


@pytest.mark.parametrize("projection", WITH_VERSION)
def test_a_row_that_is_ahead_of_the_authority_is_put_back(db: Engine, order_id: UUID, projection: Projection) -> None:
    before = headers(db, projection)
    put_ahead(db, projection)

    done = [run(db, projection) for _ in range(2)]

    assert headers(db, projection) == before
    assert done == [Rebuilt(1, 0, put_back=1), Rebuilt(1, 0)]


@pytest.mark.parametrize("projection", list(Projection))
def test_a_row_that_the_authority_does_not_have_is_removed(db: Engine, order_id: UUID, projection: Projection) -> None:
    before = headers(db, projection)
    put_beside(db, projection)

    done = [run(db, projection) for _ in range(2)]

    assert headers(db, projection) == before
    assert done == [Rebuilt(1, 0, removed=1), Rebuilt(1, 0)]


def test_the_events_after_a_forged_one_are_merged_again(db: Engine, offers: Offers, order_id: UUID) -> None:
    feed_all(db, offers.tenant_id)
    put_ahead(db)
    run(db)
    cancel(offers, order_id)

    feed_all(db, offers.tenant_id)

    assert shown(db) == [(4, "CANCEL_REQUESTED")]


def test_a_rebuild_of_one_tenant_takes_nothing_back_from_others(db: Engine, offers: Offers, order_id: UUID) -> None:
    offers_of_new_tenant(db).running_order()
    show_all(db)
    put_ahead(db)
    put_beside(db)

    assert run(db, tenant_id=offers.tenant_id) == Rebuilt(1, 0, put_back=1, removed=1)
    assert run(db) == Rebuilt(2, 0, put_back=1, removed=1)


def test_many_rows_are_taken_back_a_few_in_each_transaction(db: Engine, offers: Offers, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        offers.running_order()
    show_all(db)
    put_ahead(db)
    put_beside(db)
    monkeypatch.setattr("workers.rebuilds.TAKEN_BACK", 2)

    done = rebuild(acting(db, "reconcile"), Projection.ORDERS, None, lambda _: None, batch=4)

    assert done == Rebuilt(3, 0, put_back=3, removed=3)
    assert shown(db) == [(3, "IN_PROGRESS")] * 3


def test_a_version_that_comes_between_reading_and_writing_is_the_one_that_is_shown(
    db: Engine, offers: Offers, order_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kills: a rebuild that writes what it read of the authority before it had the locks."""
    put_ahead(db)
    retract = retracting.retract

    def after_a_command(connection: Connection, projection: Projection, keys: Sequence[Key]) -> Retracted:
        cancel(offers, order_id)
        return retract(connection, projection, keys)

    monkeypatch.setattr(retracting, "retract", after_a_command)

    assert run(db) == Rebuilt(1, 0, put_back=1)
    assert shown(db) == [(4, "CANCEL_REQUESTED")]


def test_a_command_that_is_under_way_is_not_waited_for(db: Engine, offers: Offers, order_id: UUID) -> None:
    put_ahead(db)
    with offers.uow() as uow:
        ask_to_cancel(uow, offers.order(order_id))
        meanwhile = run(db)

    assert meanwhile == Rebuilt(1, 0, left=1)
    assert run(db) == Rebuilt(1, 0, put_back=1)
    assert shown(db) == [(4, "CANCEL_REQUESTED")]


def test_a_command_commits_no_newer_version_until_the_row_is_written(db: Engine, offers: Offers, order_id: UUID) -> None:
    """Kills: a lock of the authority that a command does not wait for."""
    feed_all(db, offers.tenant_id)
    put_ahead(db)

    with ThreadPoolExecutor(1) as pool, housekeeping(acting(db, "reconcile")) as connection:
        retracting.retract(connection, Projection.ORDERS, [(offers.tenant_id, order_id)])
        with db.connect() as holder:
            waiting = started(pool, holder, lambda: cancel(offers, order_id))
            assert not waiting.done()
    waiting.result(30)

    assert shown(db) == [(3, "IN_PROGRESS")]
    feed_all(db, offers.tenant_id)
    assert shown(db) == [(4, "CANCEL_REQUESTED")]


def test_a_row_into_which_an_event_is_merged_is_left(db: Engine, order_id: UUID) -> None:
    put_ahead(db)
    put_beside(db)
    with db.connect() as inbox:
        inbox.execute(text("SELECT FROM order_search_projection FOR UPDATE"))
        with housekeeping(acting(db, "reconcile")) as connection:
            found = retracting.look(connection, Projection.ORDERS, START, 10)
            done = retracting.retract(connection, Projection.ORDERS, found.astray)

    assert (len(found.astray), done) == (2, Retracted(0, 0))


@pytest.mark.parametrize("projection", list(Projection))
def test_a_row_that_became_right_meanwhile_stays(db: Engine, order_id: UUID, projection: Projection) -> None:
    """Kills: a rebuild that removes or writes a row without a second look at the authority."""
    before = rows(db, projection)
    keys = [(row.tenant_id, getattr(row, IDENTITY[projection])) for row in before]

    with housekeeping(acting(db, "reconcile")) as connection:
        assert retracting.retract(connection, projection, keys) == Retracted(0, 0)

    assert rows(db, projection) == before


def test_the_command_says_what_it_took_back_and_what_it_left(db: Engine, order_id: UUID, tmp_path: Path) -> None:
    address = db.url.render_as_string(hide_password=False)
    settings = {name.removeprefix("Q2O_"): value for name, value in addresses_of_processes(address).items()}
    put_ahead(db)
    put_beside(db)
    with db.connect() as holder:
        holder.execute(text("SELECT FROM sales_order FOR UPDATE"))
        ended = q2o(tmp_path, "rebuild", "order_search", **settings)

    assert ended.returncode == 0, ended.stderr
    assert "0 were ahead and are put back, 1 showed nothing that exists and are removed" in ended.stderr
    assert "1 such rows were locked by others" in ended.stderr
