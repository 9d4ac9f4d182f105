"""The audit finds each kind of bad history in the database by its own check alone, and no violation in a good one.

A test plants its fault in a transaction that is rolled back. Triggers are off and foreign keys dropped in it, and so is every other
constraint that would refuse the fault.
"""

from __future__ import annotations

import json
from io import StringIO

import pytest
from rich.console import Console
from sqlalchemy import Connection, text

from domain.auditing.invariants import INVARIANTS
from reconciliation.audit_report import as_table
from tests.support.audits import broken, figures
from tests.support.bad_histories import IN_DATABASE
from tests.support.bad_sides import OUTSIDE
from tests.support.planting import follow
from tests.support.settled import Settled

OF_VIEWS = {"I20", "I21"}  # there the view is what is wrong


def test_every_invariant_has_its_bad_history() -> None:
    codes = [code for code, _ in (*IN_DATABASE.values(), *OUTSIDE.values())]

    assert set(codes) == set(INVARIANTS) == {f"I{number}" for number in range(1, 33)}
    assert len(codes) > 90


def test_a_settled_history_passes_every_check(settled: Settled, planted: Connection) -> None:
    report = settled.audit(planted)

    assert broken(report) == []
    assert report.passed
    assert [check.code for check in report.checks] == list(INVARIANTS)
    assert [check.title for check in report.checks] == [each.title for each in INVARIANTS.values()]


def test_every_check_has_read_rows(settled: Settled, planted: Connection) -> None:
    report = settled.audit(planted)

    assert all(any(check.counted.values()) for check in report.checks if check.code not in {"I23", "I30", "I32"})
    assert figures(report, "I1") == {"acceptedRevisions": 3, "orders": 3}
    assert figures(report, "I8") == {"requests": 32, "keys": 16, "effects": 16, "completedSteps": 16}
    assert figures(report, "I13")["deliveredAgain"] == 14
    assert figures(report, "I14")["turnedAway"] == 12  # one of each workflow: eight of quotes and orders, four of cases
    assert figures(report, "I16")["running"] == 4  # an order in progress, and three cases


@pytest.mark.parametrize(("code", "statements"), IN_DATABASE.values(), ids=IN_DATABASE)
def test_a_fault_in_the_database_is_found_by_its_check_alone(
    settled: Settled, planted: Connection, code: str, statements: tuple[str, ...]
) -> None:
    for statement in statements:
        planted.execute(text(statement), {"tenant": settled.tenant_id})
    if code not in OF_VIEWS:
        follow(planted, settled.tenant_id)

    assert broken(settled.audit(planted)) == [code]


def test_the_report_is_the_same_for_people_and_for_machines(settled: Settled, planted: Connection) -> None:
    around = settled.surroundings(planted)
    around.kafka.records.clear()
    report = settled.audit(planted, around)
    console = Console(width=200, record=True, file=StringIO())
    console.print(as_table(report))
    page, machine = console.export_text(), json.loads(json.dumps(report.as_json()))

    assert machine["violations"] == report.violations > 5
    assert not machine["passed"]
    assert f"and {report.violations - 5} more" in page
    assert "one order per accepted revision" in page


def test_the_history_of_another_tenant_is_not_read(settled: Settled, planted: Connection) -> None:
    planted.execute(text("UPDATE transition_log SET reason = 'NOTHING' WHERE tenant_id <> :tenant"), {"tenant": settled.tenant_id})

    assert broken(settled.audit(planted)) == []
