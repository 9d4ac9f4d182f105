"""Late orders get one case, and jeopardy alerts that are over are cleared."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Row, select, text

from domain.delivery import jeopardy
from domain.delivery.jeopardy import JeopardyAlert, JeopardyLevel
from domain.delivery.steps import StepEvent
from domain.fallout import triaging
from domain.store import table_of
from domain.store.facts import OutboxEvent
from domain.store.unit_of_work import housekeeping
from reconciliation.deadlines import Deadlines
from reconciliation.repairs import Repairs
from tests.support.database import acting
from tests.support.fulfilment import Fulfilment
from tests.support.offers import Offers

RESERVE = "RESERVE_INVENTORY"


@pytest.fixture
def work(offers: Offers) -> Fulfilment:
    return Fulfilment.running(offers)


def sweep(work: Fulfilment, *, dry_run: bool = False) -> int:
    database = acting(work.offers.engine, "reconcile")
    return Deadlines(database, Repairs(database, dry_run=dry_run)).sweep()


def execute(work: Fulfilment, statement: str) -> None:
    with work.offers.engine.begin() as connection:
        connection.execute(text(statement))


def make_late(work: Fulfilment) -> None:
    execute(work, "UPDATE sales_order SET created_at = created_at - interval '1 year'")


def raise_alert(work: Fulfilment, level: JeopardyLevel = JeopardyLevel.HAZARD) -> Row[Any] | None:
    with work.offers.uow("order-fulfillment") as uow:
        return jeopardy.raise_alert(uow, work.order_id, level)


def alerts(work: Fulfilment) -> dict[str, str]:
    with work.offers.uow() as uow:
        table = table_of(JeopardyAlert)
        rows = uow.connection.execute(select(*table.c).filter_by(tenant_id=work.offers.tenant_id))
        return {row.level: row.status for row in rows}


def hold(work: Fulfilment) -> None:
    work.start(RESERVE)
    work.say(RESERVE, StepEvent.FAIL_FINALLY)


def finish(work: Fulfilment) -> None:
    for name in work.states():
        work.complete(name)
    assert work.status == "FULFILLED"


def test_an_order_whose_promised_time_is_over_gets_one_case(work: Fulfilment) -> None:
    assert sweep(work) == 0
    make_late(work)

    assert sweep(work) == 1
    assert sweep(work) == 0

    assert (work.case().type, work.case().order_id, work.case().status) == ("SLA_BREACH", work.order_id, "OPEN")


def test_a_late_order_that_two_reconcilers_find_is_reported_once(work: Fulfilment, monkeypatch: pytest.MonkeyPatch) -> None:
    make_late(work)
    with housekeeping(acting(work.offers.engine, "reconcile")) as connection:
        seen = jeopardy.late_orders(connection, 10)
    monkeypatch.setattr(jeopardy, "late_orders", lambda *_: seen)

    assert [sweep(work), sweep(work)] == [1, 0]


def test_a_late_order_whose_case_was_closed_gets_no_second_one(work: Fulfilment) -> None:
    """Kills: opening the case again and again while the order stays late."""
    make_late(work)
    sweep(work)
    with work.offers.uow() as uow:
        triaging.cancel_cases(uow, work.case().dedupe_key)

    assert sweep(work) == 0


def test_a_late_order_that_ended_meanwhile_gets_no_case(work: Fulfilment) -> None:
    promised = work.row().created_at
    finish(work)

    with work.offers.uow() as uow:
        assert not jeopardy.report_late(uow, work.order_id, promised)

    assert work.cases() == []


def test_the_alert_of_an_order_that_has_ended_is_cleared(work: Fulfilment) -> None:
    raise_alert(work)
    assert sweep(work) == 0
    finish(work)

    assert sweep(work) == 1
    assert sweep(work) == 0

    assert alerts(work) == {"HAZARD": "CLEARED"}


def test_the_alert_about_a_held_step_is_cleared_when_no_step_is_held_any_more(work: Fulfilment) -> None:
    hold(work)
    raise_alert(work)
    assert sweep(work) == 0
    work.say(RESERVE, StepEvent.COMPLETE)

    assert sweep(work) == 1

    assert alerts(work) == {"HAZARD": "CLEARED"}


def test_the_alert_of_a_late_order_stays(work: Fulfilment) -> None:
    hold(work)
    raise_alert(work, JeopardyLevel.CRITICAL)
    work.say(RESERVE, StepEvent.COMPLETE)
    make_late(work)

    sweep(work)

    assert alerts(work) == {"CRITICAL": "RAISED"}


def test_the_alert_about_a_step_that_is_held_again_meanwhile_stays(work: Fulfilment) -> None:
    hold(work)
    raise_alert(work)

    with work.offers.uow() as uow:
        assert jeopardy.clear_over(uow, work.order_id) == 0

    assert alerts(work) == {"HAZARD": "RAISED"}


def test_another_level_clears_the_one_before(work: Fulfilment) -> None:
    raise_alert(work, JeopardyLevel.NORMAL)

    raise_alert(work, JeopardyLevel.HAZARD)

    assert alerts(work) == {"NORMAL": "CLEARED", "HAZARD": "RAISED"}


def test_a_level_that_comes_back_is_raised_and_announced_again(work: Fulfilment) -> None:
    raise_alert(work, JeopardyLevel.NORMAL)
    raise_alert(work, JeopardyLevel.HAZARD)

    again = raise_alert(work, JeopardyLevel.NORMAL)

    assert again is not None
    assert alerts(work) == {"NORMAL": "RAISED", "HAZARD": "CLEARED"}
    event = OutboxEvent.__table__.c
    with work.offers.engine.connect() as connection:
        query = select(event.event_type).where(event.aggregate_id == again.id).order_by(event.position)
        assert list(connection.scalars(query)) == ["OrderJeopardyRaised", "OrderJeopardyCleared", "OrderJeopardyRaised"]


def test_an_alert_that_is_raised_already_is_not_announced_again(work: Fulfilment) -> None:
    raise_alert(work)

    assert raise_alert(work) is None


def test_an_order_that_has_ended_is_in_no_jeopardy(work: Fulfilment) -> None:
    finish(work)

    assert raise_alert(work) is None
    assert alerts(work) == {}


def test_a_dry_run_opens_no_case(work: Fulfilment) -> None:
    make_late(work)

    assert sweep(work, dry_run=True) == 1

    assert work.cases() == []
