"""The cost of a selection follows what is due: neither finished orders nor waiting steps make it read more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import NamedTuple

import pytest
from sqlalchemy import Engine, text

from reconciliation import rounds
from tests.support.database import new_database
from tests.support.held import CHECK
from tests.support.loading import insert_attempted_steps, loading
from tests.support.sweep_costs import Costs, analyze
from tests.support.sweep_selections import (
    CLAIMED,
    COMMANDS,
    ELSEWHERE,
    SELECTIONS,
    SWEEPS,
    UNANSWERED,
    cost_of_selection,
    costs_of,
    measured_again,
    sweeps_of,
)
from tests.support.work_loads import FIRST, Load, make_open_work

pytestmark = pytest.mark.timeout(400)  # everything is explained several times, which takes minutes beside other tests
FEW, MANY, TENANTS, WAITING = 500, 2_500, 10, 5_000
MORE = 1.05


class Measured(NamedTuple):
    """What everything reads beside few and many finished orders, and one selection beside many steps that wait, or are due."""

    few: Mapping[str, Costs]
    many: Mapping[str, Costs]
    waiting: int
    due: int


@pytest.fixture(scope="module")
def measured(database: str) -> Iterator[Measured]:
    """Measured once, in a database of its own: the statistics of rows from other tests would change the plans."""
    with new_database(database, "q2o_sweep_costs") as engine:
        load = make_open_work(engine, TENANTS)
        sweeps = sweeps_of(engine)

        def beside(finished: int, prefix: str, before: Mapping[str, Costs] | None = None) -> Mapping[str, Costs]:
            with loading(engine) as connection:
                load.finish(connection, finished, prefix)
            analyze(engine)
            with pytest.MonkeyPatch.context() as slow_machine:
                slow_machine.setattr(rounds, "BUDGET", timedelta(0))
                measures = costs_of(engine, load, sweeps).items()
                return {name: measured_again(measure, before[name], MORE) if before else measure() for name, measure in measures}

        few = beside(FEW, FIRST)
        many = beside(MANY - FEW, "many", few)
        with loading(engine) as connection:
            later = "clock_timestamp() + interval '1 hour'"
            tenant_id, step = load.offers.tenant_id, str(load.late.step(CHECK).id)
            insert_attempted_steps(connection, tenant_id, WAITING, code="WAITING", step=step, next_check_at=later)
        waiting = of_unanswered(engine, load)
        with loading(engine) as connection:
            connection.execute(text("UPDATE provider_attempt SET next_check_at = clock_timestamp() WHERE next_check_at > now()"))
        yield Measured(few, many, waiting, of_unanswered(engine, load))


def of_unanswered(engine: Engine, load: Load) -> int:
    analyze(engine)
    return cost_of_selection(engine, load, UNANSWERED).total()


@pytest.mark.parametrize("what", [*SWEEPS, *SELECTIONS, *COMMANDS])
def test_hardly_more_is_read_beside_five_times_as_many_finished_orders(measured: Measured, what: str) -> None:
    assert not measured.many[what].grown(MORE, measured.few[what])


def test_a_sweep_is_measured_to_its_end_on_a_slow_machine_too(measured: Measured) -> None:
    """Kills: comparing the first orders of a sweep that had no time for all with those of one that had."""
    [updates] = [costs for statement, costs in measured.many["order"].of.items() if statement.startswith("UPDATE sales_order")]

    assert updates[0].searches >= TENANTS


@pytest.mark.parametrize("sweep", SWEEPS)
def test_every_sweep_of_the_loop_is_measured_while_it_finds_open_work(measured: Measured, sweep: str) -> None:
    assert any(measured.many[each].found for each in (sweep, *ELSEWHERE.get(sweep, ())))


@pytest.mark.parametrize("what", [name for name in SELECTIONS if not name.startswith("too young")])
def test_every_other_selection_is_measured_while_it_finds_something(measured: Measured, what: str) -> None:
    assert measured.many[what].found


def test_steps_that_wait_for_their_next_check_are_not_read(measured: Measured) -> None:
    # A look into the index of each tenant costs some pages, however many steps wait.
    assert measured.waiting <= measured.many[UNANSWERED].total() + 3 * TENANTS


def test_a_selection_reads_its_share_of_the_due_steps_and_sorts_no_others(measured: Measured) -> None:
    # Each row that is taken costs a page at most.
    assert measured.due <= measured.waiting + CLAIMED
