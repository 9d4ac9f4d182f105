"""An odd row, written by hand or by a faulty release, does not stop whoever reads it, and does not hold up other rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import Engine, text
from structlog.testing import capture_logs

from domain.auditing.open_items import open_items
from domain.delivery.steps import StepEvent
from domain.store.facts import WorkflowCommandKind
from domain.store.unit_of_work import housekeeping
from domain.times import EARLIEST, LATEST
from reconciliation.cases import Cases
from reconciliation.repairs import Repairs
from tests.support.answering import Reply, answering
from tests.support.database import acting
from tests.support.fulfilment import ROLES, Fulfilment
from tests.support.held import RESERVE, open_case
from tests.support.http import Api
from tests.support.offers import ANNA, Offers
from tests.support.reconciling import refusing
from tests.support.relays import committed, in_kafka, write
from tests.support.topics import Topics
from tests.support.unfit import DEEP, MANY_DIGITS
from tests.support.wanted import claimed_by_a_dead_dispatcher
from workers.dispatch import Dispatcher
from workers.kafka.relay import Relay
from workers.runtime.engine import Engine as Camunda
from workers.runtime.engine import EngineLockedOutError

ODD_TIMES = ("infinity", "-infinity", "12026-01-01", "0044-03-15 BC")
REFUSED = "refused_ms = 2 * 24 * 3600 * 1000, failed_ms = 2 * 24 * 3600 * 1000"
ODD_COMMANDS = {
    "a key that names nobody": f"business_key = 'garbage', {REFUSED}",
    "a kind of another release": f"kind = 'SIGNAL', {REFUSED}",
    "a time without end": "expires_at = 'infinity'",
    "a refusal before all time": "refused_since = '-infinity'",
    "a refusal in another era": "refused_since = '0044-03-15 BC'",
    "a last refusal before all time": "refused_at = '-infinity'",
    "a last refusal after all time": "refused_at = 'infinity'",
    "the longest time": "refused_ms = 2147483647, failed_ms = 2147483647",
    "a time below zero": "refused_ms = -2147483648, failed_ms = -2147483648",
    "the largest counter": "attempts = 2147483647",
    "the largest counter of refusals": f"refusals = 2147483647, {REFUSED}",
    "a number of five thousand digits": f"variables = '{MANY_DIGITS}'",
    "three thousand levels": f"variables = '{DEEP}'",
}


@pytest.mark.parametrize(
    ("stored", "read"), [("infinity", LATEST), ("-infinity", EARLIEST), ("12026-01-01", LATEST), ("0044-03-15 BC", EARLIEST)]
)
def test_a_time_outside_of_the_calendar_is_read_as_the_end_of_it(db: Engine, stored: str, read: datetime) -> None:
    with acting(db, "relay").connect() as connection:
        assert connection.scalar(text("SELECT CAST(:stored AS timestamptz)"), {"stored": stored}) == read


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/St_Johns"])
def test_an_ordinary_time_is_read_to_the_microsecond_in_every_time_zone(db: Engine, zone: str) -> None:
    with acting(db, "relay").connect() as connection:
        connection.execute(text("SELECT set_config('TimeZone', :zone, false)"), {"zone": zone})
        read = connection.scalar(text("SELECT CAST('2026-11-30 01:02:03.0405Z' AS timestamptz)"))
        connection.execute(text("RESET TimeZone"))

    assert read == datetime(2026, 11, 30, 1, 2, 3, 40_500, tzinfo=UTC)


@pytest.mark.parametrize("change", [*(f"created_at = '{time}'" for time in ODD_TIMES), "attempts = 2147483647"])
def test_the_relay_publishes_an_odd_event_and_those_beside_it(db: Engine, topics: Topics, change: str) -> None:
    write(db, uuid4(), 1)
    with db.begin() as connection:
        connection.execute(text(f"UPDATE outbox_event SET {change}"))
    write(db, uuid4(), 1)

    Relay(acting(db, "relay"), topics.kafka).run_once()

    assert len(set(in_kafka(topics))) == 2
    assert not committed(db, published=False)


@pytest.fixture
def dispatcher(offers: Offers) -> Iterator[Dispatcher]:
    """Its engine takes every message."""
    with (
        answering(lambda _: Reply(body=b'[{"resultType": "Execution"}]')) as address,
        closing(Camunda(f"{address}/engine-rest", "user", "password")) as engine,
    ):
        yield Dispatcher(acting(offers.engine, "dispatch"), engine)


@pytest.mark.parametrize("change", ODD_COMMANDS.values(), ids=ODD_COMMANDS)
def test_the_dispatcher_carries_out_the_commands_beside_an_odd_one(offers: Offers, dispatcher: Dispatcher, change: str) -> None:
    order = offers.running_order()
    with offers.engine.begin() as connection:
        connection.execute(text("DELETE FROM workflow_command"))
    for key in ("odd", f"order:{offers.tenant_id}:{order.order_id}"):
        with offers.uow() as uow:
            uow.ask_engine(WorkflowCommandKind.CORRELATE, "Message", key)
    with offers.engine.begin() as connection:
        connection.execute(text(f"UPDATE workflow_command SET {change} WHERE business_key = 'odd'"))

    dispatcher.run_once()

    with offers.engine.connect() as connection:
        statuses = list(connection.scalars(text("SELECT status FROM workflow_command ORDER BY position")))
    assert statuses[1] == "DONE"


@pytest.mark.parametrize("change", [ODD_COMMANDS["a key that names nobody"], ODD_COMMANDS["a kind of another release"]])
def test_a_person_gets_a_command_that_nobody_can_carry_out(offers: Offers, change: str) -> None:
    offers.running_order()
    with offers.uow() as uow:
        uow.ask_engine(WorkflowCommandKind.COMPLETE_TASK, "task", "odd")
    with offers.engine.begin() as connection:
        connection.execute(text("DELETE FROM workflow_command WHERE business_key <> 'odd'"))
        connection.execute(text(f"UPDATE workflow_command SET {change}"))

    with (
        answering(lambda _: Reply(status=400, body=b'{"type": "RestException", "message": "no", "code": 0}')) as address,
        closing(Camunda(f"{address}/engine-rest", "user", "password")) as engine,
    ):
        Dispatcher(acting(offers.engine, "dispatch"), engine).run_once()

    with offers.engine.connect() as connection:
        assert connection.scalar(text("SELECT status FROM workflow_command WHERE name = 'task'")) == "GIVEN_UP"
        assert connection.scalar(text("SELECT count(*) FROM fallout_case WHERE type = 'WORKFLOW_INCIDENT'")) == 1


def test_a_command_that_cannot_even_be_given_up_stops_no_other(offers: Offers) -> None:
    """Kills: a dispatcher that ends when the case of a command cannot be opened."""
    offers.running_order()
    for key in ("odd", "even"):
        with offers.uow() as uow:
            uow.ask_engine(WorkflowCommandKind.COMPLETE_TASK, "task", key)
    with offers.engine.begin() as connection:
        connection.execute(text("DELETE FROM workflow_command WHERE business_key NOT IN ('odd', 'even')"))
        connection.execute(text(f"UPDATE workflow_command SET {REFUSED} WHERE business_key = 'odd'"))

    with (
        refusing(offers.engine, "fallout_case"),
        answering(lambda _: Reply(body=b"[]")) as address,
        closing(Camunda(f"{address}/engine-rest", "user", "password")) as engine,
    ):
        Dispatcher(acting(offers.engine, "dispatch"), engine).run_once()

    with offers.engine.connect() as connection:
        rows = connection.execute(text("SELECT business_key, status, last_reason FROM workflow_command WHERE name = 'task'")).all()
    assert {row.business_key: row.status for row in rows} == {"odd": "PENDING", "even": "PENDING"}
    assert [row.last_reason is not None for row in rows if row.business_key == "even"] == [True]


@contextmanager
def locked_out(offers: Offers) -> Iterator[Dispatcher]:
    """A dispatcher whose password the engine does not accept."""
    with (
        answering(lambda _: Reply(status=401)) as address,
        closing(Camunda(f"{address}/engine-rest", "user", "password")) as engine,
    ):
        yield Dispatcher(acting(offers.engine, "dispatch"), engine)


def starts_of(offers: Offers, *keys: str) -> None:
    """Leave no commands but starts of these keys, which belong to nothing and were refused for longer than a start may be."""
    for key in keys:
        with offers.uow() as uow:
            uow.ask_engine(WorkflowCommandKind.START, "order-fulfillment", key)
    with offers.engine.begin() as connection:
        connection.execute(text("DELETE FROM workflow_command WHERE NOT business_key = ANY(:keys)"), {"keys": list(keys)})
        connection.execute(text(f"UPDATE workflow_command SET {REFUSED}"))


def test_a_start_of_nothing_that_is_refused_for_too_long_stops_no_other(offers: Offers) -> None:
    """Kills: a dispatcher that ends, after each restart, because the end of a start that the engine locks out has failed."""
    starts_of(offers, "odd", "even")

    with locked_out(offers) as dispatcher, capture_logs() as logs, pytest.raises(EngineLockedOutError):
        dispatcher.run_once()

    aside = sorted(line["businessKey"] for line in logs if line["event"] == "item_set_aside")
    assert aside == ["even", "odd"]


def test_a_start_whose_case_cannot_be_opened_stops_no_other(offers: Offers) -> None:
    order = offers.running_order()
    key = f"order:{offers.tenant_id}:{order.order_id}"
    with offers.engine.begin() as connection:
        connection.execute(text("DELETE FROM workflow_command WHERE business_key <> :key"), {"key": key})
        connection.execute(text(f"UPDATE workflow_command SET {REFUSED}"))

    with refusing(offers.engine, "fallout_case"), locked_out(offers) as dispatcher, pytest.raises(EngineLockedOutError):
        dispatcher.run_once()

    with offers.engine.connect() as connection:
        assert list(connection.scalars(text("SELECT status FROM workflow_command"))) == ["PENDING"]


def test_a_start_of_nothing_is_left_to_a_person_in_the_end(offers: Offers) -> None:
    starts_of(offers, "odd")
    claimed_by_a_dead_dispatcher(offers.engine)

    with locked_out(offers) as dispatcher:
        dispatcher.run_once()

    with offers.engine.connect() as connection:
        assert connection.scalar(text("SELECT status FROM workflow_command WHERE business_key = 'odd'")) == "GIVEN_UP"
        assert connection.scalar(text("SELECT count(*) FROM fallout_case WHERE type = 'WORKFLOW_INCIDENT'")) == 1


@pytest.mark.parametrize("time", ODD_TIMES)
def test_the_open_items_are_counted_whatever_their_times_are(offers: Offers, time: str) -> None:
    offers.running_order()
    with offers.engine.begin() as connection:
        connection.execute(text(f"UPDATE sales_order SET created_at = '{time}'"))

    with housekeeping(acting(offers.engine, "audit")) as connection:
        [orders] = [each for each in open_items(connection) if (each.what, each.state) == ("order", "IN_PROGRESS")]

    assert orders.number == 1


def test_a_case_with_evidence_that_cannot_be_read_is_shown_and_its_claim_expires(api: Api, offers: Offers) -> None:
    works = [Fulfilment.running(offers) for _ in range(2)]
    for work in works:
        work.start(RESERVE)
        work.say(RESERVE, StepEvent.FAIL_FINALLY)
        open_case(work)
        work.claim(ANNA)
    with offers.engine.begin() as connection:
        connection.execute(text("UPDATE fallout_case SET claim_expires_at = clock_timestamp()"))
        damage = text(f"UPDATE fallout_case SET evidence = '{MANY_DIGITS}' WHERE order_id = :id")
        connection.execute(damage, {"id": works[0].order_id})

    database = acting(offers.engine, "reconcile")
    Cases(database, Repairs(database, dry_run=False), timedelta(days=1)).sweep()
    shown = api.caller(ANNA, *ROLES[ANNA]).get("/fallout-cases").json()["items"]

    assert {(case["orderId"], case["status"]) for case in shown} == {(str(work.order_id), "OPEN") for work in works}
    assert [case["evidence"] for case in shown if "unreadable" in case["evidence"]]
