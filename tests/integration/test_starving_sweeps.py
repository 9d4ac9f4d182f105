"""What a sweep selects is shared: neither another tenant's flood nor rows that nothing can settle keep a row from its turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, text

from domain import rebuilding
from domain.delivery import jeopardy, orphans, unanswered
from domain.projections.tables import Projection
from domain.schema import METADATA
from domain.store.unit_of_work import housekeeping
from reconciliation import rounds
from reconciliation.rounds import Leased
from tests.support.database import acting, new_database
from tests.support.loading import copied_tenant, insert_attempted_steps, insert_copies, loading, numbered
from tests.support.offers import Offers
from tests.support.reconciling import all_are_due, silence
from tests.support.work_loads import make_open_work

FLOOD, ROUND, NOW = 30, 10, timedelta(0)
MANY = 40  # times a coin is thrown: that it falls on one side each time happens once in a million million
EARLIER = "t.{0} - n * interval '1 minute' - interval '1 year'"
Row = tuple[UUID, UUID]
Take = Callable[[Engine], Sequence[Any]]


def leased(kind: str, find: Callable[[Connection, int], Sequence[Any]]) -> Take:
    return lambda database: Leased(database, kind, dry_run=False).take(find)


def claimed(find: Callable[..., Sequence[Any]]) -> Take:
    def take(database: Engine) -> Sequence[Any]:
        with housekeeping(database) as connection:
            return find(connection, ROUND, timedelta(minutes=1), silence())

    return take


def orphaned_orders(connection: Connection, limit: int) -> Sequence[Any]:
    return [row for row in orphans.without_process(connection, limit, NOW) if row.aggregate_type == "sales_order"]


SELECTIONS: Mapping[str, Take] = {
    "late orders": leased(jeopardy.LATE, jeopardy.late_orders),
    "alerts that are over": leased(jeopardy.OVER, jeopardy.over),
    "orders without a process": leased(orphans.KIND, orphaned_orders),
    "rows with a gap": leased(rebuilding.KIND, partial(rebuilding.gaps, projection=Projection.QUOTES, older_than=NOW)),
    "cancellations": claimed(unanswered.unanswered_cancellations),
    "contradictions": claimed(unanswered.unsettled_contradictions),
}


@dataclass(frozen=True, slots=True)
class Flooded:
    """A tenant with some open rows of each kind, older ones by the dozen, and a tenant with the same open rows alone."""

    engine: Engine
    flooded: UUID
    quiet: UUID

    def take(self, what: str) -> list[Row]:
        return [(row.tenant_id, row.id) for row in SELECTIONS[what](acting(self.engine, "reconcile"))]


@pytest.fixture(scope="module")
def world(database: str) -> Iterator[Flooded]:
    with new_database(database, "q2o_starving") as engine:
        load = make_open_work(engine, 1)
        with loading(engine) as connection:
            connection.execute(text("DELETE FROM workflow_correlation WHERE aggregate_type = 'sales_order'"))
            quiet = copied_tenant(connection, load.offers.tenant_id)
            flood(connection, load.offers, load.late.order_id)
        yield Flooded(engine, load.offers.tenant_id, quiet)


@pytest.fixture(autouse=True)
def rounds_are_small(world: Flooded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "ROUND", ROUND)
    all_are_due(world.engine)


def flood(connection: Connection, offers: Offers, late_order: UUID) -> None:
    """Insert older rows of each kind, with what they belong to."""
    mine = f"tenant_id = '{offers.tenant_id}'"

    def copy(table: str, which: str, name: str, **changes: str) -> None:
        columns = METADATA.tables[table].c
        numbers = {column: f"t.{column} || '{name}' || n" for column in ("order_number", "quote_number") if column in columns}
        insert_copies(connection, METADATA.tables[table], FLOOD, {**numbers, **changes}, f"{mine} AND {which}")

    order = {"order_kind": "'CHANGE'", "created_at": EARLIER.format("created_at")}
    copy("sales_order", f"id = '{late_order}'", "late", id=numbered("late"), **order)
    copy("sales_order", f"id = '{late_order}'", "ended", id=numbered("ended"), status="'FULFILLED'", **order)
    copy("sales_order", f"id = '{late_order}'", "orphan", id=numbered("orphan"), status="'CREATED'", **order)
    alert = {"order_id": numbered("ended"), "updated_at": EARLIER.format("updated_at")}
    copy("jeopardy_alert", "status = 'RAISED'", "ended", id=numbered("alert"), **alert)
    gap = "(SELECT quote_id FROM quote_search WHERE gap_since IS NOT NULL LIMIT 1)"
    copy("quote", f"id = {gap}", "gap", id=numbered("gap"))
    copy("quote_search", f"quote_id = {gap}", "gap", quote_id=numbered("gap"), gap_since=EARLIER.format("gap_since"))
    copy("step_contradiction", "answered_at IS NULL", "told", id=numbered("told"), created_at=EARLIER.format("created_at"))
    asked = "SELECT id FROM fulfillment_step WHERE status = 'CANCEL_REQUESTED' AND tenant_id = :tenant LIMIT 1"
    step = str(connection.scalar(text(asked), {"tenant": offers.tenant_id}))
    insert_attempted_steps(connection, offers.tenant_id, FLOOD, code="ASKED", step=step, sent_at=EARLIER.format("sent_at"))


@pytest.mark.parametrize("what", SELECTIONS)
def test_the_flood_of_one_tenant_does_not_delay_the_first_row_of_another(world: Flooded, what: str) -> None:
    """Kills: taking the oldest rows first, whichever tenant has them, so that the tenant with the longest queue gets every turn."""
    with world.engine.begin() as connection:
        for table in ("provider_attempt", "step_contradiction"):
            earlier = f"UPDATE {table} SET next_check_at = next_check_at - interval '1 hour' WHERE tenant_id = :tenant"
            connection.execute(text(earlier), {"tenant": world.flooded})

    assert world.quiet in {tenant_id for tenant_id, _ in world.take(what)}


@pytest.mark.parametrize("what", SELECTIONS)
def test_tenants_take_turns_because_a_sweep_may_have_no_time_for_all(world: Flooded, what: str) -> None:
    """Kills: working through one tenant's share first, which on a slow machine leaves the others to the next sweep."""
    first_two = world.take(what)[:2]

    assert {tenant_id for tenant_id, _ in first_two} == {world.flooded, world.quiet}


@pytest.mark.parametrize("what", SELECTIONS)
def test_a_sweep_that_has_time_for_one_row_does_not_always_have_it_for_the_tenant_that_has_waited_longest(
    world: Flooded, what: str
) -> None:
    """Kills: beginning with the oldest row, which belongs to the same tenant each time while its flood lasts."""
    firsts = set()
    for _ in range(MANY):
        all_are_due(world.engine)
        firsts.add(world.take(what)[0][0])

    assert firsts == {world.flooded, world.quiet}


@pytest.mark.parametrize("what", SELECTIONS)
def test_rows_that_nothing_settles_let_those_behind_them_through(world: Flooded, what: str) -> None:
    """Kills: finding the same oldest rows in each sweep, so that the youngest one never has its turn."""
    taken: list[Row] = []
    while found := world.take(what):
        assert len(taken) < 10 * FLOOD, "the same rows are taken again"
        taken += found

    assert len(taken) == len(set(taken)) > FLOOD
