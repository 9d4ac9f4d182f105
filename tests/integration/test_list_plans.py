"""At 100,000 rows no list reads its whole table, whatever it is filtered or sorted by; a page reads about as many rows as it shows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, event, text

from domain.projections.searching import After, Search, search
from domain.projections.tables import TABLES, Projection, header_of
from domain.store import Cause, unit_of_work
from tests.support.database import acting, new_database
from tests.support.loading import loading, without_response_timeout

ROWS = 100_000
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
TENANT, NOBODY = UUID(int=1), UUID(int=2)
VALUES = {
    "uuid": "gen_random_uuid()",
    "integer": "4",
    "bigint": "1",
    "timestamp with time zone": f"timestamptz '{FIRST.isoformat()}' + n * interval '1 minute'",
    "numeric(14, 2)": "n",
}
OWN = {
    "status": "(ARRAY['DRAFT', 'PRICED', 'APPROVED', 'ACCEPTED'])[1 + n % 4]",
    "customer_id": "'customer-' || n % 1000",
    "quote_number": "'Q-' || n",
    "order_number": "'O-' || n",
}
QUESTIONS: list[tuple[Projection, dict[str, Any]]] = [
    *(
        (projection, {"sort": sort})
        for projection in (Projection.QUOTES, Projection.ORDERS)
        for sort in ("created_at", "updated_at")
    ),
    (Projection.QUOTES, {"sort": "valid_until"}),
    (Projection.QUOTES, {"sort": "customer_id"}),
    (Projection.ORDERS, {"sort": "customer_id"}),
    (Projection.QUOTES, {"sort": "created_at", "is_descending": True, "after": After(FIRST + timedelta(days=9), NOBODY)}),
    (Projection.QUOTES, {"equal": {"quote_number": "Q-77"}}),
    (Projection.QUOTES, {"equal": {"customer_id": "customer-7"}}),
    (Projection.QUOTES, {"equal": {"status": "APPROVED"}}),
    (Projection.QUOTES, {"customers": {"customer-7", "customer-8"}}),
    (Projection.QUOTES, {"since": {"created_at": FIRST + timedelta(days=60)}}),
    (Projection.QUOTES, {"before": {"valid_until": FIRST + timedelta(days=1)}}),
    (Projection.ORDERS, {"equal": {"order_number": "O-77"}}),
    (Projection.ORDERS, {"equal": {"quote_id": NOBODY}}),
    (Projection.ORDERS, {"equal": {"customer_id": "customer-7", "status": "DRAFT"}}),
    (Projection.ORDERS, {"before": {"requested_completion": FIRST + timedelta(days=1)}}),
]


def fill(connection: Connection, projection: Projection) -> None:
    """Make rows of one tenant that differ in everything that a list looks at."""
    columns = header_of(projection)
    values = [OWN.get(column.name) or VALUES.get(str(column.type.compile(connection.dialect)).lower(), "'x'") for column in columns]
    names = ", ".join(column.name for column in columns)
    connection.execute(
        text(
            f"INSERT INTO {TABLES[projection].name} (tenant_id, {names}) "
            f"SELECT CAST(:tenant AS uuid), {', '.join(values)} FROM generate_series(1, {ROWS}) n"
        ),
        {"tenant": TENANT},
    )


@pytest.fixture(scope="module")
def large(database: str) -> Iterator[Engine]:
    """A database of its own, because only large tables have the plans of large tables."""
    with new_database(database, "q2o_lists") as engine:
        with loading(engine) as connection:
            for projection in (Projection.QUOTES, Projection.ORDERS):
                fill(connection, projection)
        vacuuming = engine.execution_options(isolation_level="AUTOCOMMIT").connect()
        with vacuuming as connection, without_response_timeout(connection):
            connection.execute(text("VACUUM ANALYZE quote_search, order_search_projection"))
        yield engine


@pytest.mark.parametrize(
    ("projection", "asked"), QUESTIONS, ids=[f"{projection}: {' '.join(asked)}" for projection, asked in QUESTIONS]
)
def test_no_filter_and_no_order_reads_the_whole_table(large: Engine, projection: Projection, asked: dict[str, Any]) -> None:
    plans: list[str] = []

    def explain(connection: Connection, _: Any, statement: str, parameters: Any, *__: Any) -> None:
        if statement.startswith("SELECT") and TABLES[projection].name in statement:
            plans.append("\n".join(connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).scalars()))

    pool = acting(large, "http")
    event.listen(pool, "before_cursor_execute", explain)
    try:
        with unit_of_work(pool, Cause(tenant_id=TENANT, actor="test", command="read")) as uow:
            found = search(uow, Search(projection=projection, limit=50, **{"sort": "created_at", **asked}))
    finally:
        event.remove(pool, "before_cursor_execute", explain)

    page, count, newest = plans
    assert found.total <= ROWS
    assert_reads_no_table(page, newest)
    if asked.keys() & {"equal", "since", "before", "customers"}:
        assert_reads_no_table(count)  # without a filter, counting is reading everything


def assert_reads_no_table(*plans: str) -> None:
    assert not [plan for plan in plans if re.search("Seq Scan on (quote_search|order_search_projection)", plan)]
