"""A finding is OPEN as long as something is left to do about it: an instance has to end, or a person has to close a case."""

from __future__ import annotations

from datetime import timedelta
from unittest.mock import Mock, create_autospec
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from domain.fallout import triaging
from domain.retaining import kinds
from domain.retaining.kinds import KINDS
from domain.store.unit_of_work import housekeeping
from reconciliation import rounds
from reconciliation.duplicates import Duplicates
from reconciliation.open_findings import OpenFindings
from reconciliation.orphans import Orphans
from reconciliation.repairs import Repairs
from tests.support.database import acting
from tests.support.metrics import metric
from tests.support.offers import Offers
from tests.support.reconciling import findings
from tests.support.wanted import Wanted
from workers.runtime.engine import Engine, EngineRefusedError, EngineUnavailableError
from workers.runtime.engine_connection import OPTIMISTIC_LOCKING
from workers.runtime.engine_history import EngineInstance
from workers.runtime.set_aside import Pauses

FORBIDDEN = EngineRefusedError(403, "AuthorizationException", "no", None)


class Site:
    """A second instance of a business, and an engine that says what the test says."""

    def __init__(self, offers: Offers) -> None:
        self.offers = offers
        self.wanted = Wanted.of(offers.engine, "late-compensation")
        self.wanted.pass_gate("registered")
        self.engine: Mock = create_autospec(Engine, instance=True)
        self._database = acting(offers.engine, "reconcile")
        self._repairs = Repairs(self._database, dry_run=False)

    def find(self, business_key: str | None = None) -> None:
        """Look for duplicates, and find the second instance."""
        key, tenant = business_key or self.wanted.business_key, str(self.wanted.tenant_id)
        second = EngineInstance(id=key, business_key=key, definition_key="late-compensation", state="ACTIVE", tenant_id=tenant)
        self.engine.running_roots.return_value = [second]
        Duplicates(self._database, self.engine, self._repairs, timedelta(0)).sweep()

    def settle(self, state: str, *, dry_run: bool = False) -> int:
        """Look at the open findings; every instance is in this state."""
        self.engine.instances_by_id.side_effect = lambda ids: {
            id_: EngineInstance(id=id_, business_key="", definition_key="", state=state) for id_ in ids
        }
        return OpenFindings(self._database, self.engine, Repairs(self._database, dry_run=dry_run)).sweep()

    def found(self) -> list[tuple[str, str]]:
        return [(finding.action, finding.status) for finding in findings(self.offers)]

    def cases(self) -> int:
        with self.offers.engine.connect() as connection:
            return int(connection.scalar(text("SELECT count(*) FROM fallout_case")) or 0)


@pytest.fixture
def site(offers: Offers, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr("reconciliation.alone._pauses", Pauses())
    return Site(offers)


def test_a_finding_is_open_until_the_engine_says_that_the_instance_has_ended(site: Site) -> None:
    """Kills: a finding that says that an instance has ended while the engine still runs it."""
    site.find()
    assert site.found() == [("terminated", "OPEN")]
    assert site.settle("ACTIVE") == 0
    assert site.found() == [("terminated", "OPEN")]

    assert site.settle("EXTERNALLY_TERMINATED") == 1

    assert site.found() == [("terminated", "REPAIRED")]


def test_a_finding_whose_reconciler_has_died_is_repaired_by_the_next_one(site: Site) -> None:
    site.engine.delete_instance.side_effect = EngineUnavailableError("the reconciler dies here")
    with pytest.raises(EngineUnavailableError):
        site.find()
    site.engine.delete_instance.side_effect = None

    site.find()
    site.settle("EXTERNALLY_TERMINATED")

    assert (site.engine.delete_instance.call_count, site.found()) == (2, [("terminated", "REPAIRED")])


def test_an_instance_that_the_engine_does_not_end_is_given_to_a_person_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.engine.delete_instance.side_effect = FORBIDDEN
    before = metric("q2o_reconciliation_actions_total", kind="duplicate", result="lost_to_callback")
    for _ in range(3):
        monkeypatch.setattr("reconciliation.alone._pauses", Pauses())
        site.find()

    assert site.found() == [("terminated", "OPEN"), ("case_opened", "REPAIRED")]
    assert site.cases() == 1
    assert metric("q2o_reconciliation_actions_total", kind="duplicate", result="lost_to_callback") == before


def test_an_instance_of_no_business_that_the_engine_does_not_end_is_an_open_finding(site: Site) -> None:
    site.engine.delete_instance.side_effect = FORBIDDEN

    site.find("typed by hand")

    assert (site.found(), site.cases()) == ([("terminated", "OPEN")], 0)


def test_an_instance_that_only_another_transaction_has_kept_from_its_end_is_not_for_a_person(site: Site) -> None:
    site.engine.delete_instance.side_effect = EngineRefusedError(500, "OptimisticLockingException", "no", OPTIMISTIC_LOCKING)

    site.find()

    assert (site.found(), site.cases()) == ([("terminated", "OPEN")], 0)


def test_a_sweep_without_time_repairs_one_finding_and_the_next_one_goes_on_behind_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.find()
    site.find("typed by hand")
    monkeypatch.setattr(rounds, "BUDGET", timedelta(0))

    assert [site.settle("COMPLETED") for _ in range(3)] == [1, 1, 0]


def test_a_dry_run_repairs_no_finding(site: Site) -> None:
    site.find()

    assert site.settle("COMPLETED", dry_run=True) == 1

    assert site.found() == [("terminated", "OPEN")]


def test_an_alarm_is_repaired_when_its_case_is_closed_and_leaves_by_its_age(site: Site) -> None:
    """Kills: findings that stay for ever, because nobody ever says that they are repaired."""
    offers = site.offers
    offers.submitted_quote()
    with offers.engine.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text("DELETE FROM workflow_correlation WHERE tenant_id = :tenant"), {"tenant": offers.tenant_id})
    database = acting(offers.engine, "reconcile")
    Orphans(database, Repairs(database, dry_run=False), timedelta(0)).sweep()
    [alarm] = findings(offers)
    assert (site.settle("ACTIVE"), site.found()) == (0, [("case_opened", "OPEN")])

    with offers.uow() as uow:
        triaging.cancel_cases(uow, f"orphan:{alarm.aggregate_id}")
    assert site.settle("ACTIVE") == 1

    [kind] = [kind for kind in KINDS if kind.name == "findings"]
    with housekeeping(acting(offers.engine, "retain")) as connection:
        assert kinds.delete(connection, kind, timedelta(0), 10) == 1


@pytest.mark.parametrize("change", ["action = 'left'", "status = 'REPAIRED', evidence = '{}'", "created_at = clock_timestamp()"])
def test_nothing_else_of_a_finding_ever_changes(site: Site, change: str) -> None:
    site.find()

    with pytest.raises(DBAPIError, match="is never changed"), site.offers.engine.begin() as connection:
        connection.execute(text(f"UPDATE reconciliation_finding SET {change}"))


def test_a_repaired_finding_is_never_opened_again(site: Site) -> None:
    site.find()
    site.settle("COMPLETED")

    with pytest.raises(DBAPIError, match="is never changed"), site.offers.engine.begin() as connection:
        connection.execute(text("UPDATE reconciliation_finding SET status = 'OPEN' WHERE id <> :id"), {"id": uuid4()})
