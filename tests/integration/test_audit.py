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

from reconciliation.audit import as_table
from tests.support.audits import broken, figures
from tests.support.bad_histories import IN_DATABASE
from tests.support.planting import follow
from tests.support.settled import Settled


def test_a_settled_history_passes_every_check(settled: Settled, planted: Connection) -> None:
    report = settled.audit(planted)

    assert broken(report) == []
    assert report.passed
    assert [check.code for check in report.checks] == [
        *("I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9", "I10", "I11", "I13", "I14", "I15", "I16"),
        *("I17", "I18", "I19", "I20", "I22", "I23", "I28", "I31", "I32"),
    ]


def test_every_check_has_read_rows(settled: Settled, planted: Connection) -> None:
    report = settled.audit(planted)

    assert all(any(check.counted.values()) for check in report.checks if check.code not in {"I23", "I32"})
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
    if code != "I20":
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
