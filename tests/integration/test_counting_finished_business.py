"""A dry run of retention counts the backlog that it is meant to measure, however long that takes, and says where it has stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from reconciliation.retention import ARCHIVE, Done, Retainer, as_text
from tests.integration.test_retention import AGES
from tests.support.database import acting
from tests.support.offers import Offers
from tests.support.retaining import AT_ONCE, fulfilled_order
from tests.support.statements import listening

QUOTES = 5


@pytest.fixture
def finished(offers: Offers) -> Engine:
    """A database with quotes that are over; one of them has an order."""
    fulfilled_order(offers)
    for _ in range(QUOTES - 1):
        offers.draft_quote()
    with offers.engine.begin() as connection:
        connection.execute(text("UPDATE quote SET status = 'CANCELLED' WHERE status = 'DRAFT'"))
    return offers.engine


def retained(database: Engine, archive: Path, *, dry_run: bool) -> Done:
    """What retention does with finished business."""
    ages = {**AGES, ARCHIVE: AT_ONCE}
    [archived] = [
        each for each in Retainer(acting(database, "retain"), ages, archive, dry_run=dry_run).run_once() if each.kind == ARCHIVE
    ]
    return archived


def test_a_dry_run_counts_the_rows_that_are_archived_afterwards(finished: Engine, tmp_path: Path) -> None:
    promised = retained(finished, tmp_path, dry_run=True)

    done = retained(finished, tmp_path, dry_run=False)

    assert (promised.rows, promised.at_least, promised.failed) == (done.rows, False, "")
    assert done.rows > 0


def test_no_transaction_of_a_dry_run_counts_more_than_fits_into_a_file(
    finished: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kills: counting everything in one transaction, which reaches the time limit of a command when the backlog is large."""
    monkeypatch.setattr("reconciliation.archiving.DOSSIERS_PER_FILE", 2)
    with listening(acting(finished, "retain")) as transactions:
        retained(finished, tmp_path, dry_run=True)

    read = [sum("FROM provider_attempt" in sent.statement for sent in transaction) for transaction in transactions]
    assert (max(read), sum(read)) == (1, 3)


@pytest.mark.parametrize(("at_most", "at_least"), [(QUOTES - 1, True), (QUOTES + 1, False)])
def test_a_dry_run_that_stops_counting_says_at_least(
    finished: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_most: int, *, at_least: bool
) -> None:
    """Kills: a backlog that is cut off without a word."""
    monkeypatch.setattr("reconciliation.retention.AT_MOST", at_most)

    archived = retained(finished, tmp_path, dry_run=True)

    assert (f"at least {archived.rows}" in as_text([archived], dry_run=True, as_json=False)) == at_least
    assert [each["atLeast"] for each in json.loads(as_text([archived], dry_run=True, as_json=True))["kinds"]] == [at_least]
