"""A slow call to the engine keeps only the commands for its own process waiting, and a dispatcher that stops waits for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from threading import Event, Thread

from sqlalchemy import Engine as Database
from structlog.testing import capture_logs

from domain.store.facts import WorkflowCommandKind
from tests.integration.test_dispatch_bounds import PROCESS, own, started
from tests.support.answering import Reply, Request, answering
from tests.support.database import acting
from tests.support.waiting import eventually
from tests.support.wanted import Wanted
from workers.dispatch import Dispatcher
from workers.runtime.engine import Engine

TAKEN = Reply(body=b'[{"resultType": "Execution"}]')
SLOW, QUICK, LATER = "Slow", "Quick", "Later"
PATIENT = timedelta(minutes=5)
MOMENT = 0.3  # seconds; a dispatcher with nothing under way stops in less


@dataclass
class SlowEngine:
    """An engine that takes every message, and the slow one when the test lets it."""

    reply: Reply = TAKEN
    told: list[str] = field(default_factory=list)
    goes_on: Event = field(default_factory=Event)

    def __call__(self, request: Request) -> Reply:
        name = json.loads(request.body)["messageName"]
        self.told.append(name)
        if name == SLOW:
            self.goes_on.wait()
        return self.reply


@contextmanager
def dispatching(db: Database, slow: SlowEngine) -> Iterator[tuple[Event, Thread]]:
    """Run a dispatcher in a thread while the block runs; setting the event ends it earlier."""
    stop = Event()
    with answering(slow) as address, closing(Engine(f"{address}/engine-rest", "user", "pw", response_timeout=PATIENT)) as engine:
        running = Thread(target=Dispatcher(acting(db, "dispatch"), engine).run, args=(stop,))
        running.start()
        try:
            yield stop, running
        finally:
            stop.set()
            slow.goes_on.set()
            running.join()


def a_process(db: Database) -> Wanted:
    wanted = Wanted.of(db, PROCESS)
    started(wanted)
    return wanted


def tell(wanted: Wanted, name: str) -> None:
    wanted.ask(WorkflowCommandKind.CORRELATE, name, timedelta(days=1))


def begin(engine: SlowEngine, wanted: Wanted) -> None:
    """Let the engine have answered once, and be slow about the next message to this process."""
    tell(wanted, QUICK)
    eventually(lambda: is_told(wanted), "the engine takes a message")
    tell(wanted, SLOW)
    eventually(lambda: SLOW in engine.told, "the engine is told the slow message")


def is_told(wanted: Wanted) -> bool:
    return {command.status for command in wanted.commands} == {"DONE"}


def test_a_slow_call_keeps_no_other_process_waiting(db: Database) -> None:
    """Kills: waiting for every command of a claim before the next claim."""
    engine, first, second = SlowEngine(), a_process(db), a_process(db)

    with dispatching(db, engine):
        begin(engine, first)
        tell(second, QUICK)

        eventually(lambda: is_told(second), "the other process is told", patience=20)
        assert not is_told(first)


def test_no_later_message_to_a_process_overtakes_a_slow_one(db: Database) -> None:
    """Kills: claiming commands for a business key of which one is being sent."""
    engine, first, second = SlowEngine(), a_process(db), a_process(db)

    with dispatching(db, engine):
        begin(engine, first)
        tell(first, LATER)
        tell(second, QUICK)
        eventually(lambda: is_told(second), "the other process is told", patience=20)
        assert LATER not in engine.told
        engine.goes_on.set()

        eventually(lambda: is_told(first), "the later message is sent, too")


def test_a_dispatcher_that_stops_carries_out_what_is_under_way(db: Database) -> None:
    """Kills: leaving a command to the end of its lease, although the engine has carried it out."""
    engine, first = SlowEngine(), a_process(db)

    with dispatching(db, engine) as (stop, running):
        begin(engine, first)
        stop.set()
        running.join(MOMENT)
        assert running.is_alive()

    assert is_told(first)


def test_an_outage_ends_in_the_log_when_calls_succeed_again(db: Database) -> None:
    """Kills: a turn that counts as a success while its calls have not ended."""
    engine, first = SlowEngine(reply=own(401)), a_process(db)
    tell(first, QUICK)

    with capture_logs() as logs, dispatching(db, engine):
        eventually(lambda: len(engine.told) > 2, "the dispatcher has tried in vain, more than once")

    assert [log["event"] for log in logs if "service" in log] == ["service_unavailable"]
