"""Finished business is archived as files, and leaves the tables; the audit reads both and finds the same history."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from domain.retaining.dossiers import PARTS
from domain.schema import METADATA
from reconciliation import archived_rows
from reconciliation.archived_rows import Filling
from reconciliation.audit_report import AuditReport
from tests.support.audits import broken, figures
from tests.support.database import acting
from tests.support.metrics import metric
from tests.support.retaining import AT_ONCE, archiving, audit, end_every_case, rows_of
from tests.support.settled import Settled

STAYS = {
    "archive_file": "one row for some hundred quotes: what the archive must be",
    "authority_grant": "old decisions name it",
    "customer_key": "one row for each customer: archives are read with it",
    "reconciliation_lease": "sweeps delete the leases that have ended",
    "price_book_entry": "old prices name it",
    "price_book_head": "one row for each price book",
    "price_book_version": "old prices name it",
}
BY_AGE = {"conflict_log", "consumer_inbox", "idempotency_record", "outbox_event", "reconciliation_finding", "workflow_command"}


class Archived:
    """A settled tenant before and after its business was archived."""

    def __init__(self, settled: Settled, directory: Path) -> None:
        self.settled, self.directory = settled, directory
        self.database, self.tenant_id = settled.offers.engine, settled.tenant_id
        end_every_case(settled)
        with self.database.connect() as connection:
            around = settled.surroundings(connection)
        self.outside = around.outside
        self.before, self.rows_before = self.audit(), rows_of(self.database, self.tenant_id)
        counted = metric("q2o_retention_archived_rows_total")
        self.deleted, self.failed = archiving(self.database, directory).run(AT_ONCE)
        self.counted = metric("q2o_retention_archived_rows_total") - counted
        self.after, self.rows_after = self.audit(), rows_of(self.database, self.tenant_id)

    def audit(self) -> AuditReport:
        return audit(self.settled, self.outside, self.directory)


@pytest.fixture(scope="module")
def archived(settled: Settled, tmp_path_factory: pytest.TempPathFactory) -> Archived:
    return Archived(settled, tmp_path_factory.mktemp("archive"))


@pytest.fixture
def content(archived: Archived) -> Iterator[Path]:
    """The archive file of the tenant; whatever a test changes in it is restored."""
    [path] = (archived.directory / str(archived.tenant_id)).glob("*.jsonl")
    whole = path.read_bytes()
    yield path
    path.write_bytes(whole)


def test_every_table_is_archived_or_deleted_by_age_or_stays_for_a_reason() -> None:
    assert set(PARTS) | BY_AGE | set(STAYS) == set(METADATA.tables)
    assert len(PARTS) + len(BY_AGE) + len(STAYS) == len(METADATA.tables)


def test_an_archived_tenant_has_no_violation(archived: Archived) -> None:
    assert broken(archived.before) == []
    assert broken(archived.after) == []


def test_the_audit_of_an_archived_tenant_counts_what_it_counted_before(archived: Archived) -> None:
    codes = ("I1", "I3", "I4", "I5", "I6", "I8", "I9", "I10", "I11", "I13", "I15", "I17", "I31")

    assert {code: figures(archived.after, code) for code in codes} == {code: figures(archived.before, code) for code in codes}


def test_the_audit_reads_an_archive_a_part_at_a_time(archived: Archived, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills: one statement, and one list in memory, for everything that was ever archived."""
    monkeypatch.setattr(archived_rows, "AT_ONCE", 3_000)
    sizes: list[int] = []
    flush = Filling.flush

    def noting(filling: Filling) -> None:
        sizes.append(filling.size)
        flush(filling)

    monkeypatch.setattr(Filling, "flush", noting)

    report = archived.audit()

    assert (broken(report), figures(report, "I32")) == ([], figures(archived.after, "I32"))
    assert (len(sizes) > 10, max(sizes) < 10_000) == (True, True)


def test_of_two_archived_copies_the_audit_takes_the_later_one(archived: Archived, content: Path) -> None:
    lines = map(json.loads, content.read_bytes().splitlines())
    row = next(line["row"] for line in lines if line["table"] == "transition_log")
    with archived_rows.seeing_archives(acting(archived.database, "audit"), archived.directory) as connection:
        filling = Filling(connection)
        for reason in ("first", "second"):
            filling.add("transition_log", {**row, "reason": reason})
            filling.flush()

        assert connection.scalars(text("SELECT reason FROM archived_transition_log")).all() == ["second"]


def test_the_rows_of_finished_business_leave_the_tables(archived: Archived) -> None:
    gone = {name: archived.rows_before[name] - archived.rows_after.get(name, 0) for name in archived.rows_before}

    assert archived.failed == 0
    assert archived.deleted == sum(gone.values()) == figures(archived.after, "I32")["lines"]
    assert gone["quote_acceptance"] == 3
    assert (
        min(gone[name] for name in ("external_callback_record", "external_callback_conflict", "step_contradiction", "fallout_case"))
        > 0
    )
    assert archived.rows_after["quote"] == 2  # one in approval, one that was revised


def test_the_rows_that_are_archived_are_counted(archived: Archived, content: Path) -> None:
    assert archived.counted == len(content.read_bytes().splitlines()) > 0


def test_business_that_is_not_finished_stays(archived: Archived) -> None:
    offers = archived.settled.offers

    assert offers.quote(archived.settled.open_quote.quote_id).status == "APPROVAL_IN_PROGRESS"


def test_a_customer_cannot_be_read_in_an_archive(content: Path) -> None:
    assert b'"customer_id"' not in content.read_bytes()
    assert b'"customerId"' not in content.read_bytes()


def test_personal_data_of_a_customer_without_key_are_gone_and_the_chain_holds(archived: Archived) -> None:
    """Kills: an archive that an erasure would break."""
    with archived.database.connect() as connection, connection.begin() as transaction:
        keys = connection.execute(text("SELECT * FROM customer_key")).all()
        connection.execute(text("DELETE FROM customer_key"))
        transaction.commit()
    try:
        report = archived.audit()
    finally:
        with archived.database.begin() as connection:
            for row in keys:
                connection.execute(
                    text("INSERT INTO customer_key VALUES (:tenant_id, :id, :customer_id, :key, :created_at)"), dict(row._mapping)
                )

    assert broken(report) == []
    assert figures(report, "I32") == figures(archived.after, "I32")


FALSIFIED: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "a changed line": lambda lines: [lines[0].replace(b'"status"', b'"statu_"', 1), *lines[1:]],
    "a missing line": lambda lines: [*lines[:3], *lines[4:]],
    "a missing last line": lambda lines: lines[:-1],
    "two lines in the other order": lambda lines: [lines[1], lines[0], *lines[2:]],
    "a repeated line": lambda lines: [*lines, lines[-1]],
    "a line that was made up": lambda lines: [*lines, lines[-1].replace(b"a", b"b")],
    "an empty file": lambda _: [],
}


@pytest.mark.parametrize("falsify", FALSIFIED.values(), ids=FALSIFIED)
def test_a_falsified_archive_is_found(archived: Archived, content: Path, falsify: Callable[[list[bytes]], list[bytes]]) -> None:
    content.write_bytes(b"".join(falsify(content.read_bytes().splitlines(keepends=True))))

    assert "I32" in broken(archived.audit())


def test_an_archive_file_that_is_missing_is_found(archived: Archived, content: Path) -> None:
    content.unlink()

    assert "I32" in broken(archived.audit())


def test_a_manifest_that_was_changed_is_found(archived: Archived, content: Path) -> None:
    manifest = content.with_name(content.name.replace(".jsonl", ".manifest.json"))
    whole = manifest.read_bytes()
    manifest.write_bytes(whole.replace(b'"lines"', b'"linez"'))
    try:
        assert "I32" in broken(archived.audit())
    finally:
        manifest.write_bytes(whole)


def test_a_second_run_archives_nothing_again(archived: Archived) -> None:
    assert archiving(archived.database, archived.directory).run(AT_ONCE) == (0, 0)
