"""`q2o explain` and `q2o status` tell people how things stand, with the rights of `audit` alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import TopicPartition
from sqlalchemy import Engine, text
from typer.testing import CliRunner

from domain import findings
from domain.delivery import orders
from domain.delivery.step_moves import ResolutionNotAllowed
from domain.errors import Refusal
from domain.findings import FindingStatus
from domain.workflows import starts
from tests.support.database import acting
from tests.support.fulfilment import Fulfilment
from tests.support.letter_desk import Desk
from tests.support.offers import Offers, offers_of_new_tenant
from tests.support.topics import Topics
from tests.support.waiting import eventually
from workers import cli_errors, suite
from workers.cli import app
from workers.kafka import views
from workers.kafka.topics import ORDERS
from workers.runtime import database
from workers.runtime.kafka import new_consumer
from workers.runtime.kafka_reading import marks

Ask = Callable[..., str]


@pytest.fixture
def ask(db: Engine, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Run a command of `q2o`, and return what it prints; its exit code must be the given one."""
    monkeypatch.setattr(suite, "connect", lambda *_: acting(db, "audit"))
    monkeypatch.setattr(cli_errors.out, "width", 200)

    def run(*arguments: str, code: int = 0) -> str:
        ended = CliRunner().invoke(app, arguments, env={"Q2O_DATABASE_URL": db.url.render_as_string(hide_password=False)})
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


def test_the_story_tells_what_a_case_is_about(ask: Ask, contradicted: Fulfilment) -> None:
    case = contradicted.case()

    told = ask("explain", str(contradicted.order_id))

    kind, severity = case.type.replace("_", " ").lower(), case.severity.lower()
    assert f"Case {case.case_number} ({kind}, severity {severity}) is in the queue {case.queue}: {case.detail}" in told


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


def test_the_story_says_that_a_finding_is_still_open(ask: Ask, contradicted: Fulfilment) -> None:
    """Kills: a story that calls an instance terminated which the engine has not ended yet."""
    about: dict[str, Any] = {"aggregate_type": "sales_order", "aggregate_id": contradicted.order_id, "evidence": {"instances": 2}}
    with contradicted.offers.uow("reconcile") as uow:
        findings.record(uow, kind="duplicate", action="terminated", status=FindingStatus.OPEN, **about)

    told = ask("explain", str(contradicted.order_id))

    assert "Reconciliation (duplicate): terminated; it saw instances 2; it is not over yet." in told


def test_an_entry_that_cannot_be_told_is_one_line_among_the_others(ask: Ask, contradicted: Fulfilment) -> None:
    """Kills: a story that ends at the first odd row."""
    with contradicted.offers.uow("reconcile") as uow:
        findings.record(
            uow, kind="order", action="evaluated", aggregate_type="sales_order", aggregate_id=contradicted.order_id, evidence={}
        )
    with contradicted.offers.engine.begin() as connection:
        connection.execute(text("ALTER TABLE reconciliation_finding DISABLE TRIGGER USER"))
        odd = connection.scalar(text("""UPDATE reconciliation_finding SET evidence = '["a"]' RETURNING id"""))
        connection.execute(text("ALTER TABLE reconciliation_finding ENABLE TRIGGER USER"))

    told = ask("explain", str(contradicted.order_id))

    [line] = [line for line in told.splitlines() if str(odd) in line]
    assert line.endswith(f"The entry FINDING {odd} cannot be told: AttributeError: 'list' object has no attribute 'items'.")
    assert "which was PENDING: both facts stay." in told


def test_a_decision_with_an_odd_authority_is_told_with_it(ask: Ask, contradicted: Fulfilment) -> None:
    with contradicted.offers.engine.begin() as connection:
        connection.execute(text("ALTER TABLE approval_decision DISABLE TRIGGER USER"))
        connection.execute(text("""UPDATE approval_decision SET authority_snapshot = '["odd"]'"""))
        connection.execute(text("ALTER TABLE approval_decision ENABLE TRIGGER USER"))

    told = ask("explain", str(contradicted.order_id))

    assert "with the authority of ['odd']" in told


def test_a_refusal_that_named_no_version_is_told_without_one(ask: Ask, contradicted: Fulfilment) -> None:
    """Kills: a story that ends at a refusal whose command named no version."""
    case = contradicted.case()
    with contradicted.offers.uow("bert") as uow:
        uow.flag_conflict(ResolutionNotAllowed.about(case, aggregate_type="fallout_case"))

    told = ask("explain", str(contradicted.order_id))

    assert "of bert with RESOLUTION_NOT_ALLOWED." in told
    assert "cannot be told" not in told


def test_the_story_tells_a_cause_before_its_effect(ask: Ask, contradicted: Fulfilment) -> None:
    """Kills: changes of one command in the order in which the database has happened to write them."""
    with contradicted.offers.engine.begin() as connection:
        connection.execute(text("ALTER TABLE transition_log DISABLE TRIGGER USER"))
        later = "UPDATE transition_log SET created_at = created_at + interval '1 ms' WHERE aggregate_type = 'approval_request' AND aggregate_version = 1"
        assert connection.execute(text(later)).rowcount == 1
        connection.execute(text("ALTER TABLE transition_log ENABLE TRIGGER USER"))

    told = ask("explain", str(contradicted.order_id))

    assert told.index("The approval of the quote was made") < told.index("The approval of the quote went from")
    assert told.index("The order was made") < told.index("The process order-fulfillment was made")


def test_an_order_is_found_by_its_number_in_its_tenant(ask: Ask, db: Engine, contradicted: Fulfilment) -> None:
    number, tenant_id = contradicted.row().order_number, contradicted.offers.tenant_id
    other = Fulfilment.running(offers_of_new_tenant(db))
    assert other.row().order_number == number

    refused = ask("explain", number, code=2)
    told = ask("explain", number, "--tenant", str(tenant_id))

    assert f"2 tenants have an order '{number}': give one by --tenant" in refused
    assert f"Order {number} of customer" in told


def test_an_unknown_tenant_is_one_line(ask: Ask, contradicted: Fulfilment) -> None:
    unknown = str(uuid4())

    [line] = ask("explain", str(contradicted.order_id), "--tenant", unknown, code=2).splitlines()

    assert line.startswith(f"q2o: nothing is stored of tenant {unknown}: ")


def test_an_unknown_order_is_one_line(ask: Ask) -> None:
    [line] = ask("explain", "ORD-404", code=2).splitlines()

    assert line.startswith("q2o: no order has the number or id 'ORD-404': look for it with GET /orders; one that ended longer ago")
    assert line.endswith("is in the archive alone, in the files of Q2O_ARCHIVE_DIR")


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


def test_the_status_counts_what_retention_has_not_deleted(ask: Ask, contradicted: Fulfilment) -> None:
    with contradicted.offers.engine.begin() as connection:
        aged = connection.execute(text("UPDATE workflow_command SET status = 'DONE', updated_at = updated_at - interval '31 days'"))

    [old] = [each for each in json.loads(ask("status", "--json"))["waiting"] if each["process"] == "retain"]

    assert old["count"] == aged.rowcount > 0
    assert timedelta(days=1) <= datetime.now(UTC) - datetime.fromisoformat(old["oldest"]) < timedelta(days=2)


def test_the_status_counts_the_events_that_a_list_lacks_and_the_dead_letters(
    ask: Ask, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("Q2O_KAFKA", topics.kafka.bootstrap)
    # A broker that has just started takes a while to know the consumer groups.
    desk, before = Desk(topics), eventually(lambda: counted(in_kafka(ask)), "Kafka tells what each group has read")

    desk.send(ORDERS, b"no event", b"key")
    desk.letter(b"no event")

    after = in_kafka(ask)
    changed = {what: each["count"] - before[what]["count"] for what, each in after.items()}
    # A dead letter is made of a record in the topic.
    assert changed == {
        "events for quote_search": 0,
        "events for approval_decisions": 0,
        "events for order_search": 2,
        "dead letters": 1,
    }
    assert datetime.now(UTC) - datetime.fromisoformat(after["dead letters"]["oldest"]) < timedelta(minutes=1)


def test_an_event_that_the_inbox_has_read_waits_no_more(ask: Ask, topics: Topics, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("Q2O_KAFKA", topics.kafka.bootstrap)
    Desk(topics).send(ORDERS, b"no event", b"key")
    consumer = new_consumer(topics.kafka, views.ORDERS.group)
    ends = [TopicPartition(ORDERS, place[1], end) for place, (_, end) in marks(consumer, [ORDERS], timedelta(seconds=10)).items()]
    consumer.commit(offsets=ends, asynchronous=False)
    consumer.close()

    read = eventually(lambda: counted(in_kafka(ask)), "Kafka tells what each group has read")["events for order_search"]

    assert (read["count"], read["oldest"]) == (0, None)


def test_the_status_says_why_it_cannot_count_what_is_in_kafka(ask: Ask) -> None:
    told = in_kafka(ask)

    assert {(each["count"], each["unknown"].split(":")[0]) for each in told.values()} == {(None, "Q2O_KAFKA is not set")}
    assert "Q2O_KAFKA is not set" in ask("status")


def counted(told: dict[str, Any]) -> dict[str, Any]:
    return told if all(each["count"] is not None for each in told.values()) else {}


def in_kafka(ask: Ask) -> dict[str, Any]:
    """What waits in Kafka, by its name."""
    told = json.loads(ask("status", "--json"))["waiting"]
    return {each["what"]: each for each in told if each["process"] == "inbox" or each["what"] == "dead letters"}


def test_the_status_names_processes_without_a_session(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "processes_at_work", lambda _: [])  # other tests have sessions in this database

    lines = ask("status").splitlines()

    [relay] = [line for line in lines if line.strip(" │┃").startswith("relay")]
    assert "none" in relay
    assert "events for Kafka" in relay
