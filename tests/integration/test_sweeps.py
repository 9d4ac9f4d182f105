"""The cost of a sweep depends on the unsettled rows only: each query finds them by a partial index."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from threading import Event, Thread
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, Engine, event, text

from domain import findings, rebuilding
from domain.delivery import callbacks, incidents, jeopardy, open_findings, orphans, reading, unanswered, unsettled
from domain.delivery.unanswered import Silence
from domain.fallout import casework
from domain.offers import open_tasks, withdrawing
from domain.projections.tables import Projection
from domain.workflows import open_starts, requests, watching
from reconciliation.loop import Intervals, Reconciler
from tests.support.database import acting, new_database
from tests.support.offers import Offers
from tests.support.waiting import eventually
from workers.runtime.engine import Engine as Door
from workers.sandbox.proxy import FaultProxy

LONG = timedelta(minutes=1)
PLACE = rebuilding.Place(datetime(2026, 1, 1, tzinfo=UTC), uuid4())
SILENCE = Silence(attempt_stale_after=LONG, request_safe_interval=LONG, give_up_after=LONG)
OPEN_ATTEMPTS = {"ix_provider_attempt_check"}
Query: TypeAlias = Callable[[Connection], Any]
CLAIMS: list[tuple[Query, set[str]]] = [
    (lambda connection: requests.claim(connection, 10, LONG), {"ix_workflow_command_due"}),
    (lambda connection: open_starts.unresolved_starts(connection, 10, LONG, LONG), {"ix_workflow_correlation_unresolved"}),
    (lambda connection: unanswered.silent_steps(connection, 10, LONG, SILENCE), OPEN_ATTEMPTS),
    (lambda connection: unanswered.unanswered_steps(connection, 10, LONG, SILENCE), OPEN_ATTEMPTS),
    (lambda connection: unanswered.unanswered_cancellations(connection, 10, LONG, SILENCE), OPEN_ATTEMPTS),
    (lambda connection: unanswered.unsettled_contradictions(connection, 10, LONG, SILENCE), {"ix_step_contradiction_unanswered"}),
    (lambda connection: open_starts.failed_case_starts(connection, 10, LONG), {"ix_workflow_correlation_failed"}),
    (lambda connection: watching.due_instances(connection, 10, LONG), {"ix_workflow_correlation_watched"}),
]
QUERIES: list[tuple[Query, set[str]]] = [
    *CLAIMS,
    (open_starts.unknown_starts, {"ix_workflow_correlation_unresolved"}),
    (lambda connection: casework.expired_claims(connection, 10), {"ix_fallout_case_claimed"}),
    (lambda connection: unsettled.held_without_case(connection, 10, LONG), {"ix_fulfillment_step_held"}),
    (
        lambda connection: casework.cases_of_processes(connection, ["a", "b"]),
        {"ix_workflow_instance_process"},
    ),
    (lambda connection: unsettled.unevaluated_orders(connection, 10, LONG), {"ix_sales_order_unsettled"}),
    (lambda connection: withdrawing.expired_quotes(connection, 10), {"ix_quote_expiring"}),
    (lambda connection: rebuilding.gaps(connection, 10, Projection.QUOTES, LONG), {"ix_quote_search_gap"}),
    (lambda connection: rebuilding.gaps(connection, 10, Projection.ORDERS, LONG), {"ix_order_search_projection_gap"}),
    (lambda connection: rebuilding.behind(connection, Projection.QUOTES, None, 10, LONG), {"ix_quote_changed"}),
    (lambda connection: rebuilding.behind(connection, Projection.ORDERS, PLACE, 10, LONG), {"ix_sales_order_changed"}),
    (lambda connection: rebuilding.behind(connection, Projection.DECISIONS, PLACE, 10, LONG), {"ix_approval_decision_made"}),
    (lambda connection: incidents.cases_after(connection, UUID(int=0), 10), {"ix_fallout_case_incident"}),
    (lambda connection: callbacks.unmatched_after(connection, None, 10), {"ix_external_callback_record_unmatched"}),
    (lambda connection: jeopardy.late_orders(connection, 10), {"ix_sales_order_live"}),
    (lambda connection: jeopardy.over(connection, 10), {"ix_jeopardy_alert_raised"}),
    (lambda connection: orphans.accepted_since(connection, None, 10, LONG), {"ix_quote_accepted"}),
    (lambda connection: orphans.without_process(connection, 10, LONG), {"uq_cancellation_request_open"}),
    (lambda connection: open_tasks.needless(connection, ["a"], LONG, "approval"), {"ix_workflow_instance_process"}),
    (
        lambda connection: findings.recorded_of(connection, "duplicate", {(uuid4(), uuid4())}),
        {"ix_reconciliation_finding_aggregate"},
    ),
    (lambda connection: open_findings.open_after(connection, UUID(int=0), 10), {"ix_reconciliation_finding_open"}),
    (lambda connection: incidents.with_case(connection, [(UUID(int=0), "a")]), {"uq_fallout_case_open"}),
]


@pytest.fixture(scope="module")
def unused(database: str) -> Iterator[Engine]:
    """A database of its own, because the statistics of rows from other tests would change the plans."""
    with new_database(database, "q2o_plans") as engine:
        yield engine


@pytest.mark.parametrize(("query", "indexes"), QUERIES)
def test_a_sweep_reads_only_unsettled_rows(unused: Engine, query: Query, indexes: set[str]) -> None:
    plans = []

    def explain(connection: Connection, _: Any, statement: str, parameters: Any, *__: Any) -> None:
        if not statement.startswith("EXPLAIN"):
            plans.append("\n".join(connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).scalars()))

    with unused.connect() as connection:
        # A table without rows is read in full whatever its indexes are.
        connection.execute(text("SET enable_seqscan = off"))
        event.listen(connection, "before_cursor_execute", explain)
        query(connection)

    assert any(index in plans[-1] for index in indexes)
    assert "Seq Scan" not in plans[-1]


@pytest.mark.parametrize("query", [query for query, _ in CLAIMS])
def test_a_claim_is_built_once(unused: Engine, query: Query) -> None:
    """Building the statement takes longer than executing it, and an idle dispatcher claims twenty times a second."""
    built = []
    with unused.connect() as connection:
        event.listen(connection, "before_execute", lambda _, statement, *__: built.append(statement))
        query(connection)
        query(connection)

    first, second = built
    assert first is second


def test_the_loop_goes_on_while_the_engine_cannot_be_reached(offers: Offers) -> None:
    step_id = offers.start_step(offers.running_order().steps["RESERVE_INVENTORY"]).step.id
    with offers.engine.begin() as connection:
        connection.execute(text("UPDATE workflow_command SET status = 'DONE'"))
        connection.execute(text("UPDATE workflow_correlation SET status = 'START_UNKNOWN'"))
    proxy = FaultProxy("127.0.0.1", 9)
    proxy.down()
    door, none, stop = Door(f"{proxy.url}/engine-rest", "user", "password"), timedelta(0), Event()
    intervals = Intervals(start_safe_interval=none, attempt_stale_after=none, request_safe_interval=none, evaluation_grace=none)
    loop = Thread(target=Reconciler(acting(offers.engine, "reconcile"), door, {}, intervals).run, args=(stop,))
    loop.start()

    def is_unknown() -> bool:
        with offers.uow() as uow:
            return bool(reading.step(uow, step_id).status == "UNKNOWN")

    eventually(is_unknown, "the silent step is found")
    stop.set()
    loop.join()
    door.close()
