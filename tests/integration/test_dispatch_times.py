"""How long the engine has not carried a command out counts for each class of failure, and an outage in between does not count."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta

import pytest
from sqlalchemy import Engine as Database
from sqlalchemy import text

from domain.retry_row import HOUR, MILLISECOND, MINUTE, SECOND
from domain.retry_rules import WORKFLOW_COMMAND
from domain.store.facts import WorkflowCommandKind
from domain.workflows.requests import LONGEST_GAP
from tests.integration.test_dispatch_bounds import PAGE, PROCESS, dispatching, own, started
from tests.support.answering import Reply
from tests.support.database import acting
from tests.support.ports import free_port_that_refuses
from tests.support.wanted import Wanted
from workers.dispatch import Dispatcher
from workers.runtime.engine import Engine, EngineUnavailableError

NOBODY_WAITS = Reply(body=b"[]")
A_GAP = 10 * SECOND


@pytest.fixture
def start(db: Database) -> Wanted:
    """A process whose start is due."""
    return Wanted.of(db, PROCESS)


@pytest.fixture
def message(start: Wanted) -> Wanted:
    """A process whose start is settled; a message to it is due, for as long as anybody tries."""
    started(start)
    start.ask(WorkflowCommandKind.CORRELATE, "Novel", timedelta(days=9))
    return start


@contextmanager
def engine_away(db: Database) -> Iterator[Dispatcher]:
    """A dispatcher whose engine refuses connections."""
    with free_port_that_refuses() as port, closing(Engine(f"http://127.0.0.1:{port}/engine-rest", "user", "password")) as engine:
        yield Dispatcher(acting(db, "dispatch"), engine)


def tried(wanted: Wanted, *replies: Reply) -> str:
    """Try the commands with each reply; returns the state of the last command."""
    for reply in replies:
        pass_by(wanted, timedelta(0))
        with dispatching(wanted.database, reply) as dispatcher:
            dispatcher.run_once()
    return str(wanted.commands[-1].status)


def pass_by(wanted: Wanted, time: timedelta) -> None:
    """Let this time pass for the commands of a process, and let them be due."""
    statement = (
        "UPDATE workflow_command SET refused_since = refused_since - CAST(:time AS interval), "
        "refused_at = refused_at - CAST(:time AS interval), due_at = clock_timestamp() WHERE business_key = :key"
    )
    with wanted.database.begin() as connection:
        connection.execute(text(statement), {"time": time, "key": wanted.business_key})


def test_the_first_refusal_after_hours_of_error_pages_gives_no_message_up(message: Wanted) -> None:
    """Kills: one time for all classes of failure."""
    tried(message, PAGE)
    pass_by(message, 2 * HOUR)
    tried(message, PAGE)

    assert tried(message, NOBODY_WAITS) == "PENDING"


def test_a_message_is_not_given_up_for_the_time_of_an_outage(message: Wanted) -> None:
    """Kills: counting from the first refusal to the last one, whatever was in between."""
    tried(message, NOBODY_WAITS)
    with engine_away(message.database) as dispatcher:
        for _ in range(2):
            pass_by(message, HOUR)
            with pytest.raises(EngineUnavailableError):
                dispatcher.run_once()

    assert tried(message, NOBODY_WAITS) == "PENDING"


def test_a_start_that_was_refused_has_its_minute_when_it_is_rolled_back(start: Wanted) -> None:
    """Kills: one time for all classes of failure."""
    tried(start, own(404))
    pass_by(start, 30 * MINUTE)
    tried(start, own(404), own(500, "ProcessEngineException"))

    assert start.history == ["REQUESTED"]


def test_a_message_is_given_up_although_two_classes_of_failure_take_turns(message: Wanted) -> None:
    """Kills: a time that begins anew whenever the class of failure changes."""
    tried(message, NOBODY_WAITS)
    with message.database.begin() as connection:
        connection.execute(
            text("UPDATE workflow_command SET refused_ms = :ms"), {"ms": (WORKFLOW_COMMAND.time - A_GAP) // MILLISECOND}
        )
    tried(message, PAGE)
    pass_by(message, A_GAP)

    assert tried(message, NOBODY_WAITS) == "GIVEN_UP"


def test_the_time_between_two_failures_counts_for_the_second_one(message: Wanted) -> None:
    tried(message, NOBODY_WAITS)
    pass_by(message, A_GAP)
    tried(message, PAGE)

    command = message.commands[-1]
    assert (command.refusals, command.refused_ms) == (2, 0)
    assert A_GAP <= command.failed_ms * MILLISECOND <= LONGEST_GAP


def test_a_longer_time_between_two_failures_was_an_outage(message: Wanted) -> None:
    tried(message, NOBODY_WAITS)
    pass_by(message, 24 * HOUR)
    tried(message, NOBODY_WAITS)

    assert message.commands[-1].refused_ms * MILLISECOND == LONGEST_GAP
