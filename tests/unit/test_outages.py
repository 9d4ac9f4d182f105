"""Outages, other errors that a loop waits out, and faults that end it."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from structlog.testing import capture_logs

from domain.errors import OutcomeUnknownError, TryAgain
from domain.store.unit_of_work import BUSY
from workers.runtime.database_states import NO_ROOM, SESSION_IS_USELESS, TOO_SLOW
from workers.runtime.engine import EngineOutcomeUnknownError, EngineRefusedError, EngineUnavailableError, EngineUntrustedError
from workers.runtime.kafka import KafkaUnavailableError
from workers.runtime.outages import is_outage, is_waited_out, needs_a_person
from workers.runtime.retries import OutageLog


class Driver(Exception):
    """The driver's error under one of SQLAlchemy's, with PostgreSQL's code, or without one when no server has responded."""

    def __init__(self, sqlstate: str | None) -> None:
        super().__init__(sqlstate)
        self.sqlstate = sqlstate


def from_the_database(sqlstate: str | None, kind: type[DBAPIError] = OperationalError, *, invalidated: bool = False) -> DBAPIError:
    return kind("SELECT 1", {}, Driver(sqlstate), connection_invalidated=invalidated)


OUTAGES = [
    EngineUnavailableError("connection refused"),
    EngineOutcomeUnknownError("no response"),
    KafkaUnavailableError("no broker"),
    TryAgain(),
    OutcomeUnknownError(),
    PoolTimeoutError(),
    from_the_database(None),
    from_the_database(None, InterfaceError),
    from_the_database("08006"),
    from_the_database("53300"),
    from_the_database("57P01"),
    from_the_database("55P03"),
    from_the_database("40P01"),
    from_the_database("40001"),
    from_the_database("XX000", DBAPIError, invalidated=True),
    from_the_database(None, DBAPIError, invalidated=True),
    *(from_the_database(f"{state:0<5}", InternalError) for state in (*SESSION_IS_USELESS, *NO_ROOM) if state not in TOO_SLOW),
]
FAULTS = [
    EngineRefusedError(500, "ProcessEngineException", "no", 0),
    ConnectionError("a provider's, which decides about its own tries"),
    ValueError("a bug"),
    from_the_database("23505", IntegrityError),
    from_the_database(None, IntegrityError),
    from_the_database("42P01", DBAPIError),
]


@pytest.mark.parametrize("error", OUTAGES, ids=repr)
def test_an_outage_costs_no_try_and_ends_no_loop(error: Exception) -> None:
    assert is_outage(error)
    assert is_waited_out(error)


@pytest.mark.parametrize("error", FAULTS, ids=repr)
def test_a_fault_is_no_outage(error: Exception) -> None:
    assert not is_outage(error)
    assert not is_waited_out(error)


@pytest.mark.parametrize("state", TOO_SLOW)
def test_work_of_the_database_that_took_too_long_costs_a_task_a_try_and_ends_no_loop(state: str) -> None:
    slow = from_the_database(state, invalidated=state in SESSION_IS_USELESS)

    assert not is_outage(slow)
    assert is_waited_out(slow)


def test_an_outage_is_logged_once_when_it_begins_and_once_when_it_ends_with_its_length() -> None:
    seconds = 0.0
    outage = OutageLog("engine", clock=lambda: seconds)

    with capture_logs() as logs:
        outage.worked()
        for _ in range(2):
            for _ in range(3):
                outage.failed(EngineUnavailableError("connection refused"))
                seconds += 2
            outage.worked()
            outage.worked()

    began = {"log_level": "warning", "event": "service_unavailable", "service": "engine"}
    ended = {"log_level": "info", "event": "service_available_again", "service": "engine", "attempts": 4, "seconds": 6.0}
    reason = {"reason": "connection refused", "kind": "EngineUnavailableError"}
    assert logs == [{**began, **reason}, ended] * 2


@pytest.mark.parametrize(
    "reason",
    [
        "SSL error: certificate verify failed",
        'server certificate for "other" does not match host name "database"',
        "SSL error: tlsv13 alert certificate required",
        "FATAL:  connection requires a valid client certificate",
        'FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "q2o", database "q2o", no encryption',
        "server does not support SSL, but SSL was required",
        'FATAL:  password authentication failed for user "q2o"',
        'FATAL:  database "q2o" does not exist',
        'FATAL:  role "q2o" does not exist',
        'FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "q2o", database "q2o", SSL encryption',
        'FATAL:  role "q2o_http" is not permitted to log in',
        "fe_sendauth: no password supplied",
        "FATAL:  no such user: q2o",
        "FATAL:  unsupported startup parameter: options",
        "transaction blocks not allowed in statement pooling mode",
    ],
)
def test_a_database_that_distrusts_us_or_is_distrusted_needs_a_person(reason: str) -> None:
    assert needs_a_person(OperationalError("SELECT 1", {}, psycopg.OperationalError(reason)))


@pytest.mark.parametrize(
    "reason", ["connection refused", "SSL connection has been closed unexpectedly", "SSL SYSCALL error: EOF detected"]
)
def test_a_database_that_is_away_needs_no_person(reason: str) -> None:
    assert not needs_a_person(OperationalError("SELECT alert, certificate", {}, psycopg.OperationalError(reason)))


def test_an_outage_that_only_a_person_can_end_is_an_error_again_every_minute() -> None:
    seconds = 0.0
    outage = OutageLog("engine", clock=lambda: seconds)

    with capture_logs() as logs:
        for _ in range(13):
            outage.failed(EngineUntrustedError("set Q2O_ENGINE_CA_FILE"))
            seconds += 10
        outage.worked()

    told = {"log_level": "error", "event": "service_untrusted", "service": "engine", "reason": "set Q2O_ENGINE_CA_FILE"}
    assert logs[:3] == [{**told, "kind": "EngineUntrustedError"}] * 3
    assert [log["event"] for log in logs[3:]] == ["service_available_again"]


@pytest.mark.parametrize("state", [*SESSION_IS_USELESS, *NO_ROOM, *TOO_SLOW, *BUSY])
def test_each_state_that_is_waited_out_stands_in_the_documentation(state: str) -> None:
    assert state in (Path(__file__).parents[2] / "docs" / "database.md").read_text(encoding="utf-8")
