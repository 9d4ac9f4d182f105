"""The selection of a sweep costs what is due, not what there is: neither finished orders nor steps that wait make it read more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pytest
from sqlalchemy import Engine, text

from tests.support.database import new_database
from tests.support.held import CHECK
from tests.support.loading import insert_attempted_steps, loading
from tests.support.sweep_costs import SELECTIONS, analyze, buffers_of, load_finished, make_open_work

FEW, MANY, TENANTS, WAITING = 100, 10_000, 20, 5_000
MORE = 1.05
UNANSWERED = "unanswered steps"


class Costs(NamedTuple):
    """The buffers of each selection beside few and many finished orders, and of one selection beside many steps that wait, or are due."""

    few: Mapping[str, int]
    many: Mapping[str, int]
    waiting: int
    due: int


@pytest.fixture(scope="module")
def costs(database: str) -> Iterator[Costs]:
    """Measured once, in a database of its own: the statistics of rows from other tests would change the plans."""
    with new_database(database, "q2o_sweep_costs") as engine:
        offers = make_open_work(engine, TENANTS)

        def beside(finished: int) -> Mapping[str, int]:
            with loading(engine) as connection:
                load_finished(connection, offers.tenant_id, finished, str(finished))
            analyze(engine)
            return {name: buffers_of(engine, select) for name, select in SELECTIONS.items()}

        few, many = beside(FEW), beside(MANY - FEW)
        with loading(engine) as connection:
            step = connection.scalars(
                text(f"SELECT id FROM fulfillment_step WHERE tenant_id = '{offers.tenant_id}' AND step_code = '{CHECK}' LIMIT 1")
            ).one()
            later = "clock_timestamp() + interval '1 hour'"
            insert_attempted_steps(connection, offers.tenant_id, WAITING, code="WAITING", step=str(step), next_check_at=later)
        waiting = of_unanswered(engine)
        with loading(engine) as connection:
            connection.execute(text("UPDATE provider_attempt SET next_check_at = clock_timestamp() WHERE next_check_at > now()"))
        yield Costs(few, many, waiting, of_unanswered(engine))


def of_unanswered(engine: Engine) -> int:
    analyze(engine)
    return buffers_of(engine, SELECTIONS[UNANSWERED])


@pytest.mark.parametrize("selection", SELECTIONS)
def test_a_selection_reads_hardly_more_beside_a_hundred_times_as_many_finished_orders(costs: Costs, selection: str) -> None:
    assert costs.many[selection] <= costs.few[selection] * MORE


def test_steps_that_wait_for_their_next_check_are_not_read(costs: Costs) -> None:
    # A look into the index of each tenant costs some pages, however many steps wait.
    assert costs.waiting <= costs.many[UNANSWERED] + 3 * TENANTS


def test_a_selection_reads_its_share_of_the_due_steps_and_sorts_no_others(costs: Costs) -> None:
    assert costs.due < WAITING / 5
