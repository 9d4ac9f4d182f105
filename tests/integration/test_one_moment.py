"""A statement that reads rows in order compares all of them with one moment, so it skips no row that becomes due while it reads."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

from sqlalchemy import Engine

from domain import rebuilding
from domain.delivery import orphans
from domain.projections.tables import Projection
from domain.store import outbox
from tests.support.hasty_clock import STEP, let_the_clock_hasten
from tests.support.offers import Offers
from tests.support.relays import SHORT_LEASE, write


def test_no_event_overtakes_the_first_one_whose_lease_ends_while_a_relay_reads(db: Engine) -> None:
    """Kills: comparing each event with a clock that moves on meanwhile. After a relay had died, Kafka got version 3 before versions 1 and 2."""
    write(db, uuid4(), 1, 2, 3)

    with db.connect() as connection:  # never committed
        assert len(outbox.claim(connection, 10, 1.5 * STEP)) == 3
        let_the_clock_hasten(connection)
        assert outbox.claim(connection, 10, SHORT_LEASE) == []


def test_no_change_that_becomes_old_enough_is_left_behind_by_the_walk_of_a_projection(db: Engine, offers: Offers) -> None:
    """Kills: skipping a change for good because it was too young when the walk reached it."""
    offers.draft_quote()
    offers.draft_quote()

    with db.connect() as connection:  # never committed
        let_the_clock_hasten(connection)
        assert rebuilding.behind(connection, Projection.QUOTES, None, 10, 1.5 * STEP) == ([], None)


def test_no_acceptance_that_becomes_old_enough_is_left_behind(db: Engine, offers: Offers) -> None:
    """Kills: skipping a quote for good because it was too young when the walk reached it."""
    offers.accepted_quote()
    offers.accepted_quote()

    with db.connect() as connection:  # never committed
        let_the_clock_hasten(connection)
        assert orphans.accepted_since(connection, None, 1, 2.5 * STEP + timedelta(seconds=1)) == ([], None)
