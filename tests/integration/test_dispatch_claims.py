"""What a dispatcher has claimed and not sent is given back as it was, and claims take turns between tenants."""

from __future__ import annotations

from contextlib import closing

import pytest
from sqlalchemy import Engine as Database

from domain.store.facts import WorkflowCommandKind
from tests.integration.test_dispatch_bounds import PROCESS, started
from tests.support.database import acting
from tests.support.ports import free_port_that_refuses
from tests.support.wanted import Wanted
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
