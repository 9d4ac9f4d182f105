"""Each race leaves lines by which it is found again: who met whom, on which version, and what came of it.

The table says which fields the lines of a race have; a field that the line of some other race has is not missed here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from tests.support.answering import answering
from tests.support.database import acting
from tests.support.fulfilment import Fulfilment
from tests.support.handled import handler_of, task_of
from tests.support.http import Api, accept, completed, edit
from tests.support.offers import ANNA, BERT, Offers
from tests.support.projected import envelope_of, events_of, feed
from tests.support.register import LINES, RACES, Line
from workers.dispatch import Dispatcher
from workers.http.auth import Role
from workers.kafka.views import ORDERS
from workers.pod.contract import RetryLater
from workers.runtime.engine import Engine
from workers.runtime.log_fields import FIELDS

RESERVE = "RESERVE_INVENTORY"
Lines = Sequence[Mapping[str, Any]]
Play = Callable[[Api, Offers], object]


def quote_edit(api: Api, offers: Offers) -> None:
    offer = offers.draft_quote()
    for term in (24, 36):
        api.sales.patch(f"/quotes/{offer.quote_id}", edit(offer.ids, termMonths=term), version=offer.version)


def stale_price(api: Api, offers: Offers) -> None:
    offer = offers.approved_quote(policy="REPRICE_REQUIRED_ON_PUBLISH")
    offers.publish_prices("p-45", replaces="p-44")
    accept(api.customer, offer)


def stale_approval(api: Api, offers: Offers) -> None:
    offer = offers.approved_quote()
    edited = api.sales.patch(f"/quotes/{offer.quote_id}", edit(offer.ids, termMonths=24), version=offer.version).json()
    accept(api.customer, offer, version=edited["version"])


def double_order(api: Api, offers: Offers) -> None:
    offer = offers.approved_quote()
    for key in ("first", "first", "other"):
        accept(api.customer, offer, key=key)
    accept(api.customer, offer, key="first", version=offer.version + 1)


def duplicate_callback(api: Api, offers: Offers) -> None:
    work = Fulfilment.running(offers)
    work.start(RESERVE)
    event = completed(offers.tenant_id, work.step(RESERVE).id)
    for each in (event, event, {**event, "externalRef": "another"}):
        api.call_back(each)


def duplicate_event(_: Api, offers: Offers) -> None:
    offers.running_order()
    [first, *_others] = events_of(offers.engine, "sales_order")
    feed(offers.engine, ORDERS, [envelope_of(first)] * 2)


def late_event(_: Api, offers: Offers) -> None:
    offers.running_order()
    events = events_of(offers.engine, "sales_order")
    feed(offers.engine, ORDERS, [envelope_of(event) for event in reversed(events)])


def lost_external_task(_: Api, offers: Offers) -> None:
    work = Fulfilment.running(offers)
    handler, (task, key) = handler_of(work), task_of(work, RESERVE)
    seen = work.step(RESERVE)
    work.start(RESERVE)
    with pytest.raises(RetryLater):
        handler.execute(task, key)
    with pytest.raises(RetryLater):
        handler._start(task, key, seen)  # what the second worker has read before the first one began


def start_without_an_answer(_: Api, offers: Offers) -> None:
    offers.accepted_quote()
    with answering(lambda _: None) as address, closing(Engine(f"{address}/engine-rest", "user", "password")) as engine:
        Dispatcher(acting(offers.engine, "dispatch"), engine).run_once()


def both_without_a_lock(api: Api, offers: Offers) -> None:
    """Two holders of one lock, which has expired: each goes on as if it were alone."""
    double_order(api, offers)
    lost_external_task(api, offers)


def two_who_claim_a_case(api: Api, offers: Offers) -> None:
    work = Fulfilment.contradicted(offers)
    case = work.case()
    for person in (ANNA, BERT):
        offers.grant_authority(person, Role.FALLOUT_L2)
        api.caller(person, Role.FALLOUT_L2).post(f"/fallout-cases/{case.id}/claims", {}, version=case.version)


def completion_of_a_cancelled_order(api: Api, offers: Offers) -> None:
    work = Fulfilment.running(offers)
    work.start(RESERVE)
    work.cancel()
    api.call_back(completed(offers.tenant_id, work.step(RESERVE).id))


PLAYS: dict[str, Play] = {
    "M1": quote_edit,
    "M2": stale_price,
    "M3": stale_approval,
    "M4": double_order,
    "M5": duplicate_callback,
    "M6": duplicate_event,
    "M7": late_event,
    "M8": lost_external_task,
    "M9": start_without_an_answer,
    "M10": both_without_a_lock,
    "M11": two_who_claim_a_case,
    "M12": completion_of_a_cancelled_order,
}


@pytest.fixture(params=PLAYS)
def played(request: pytest.FixtureRequest, api: Api, offers: Offers) -> tuple[str, Lines]:
    """A race, and the lines that it has left."""
    with capture_logs() as lines:
        PLAYS[request.param](api, offers)
    return request.param, lines


def test_a_race_leaves_lines_with_the_fields_that_find_it_again(played: tuple[str, Lines]) -> None:
    code, lines = played

    for wanted in LINES[code]:
        assert [line for line in lines if is_it(line, wanted)], f"{wanted}\n{[shown(line) for line in lines]}"


def is_it(line: Mapping[str, Any], wanted: Line) -> bool:
    is_named = line["event"] == wanted.event and all(line.get(name) == value for name, value in wanted.says.items())
    return is_named and set(wanted.fields) <= line.keys()


def shown(line: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name in {"event", "outcome", "command", *FIELDS}}


def test_every_race_of_the_matrix_is_played() -> None:
    assert {race.code for race in RACES} == PLAYS.keys()


def test_the_lines_of_all_races_together_have_every_field() -> None:
    assert {field for lines in LINES.values() for line in lines for field in line.fields} == set(FIELDS)


def test_a_field_that_a_line_lacks_is_missed() -> None:
    wanted = Line(event="command_refused", fields=("tenantId",))

    assert not is_it({"event": "command_refused", "commandId": str(uuid4())}, wanted)
