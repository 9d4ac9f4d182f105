"""Leases on what a sweep has found: one reconciler at a time, until it has settled it, gives it back, or the lease is over."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, Row, text

from domain.store import leases
from domain.store.unit_of_work import housekeeping
from tests.support.database import acting
from tests.support.offers import Offers

KIND, LEASE = "quote", timedelta(seconds=30)


class Reconciler:
    """Takes the only row that there is to find."""

    def __init__(self, database: Engine, row: Row[Any]) -> None:
        self.database = acting(database, "reconcile")
        self.row = row

    def take(self) -> leases.Taken:
        with housekeeping(self.database) as connection:
            return leases.take(connection, KIND, [self.row], LEASE)

    def give_back(self, taken: leases.Taken) -> None:
        with housekeeping(self.database) as connection:
            leases.give_back(connection, KIND, taken)

    def end(self, taken: leases.Taken) -> None:
        with housekeeping(self.database) as connection:
            leases.end(connection, KIND, taken)

    @property
    def checks(self) -> list[int]:
        with housekeeping(self.database) as connection:
            return list(connection.scalars(text("SELECT checks FROM reconciliation_lease")))


@pytest.fixture
def reconciler(offers: Offers) -> Reconciler:
    offers.draft_quote()
    with offers.engine.connect() as connection:
        return Reconciler(offers.engine, connection.execute(text("SELECT tenant_id, id FROM quote")).one())


@pytest.fixture
def time_passes(offers: Offers) -> Any:
    """Lets so much time pass for every lease."""

    def passes(time: timedelta) -> None:
        with offers.engine.begin() as connection:
            connection.execute(text("UPDATE reconciliation_lease SET next_check_at = next_check_at - :time"), {"time": time})

    return passes


@pytest.fixture
def taking(reconciler: Reconciler) -> Iterator[None]:
    """Another reconciler, which takes the same row just now."""
    with housekeeping(reconciler.database) as connection:
        assert connection.execute(text("SELECT FROM reconciliation_lease FOR UPDATE")).rowcount == 1
        yield


def test_a_lease_is_given_once_until_it_is_over(reconciler: Reconciler, time_passes: Any) -> None:
    first, second = reconciler.take(), reconciler.take()
    time_passes(LEASE)

    assert [len(taken) for taken in (first, second, reconciler.take())] == [1, 0, 1]


def test_a_row_that_is_given_back_is_free_at_once_and_counts_as_never_taken(reconciler: Reconciler) -> None:
    first = reconciler.take()

    reconciler.give_back(first)

    assert (len(reconciler.take()), reconciler.checks) == (1, [1])


@pytest.mark.parametrize("leave", [Reconciler.give_back, Reconciler.end])
def test_what_another_reconciler_has_leased_since_stays_leased(reconciler: Reconciler, time_passes: Any, leave: Any) -> None:
    """Kills: a reconciler that stood still for a minute, and then ends the lease of the one that went on."""
    first = reconciler.take()
    time_passes(LEASE)
    second = reconciler.take()

    leave(reconciler, first)

    assert (len(second), reconciler.take()) == (1, {})


def test_a_lease_on_what_has_come_back_is_no_lease_of_before(reconciler: Reconciler) -> None:
    """Kills: proving a lease by how often it was taken, which begins anew when the lease has ended."""
    first = reconciler.take()
    reconciler.end(first)
    reconciler.take()

    reconciler.give_back(first)

    assert reconciler.take() == {}


def test_what_another_reconciler_takes_just_now_is_waited_for_neither_by_the_end_nor_by_the_return_of_a_lease(
    reconciler: Reconciler, time_passes: Any, request: pytest.FixtureRequest
) -> None:
    """Kills: a deadlock of two reconcilers that lock the same leases, each in its own order."""
    first = reconciler.take()
    time_passes(2 * leases.FORGOTTEN_AFTER)
    request.getfixturevalue("taking")

    reconciler.give_back(first)
    reconciler.end({})
