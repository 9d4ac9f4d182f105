"""Events become rows of projections: in any order, repeated or lost, a row ends at the newest version (races M6 and M7, invariant I20)."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime
from itertools import permutations
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, Row, cast, delete, select
from sqlalchemy.types import Text

from domain.delivery.orders import SalesOrder
from domain.offers import quoting
from domain.offers.quotes import Quote
from domain.projections.merging import Consumed
from domain.projections.tables import INBOX, TABLES, Projection, header_of
from domain.schema import METADATA
from domain.store import Move, table_of
from tests.support.offers import Offers
from tests.support.projected import envelope_of, events_of, feed, feed_all, show_all
from workers.kafka.views import DECISIONS, ORDERS, QUOTES
from workers.kafka.wire import Envelope, UnreadableMessageError

STATUSES = {1: "CREATED", 2: "SUBMITTED", 3: "IN_PROGRESS", 4: "FULFILLED"}
NOW = datetime(2026, 11, 24, 10, tzinfo=UTC)


def life_of_an_order() -> dict[int, Envelope]:
    """The four events of an order that exists only in Kafka."""
    order_id, tenant_id = uuid4(), uuid4()
    header = {
        "orderNumber": "O-1",
        "orderKind": "PRIMARY",
        "customerId": "customer-1",
        "priority": 4,
        "currency": "EUR",
        "quoteId": str(uuid4()),
        "quoteRevisionId": str(uuid4()),
        "netTotal": "10.00",
        "createdAt": NOW.isoformat(),
        "updatedAt": NOW.isoformat(),
        "requestedCompletion": None,
        "holdReason": None,
    }
    return {
        version: Envelope(
            event_id=uuid4(),
            event_type=f"Order{version}",
            event_time=NOW,
            tenant_id=tenant_id,
            aggregate_type="sales_order",
            aggregate_id=order_id,
            aggregate_version=version,
            correlation_id="1",
            causation_id=None,
            command_id=uuid4(),
            business_key=None,
            schema_version=1,
            data={**header, "status": status},
        )
        for version, status in STATUSES.items()
    }


def rows(engine: Engine, projection: Projection) -> list[Row[Any]]:
    with engine.connect() as connection:
        return list(connection.execute(select(*TABLES[projection].c)).all())


def missing(row: Row[Any]) -> list[tuple[int, int]]:
    """From which version to right before which one."""
    return [(gap.lower, gap.upper) for gap in row.missing]


def as_text(engine: Engine, projection: Projection) -> list[tuple[str, ...]]:
    """The header of every row, byte by byte."""
    columns = [cast(column, Text) for column in header_of(projection)]
    with engine.connect() as connection:
        return sorted(tuple(map(str, row)) for row in connection.execute(select(*columns)))


@pytest.mark.parametrize("order", list(permutations(STATUSES)), ids=str)
def test_a_row_ends_at_the_newest_version_in_any_order_and_never_goes_back(db: Engine, order: tuple[int, ...]) -> None:
    events = life_of_an_order()
    seen: list[int] = []

    for version in order:
        feed(db, ORDERS, [events[version]])
        seen.append(rows(db, Projection.ORDERS)[0].aggregate_version)

    [row] = rows(db, Projection.ORDERS)
    assert seen == [max(order[: place + 1]) for place in range(4)]
    assert (row.aggregate_version, row.status, row.gap_since) == (4, "FULFILLED", None)


def test_an_older_event_is_told_from_a_repeated_one(db: Engine) -> None:
    events = life_of_an_order()

    found = feed(db, ORDERS, [events[3], events[1], events[3], events[1]])

    assert found == [Consumed.APPLIED, Consumed.OUTDATED, Consumed.DUPLICATE, Consumed.DUPLICATE]


def test_a_version_that_is_skipped_is_noted_until_it_comes(db: Engine) -> None:
    events = life_of_an_order()
    feed(db, ORDERS, [events[1], events[4]])
    [gap] = rows(db, Projection.ORDERS)

    feed(db, ORDERS, [events[3]])

    [left] = rows(db, Projection.ORDERS)
    assert (missing(gap), gap.gap_since is None) == ([(2, 4)], False)
    assert (missing(left), left.gap_since) == ([(2, 3)], gap.gap_since)


def test_a_first_event_that_is_not_the_first_version_notes_the_gap_before_it(db: Engine) -> None:
    feed(db, ORDERS, [life_of_an_order()[3]])

    [row] = rows(db, Projection.ORDERS)
    assert (missing(row), row.gap_since is None) == ([(1, 3)], False)


def test_an_event_of_an_older_release_is_shown_and_marked_for_a_rebuild(db: Engine) -> None:
    event = life_of_an_order()[1]
    before = {name: value for name, value in event.data.items() if name not in {"netTotal", "currency"}}

    feed(db, ORDERS, [replace(event, data=before)])

    [row] = rows(db, Projection.ORDERS)
    assert (row.status, row.net_total, missing(row)) == ("CREATED", None, [(1, 2)])


@pytest.mark.parametrize("wrong", [{"netTotal": "much"}, {"quoteId": "1"}, {"priority": "4"}, {"createdAt": 7}, {"status": None}])
def test_a_member_of_the_wrong_type_is_named(db: Engine, wrong: dict[str, Any]) -> None:
    event = life_of_an_order()[1]

    with pytest.raises(UnreadableMessageError, match=next(iter(wrong))):
        feed(db, ORDERS, [replace(event, data={**event.data, **wrong})])

    assert rows(db, Projection.ORDERS) == []


def test_every_projection_is_the_fold_of_its_events_and_the_rebuilt_authority(db: Engine, offers: Offers) -> None:
    offers.running_order()
    offers.quote_in_approval()
    offers.priced_quote()
    for view in (QUOTES, DECISIONS, ORDERS):
        events = [envelope_of(event) for event in events_of(db, "quote", "approval_requirement", "sales_order")]
        mixed = [event for event in [*events, *events] if event.aggregate_type == view.aggregate_type]
        random.Random(7).shuffle(mixed)  # noqa: S311 - an order, not a secret
        feed(db, view, mixed)
    folded = {projection: as_text(db, projection) for projection in Projection}
    with db.begin() as connection:
        for table in TABLES.values():
            connection.execute(delete(table))

    show_all(db)

    assert folded == {projection: as_text(db, projection) for projection in Projection}
    assert all(folded.values())


def test_a_decision_counts_once_even_for_a_consumer_that_has_forgotten_it(db: Engine, offers: Offers) -> None:
    offers.approved_quote()
    feed_all(db, offers.tenant_id)
    with db.begin() as connection:
        connection.execute(delete(INBOX))

    [again] = feed(db, DECISIONS, map(envelope_of, events_of(db, "approval_requirement")))

    assert again is Consumed.OUTDATED
    assert [row.decision for row in rows(db, Projection.DECISIONS)] == ["APPROVE"]


def test_an_event_that_a_view_does_not_show_is_seen_once_and_changes_nothing(db: Engine, offers: Offers) -> None:
    offers.quote_in_approval()
    [required] = map(envelope_of, events_of(db, "approval_request"))

    assert feed(db, DECISIONS, [required, required]) == [Consumed.NO_PART, Consumed.DUPLICATE]
    assert rows(db, Projection.DECISIONS) == []


def test_a_decision_of_the_first_release_names_no_decision_and_has_no_part(db: Engine, offers: Offers) -> None:
    offers.approved_quote()
    [decided] = map(envelope_of, events_of(db, "approval_requirement"))
    before = {name: value for name, value in decided.data.items() if name != "approvalDecisionId"}

    assert feed(db, DECISIONS, [replace(decided, data=before)]) == [Consumed.NO_PART]


def test_a_quote_shows_the_price_of_its_current_revision(db: Engine, offers: Offers) -> None:
    offer = offers.priced_quote()
    feed_all(db, offers.tenant_id)
    [priced] = rows(db, Projection.QUOTES)
    change = quoting.EditQuote(
        quote_id=offer.quote_id, expected_version=offer.version, revision_id=offer.revision_id, reason_code="WISH", term_months=12
    )
    with offers.uow() as uow:
        quoting.edit(uow, change)

    feed_all(db, offers.tenant_id)

    [edited] = rows(db, Projection.QUOTES)
    assert priced.net_total > 0
    assert (edited.status, edited.net_total) == ("DRAFT", None)


def test_a_quote_of_somebody_without_a_region_is_shown(db: Engine, offers: Offers) -> None:
    """Kills: refusing the empty texts that the doors of the product let in, so that each event of such a quote is a dead letter."""
    offers.draft_quote(region="")

    feed_all(db, offers.tenant_id)

    with db.connect() as connection:
        assert connection.scalars(select(TABLES[Projection.QUOTES].c.region)).all() == [""]


def test_every_change_of_a_quote_or_an_order_is_announced() -> None:
    assert METADATA.tables
    silent = {
        move.name
        for move in Move.registry.values()
        if isinstance(move, Move) and move.table in {table_of(Quote), table_of(SalesOrder)} and move.emits is None
    }

    # A request to cancel names its event where it is made: an order that nobody has begun is cancelled at once.
    assert silent == {"sales_order.request_cancel"}
