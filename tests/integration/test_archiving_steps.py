"""What is archived when, by whom it may be deleted, and what a crash between any two steps leaves."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from psycopg.errors import RestrictViolation
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import DBAPIError

from domain import archives
from domain.retaining import dossiers, walks
from reconciliation.archived_rows import load, seeing_archives
from reconciliation.archiving import finished
from tests.support.database import acting, empty
from tests.support.failover import failover_of
from tests.support.offers import Offers
from tests.support.retaining import AT_ONCE, archiving, key_of, lines_of, rows_of
from workers.runtime.database import connect


def test_business_is_archived_only_when_it_has_been_finished_for_its_age(offers: Offers) -> None:
    offers.draft_quote()
    with offers.engine.begin() as connection:
        connection.execute(text("UPDATE quote SET status = 'CANCELLED'"))
        found = {days: len(walks.finished(connection, "quotes", timedelta(days=days), 10).finished) for days in (0, 1)}

    assert found == {0: 1, 1: 0}


def test_the_walk_to_finished_business_goes_on_behind_a_page(offers: Offers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciliation.archiving.PAGE", 1)
    unfinished, *quotes = [offers.draft_quote().quote_id for _ in range(4)]
    with offers.engine.begin() as connection:
        connection.execute(text("UPDATE quote SET status = 'CANCELLED' WHERE id <> :id"), {"id": unfinished})

    walked = list(finished(acting(offers.engine, "retain"), timedelta(0)))

    assert {dossier.root_id for dossier in walked} == set(quotes)


def test_a_tenant_whose_archive_is_broken_loses_nothing_and_stops_no_other(migrated: Engine, tmp_path: Path) -> None:
    """Kills: rows deleted although their file is gone, and one tenant's fault that keeps the others' archives from being written."""
    empty(migrated)
    broken, other = (Offers(migrated, uuid4()) for _ in range(2))
    for offers in (broken, other):
        offers.draft_quote()
    with migrated.begin() as connection:
        connection.execute(text("UPDATE quote SET status = 'CANCELLED'"))
        file = {"name": "000001", "lines": 1, "first_hash": "a", "last_hash": "a"}
        archives.register(connection, broken.tenant_id, 1, **file)
    (tmp_path / str(broken.tenant_id)).mkdir()
    before = rows_of(migrated, broken.tenant_id)

    _, failed = archiving(migrated, tmp_path).run(AT_ONCE)

    assert failed == 1
    assert rows_of(migrated, broken.tenant_id) == before
    assert rows_of(migrated, other.tenant_id) == {}


def test_a_dossier_that_cannot_be_read_stays_and_stops_no_other(
    migrated: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offers = cancelled_quote(migrated)
    unread = offers.draft_quote().quote_id
    with migrated.begin() as connection:
        connection.execute(text("UPDATE quote SET status = 'CANCELLED'"))
    read = dossiers.read

    def read_but(connection: Connection, dossier: dossiers.Dossier) -> Iterator[Any]:
        if dossier.root_id == unread:
            raise DBAPIError("SELECT", {}, ValueError("a row that cannot be read"))
        return read(connection, dossier)

    monkeypatch.setattr(dossiers, "read", read_but)

    deleted, failed = archiving(migrated, tmp_path).run(AT_ONCE)

    assert (deleted > 0, failed) == (True, 1)
    with migrated.connect() as connection:
        assert list(connection.scalars(text("SELECT id FROM quote"))) == [unread]


def test_files_that_are_full_do_not_wait_for_each_other_when_tenants_share_the_system(
    migrated: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kills: files cut from the business of all tenants together, none of which is full, so that almost everything waits for a day."""
    monkeypatch.setattr("reconciliation.archiving.DOSSIERS_PER_FILE", 2)
    empty(migrated)
    tenants = [Offers(migrated, uuid4()) for _ in range(2)]
    for offers in tenants * 5:
        offers.draft_quote()
    with migrated.begin() as connection:
        connection.execute(text("UPDATE quote SET status = 'CANCELLED'"))

    archiving(migrated, tmp_path, wait=timedelta(days=1)).run(AT_ONCE)

    with migrated.connect() as connection:
        left = sorted(connection.scalars(text("SELECT tenant_id FROM quote")))
    assert left == sorted(offers.tenant_id for offers in tenants)


def cancelled_quote(migrated: Engine) -> Offers:
    """Empty the database, and make a tenant with one quote, which is over."""
    empty(migrated)
    offers = Offers(migrated, uuid4())
    offers.draft_quote()
    with migrated.begin() as connection:
        connection.execute(text("UPDATE quote SET status = 'CANCELLED'"))
    return offers


def test_a_dossier_that_somebody_works_on_is_left_for_later(migrated: Engine, tmp_path: Path) -> None:
    offers = cancelled_quote(migrated)
    before = rows_of(migrated, offers.tenant_id)
    with migrated.connect() as holder:
        holder.execute(text("SELECT 1 FROM quote FOR UPDATE"))
        while_locked = archiving(migrated, tmp_path).run(AT_ONCE)
        kept = rows_of(migrated, offers.tenant_id)

    afterwards = archiving(migrated, tmp_path).run(AT_ONCE)

    assert (while_locked, kept) == ((0, 0), before)
    assert afterwards == (sum(before.values()), 0)
    assert len(lines_of(migrated, tmp_path, offers.tenant_id)) == sum(before.values())


def test_a_dossier_that_has_changed_since_it_was_archived_is_not_deleted(migrated: Engine, tmp_path: Path) -> None:
    """Kills: a deletion that believes the file without a look at the rows."""
    offers = cancelled_quote(migrated)
    before = rows_of(migrated, offers.tenant_id)
    with migrated.connect() as holder:
        holder.execute(text("SELECT 1 FROM quote FOR UPDATE"))
        archiving(migrated, tmp_path).run(AT_ONCE)
        holder.execute(text("UPDATE quote SET status = 'DRAFT'"))
        holder.commit()

    assert archiving(migrated, tmp_path).run(AT_ONCE) == (0, 0)
    assert rows_of(migrated, offers.tenant_id) == before


def test_evidence_is_deleted_only_by_naming_its_archive_file(offers: Offers) -> None:
    """Kills: a right to delete that is enough by itself."""
    offers.draft_quote()

    with pytest.raises(DBAPIError) as caught, acting(offers.engine, "retain").begin() as connection:
        connection.execute(
            text("SELECT set_config('q2o.tenant', '*', true), set_config('q2o.archive_file', gen_random_uuid()::text, true)")
        )
        connection.execute(text("DELETE FROM transition_log"))

    assert isinstance(caught.value.orig, RestrictViolation)


def test_an_audit_without_an_archive_writes_nothing_so_a_standby_can_answer_it(offers: Offers) -> None:
    offers.draft_quote()
    reading = connect(acting(offers.engine, "audit").url.render_as_string(hide_password=False), "audit")
    with failover_of(reading) as failover:
        failover.happen(with_a_new_primary=False)

        with seeing_archives(reading, None) as connection:
            whole = load(connection, offers.tenant_id, None)
            quotes = connection.scalar(text("SELECT count(*) FROM quote"))
    reading.dispose()

    assert (whole.violations, quotes) == ((), 1)


class Crash(BaseException):
    """The process dies."""


def after(step: Callable[[], None], real: Callable[..., Any]) -> Callable[..., Any]:
    def call(*given: Any) -> Any:
        step()
        return real(*given)

    return call


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Engine, int], list[int]]]:
    """Count every flush to the disk, every file that gets its name, and every COMMIT; die at the one of a given number."""
    listening: list[Callable[[], None]] = []

    def count(database: Engine, dies_at: int) -> list[int]:
        taken = [0]

        def step(*_: Any) -> None:
            taken[0] += 1
            if taken[0] == dies_at:
                raise Crash

        for name in ("fsync", "replace"):
            monkeypatch.setattr(os, name, after(step, getattr(os, name)))
        event.listen(database, "commit", step)
        listening.append(lambda: event.remove(database, "commit", step))
        return taken

    yield count
    for forget in listening:
        forget()


@pytest.mark.parametrize("dies_at", range(1, 18))
def test_a_crash_at_any_step_loses_nothing_and_repeats_nothing(
    migrated: Engine, tmp_path: Path, steps: Callable[[Engine, int], list[int]], dies_at: int
) -> None:
    offers = cancelled_quote(migrated)
    before = rows_of(migrated, offers.tenant_id)
    taken = steps(acting(migrated, "retain"), dies_at)
    with pytest.raises(Crash):
        archiving(migrated, tmp_path).run(AT_ONCE)
    taken[0] = 1_000
    kept, known = rows_of(migrated, offers.tenant_id), lines_of(migrated, tmp_path, offers.tenant_id)

    archiving(migrated, tmp_path).run(AT_ONCE)

    keys = [key_of(line) for line in lines_of(migrated, tmp_path, offers.tenant_id)]
    assert kept == before or len(known) == sum(before.values())
    assert len(keys) == len(set(keys)) == sum(before.values())
    assert rows_of(migrated, offers.tenant_id) == {}
