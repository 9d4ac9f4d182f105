"""Starts that nobody could settle: they fail, have a case, and are asked for again; the processes of cases by themselves, but not for ever."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine as Database
from sqlalchemy import text

from domain.delivery.resolving import Resolution
from domain.fallout.cases import business_key
from domain.retry_rules import CASE_PROCESS, START_UNKNOWN
from domain.store import unit_of_work
from domain.workflows import restarts, starts
from domain.workflows.starts import CorrelationStatus, RegisterWorkflow
from reconciliation.case_starts import CaseStarts
from reconciliation.repairs import Repairs
from reconciliation.starts import Starts
from tests.support.database import acting
from tests.support.fulfilment import Fulfilment
from tests.support.offers import BERT, Offers
from tests.support.wanted import Wanted
from workers.runtime.engine import EngineRefusedError, Instance

SAFE = timedelta(seconds=5)
A_LITTLE = timedelta(minutes=5)


class Asked:
    """An engine that has no instance of anything, or refuses to say so."""

    def __init__(self, refusal: EngineRefusedError | None = None) -> None:
        self.refusal = refusal

    def find_instances(self, _: str) -> list[Instance]:
        if self.refusal is not None:
            raise self.refusal
        return []


def unknown_for(wanted: Wanted, time: timedelta, attempts: int) -> None:
    """Let a start have been unknown for this time, after so many starts, and let it be due."""
    with unit_of_work(wanted.database, wanted.cause) as uow:
        starts.start_timed_out(uow, wanted.business_key)
    with wanted.database.begin() as connection:
        connection.execute(text("UPDATE workflow_command SET status = 'DONE'"))
        connection.execute(
            text(
                "UPDATE workflow_correlation SET attempts = :attempts, requested_at = clock_timestamp() - CAST(:time AS interval), "
                "updated_at = clock_timestamp() - CAST(:safe AS interval), next_check_at = clock_timestamp() WHERE business_key = :key"
            ),
            {"attempts": attempts, "time": time, "safe": SAFE * 2, "key": wanted.business_key},
        )


def sweep(db: Database, engine: Any) -> None:
    database = acting(db, "reconcile")
    Starts(database, engine, Repairs(database, dry_run=False), SAFE).sweep()


def cases(db: Database) -> list[dict[str, Any]]:
    with db.connect() as connection:
        return [dict(row._mapping) for row in connection.execute(text("SELECT type, detail, evidence FROM fallout_case"))]


def test_a_start_that_stays_unknown_for_too_long_fails_and_has_a_case(db: Database) -> None:
    wanted = Wanted.of(db, "order-fulfillment")
    unknown_for(wanted, START_UNKNOWN.time + A_LITTLE, START_UNKNOWN.attempts)

    sweep(db, Asked())

    [case] = cases(db)
    assert (wanted.history[-1], case["type"], case["evidence"]["times"]) == (
        "START_FAILED",
        "WORKFLOW_INCIDENT",
        START_UNKNOWN.attempts,
    )


@pytest.mark.parametrize(
    ("time", "attempts"),
    [(START_UNKNOWN.time + A_LITTLE, START_UNKNOWN.attempts - 1), (START_UNKNOWN.time - A_LITTLE, START_UNKNOWN.attempts)],
    ids=["one start is left", "time is left"],
)
def test_a_start_that_is_absent_is_sent_again_while_something_is_left(db: Database, time: timedelta, attempts: int) -> None:
    wanted = Wanted.of(db, "order-fulfillment")
    unknown_for(wanted, time, attempts)

    sweep(db, Asked())

    assert (wanted.history[-1], cases(db)) == ("REQUESTED", [])


def test_a_start_that_the_engine_never_lets_be_looked_up_has_a_case_in_the_end(db: Database) -> None:
    wanted = Wanted.of(db, "order-fulfillment")
    unknown_for(wanted, START_UNKNOWN.time + A_LITTLE, 1)

    sweep(db, Asked(EngineRefusedError(403, "AuthorizationException", "no right", None)))

    assert (wanted.history[-1], "no right" in cases(db)[0]["detail"]) == ("START_FAILED", True)


def test_an_instance_that_comes_after_its_start_was_given_up_ends_at_the_gate(db: Database) -> None:
    wanted = Wanted.of(db, "order-fulfillment")
    unknown_for(wanted, START_UNKNOWN.time + A_LITTLE, START_UNKNOWN.attempts)
    sweep(db, Asked())

    with pytest.raises(starts.DuplicateWorkflow):
        wanted.pass_gate("late")


@pytest.fixture
def case_without_process(offers: Offers) -> Fulfilment:
    """An order with a case whose process could not be started, a while ago."""
    work = Fulfilment.contradicted(offers)
    key = business_key(offers.tenant_id, work.case().id)
    with offers.uow() as uow:
        starts.start_refused(uow, key)
    fail_earlier(work, CASE_PROCESS.first_wait * 2)
    return work


def fail_earlier(work: Fulfilment, ago: timedelta, first: timedelta = timedelta(hours=1)) -> None:
    """Set when the start of the process failed last and first. The case is a month old."""
    with work.offers.engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE workflow_correlation SET updated_at = clock_timestamp() - CAST(:ago AS interval), next_check_at = clock_timestamp(), "
                "failed_since = clock_timestamp() - CAST(:first AS interval), created_at = clock_timestamp() - interval '30 days' "
                "WHERE workflow_name = 'fallout-case'"
            ),
            {"ago": ago, "first": first},
        )


def start_again(work: Fulfilment) -> int:
    database = acting(work.offers.engine, "reconcile")
    return CaseStarts(database, Repairs(database, dry_run=False)).sweep()


def status_of_process(work: Fulfilment) -> CorrelationStatus | None:
    with work.offers.uow() as uow:
        return starts.status_of(uow, business_key(work.offers.tenant_id, work.case().id))


def test_the_process_of_a_case_is_started_again(case_without_process: Fulfilment) -> None:
    assert start_again(case_without_process) == 1

    assert status_of_process(case_without_process) == "REQUESTED"


def test_the_process_of_a_case_is_not_started_for_ever(case_without_process: Fulfilment) -> None:
    fail_earlier(case_without_process, CASE_PROCESS.first_wait * 2, CASE_PROCESS.time + A_LITTLE)

    assert start_again(case_without_process) == 0


def test_the_first_failure_of_a_start_is_remembered(db: Database) -> None:
    """Kills: a start whose failures are counted from the last one, so that it is asked for without end."""
    refused, given_up = Wanted.of(db, "order-fulfillment"), Wanted.of(db, "quote-approval")
    with unit_of_work(db, refused.cause) as uow:
        starts.start_refused(uow, refused.business_key)
        first = starts.find(uow, refused.business_key).failed_since
        restarts.restart(uow, refused.business_key, None)
        starts.start_refused(uow, refused.business_key)
        again = starts.find(uow, refused.business_key).failed_since
    unknown_for(given_up, START_UNKNOWN.time + A_LITTLE, START_UNKNOWN.attempts)

    sweep(db, Asked())

    with unit_of_work(db, given_up.cause) as uow:
        assert starts.find(uow, given_up.business_key).failed_since is not None
    assert (first is None, again) == (False, first)


def test_the_time_of_failing_ends_with_an_instance(case_without_process: Fulfilment) -> None:
    """Kills: counting the failures of earlier instances, so that the process of an old case is given up at once."""
    key = business_key(case_without_process.offers.tenant_id, case_without_process.case().id)
    start_again(case_without_process)
    with case_without_process.offers.uow() as uow:
        again = starts.find(uow, key)
        starts.register(uow, RegisterWorkflow(business_key=key, start_token=again.start_token, process_instance_id="first"))
        registered = starts.find(uow, key)

    assert (again.failed_since is None, registered.failed_since) == (False, None)


def test_the_process_of_a_case_is_started_again_after_a_wait_that_grows(case_without_process: Fulfilment) -> None:
    start_again(case_without_process)
    with case_without_process.offers.uow() as uow:
        starts.start_refused(uow, business_key(case_without_process.offers.tenant_id, case_without_process.case().id))
    with case_without_process.offers.engine.begin() as connection:
        connection.execute(text("UPDATE workflow_correlation SET updated_at = updated_at - interval '10 minutes'"))

    assert start_again(case_without_process) == 0


def test_a_case_that_is_over_needs_no_process(case_without_process: Fulfilment) -> None:
    case_without_process.claim(BERT)
    case_without_process.resolve(BERT, Resolution.CANCEL_STEP)

    assert (start_again(case_without_process), status_of_process(case_without_process)) == (0, "START_FAILED")


def test_a_late_instance_of_a_failed_start_never_counts_beside_the_new_one(case_without_process: Fulfilment) -> None:
    key = business_key(case_without_process.offers.tenant_id, case_without_process.case().id)
    with case_without_process.offers.uow() as uow:
        old = starts.find(uow, key).start_token
    start_again(case_without_process)

    with pytest.raises(starts.DuplicateWorkflow), case_without_process.offers.uow() as uow:
        starts.register(uow, RegisterWorkflow(business_key=key, start_token=old, process_instance_id="late"))
