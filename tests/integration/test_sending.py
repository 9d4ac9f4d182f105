"""Writes without a result are collected and sent together; no write is lost, and every read sees the writes before it."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import func, select

from domain.errors import NotFound
from domain.findings import ReconciliationFinding
from domain.offers.quotes import QuoteRevision, RevisionStatus, read_revision
from domain.store import UnitOfWork, table_of
from tests.support.database import count
from tests.support.offers import Offers
from tests.support.statements import listening

ROWS = select(func.count()).select_from(table_of(ReconciliationFinding))


def note(uow: UnitOfWork, **changes: Any) -> None:
    row = {"kind": "TEST", "aggregate_type": "quote", "aggregate_id": uuid4(), "evidence": {}, "action": "", "status": "OPEN"}
    uow.add(ReconciliationFinding, {**row, **changes})


def test_a_read_sees_the_writes_before_it(offers: Offers) -> None:
    with offers.uow() as uow:
        note(uow)
        note(uow)
        seen = uow.connection.scalar(ROWS)

    assert seen == 2


def test_writes_without_a_read_between_them_are_sent_in_one_statement(offers: Offers) -> None:
    revision_id = offers.draft_quote().revision_id

    with listening(offers.engine) as transactions, offers.uow() as uow:
        note(uow)
        uow.change(QuoteRevision, revision_id, content_hash="other")
        note(uow)

    assert len(transactions[0]) == 2, "the beginning, and all of it"
    assert count(offers.engine, ReconciliationFinding) == 2


def test_two_changes_of_one_row_are_both_kept(offers: Offers) -> None:
    """Kills: putting writes that touch the same table into one statement, where only one of them takes place."""
    revision_id = offers.draft_quote().revision_id

    with offers.uow() as uow:
        uow.change(QuoteRevision, revision_id, content_hash="other")
        uow.change(QuoteRevision, revision_id, status=RevisionStatus.FROZEN)

    with offers.uow() as uow:
        revision = read_revision(uow, revision_id)
    assert (revision.content_hash, revision.status) == ("other", "FROZEN")


def test_a_refused_command_sends_none_of_its_collected_writes(offers: Offers) -> None:
    def refuse() -> None:
        with offers.uow() as uow:
            note(uow)
            uow.read(QuoteRevision, uuid4())

    with pytest.raises(NotFound):
        refuse()

    assert count(offers.engine, ReconciliationFinding) == 0


def test_an_expression_as_a_value_is_refused(offers: Offers) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"), offers.uow() as uow:
        note(uow, action=func.now())
