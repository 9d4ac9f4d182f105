"""Claims of rows that wait for a check: whose a claim is, and what becomes of a row that changes while it is claimed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Row

from domain.store import claims
from domain.store.unit_of_work import housekeeping
from domain.workflows import restarts, watching
from domain.workflows.starts import CORRELATION
from tests.support.watched import FIRST, Watched

LEASE, LATER = timedelta(seconds=30), timedelta(minutes=10)
PutBack = Callable[[Connection, Row[Any]], None]


def check_later(connection: Connection, row: Row[Any]) -> None:
    claims.check_later(connection, CORRELATION, [(row, LATER)])


def give_back(connection: Connection, row: Row[Any]) -> None:
    claims.give_back(connection, CORRELATION, [row])


def claimed(watched: Watched) -> Sequence[Row[Any]]:
    with housekeeping(watched.offers.engine) as connection:
        return watching.due_instances(connection, 10, LEASE)


@pytest.fixture
def due(watched: Watched) -> Watched:
    """An instance that is due."""
    watched.execute("UPDATE workflow_correlation SET next_check_at = clock_timestamp()")
    return watched


@pytest.mark.parametrize("put_back", [check_later, give_back])
def test_a_row_that_another_reconciler_has_claimed_since_stays_claimed(due: Watched, put_back: PutBack) -> None:
    """Kills: proving a claim by a number, which is the same again after a claim that was given back."""
    [first] = claimed(due)
    due.execute("UPDATE workflow_correlation SET next_check_at = clock_timestamp() WHERE status = 'STARTED'")
    with housekeeping(due.offers.engine) as connection:
        give_back(connection, claimed(due)[0])
    claimed(due)

    with housekeeping(due.offers.engine) as connection:
        put_back(connection, first)

    assert (due.due_instances(), due.due_instances(LEASE)) == (0, 1)


def test_a_row_that_became_due_while_it_was_claimed_is_not_put_off(due: Watched) -> None:
    """Kills: a sweep that goes on with what it was told before something happened to the row."""
    [row] = claimed(due)
    due.execute("UPDATE workflow_correlation SET next_check_at = clock_timestamp() WHERE status = 'STARTED'")

    with housekeeping(due.offers.engine) as connection:
        check_later(connection, row)

    assert due.due_instances() == 1


def test_a_row_that_is_given_back_waits_as_if_it_had_not_been_claimed(due: Watched) -> None:
    """Kills: giving a row back behind those of its tenant that have waited for a shorter time."""
    [first] = claimed(due)
    with housekeeping(due.offers.engine) as connection:
        give_back(connection, first)

    [second] = claimed(due)

    assert (second.claim_no, second.next_check_at) == (first.claim_no, first.next_check_at)


def test_a_start_that_is_asked_for_again_is_checked_as_a_new_one(due: Watched) -> None:
    """Kills: keeping the wait of the lost instance, ten minutes, for the start that takes its place."""
    [row] = claimed(due)
    with housekeeping(due.offers.engine) as connection:
        check_later(connection, row)

    with due.offers.uow() as uow:
        restarts.restart(uow, due.business_key, FIRST)

    due.execute("UPDATE workflow_correlation SET status = 'STARTED' WHERE business_key = :key", key=due.business_key)
    assert due.due_instances() == 1
