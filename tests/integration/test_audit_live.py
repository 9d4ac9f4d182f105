"""In a live tenant, what is on its way is no violation, and what has been on its way for too long is one."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, text

from domain.auditing.checking import check
from tests.support.audits import broken
from tests.support.bad_histories import IN_DATABASE
from tests.support.bad_sides import OUTSIDE
from tests.support.planting import follow
from tests.support.settled import Settled

# The relay has deleted by then what it had only marked.
A_LONG_TIME_LATER = """
DELETE FROM outbox_event WHERE status = 'PUBLISHED';
DO $$ DECLARE one record; BEGIN
    FOR one IN SELECT table_name, string_agg(format('%1$I = %1$I - interval ''3 hours''', column_name), ', ') AS changes
        FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)
        WHERE table_schema = 'public' AND table_type = 'BASE TABLE' AND data_type = 'timestamp with time zone' GROUP BY table_name LOOP
        EXECUTE format('UPDATE %I SET %s', one.table_name, one.changes);
    END LOOP;
END $$"""
ON_ITS_WAY = (
    "a running order with every step done",
    "a callback that nobody acted on",
    "a step left unknown",
    "a start left open",
    "a contradiction that nobody was called to",
    "a held step that nobody was called to",
    "a view behind its order",
    "an order that is in no view",
    "a view with a gap",
    "an event that a consumer missed",
    "an event that waits",
    "a workflow command that waits",
)
ON_ITS_WAY_OUTSIDE = (
    "a completed step that the provider has not done",
    "a second instance at work",
    "an order whose instance is missing",
    "a settled order whose instance runs",
    "a step's instance that outlived its order",
    "an event that nobody committed",
    "an incident that nobody knows of",
)


def plant(connection: Connection, settled: Settled, history: str) -> str:
    """Make the tenant wrong, and return the invariant that must find it."""
    code, statements = IN_DATABASE[history]
    for statement in statements:
        connection.execute(text(statement), {"tenant": settled.tenant_id})
    if code != "I20":
        follow(connection, settled.tenant_id)
    return code


def found(connection: Connection, settled: Settled) -> list[str]:
    return [result.code for result in check(connection, settled.tenant_id, settled=False) if result.violations]


@pytest.mark.parametrize("history", ON_ITS_WAY)
def test_what_is_on_its_way_is_no_violation(settled: Settled, planted: Connection, history: str) -> None:
    plant(planted, settled, history)

    assert found(planted, settled) == []


@pytest.mark.parametrize("history", ON_ITS_WAY)
def test_what_has_been_on_its_way_for_hours_is_found(settled: Settled, planted: Connection, history: str) -> None:
    code = plant(planted, settled, history)
    planted.execute(text(A_LONG_TIME_LATER))

    assert code in found(planted, settled)


@pytest.mark.parametrize(
    ("history", "asked_again"),
    [
        ("a workflow command that waits", "UPDATE workflow_command SET updated_at = clock_timestamp()"),
        ("an event that waits", "UPDATE outbox_event SET last_reason = 'too large', due_at = clock_timestamp()"),
    ],
)
def test_what_a_person_has_asked_for_again_is_on_its_way(
    settled: Settled, planted: Connection, history: str, asked_again: str
) -> None:
    plant(planted, settled, history)
    planted.execute(text(A_LONG_TIME_LATER))
    planted.execute(text(f"{asked_again} WHERE status = 'PENDING'"))

    assert found(planted, settled) == []


@pytest.mark.parametrize("side", ON_ITS_WAY_OUTSIDE)
def test_what_is_on_its_way_to_another_side_is_no_violation(settled: Settled, planted: Connection, side: str) -> None:
    around = settled.surroundings(planted, happened=planted.scalar(text("SELECT clock_timestamp()")))
    OUTSIDE[side][1](settled, around)

    assert broken(settled.audit(planted, around, settled=False)) == []


@pytest.mark.parametrize("side", ON_ITS_WAY_OUTSIDE)
def test_what_has_not_come_to_another_side_for_hours_is_found(settled: Settled, planted: Connection, side: str) -> None:
    planted.execute(text(A_LONG_TIME_LATER))
    around = settled.surroundings(planted, happened=planted.scalar(text("SELECT clock_timestamp() - interval '3 hours'")))
    code, falsify = OUTSIDE[side]
    falsify(settled, around)

    assert broken(settled.audit(planted, around, settled=False)) == [code]


def test_the_age_of_what_counts_is_in_the_report(settled: Settled, planted: Connection) -> None:
    checks: dict[str, Any] = {check["code"]: check for check in settled.audit(planted, settled=False).as_json()["checks"]}

    assert (checks["I9"]["olderThanSeconds"], checks["I15"]["olderThanSeconds"], checks["I16"]["olderThanSeconds"]) == (
        0,
        7_200,
        1_800,
    )
