"""Among many rows of one tenant, a page of cases, tasks, grants or approvals, and the timeline of an order, read few rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, select, text

from domain.authority import GRANT
from domain.delivery import reading as delivery_reading
from domain.delivery.cases_shown import cases_of
from domain.delivery.timelines import LOG, timeline
from domain.fallout.triaging import CASE
from domain.offers import reading
from domain.offers.explaining import REVISION, approvals_of
from domain.offers.reading import REQUEST, REQUIREMENT
from domain.schema import METADATA
from domain.store import Cause, UnitOfWork, unit_of_work
from tests.support.database import acting, new_database
from tests.support.fulfilment import Fulfilment
from tests.support.loading import insert_copies, loading, numbered, without_response_timeout
from tests.support.offers import APPROVER, Offers, offers_of_new_tenant
from tests.support.plans import explained, rows_of

ROWS = 30_000
FEW = 1_000
PAGE = 51  # of fifty items: the last one shows that there is a next page
SELDOM = "n % 1000 = 0"


@dataclass(frozen=True)
class Busy:
    """A tenant that has worked for years: most of its rows are over, and a few wait for somebody."""

    offers: Offers
    order_id: UUID
    quote_id: UUID


@pytest.fixture(scope="module")
def busy(database: str) -> Iterator[Busy]:
    """A database of its own, because only large tables have the plans of large tables."""
    with new_database(database, "q2o_work_lists") as engine:
        offers = offers_of_new_tenant(engine)
        work = Fulfilment.contradicted(offers)
        work.ask_to_cancel()
        quote_id = offers.quote_in_approval().quote_id
        fill(engine)
        yield Busy(offers, work.order_id, quote_id)


def fill(engine: Engine) -> None:
    cancellation, grant = (
        METADATA.tables["cancellation_request"],
        f"(SELECT id FROM authority_grant WHERE {newest('authority_grant')})",
    )
    approval = {"quote_revision_id": numbered("revision"), "quote_id": numbered("quote")}
    copies: Mapping[Any, Mapping[str, str]] = {
        CASE: {
            "case_number": "'copy ' || n",
            "dedupe_key": "'case ' || n",
            "order_id": "NULL",
            "step_id": "NULL",
            "status": f"CASE WHEN {SELDOM} THEN 'CANCELLED' ELSE 'CLOSED' END",
            "queue": "CASE WHEN n % 1000 = 1 THEN 'falloutManagers' ELSE 'falloutL1' END",
        },
        REVISION: {"id": numbered("revision"), "quote_id": numbered("quote")},
        REQUEST: {"id": numbered("request"), "status": f"CASE WHEN {SELDOM} THEN 'OPEN' ELSE 'APPROVED' END", **approval},
        REQUIREMENT: {
            "request_id": numbered("request"),
            "status": f"CASE WHEN {SELDOM} THEN 'PENDING' ELSE 'APPROVED' END",
            "due_at": "t.due_at + n * interval '1 second'",
        },
        GRANT: {
            "subject": "'subject ' || n % 1000",
            "granted_by": "NULL",
            "delegated_from": f"CASE WHEN n % 2 = 0 THEN {grant} END",
            "delegated_by": "CASE WHEN n % 2 = 0 THEN 'delegator ' || n % 1000 END",
        },
        LOG: {"aggregate_id": "gen_random_uuid()"},
        cancellation: {"order_id": "gen_random_uuid()"},
    }
    with loading(engine) as connection:
        for table, changes in copies.items():
            insert_copies(connection, table, ROWS, changes, newest(table.name))
    vacuuming = engine.execution_options(isolation_level="AUTOCOMMIT").connect()
    with vacuuming as connection, without_response_timeout(connection):
        connection.execute(text(f"VACUUM ANALYZE {', '.join(table.name for table in copies)}"))


def newest(table: str) -> str:
    return f"id = (SELECT id FROM {table} ORDER BY created_at DESC, id LIMIT 1)"


LISTS: dict[str, Callable[[UnitOfWork, Busy], object]] = {
    "cases": lambda uow, _: cases_of(uow, PAGE, None),
    "cases by status": lambda uow, _: cases_of(uow, PAGE, None, status="CANCELLED"),
    "cases by frequent status": lambda uow, _: cases_of(uow, PAGE, UUID(int=2**127), status="CLOSED"),
    "cases by queue": lambda uow, _: cases_of(uow, PAGE, None, queue="falloutManagers"),
    "cases by status and queue": lambda uow, _: cases_of(uow, PAGE, None, status="CANCELLED", queue="falloutL1"),
    "cases by status and a queue that has none": lambda uow, _: cases_of(
        uow, PAGE, None, status="CANCELLED", queue="falloutManagers"
    ),
    "cases by order": lambda uow, busy: cases_of(uow, PAGE, None, order_id=busy.order_id),
    "cases by order and status": lambda uow, busy: cases_of(uow, PAGE, None, order_id=busy.order_id, status="OPEN"),
    "approval tasks": lambda uow, _: reading.approval_tasks(uow, ["approverRsm"], PAGE),
    "approval tasks, a later page": lambda uow, _: reading.approval_tasks(uow, ["approverRsm"], PAGE, _some_task(uow)),
    "approvals of a quote": lambda uow, busy: approvals_of(uow, busy.quote_id, PAGE, None),
    "grants": lambda uow, _: reading.grants_of(uow, None, None, PAGE, None),
    "grants of a subject": lambda uow, _: reading.grants_of(uow, "subject 7", None, PAGE, None),
    "own grants": lambda uow, _: reading.grants_of(uow, None, APPROVER, PAGE, None),
    "own grants to a subject": lambda uow, _: reading.grants_of(uow, "subject 8", "delegator 8", PAGE, None),
    "cancellations of an order": lambda uow, busy: delivery_reading.cancellations_of(uow, busy.order_id, PAGE, None),
    "timeline of an order": lambda uow, busy: timeline(uow, busy.order_id),
}


@contextmanager
def reading_of(busy: Busy) -> Iterator[UnitOfWork]:
    """Open a unit of work for reading, with the login of the HTTP process."""
    cause = Cause(tenant_id=busy.offers.tenant_id, actor="test", command="read")
    with unit_of_work(acting(busy.offers.engine, "http"), cause) as uow:
        yield uow


def _some_task(uow: UnitOfWork) -> UUID:
    found = select(REQUIREMENT.c.id).where(REQUIREMENT.c.status == "PENDING").order_by(REQUIREMENT.c.due_at).offset(20).limit(1)
    task_id: UUID = uow.connection.execute(found).scalar_one()
    return task_id


@pytest.mark.parametrize("read", LISTS.values(), ids=LISTS)
def test_no_list_reads_many_more_rows_than_it_shows(busy: Busy, read: Callable[[UnitOfWork, Busy], object]) -> None:
    """Kills: a list whose filter or order no index has, which reads the history of a tenant for each page."""
    with reading_of(busy) as uow, explained(uow.connection) as plans:
        read(uow, busy)

    assert plans
    assert max(map(rows_of, plans)) < FEW


def test_a_timeline_finds_changes_by_the_type_and_the_id_of_what_has_changed(busy: Busy) -> None:
    """Kills: a search by the id alone, for which PostgreSQL before version 18 reads the whole index of the log."""
    with reading_of(busy) as uow, explained(uow.connection) as plans:
        timeline(uow, busy.order_id)

    [searched] = [plan for plan in plans if plan.get("Relation Name") == "transition_log"]
    assert "aggregate_type" in searched["Index Cond"]
