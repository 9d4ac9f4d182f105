"""Old technical rows are deleted kind by kind, in short transactions that nobody notices."""

from __future__ import annotations

import json
import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, Engine, event, func, select, text
from typer.testing import CliRunner, Result

from domain.auditing import open_work
from domain.retaining import kinds
from domain.retaining.kinds import KINDS, Kind
from domain.schema import METADATA
from domain.store import Answer, once, remember
from domain.store.unit_of_work import housekeeping
from reconciliation.retention import Retainer
from tests.mutants.populated_tenant import PopulatedTenant
from tests.mutants.rows import write
from tests.support.database import acting
from tests.support.in_process import keeping_signals_and_logs
from tests.support.metrics import metric
from tests.support.offers import Offers
from tests.support.old_rows import OLD, fill
from tests.support.suite import closing_what_is_opened
from workers.cli import app
from workers.local.logins import address_of
from workers.runtime.ages import DAYS

AGES = {name: timedelta(days=days) for name, days in DAYS.items()}


def left(db: Engine, kind: Kind) -> int:
    """How many rows of a kind could go by their state, old or young."""
    with db.connect() as connection:
        return int(connection.scalar(text(f"SELECT count(*) FROM {kind.table} WHERE {kind.where}")) or 0)


def retainer(db: Engine, **options: Any) -> Retainer:
    return Retainer(acting(db, "retain"), AGES, None, **options)


@pytest.fixture
def filled(db: Engine) -> Engine:
    fill(db)
    return db


def test_every_kind_loses_its_old_rows_and_keeps_the_young_ones(filled: Engine) -> None:
    before = {kind.name: left(filled, kind) for kind in KINDS}

    done = {each.kind: each for each in retainer(filled).run_once()}

    assert {name: each.rows for name, each in done.items()} == {kind.name: 3 for kind in KINDS}
    assert {kind.name: left(filled, kind) for kind in KINDS} == {name: number - 3 for name, number in before.items()}
    assert not [each for each in done.values() if each.failed]


def test_a_command_that_was_given_up_stays_while_its_case_is_open(db: Engine) -> None:
    with db.connect() as connection:
        tenant = PopulatedTenant(connection)
        ids = [given_up(tenant, connection, status) for status in ("OPEN", "CLOSED")]
        connection.execute(text("DELETE FROM archive_file"))
        connection.commit()

    retainer(db).run_once()

    with db.connect() as connection:
        assert connection.scalars(text("SELECT id FROM workflow_command WHERE id = ANY(:ids)"), {"ids": ids}).all() == ids[:1]


def given_up(tenant: PopulatedTenant, connection: Connection, status: str) -> UUID:
    """Write an old command that was given up, with a case in this state; returns its id."""
    command_id, key = uuid4(), f"order:{uuid4()}"
    old = connection.scalar(select(func.now() - OLD))
    command = {"id": command_id, "business_key": key, "status": "GIVEN_UP", "updated_at": old}
    case = {"id": uuid4(), "dedupe_key": f"process:{key}", "status": status, "case_number": str(command_id)}
    write(METADATA.tables["workflow_command"], tenant, command)
    write(METADATA.tables["fallout_case"], tenant, case)
    return command_id


def test_a_callback_without_payload_keeps_its_id_and_its_hash(filled: Engine) -> None:
    retainer(filled).run_once()

    with filled.connect() as connection:
        query = "SELECT count(*), count(payload_hash), count(external_event_id) FROM external_callback_record WHERE payload IS NULL"
        assert connection.execute(text(query)).one() == (3, 3, 3)


def test_a_dry_run_counts_and_deletes_nothing(filled: Engine) -> None:
    before = {kind.name: left(filled, kind) for kind in KINDS}

    done = retainer(filled, dry_run=True).run_once()

    assert {each.kind: each.rows for each in done} == {kind.name: 3 for kind in KINDS}
    assert {kind.name: left(filled, kind) for kind in KINDS} == before


def test_more_rows_than_a_batch_are_deleted_in_several_transactions(filled: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciliation.retention.BATCH", 2)
    commits: list[object] = []
    database = acting(filled, "retain")

    def note(connection: Connection) -> None:
        commits.append(connection)

    event.listen(database, "commit", note)
    try:
        done = retainer(filled).run_once()
    finally:
        event.remove(database, "commit", note)

    assert {each.rows for each in done} == {3}
    assert len(commits) == 3 * len(KINDS)  # two batches of each kind, and the age of what is left


def test_a_kind_that_fails_stops_no_other_kind(filled: Engine) -> None:
    """Kills: one guard around all kinds."""
    failed = metric("q2o_retention_failures_total", kind="inbox")
    with filled.begin() as connection:
        connection.execute(text("REVOKE DELETE ON consumer_inbox FROM q2o_retain"))
    try:
        done = {each.kind: each for each in retainer(filled).run_once()}
    finally:
        with filled.begin() as connection:
            connection.execute(text("GRANT DELETE ON consumer_inbox TO q2o_retain"))

    assert [name for name, each in done.items() if each.failed] == ["inbox"]
    assert {each.rows for name, each in done.items() if name != "inbox"} == {3}
    assert metric("q2o_retention_failures_total", kind="inbox") == failed + 1


def test_metrics_tell_what_was_deleted_and_how_old_the_rest_is(filled: Engine) -> None:
    before = metric("q2o_retention_deleted_rows_total", kind="refusals")

    retainer(filled).run_once()

    with filled.connect() as connection:
        oldest = connection.scalar(text("SELECT extract(epoch FROM min(created_at)) FROM conflict_log"))
    assert metric("q2o_retention_deleted_rows_total", kind="refusals") == before + 3
    assert metric("q2o_retention_oldest_kept_timestamp_seconds", kind="refusals") == pytest.approx(float(oldest or 0), abs=0.001)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.is_evidence], ids=lambda kind: kind.name)
def test_a_row_that_somebody_has_locked_is_left_and_nobody_waits(filled: Engine, kind: Kind) -> None:
    with filled.connect() as holder:
        old = f"SELECT 1 FROM {kind.table} WHERE {kind.where} AND {kind.since} < now() - interval '900 days' LIMIT 1 FOR UPDATE"
        holder.execute(text(old)).one()
        with housekeeping(acting(filled, "retain")) as connection:
            deleted = kinds.delete(connection, kind, AGES[kind.name], 100)
            [blockers] = connection.scalars(text("SELECT pg_blocking_pids(pg_backend_pid())")).all()

    assert deleted == 2
    assert blockers == []


def test_a_command_beside_rows_that_are_being_deleted_waits_for_nobody(db: Engine) -> None:
    """Kills: a lock on a table, or on rows that stay."""
    offers = fill(db)
    with housekeeping(acting(db, "retain")) as deleting:
        for kind in KINDS:
            assert kinds.delete(deleting, kind, AGES[kind.name], 100) == 3
        with offers.uow() as uow:
            uow.connection.execute(text("SET LOCAL lock_timeout = '1ms'"))
            assert once(uow, "another key", {}) is None
            remember(uow, "another key", Answer(status=200, body={}))
        offers.draft_quote()
        with db.connect() as watching:
            waiting = watching.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted"))

    assert waiting == 0


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_old_rows_of_a_kind_are_found_by_an_index(migrated: Engine, kind: Kind) -> None:
    with migrated.connect() as connection:
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        connection.execute(text("SET LOCAL enable_bitmapscan = off"))
        plan = "\n".join(connection.scalars(text(f"EXPLAIN {kind.deletion.text}"), {"age": "1 day", "batch": 10}).all())

    assert re.search(rf"Index Scan using ix_{kind.table}_(unmatched_)?old .*\n *Index Cond: \({kind.since} < ", plan), plan


def test_an_event_is_no_open_work_when_its_row_in_the_inbox_may_be_deleted(offers: Offers, monkeypatch: pytest.MonkeyPatch) -> None:
    offers.draft_quote()
    with offers.engine.connect() as connection:
        young = open_work.open_work(connection, offers.tenant_id)["unread_events"]
        monkeypatch.setattr(open_work, "INBOX_IS_WHOLE_FOR", timedelta())

        old = open_work.open_work(connection, offers.tenant_id)["unread_events"]

    assert (young, old) == (1, 0)


def variables_of(db: Engine, **more: str) -> dict[str, str]:
    return {**os.environ, "Q2O_DATABASE_URL": address_of("retain", db.url.render_as_string(hide_password=False)), **more}


def run(db: Engine, *arguments: str, **more: str) -> Result:
    with closing_what_is_opened(), keeping_signals_and_logs():
        return CliRunner().invoke(app, ["retain", *arguments], env=variables_of(db, **more))


def test_the_command_prints_what_it_did_of_each_kind(filled: Engine, tmp_path: Path) -> None:
    ended = run(filled, Q2O_ARCHIVE_DIR=str(tmp_path))

    assert ended.exit_code == 0, ended.stderr
    assert "What was deleted" in ended.stdout
    assert all(kind.name in ended.stdout for kind in KINDS)
    assert "archive" in ended.stdout


def test_the_command_prints_the_same_for_machines(filled: Engine) -> None:
    ended = run(filled, "--dry-run", "--json")

    report = json.loads(ended.stdout)
    assert report["dryRun"]
    assert {each["kind"]: each["rows"] for each in report["kinds"]} == {kind.name: 3 for kind in KINDS}


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"Q2O_RETAIN_INBOX_DAYS": "6"}, "Q2O_RETAIN_INBOX_DAYS is less than 7"),
        ({"Q2O_RETAIN_ARCHIVE_DAYS": "10"}, "Q2O_RETAIN_ARCHIVE_DAYS is less than Q2O_RETAIN_INBOX_DAYS"),
        ({"Q2O_RETAIN_FINDINGS_DAYS": "soon"}, "Q2O_RETAIN_FINDINGS_DAYS=soon is not a number"),
        ({"Q2O_ARCHIVE_DIR": "/nowhere"}, "Q2O_ARCHIVE_DIR=/nowhere is no directory"),
    ],
)
def test_an_age_that_would_lose_something_is_refused(migrated: Engine, variables: dict[str, str], reason: str) -> None:
    ended = CliRunner().invoke(app, ["retain"], env=variables_of(migrated, **variables))

    assert ended.exit_code == 2
    assert ended.stderr.startswith(f"q2o: {reason}")
