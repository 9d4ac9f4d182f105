"""Every sweep of reconciliation dies at some of its gates, and another reconciler goes on; `make faults` takes every gate."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from domain.store import UnitOfWork
from domain.store.isolation import open_for
from reconciliation import repairs
from reconciliation.repairs import Repair
from tests.faults.crashes.sweeps import Sweeping, swept_world
from tests.support.sweep_selections import SWEEPS

CRASHES = 2  # of each sweep
CHANGE_NOTHING = {"audit", "gauges"}


@pytest.fixture(scope="module")
def sweeping(database: str) -> Iterator[Sweeping]:
    with swept_world(database, "q2o_swept") as sweeping:
        yield sweeping


@pytest.mark.parametrize("kind", SWEEPS)
def test_a_sweep_that_died_leaves_to_another_one_what_it_leaves_undisturbed(sweeping: Sweeping, kind: str) -> None:
    swept = sweeping.crash(kind, CRASHES)

    assert swept.wrong == ()
    assert kind in CHANGE_NOTHING or swept.changed > 0


def test_a_repair_in_two_transactions_is_found(sweeping: Sweeping, monkeypatch: pytest.MonkeyPatch) -> None:
    record = repairs._record_finding

    def record_later(uow: UnitOfWork, repair: Repair) -> None:
        uow.flush()
        uow.connection.commit()
        uow.connection.begin()
        open_for(uow.connection, uow.tenant_id)
        record(uow, repair)

    monkeypatch.setattr(repairs, "_record_finding", record_later)

    assert sweeping.crash("quote", 8).wrong
