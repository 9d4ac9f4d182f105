"""What the dispatcher cannot carry out ends after its time, with a case, and is asked for again when a person says so."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine as Database
from sqlalchemy import Row, select, text

from domain.delivery import restarting
from domain.fallout.cases import FalloutCase
from domain.retry_row import MILLISECOND
from domain.retry_rules import START_REFUSED, START_ROLLED_BACK, WORKFLOW_COMMAND, WORKFLOW_COMMAND_UNKNOWN
from domain.store import table_of, unit_of_work
from domain.store.facts import WorkflowCommandKind
from domain.workflows.keys import Kind
from tests.support.answering import Reply, Request, answering
from tests.support.database import acting
from tests.support.wanted import Wanted
from workers.dispatch import Dispatcher
from workers.runtime.engine import Engine, EngineUnavailableError

PROCESS = "order-fulfillment"
PAGE = Reply(status=400, body=b"<html>Bad Request</html>", headers={"Content-Type": "text/html"})
A_LITTLE = timedelta(minutes=5)


def own(status: int, kind: str = "InvalidRequestException", message: str = "no") -> Reply:
    """An error in the engine's own form."""
    return Reply(status=status, body=json.dumps({"type": kind, "message": message, "code": None}).encode())


@contextmanager
def dispatching(db: Database, reply: Reply, **by_path: Reply) -> Iterator[Dispatcher]:
    """A dispatcher whose engine answers with `reply`; to a path that ends with one of the names, with that reply."""

    def answer(request: Request) -> Reply:
        path = request.path.partition("?")[0]
        return next((other for end, other in by_path.items() if path.endswith(end)), reply)

    with answering(answer) as address, closing(Engine(f"{address}/engine-rest", "user", "password")) as engine:
        yield Dispatcher(acting(db, "dispatch"), engine)


def cases_of(db: Database, wanted: Wanted) -> Sequence[Row[Any]]:
    case = table_of(FalloutCase)
    with db.connect() as connection:
        return connection.execute(select(*case.c).where(case.c.business_key == wanted.business_key)).all()


def refused_for(db: Database, wanted: Wanted, time: timedelta) -> None:
    """Let the engine have refused the commands of a key for this time, in every way, and let them be due."""
    with db.begin() as connection:
        connection.execute(
            text(
                "UPDATE workflow_command SET refusals = 7, refused_since = clock_timestamp() - CAST(:time AS interval), "
                "refused_ms = :ms, failed_ms = :ms, due_at = clock_timestamp() WHERE business_key = :key"
            ),
            {"time": time, "ms": time // MILLISECOND, "key": wanted.business_key},
        )


def started(wanted: Wanted) -> None:
    """Settle the start, as if an instance ran."""
    wanted.pass_gate("instance")
    with wanted.database.begin() as connection:
        connection.execute(text("UPDATE workflow_command SET status = 'DONE' WHERE kind = 'START'"))


def test_an_error_page_of_a_gateway_ends_no_start(db: Database) -> None:
    wanted = Wanted.of(db, PROCESS)

    with dispatching(db, PAGE) as dispatcher:
        dispatcher.run_once()

    assert (wanted.history, cases_of(db, wanted)) == (["REQUESTED", "START_UNKNOWN"], [])


def test_a_success_without_an_instance_leaves_a_start_unknown(db: Database) -> None:
    wanted = Wanted.of(db, PROCESS)

    with dispatching(db, Reply(body=b"{}")) as dispatcher:
        dispatcher.run_once()

    assert wanted.history == ["REQUESTED", "START_UNKNOWN"]


def test_a_start_that_the_engine_itself_refuses_has_a_case(db: Database) -> None:
    wanted = Wanted.of(db, PROCESS)

    with dispatching(db, own(400, message="a variable is too long")) as dispatcher:
        dispatcher.run_once()

    [case] = cases_of(db, wanted)
    assert (wanted.history, case.type) == (["REQUESTED", "START_FAILED"], "WORKFLOW_INCIDENT")
    assert {"businessKey", "about", "subjectId", "tried", "times", "since"} < set(case.evidence)
    assert "a variable is too long" in case.evidence["lastReason"]


@pytest.mark.parametrize("status", [401, 403, 404, 429])
def test_a_start_that_is_refused_for_too_long_fails_and_has_a_case(db: Database, status: int) -> None:
    wanted = Wanted.of(db, PROCESS)
    refused_for(db, wanted, START_REFUSED.time - A_LITTLE)
    with dispatching(db, own(status)) as dispatcher:
        run(dispatcher)
        assert wanted.history == ["REQUESTED"]
        refused_for(db, wanted, START_REFUSED.time + A_LITTLE)

        run(dispatcher)

    [case] = cases_of(db, wanted)
    assert (wanted.history, case.evidence["times"]) == (["REQUESTED", "START_FAILED"], 8)


def test_a_start_that_is_rolled_back_for_too_long_becomes_unknown(db: Database) -> None:
    wanted = Wanted.of(db, PROCESS)
    refused_for(db, wanted, START_ROLLED_BACK.time / 2)
    with dispatching(db, own(500, "ProcessEngineException")) as dispatcher:
        dispatcher.run_once()
        assert wanted.history == ["REQUESTED"]
        refused_for(db, wanted, START_ROLLED_BACK.time * 2)

        dispatcher.run_once()

    assert wanted.history == ["REQUESTED", "START_UNKNOWN"]


def test_the_start_of_a_cases_process_opens_no_case(db: Database) -> None:
    wanted = Wanted.of(db, "fallout-case", Kind.FALLOUT_CASE)

    with dispatching(db, own(400)) as dispatcher:
        dispatcher.run_once()

    assert (wanted.history, cases_of(db, wanted)) == (["REQUESTED", "START_FAILED"], [])


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (WorkflowCommandKind.CORRELATE, "Novel"),
        (WorkflowCommandKind.ASSIGN_TASK, "task"),
        (WorkflowCommandKind.COMPLETE_TASK, "task"),
    ],
)
def test_a_message_that_nobody_takes_for_too_long_is_given_up_and_has_a_case(
    db: Database, kind: WorkflowCommandKind, name: str
) -> None:
    wanted = Wanted.of(db, PROCESS)
    started(wanted)
    wanted.ask(kind, name, timedelta(days=9), assignee="anna")
    with dispatching(db, Reply(body=b"[]")) as dispatcher:
        refused_for(db, wanted, WORKFLOW_COMMAND.time - A_LITTLE)
        dispatcher.run_once()
        assert wanted.commands[-1].status == "PENDING"
        refused_for(db, wanted, WORKFLOW_COMMAND.time + A_LITTLE)

        dispatcher.run_once()

    [case] = cases_of(db, wanted)
    assert (wanted.commands[-1].status, case.evidence["tried"].split()[-1]) == ("GIVEN_UP", name)


def test_a_message_without_a_usable_reply_is_tried_for_a_day(db: Database) -> None:
    wanted = Wanted.of(db, PROCESS)
    started(wanted)
    wanted.ask(WorkflowCommandKind.CORRELATE, "Novel", timedelta(days=9))
    with dispatching(db, PAGE) as dispatcher:
        refused_for(db, wanted, WORKFLOW_COMMAND_UNKNOWN.time - A_LITTLE)
        dispatcher.run_once()
        assert wanted.commands[-1].status == "PENDING"
        refused_for(db, wanted, WORKFLOW_COMMAND_UNKNOWN.time + A_LITTLE)

        dispatcher.run_once()

    assert (wanted.commands[-1].status, len(cases_of(db, wanted))) == ("GIVEN_UP", 1)


def test_a_history_that_cannot_be_read_defers_its_message_only(db: Database) -> None:
    wanted = Wanted.of(db, PROCESS)
    started(wanted)
    wanted.ask(WorkflowCommandKind.CORRELATE, "Novel")
    with dispatching(db, Reply(body=b"[]"), **{"/history/process-instance": own(500)}) as dispatcher:
        dispatcher.run_once()
        refused_for(db, wanted, timedelta(0))

        dispatcher.run_once()

    assert (wanted.commands[-1].status, "500" in wanted.commands[-1].last_reason) == ("PENDING", True)


def test_a_command_that_no_process_can_take_is_left_to_a_person(db: Database) -> None:
    wanted = Wanted.of(db, PROCESS)
    started(wanted)
    wanted.ask(WorkflowCommandKind.CORRELATE, "Novel", novel="x" * 5000)

    with dispatching(db, Reply(body=b"[]")) as dispatcher:
        dispatcher.run_once()

    assert (wanted.commands[-1].status, len(cases_of(db, wanted))) == ("GIVEN_UP", 1)


def test_a_failed_start_is_asked_for_again_with_a_token_of_its_own(db: Database) -> None:
    wanted = Wanted.of(db, PROCESS, Kind.UNDO_STEP)
    token = wanted.correlation.start_token
    with dispatching(db, own(400)) as dispatcher:
        dispatcher.run_once()

    with unit_of_work(acting(db, "http"), wanted.cause) as uow:
        restarting.ask_again(uow, wanted.business_key)

    assert (wanted.correlation.status, wanted.correlation.start_token == token) == ("REQUESTED", False)
    assert [(each.kind, each.status) for each in wanted.commands] == [("START", "DONE"), ("START", "PENDING")]


def test_what_was_given_up_is_asked_for_again_and_has_its_whole_time(db: Database) -> None:
    wanted = Wanted.of(db, PROCESS)
    started(wanted)
    wanted.ask(WorkflowCommandKind.CORRELATE, "Novel", timedelta(days=9))
    refused_for(db, wanted, WORKFLOW_COMMAND.time + A_LITTLE)
    with dispatching(db, Reply(body=b"[]")) as dispatcher:
        dispatcher.run_once()

    with unit_of_work(acting(db, "tasks"), wanted.cause) as uow:
        restarting.ask_again(uow, wanted.business_key)

    [_, again] = wanted.commands
    assert (again.status, again.refusals, again.refused_since, again.refused_ms, again.failed_ms) == ("PENDING", 0, None, 0, 0)


def run(dispatcher: Dispatcher) -> None:
    with suppress(EngineUnavailableError):  # the engine does not believe the dispatcher
        dispatcher.run_once()
