"""A failure of retention hides nothing: the report says how many rows were deleted before it, and what failed."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, text

from domain.retaining import dossiers, kinds
from domain.retaining.kinds import Kind
from reconciliation.archiving import Archiving
from reconciliation.retention import Done, Retainer
from tests.integration.test_retention import AGES
from tests.support.database import acting
from tests.support.metrics import metric
from tests.support.old_rows import fill


@pytest.fixture
def filled(db: Engine) -> Engine:
    fill(db)
    return db


def done(db: Engine, archive: Path | None = None) -> dict[str, Done]:
    return {each.kind: each for each in Retainer(acting(db, "retain"), AGES, archive).run_once()}


def failing_for_the_inbox(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Let the question for the oldest row of the inbox fail."""
    oldest = kinds.oldest

    def failing(connection: Connection, kind: Kind) -> datetime | None:
        if kind.name == "inbox":
            raise error
        return oldest(connection, kind)

    monkeypatch.setattr(kinds, "oldest", failing)


def test_rows_that_were_deleted_are_counted_when_the_age_of_the_rest_cannot_be_read(
    filled: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_for_the_inbox(monkeypatch, RuntimeError("no age\nand a second line"))

    inbox = done(filled)["inbox"]

    assert (inbox.rows, inbox.oldest, inbox.failed) == (3, None, "no age")


def test_rows_of_earlier_batches_are_counted_when_a_batch_fails(filled: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciliation.retention.BATCH", 2)
    delete, batches = kinds.delete, []

    def failing(connection: Connection, kind: Kind, *given: object) -> int:
        batches.append(kind.name)
        if batches.count("inbox") == 2 and kind.name == "inbox":
            raise RuntimeError("the second batch fails")
        return delete(connection, kind, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(kinds, "delete", failing)

    inbox = done(filled)["inbox"]

    assert (inbox.rows, inbox.failed) == (2, "the second batch fails")


def test_an_error_that_says_nothing_is_named_by_its_kind_and_ends_no_loop(filled: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    failing_for_the_inbox(monkeypatch, LookupError())

    after = done(filled)

    assert after["inbox"].failed == "LookupError"
    assert after["refusals"].rows == 3


def test_archived_rows_are_counted_when_the_run_fails_later(
    filled: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    counted = metric("q2o_retention_deleted_rows_total", kind="archive")

    def failing(archiving: Archiving, *_: object) -> tuple[int, int]:
        archiving.deleted = 7
        raise RuntimeError("the walk fails")

    monkeypatch.setattr(Archiving, "run", failing)

    archive = done(filled, tmp_path)["archive"]

    assert (archive.rows, archive.failed) == (7, "the walk fails")
    assert metric("q2o_retention_deleted_rows_total", kind="archive") == counted + 7


def test_archived_rows_are_counted_when_the_age_of_the_rest_cannot_be_read(
    filled: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def archived(archiving: Archiving, *_: object) -> tuple[int, int]:
        archiving.deleted = 5
        return 5, 1

    def failing(connection: Connection) -> datetime | None:
        connection.execute(text("SELECT 1/0"))
        return None

    monkeypatch.setattr(Archiving, "run", archived)
    monkeypatch.setattr(dossiers, "oldest", failing)

    archive = done(filled, tmp_path)["archive"]

    assert (archive.rows, archive.failed) == (5, "division by zero")
