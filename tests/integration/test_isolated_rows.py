"""One row that fails stops neither the other rows of its loop nor another sweep, on real PostgreSQL: reconciliation, dispatcher, relay."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from domain.store.facts import WorkflowCommandKind
from reconciliation.loop import Intervals, Reconciler
from reconciliation.quotes import Quotes
from reconciliation.repairs import Repairs
from reconciliation.steps import Steps
from tests.support.answering import Reply, answering
from tests.support.database import acting
from tests.support.metrics import metric
from tests.support.offers import Offers
from tests.support.reconciling import Scripted, no_finding_about, silence, status, time_out
from tests.support.unfit import nested
from workers.dispatch import Dispatcher
from workers.providers.port import ProviderReply, ReplyStatus
from workers.runtime.engine import Engine

NOW = timedelta(0)
INTERVALS = Intervals(start_safe_interval=NOW, attempt_stale_after=NOW, request_safe_interval=NOW)
RESERVE, CHECK = "RESERVE_INVENTORY", "CHECK_SERVICEABILITY"
TASKS_OF_A_LIST = b'[{"id": "t", "name": "t", "taskDefinitionKey": "t", "processInstanceId": [], "assignee": "a", "due": null}]'


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    """What is logged. On a terminal, a trace takes longer than a sweep may."""
    with capture_logs() as logs:
        yield logs


def told(logs: list[Any]) -> list[Any]:
    return [log for log in logs if log["event"] == "item_set_aside"]


def set_aside(loop: str, item: str) -> float:
    return metric("q2o_items_set_aside_total", loop=loop, item=item)


def ended_quotes(offers: Offers, count: int) -> list[UUID]:
    ids = [offers.approved_quote().quote_id for _ in range(count)]
    with offers.engine.begin() as connection:
        for age, quote_id in enumerate(reversed(ids), start=1):
            connection.execute(
                text("UPDATE quote SET valid_until = clock_timestamp() - make_interval(secs => :age) WHERE id = :id"),
                {"age": age, "id": quote_id},
            )
    return ids


def statuses(offers: Offers, ids: list[UUID]) -> list[str]:
    return [offers.quote(each).status for each in ids]


def test_a_sweep_goes_on_behind_a_row_that_fails(offers: Offers, logs: list[Any]) -> None:
    ids = ended_quotes(offers, 2)
    before = set_aside("reconcile", "quote")
    database = acting(offers.engine, "reconcile")

    with no_finding_about(offers.engine, ids[0]):
        changed = Quotes(database, Repairs(database, dry_run=False)).sweep()

    assert (changed, statuses(offers, ids)) == (1, ["APPROVED", "EXPIRED"])
    assert set_aside("reconcile", "quote") == before + 1
    [log] = told(logs)
    assert (log["id"], log["tenantId"], "this row fails" in log["reason"]) == (ids[0], offers.tenant_id, True)


def test_a_row_that_failed_is_left_alone_for_a_while(offers: Offers) -> None:
    [quote_id] = ended_quotes(offers, 1)
    database = acting(offers.engine, "reconcile")
    quotes = Quotes(database, Repairs(database, dry_run=False))
    with no_finding_about(offers.engine, quote_id):
        quotes.sweep()
        before = set_aside("reconcile", "quote")

        quotes.sweep()

        assert set_aside("reconcile", "quote") == before


def unknown_steps(offers: Offers) -> list[UUID]:
    order = offers.running_order()
    ids = [order.steps[RESERVE], order.steps[CHECK]]
    for step_id in ids:
        time_out(offers, offers.start_step(step_id))
    return ids


def test_the_questions_go_on_behind_an_answer_that_fails(offers: Offers) -> None:
    ids = unknown_steps(offers)
    replies: Iterator[ProviderReply | None] = iter(
        [None, ProviderReply(status=ReplyStatus.COMPLETED, request_id="r", external_ref="x")]
    )

    def answer() -> ProviderReply:
        reply = next(replies)
        if reply is None:
            raise RuntimeError("a fault of the provider's client")
        return reply

    sweep(offers, Scripted(answer))

    assert sorted(status(offers, each) for each in ids) == ["COMPLETED", "UNKNOWN"]


def test_the_steps_go_on_behind_one_whose_answer_cannot_be_recorded(offers: Offers) -> None:
    ids = unknown_steps(offers)
    completed = Scripted(
        lambda: ProviderReply(status=ReplyStatus.COMPLETED, request_id=f"r-{uuid4()}", external_ref=f"x-{uuid4()}")
    )

    with no_finding_about(offers.engine, ids[0]):
        sweep(offers, completed)

    assert [status(offers, each) for each in ids] == ["UNKNOWN", "COMPLETED"]


def sweep(offers: Offers, provider: Scripted) -> None:
    database = acting(offers.engine, "reconcile")
    Steps(database, {"sandbox": provider}, Repairs(database, dry_run=False), silence()).sweep()


@pytest.fixture
def reconciler(offers: Offers) -> Iterator[Reconciler]:
    """Its engine answers every question about tasks with a task whose instance is a list."""
    with (
        answering(lambda _: Reply(body=TASKS_OF_A_LIST)) as address,
        closing(Engine(f"{address}/engine-rest", "user", "password")) as engine,
    ):
        yield Reconciler(acting(offers.engine, "reconcile"), engine, {}, INTERVALS)


def test_a_sweep_that_fails_stops_no_other(offers: Offers, reconciler: Reconciler, logs: list[Any]) -> None:
    ids = ended_quotes(offers, 1)

    reconciler.run_once()

    assert statuses(offers, ids) == ["EXPIRED"]
    assert "assignee" in [log["sweep"] for log in told(logs)]


def test_a_sweep_that_failed_is_left_alone_for_a_while(reconciler: Reconciler) -> None:
    reconciler.run_once()
    before = set_aside("reconcile", "sweep")

    reconciler.run_once()

    assert set_aside("reconcile", "sweep") == before


def ask_engine(offers: Offers, kind: WorkflowCommandKind, name: str, business_key: str) -> None:
    with offers.uow() as uow:
        uow.ask_engine(kind, name, business_key)


def test_the_dispatcher_goes_on_behind_a_command_that_fails(offers: Offers, logs: list[Any]) -> None:
    ask_engine(offers, WorkflowCommandKind.CORRELATE, "Poison", "poisoned")
    ask_engine(offers, WorkflowCommandKind.CORRELATE, "Message", "poisoned")
    ask_engine(offers, WorkflowCommandKind.CORRELATE, "Message", "sound")
    with offers.engine.begin() as connection:
        connection.execute(text(f"UPDATE workflow_command SET variables = '{nested(3000)}' WHERE name = 'Poison'"))
    before = set_aside("dispatch", "command")

    with (
        answering(lambda _: Reply(body=TASKS_OF_A_LIST)) as address,
        closing(Engine(f"{address}/engine-rest", "user", "password")) as engine,
    ):
        Dispatcher(acting(offers.engine, "dispatch"), engine).run_once()

    with offers.engine.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT business_key, kind, status, due_at < clock_timestamp() + interval '10 s' AS is_soon FROM workflow_command ORDER BY position"
            )
        ).all()
    assert [(row.business_key, row.kind, row.status) for row in rows] == [
        ("poisoned", "CORRELATE", "PENDING"),
        ("poisoned", "CORRELATE", "DONE"),
        ("sound", "CORRELATE", "DONE"),
    ]
    assert rows[0].is_soon
    assert set_aside("dispatch", "command") == before + 1
    [log] = told(logs)
    assert (log["businessKey"], bool(log["commandId"])) == ("poisoned", True)
