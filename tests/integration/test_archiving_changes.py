"""Business that goes on while it is being archived stays in its tables, whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, Row, event, select, text

from domain.delivery import troubles
from domain.delivery.steps import StepEvent
from domain.fallout import triaging
from domain.fallout.cases import FalloutType
from domain.offers import quoting
from domain.retaining import walks
from domain.retaining.dossiers import Dossier
from domain.store import UnitOfWork
from domain.workflows import requests, watching
from domain.workflows.requests import COMMAND
from reconciliation import archiving as module
from tests.support.database import acting
from tests.support.fulfilment import Fulfilment
from tests.support.offers import Offers
from tests.support.races import started
from tests.support.retaining import AT_ONCE, archiving, fulfilled_order, lines_of


@pytest.fixture
def after_the_walk(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Let something happen once, when the walks have found what is finished, and before anything of it is read."""

    def arrange(happen: Callable[[], object]) -> None:
        found = module.finished

        def finished(database: Engine, age: timedelta) -> Iterator[Dossier]:
            yield from found(database, age)
            monkeypatch.setattr(module, "finished", found)
            happen()

        monkeypatch.setattr(module, "finished", finished)

    return arrange


def expired_quote(offers: Offers) -> Callable[[], None]:
    """Make a quote that has expired; returns what renews it."""
    offer = offers.draft_quote()
    with offers.engine.begin() as connection:
        connection.execute(text("UPDATE quote SET status = 'EXPIRED'"))
    renewal = quoting.EditQuote(
        quote_id=offer.quote_id,
        expected_version=offer.version,
        revision_id=offer.revision_id,
        reason_code="CUSTOMER_WISH",
        valid_until=datetime.now(UTC) + timedelta(days=30),
    )

    def renew() -> None:
        with offers.uow() as uow:
            quoting.edit(uow, renewal)

    return renew


def open_case(work: Fulfilment) -> None:
    with work.offers.uow("callback") as uow:
        triaging.open_case(uow, troubles.of_contradiction(work.step("NOTIFY_CUSTOMER"), StepEvent.FAIL_FINALLY, "It failed.", {}))


def quotes_in(database: Engine) -> list[str]:
    with database.connect() as connection:
        return list(connection.scalars(text("SELECT status FROM quote")))


def test_a_quote_that_is_renewed_after_the_walk_has_found_it_stays(
    offers: Offers, tmp_path: Path, after_the_walk: Callable[[Callable[[], object]], None]
) -> None:
    """Kills: deciding in the walk, and never again, that a quote is finished."""
    after_the_walk(expired_quote(offers))

    assert archiving(offers.engine, tmp_path).run(AT_ONCE) == (0, 0)

    assert quotes_in(offers.engine) == ["DRAFT"]
    assert lines_of(offers.engine, tmp_path, offers.tenant_id) == []


def test_an_order_whose_case_is_opened_after_the_walk_has_found_it_stays(
    offers: Offers, tmp_path: Path, after_the_walk: Callable[[Callable[[], object]], None]
) -> None:
    work = fulfilled_order(offers)
    after_the_walk(lambda: open_case(work))

    assert archiving(offers.engine, tmp_path).run(AT_ONCE) == (0, 0)

    assert work.status == "FULFILLED"
    assert lines_of(offers.engine, tmp_path, offers.tenant_id) == []


def test_an_order_of_which_nothing_is_open_is_archived(offers: Offers, tmp_path: Path) -> None:
    fulfilled_order(offers)

    deleted, failed = archiving(offers.engine, tmp_path).run(AT_ONCE)

    assert (deleted > 0, failed, quotes_in(offers.engine)) == (True, 0, [])


def test_live_business_in_a_registered_file_is_not_deleted_although_the_file_says_the_same(
    offers: Offers, tmp_path: Path, after_the_walk: Callable[[Callable[[], object]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kills: a deletion that believes whoever wrote the file."""
    renew = expired_quote(offers)
    with monkeypatch.context() as release_before:
        release_before.setattr(walks, "is_finished", lambda *_: True)
        with offers.engine.connect() as holder:
            after_the_walk(lambda: (renew(), holder.execute(text("SELECT FROM quote FOR UPDATE"))))
            archiving(offers.engine, tmp_path).run(AT_ONCE)
    assert lines_of(offers.engine, tmp_path, offers.tenant_id) != []

    assert archiving(offers.engine, tmp_path).run(AT_ONCE) == (0, 0)

    assert quotes_in(offers.engine) == ["DRAFT"]


@pytest.mark.parametrize("walk", walks.WALKS)
def test_what_a_walk_has_found_is_finished_and_what_it_would_pass_by_is_not(offers: Offers, walk: str) -> None:
    """Kills: a condition that differs from the walk's, by which a dossier is found in each run and never archived."""
    fulfilled_order(offers)
    end_a_case_of_no_order(offers)
    finish_every_command(offers)
    with offers.engine.begin() as connection:
        connection.execute(text("DELETE FROM workflow_command"))
        [one, *_] = walks.finished(connection, walk, AT_ONCE, 1000).finished
        judged = [walks.is_finished(connection, one, timedelta(days=days)) for days in (0, 1)]

    assert judged == [True, False]


@pytest.fixture
def unended(offers: Offers) -> Row[Any]:
    """The correlation of an instance that the engine has not ended, although its order is fulfilled."""
    fulfilled_order(offers)
    with offers.engine.begin() as connection:
        started = "UPDATE workflow_correlation SET status = 'STARTED', process_instance_id = id WHERE aggregate_type = 'sales_order' RETURNING *"
        return connection.execute(text(started)).one()


def end(uow: UnitOfWork, correlation: Row[Any]) -> None:
    watching.end(uow, correlation.business_key, correlation.process_instance_id)


def archived_state_of(offers: Offers, directory: Path, correlation: Row[Any]) -> str:
    """The state of a correlation in its last archived copy."""
    rows = (line["row"] for line in lines_of(offers.engine, directory, offers.tenant_id) if line["table"] == "workflow_correlation")
    return str([row["status"] for row in rows if row["id"] == str(correlation.id)][-1])


def test_an_order_whose_instance_ends_right_before_its_deletion_is_archived_anew(
    offers: Offers, tmp_path: Path, unended: Row[Any]
) -> None:
    """Kills: rows compared with the file in one statement, and deleted by another one although they have changed in between."""
    database, ended = acting(offers.engine, "retain"), list[str]()

    def end_before_the_deletion(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "DELETE FROM workflow_correlation" in statement and not ended:
            ended.append(statement)
            with offers.uow() as uow:
                end(uow, unended)

    event.listen(database, "before_cursor_execute", end_before_the_deletion)
    try:
        first = archiving(offers.engine, tmp_path).run(AT_ONCE)
    finally:
        event.remove(database, "before_cursor_execute", end_before_the_deletion)
    kept = quotes_in(offers.engine)
    _, failed = archiving(offers.engine, tmp_path).run(AT_ONCE)

    assert (first, kept) == ((0, 0), ["ACCEPTED"])
    assert (failed, quotes_in(offers.engine)) == (0, [])
    assert archived_state_of(offers, tmp_path, unended) == "ENDED"


def test_an_order_whose_instance_ends_while_its_deletion_waits_is_archived_anew(
    offers: Offers, tmp_path: Path, unended: Row[Any]
) -> None:
    with ThreadPoolExecutor(1) as pool:
        with offers.uow() as uow:
            end(uow, unended)
            run = started(pool, uow.connection, lambda: archiving(offers.engine, tmp_path).run(AT_ONCE))
        assert (run.result(), quotes_in(offers.engine)) == ((0, 0), ["ACCEPTED"])

    archiving(offers.engine, tmp_path).run(AT_ONCE)

    assert (quotes_in(offers.engine), archived_state_of(offers, tmp_path, unended)) == ([], "ENDED")


def test_an_order_whose_instance_the_engine_never_ends_is_archived(offers: Offers, tmp_path: Path, unended: Row[Any]) -> None:
    """Kills: an order that stays for ever, because the engine refuses to end an instance that nobody needs."""
    archiving(offers.engine, tmp_path).run(AT_ONCE)

    assert (quotes_in(offers.engine), archived_state_of(offers, tmp_path, unended)) == ([], "STARTED")


def end_a_case_of_no_order(offers: Offers) -> None:
    event = {"provider_name": "sandbox", "external_event_id": "evt-1", "event_type": "step.completed", "payload": {}}
    with offers.uow("callback") as uow:
        case = triaging.open_case(uow, troubles.of_callback(FalloutType.UNSOLICITED_CALLBACK, event, "names no step"))
        triaging.cancel_cases(uow, case.dedupe_key)


def finish_every_command(offers: Offers) -> None:
    with offers.uow("dispatch") as uow:
        for command_id in uow.connection.scalars(select(COMMAND.c.id)).all():
            requests.finish(uow, command_id, "DONE")
