"""Waits for locked rows are timed and deadlocks are counted in every process, whatever the statement looks like."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from domain.store.unit_of_work import housekeeping
from tests.support.database import acting
from tests.support.metrics import metric
from tests.support.offers import Offers
from tests.support.races import started
from workers.runtime.lock_waits import NO_COMMAND, may_wait

LOCK = text("SELECT id FROM quote WHERE id = :id FOR UPDATE")


@pytest.mark.parametrize(
    ("statement", "waits"),
    [
        ("UPDATE quote SET version = 2", True),
        ("\n        UPDATE quote SET version = 2", True),
        ("INSERT INTO quote (id) VALUES (%(id)s) ON CONFLICT DO NOTHING", True),
        ("DELETE FROM outbox_event WHERE position = ANY($1)", True),
        ("SELECT id FROM quote WHERE id = $1 FOR NO KEY UPDATE", True),
        ("SELECT id FROM quote FOR SHARE OF quote", True),
        ("WITH due AS (SELECT id FROM outbox_event FOR UPDATE SKIP LOCKED) SELECT id FROM due", True),
        ("WITH write_0 AS (INSERT INTO transition_log SELECT 1) UPDATE quote SET version = 2", True),
        ("WITH gone AS (DELETE FROM outbox_event RETURNING id) SELECT count(*) FROM gone", True),
        ("WITH steps AS (SELECT id, updated_at FROM fulfillment_step) SELECT id FROM steps", False),
        ("SELECT id FROM quote WHERE reason = 'WAIT FOR IT'", False),
        ("SELECT 1", False),
    ],
)
def test_a_statement_that_may_wait_for_a_row_is_told_from_one_that_only_reads(statement: str, waits: bool) -> None:  # noqa: FBT001
    assert may_wait(statement) is waits


def test_a_claim_that_begins_with_with_is_timed(db: Engine) -> None:
    before = metric("q2o_db_lock_wait_seconds_count", command=NO_COMMAND)

    with housekeeping(acting(db, "relay")) as connection:
        connection.execute(text("WITH due AS (SELECT id FROM outbox_event FOR UPDATE SKIP LOCKED) SELECT id FROM due")).all()

    assert metric("q2o_db_lock_wait_seconds_count", command=NO_COMMAND) == before + 1


def test_a_deadlock_is_counted_in_a_process_that_runs_no_command(db: Engine, offers: Offers) -> None:
    first, second = (offers.draft_quote().quote_id for _ in range(2))
    before = metric("q2o_db_deadlocks_total", command=NO_COMMAND)

    def lock(connection: Connection, quote_id: object) -> None:
        connection.execute(LOCK, {"id": quote_id})

    pool = acting(db, "reconcile")
    with housekeeping(pool) as one, suppress(OperationalError), ThreadPoolExecutor(1) as rivals:

        def rival() -> None:
            with suppress(OperationalError), housekeeping(pool) as other:
                lock(other, second)
                lock(other, first)

        lock(one, first)
        with db.connect() as observer:
            waiting = started(rivals, observer, rival)
        lock(one, second)
        one.rollback()
        waiting.result()

    assert metric("q2o_db_deadlocks_total", command=NO_COMMAND) == before + 1
