"""What a dispatcher has claimed and not sent is given back as it was, and claims take turns between tenants."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta

import pytest
from sqlalchemy import Engine as Database
from sqlalchemy import text

from domain.store.facts import WorkflowCommandKind
from domain.store.unit_of_work import housekeeping
from domain.workflows import requests
from tests.integration.test_dispatch_bounds import PROCESS, started
from tests.support.database import acting
from tests.support.ports import free_port_that_refuses
from tests.support.wanted import Wanted, claimed_by_a_dead_dispatcher
from workers.dispatch import Dispatcher
from workers.runtime.engine import Engine, EngineUnavailableError


def test_the_commands_behind_an_outage_are_given_back(db: Database) -> None:
    """Kills: leaving them claimed, which makes START_UNKNOWN of a start that was never sent."""
    wanted = Wanted.of(db, PROCESS)
    started(wanted)
    for kind in (WorkflowCommandKind.CORRELATE, WorkflowCommandKind.CORRELATE, WorkflowCommandKind.START):
        wanted.ask(kind, PROCESS)

    with free_port_that_refuses() as port, closing(Engine(f"http://127.0.0.1:{port}/engine-rest", "user", "password")) as engine:
        dispatcher = Dispatcher(acting(db, "dispatch"), engine)
        for _ in range(2):
            with pytest.raises(EngineUnavailableError):
                dispatcher.run_once()

    assert [(command.status, command.attempts) for command in wanted.commands[1:]] == [("PENDING", 0)] * 3


def test_a_command_that_there_was_no_time_to_send_is_as_due_as_before(db: Database) -> None:
    """Kills: letting it be due anew, behind all others of its tenant."""
    wanted = Wanted.of(db, PROCESS)
    [before] = wanted.commands

    with closing(Engine("http://127.0.0.1:9/engine-rest", "user", "password")) as engine:
        assert Dispatcher(acting(db, "dispatch"), engine, lease=timedelta(0)).run_once() == 1

    [command] = wanted.commands
    assert (command.attempts, command.due_at) == (0, before.due_at)


def test_a_late_dispatcher_does_not_put_back_what_another_one_has_claimed(db: Database) -> None:
    """Kills: proving a claim by a number, which is the same again after a person has asked again."""
    wanted = Wanted.of(db, PROCESS)
    [late] = claimed_by_a_dead_dispatcher(db)
    with db.begin() as connection:
        connection.execute(text("UPDATE workflow_command SET attempts = 0"))
    [other] = claimed_by_a_dead_dispatcher(db)

    with housekeeping(acting(db, "dispatch")) as connection:
        requests.give_back(connection, late)

    [command] = wanted.commands
    assert (command.attempts, command.due_at) == (1, other.due_at)
