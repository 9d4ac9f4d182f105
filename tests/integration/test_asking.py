"""`q2o explain` and `q2o status` tell people how things stand, with the rights of `audit` alone."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner

from domain import findings
from domain.delivery import orders
from domain.errors import Refusal
from domain.workflows import starts
from tests.support.database import acting
from tests.support.fulfilment import Fulfilment
from tests.support.offers import Offers, offers_of_new_tenant
from workers import suite
from workers.cli import app
from workers.runtime import database

Ask = Callable[..., str]


@pytest.fixture
def ask(db: Engine, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Run a command of `q2o`, and return what it prints; its exit code must be the given one."""
    monkeypatch.setattr(suite, "connect", lambda *_: acting(db, "audit"))

    def run(*arguments: str, code: int = 0) -> str:
        ended = CliRunner().invoke(
            app, arguments, env={"COLUMNS": "200", "Q2O_DATABASE_URL": db.url.render_as_string(hide_password=False)}
        )
        assert ended.exit_code == code, ended.output
        return ended.output

    return run


@pytest.fixture
def contradicted(offers: Offers) -> Fulfilment:
    return Fulfilment.contradicted(offers)


def test_the_story_of_an_order_begins_with_its_offer(ask: Ask, contradicted: Fulfilment) -> None:
    told = ask("explain", str(contradicted.order_id)).splitlines()

    assert told[0].startswith(f"Order {contradicted.row().order_number} of customer ")
    assert "The quote was made" in told[1]
    assert any("accepted the offer at the prices of p-44, which was active" in line for line in told)


def test_the_story_tells_both_sides_of_a_contradiction(ask: Ask, contradicted: Fulfilment) -> None:
    told = ask("explain", str(contradicted.order_id))

    assert "says COMPLETE of step RESERVE_INVENTORY, which was PENDING: both facts stay." in told
    assert "Case " in told


def test_the_story_tells_what_was_refused(ask: Ask, contradicted: Fulfilment) -> None:
    with pytest.raises(Refusal):
        contradicted.ask_to_cancel(expected_version=1)

    told = ask("explain", str(contradicted.order_id))

    assert "with ORDER_VERSION_CONFLICT: it expected version 1, and found 3" in told


def test_the_story_of_a_step_tells_the_attempt_and_its_outcome(ask: Ask, offers: Offers) -> None:
    work = Fulfilment.running(offers)
    work.complete("CHECK_SERVICEABILITY")

    told = ask("explain", str(work.order_id))

    assert "sent EXECUTE of step CHECK_SERVICEABILITY to its provider, as attempt 1 under the key" in told
    assert "Attempt 1 of step CHECK_SERVICEABILITY (EXECUTE) is SUCCEEDED, as its callback says" in told


def test_the_story_tells_what_became_of_the_process(ask: Ask, offers: Offers) -> None:
    """Kills: a story that leaves out an unknown start, and what reconciliation found out about it."""
    work = Fulfilment.running(offers)
    key = orders.business_key(offers.tenant_id, work.order_id)
    with offers.uow("dispatch") as uow:
        starts.start_timed_out(uow, key)
        process = starts.find(uow, key)
        about = {"aggregate_type": "workflow_correlation", "aggregate_id": process.id, "evidence": {"instances": 1}}
        findings.record(uow, kind="start", action="attached", **about)

    told = ask("explain", str(work.order_id))

    assert "The process order-fulfillment went from REQUESTED to START_UNKNOWN (time out)" in told
    assert "Reconciliation (start) of the process order-fulfillment: attached; it saw instances 1." in told


def test_an_order_is_found_by_its_number_in_its_tenant(ask: Ask, db: Engine, contradicted: Fulfilment) -> None:
    number, tenant_id = contradicted.row().order_number, contradicted.offers.tenant_id
    other = Fulfilment.running(offers_of_new_tenant(db))
    assert other.row().order_number == number

    refused = ask("explain", number, code=2)
    told = ask("explain", number, "--tenant", str(tenant_id))

    assert f"2 tenants have an order '{number}': give one by --tenant" in refused
    assert f"Order {number} of customer" in told


def test_an_unknown_order_is_one_line(ask: Ask) -> None:
    assert ask("explain", "ORD-404", code=2).splitlines() == [
        "q2o: no order has the number or id 'ORD-404': look for it with GET /orders"
    ]


def test_the_story_is_also_told_to_machines(ask: Ask, contradicted: Fulfilment) -> None:
    kinds = {entry["kind"] for entry in json.loads(ask("explain", str(contradicted.order_id), "--json"))}

    assert {"TRANSITION", "ACCEPTANCE", "PROCESS", "CONTRADICTION"} <= kinds


def test_the_status_counts_what_waits_and_since_when(ask: Ask, contradicted: Fulfilment) -> None:
    status = json.loads(ask("status", "--json"))

    waiting = {each["what"]: each for each in status["waiting"]}
    assert waiting["fallout cases"]["count"] == 1
    assert waiting["orders in delivery"]["oldest"] is not None
    assert waiting["steps without an outcome"] == {
        "process": "reconcile",
        "what": "steps without an outcome",
        "count": 0,
        "oldest": None,
    }


def test_the_status_names_processes_without_a_session(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "processes_at_work", lambda _: {"http": 2})  # other tests have sessions on this server

    lines = ask("status").splitlines()

    [relay] = [line for line in lines if line.strip(" │┃").startswith("relay")]
    assert "none" in relay
    assert "events for Kafka" in relay
