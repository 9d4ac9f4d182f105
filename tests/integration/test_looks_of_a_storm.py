"""How a storm knows that reconciliation has looked at every process instance: a lease is no look."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import Row

from domain.store import claims
from domain.store.unit_of_work import housekeeping
from domain.workflows import watching
from domain.workflows.starts import CORRELATION
from reconciliation.rounds import LEASE
from tests.faults.storm import quiet
from tests.faults.storm.quiet import Looks
from tests.support.suite import Shop
from tests.support.watched import Watched

RUNNING = "ACTIVE"


def looks_at(watched: Watched) -> Looks:
    return Looks(cast("Shop", SimpleNamespace(database=watched.offers.engine, tenant_id=watched.offers.tenant_id)))


def leased(watched: Watched) -> Sequence[Row[Any]]:
    with housekeeping(watched.offers.engine) as connection:
        return watching.due_instances(connection, 10, LEASE)


def test_they_are_over_when_a_sweep_has_looked_at_every_instance(watched: Watched) -> None:
    looks = looks_at(watched)
    before = looks.are_over()

    watched.sweep(RUNNING)

    assert (before, looks.are_over()) == (False, True)


def test_they_stay_over_when_the_next_look_comes_near(watched: Watched) -> None:
    looks = looks_at(watched)
    watched.sweep(RUNNING)
    before = looks.are_over()
    watched.execute("UPDATE workflow_correlation SET next_check_at = clock_timestamp()")

    assert (before, looks.are_over()) == (True, True)


def test_an_instance_that_a_sweep_has_leased_is_left(watched: Watched) -> None:
    """Kills: judging while a sweep is under way, or after one that was given up with its leases."""
    looks = looks_at(watched)

    assert (len(leased(watched)), len(looks.left())) == (1, 1)


def test_they_are_asked_for_again_when_a_sweep_has_left_its_leases(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet, "AGAIN", 0)
    looks = looks_at(watched)
    leased(watched)

    assert not looks.are_over()
    assert watched.due_instances() == 1


def test_a_sweep_that_asked_the_engine_before_puts_no_look_off(watched: Watched) -> None:
    """Kills: a sweep that stood still in the storm, and goes on with what the engine said before the storm deleted the instance."""
    watched.execute("UPDATE workflow_correlation SET next_check_at = clock_timestamp()")
    [row] = leased(watched)
    looks = looks_at(watched)

    with housekeeping(watched.offers.engine) as connection:
        claims.check_later(connection, CORRELATION, [(row, timedelta(minutes=10))])

    assert looks.left()
