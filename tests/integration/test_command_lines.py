"""A command leaves one line, after its COMMIT: what is rolled back leaves none but that of its refusal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, Engine, event
from structlog.testing import capture_logs

from domain.catalog import FIBRE
from domain.errors import OutcomeUnknownError, TryAgain
from domain.offers import quoting, withdrawing
from domain.offers.quotes import QuoteVersionConflict
from domain.store import Cause
from tests.support.database import acting
from tests.support.offers import CUSTOMER, OWNER, Offers, line
from workers.runtime.commands import unit_of_work

KEY = "customer 4711 clicks"


def cause_of(offers: Offers) -> Cause:
    return Cause(tenant_id=offers.tenant_id, actor=OWNER, command="cancel-quote", idempotency_key=KEY)


@pytest.fixture
def pool(db: Engine) -> Engine:
    return acting(db, "http")


def cancel(pool: Engine, offers: Offers, version: int | None = None, *, then: Exception | None = None) -> Sequence[Any]:
    """Cancel a quote, and return the lines of that; `then` is raised before the commit."""
    offer = offers.draft_quote()
    command = withdrawing.CancelQuote(
        quote_id=offer.quote_id,
        revision_id=offer.revision_id,
        expected_version=version or offer.version,
        reason_code="PROJECT_POSTPONED",
    )
    expected = suppress(QuoteVersionConflict, TryAgain, OutcomeUnknownError, ZeroDivisionError)
    with capture_logs() as lines, expected, unit_of_work(pool, cause_of(offers)) as uow:
        withdrawing.cancel(uow, command)
        if then is not None:
            raise then
    return lines


def test_a_command_leaves_one_line_with_its_outcome(pool: Engine, offers: Offers) -> None:
    [line] = cancel(pool, offers)

    assert (line["event"], line["outcome"], line["log_level"]) == ("command_committed", "executed", "info")
    assert (line["transitionFrom"], line["transitionTo"], line["aggregateType"]) == ("DRAFT", "CANCELLED", "quote")
    assert (line["expectedVersion"], line["actualVersion"]) == (1, 2)


def test_the_line_of_a_command_names_the_event_that_it_sends(pool: Engine, offers: Offers, db: Engine) -> None:
    [line] = cancel(pool, offers)

    with db.connect() as connection:
        sent = connection.exec_driver_sql("SELECT id FROM outbox_event ORDER BY position DESC LIMIT 1").scalar_one()
    assert UUID(line["eventId"]) == sent


def test_a_line_tells_a_client_s_key_by_its_hash_only(pool: Engine, offers: Offers) -> None:
    [line] = cancel(pool, offers)

    assert len(line["idempotencyKey"]) == 16
    assert KEY not in str(line)


def test_a_refused_command_leaves_one_line_and_no_transition(pool: Engine, offers: Offers) -> None:
    [line] = cancel(pool, offers, version=7)

    assert (line["event"], line["conflictCode"]) == ("command_refused", "QUOTE_VERSION_CONFLICT")
    assert (line["expectedVersion"], line["actualVersion"], line["transitionFrom"]) == (7, 1, "DRAFT")
    assert "transitionTo" not in line


def test_a_command_that_fails_before_its_commit_leaves_no_line(pool: Engine, offers: Offers) -> None:
    assert cancel(pool, offers, then=ZeroDivisionError()) == []


def test_a_command_that_the_database_could_not_decide_says_so(pool: Engine, offers: Offers) -> None:
    [line] = cancel(pool, offers, then=TryAgain())

    assert (line["event"], line["reason"]) == ("command_undecided", "TRY_AGAIN")


@pytest.fixture
def losing_the_answer_to_commit(pool: Engine) -> Iterator[None]:
    def lose(connection: Connection) -> None:
        connection.connection.driver_connection.close()  # type: ignore[union-attr]  # it is there while it is in use

    event.listen(pool, "commit", lose)
    yield
    event.remove(pool, "commit", lose)


@pytest.mark.usefixtures("losing_the_answer_to_commit")
def test_a_command_whose_commit_is_not_answered_does_not_say_that_it_was_committed(pool: Engine, offers: Offers) -> None:
    [line] = cancel(pool, offers)

    assert (line["event"], line["reason"]) == ("command_undecided", "OUTCOME_UNKNOWN")


def test_a_command_that_changes_several_things_tells_of_each(pool: Engine, offers: Offers) -> None:
    with capture_logs() as lines, unit_of_work(pool, cause_of(offers)) as uow:
        for _ in range(2):
            quoting.create(uow, new_quote())

    [line] = lines
    assert [change["aggregateType"] for change in line["transitions"]] == ["quote", "quote"]
    assert line["aggregateId"] == line["transitions"][0]["aggregateId"] != line["transitions"][1]["aggregateId"]


def new_quote() -> quoting.CreateQuote:
    return quoting.CreateQuote(
        customer_id=CUSTOMER,
        owner_user_id=OWNER,
        region="EU",
        currency="EUR",
        payment_term_days=30,
        valid_until=datetime.now(UTC) + timedelta(days=30),
        lines=[line(1, FIBRE)],
    )


def test_a_look_at_what_there_is_to_do_is_told_only_to_those_who_debug(pool: Engine, offers: Offers) -> None:
    with capture_logs() as lines, unit_of_work(pool, cause_of(offers)):
        pass

    assert [(each["event"], each["log_level"]) for each in lines] == [("command_committed", "debug")]


def test_a_conflict_that_is_kept_with_a_commit_is_told_after_it(pool: Engine, offers: Offers) -> None:
    refusal = QuoteVersionConflict(aggregate_type="quote", aggregate_id=uuid4())

    with capture_logs() as lines, unit_of_work(pool, cause_of(offers)) as uow:
        uow.flag_conflict(refusal)
        assert lines == []

    assert [each.get("conflictCode") for each in lines] == ["QUOTE_VERSION_CONFLICT", None]
