"""Every cell of every matrix of the commercial side, against the database: a row is put into the state, and the real move is made.

`tests/unit/test_matrices.py` compares the matrices with the domain page; here they are compared with what PostgreSQL does.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Connection, Engine, select, text
from sqlalchemy.exc import IntegrityError

from domain.authority import GRANT_MATRIX, AuthorityGrant
from domain.errors import Conflict
from domain.offers.approvals import REQUEST_MATRIX, REQUIREMENT_MATRIX, ApprovalRequest, ApprovalRequirement
from domain.offers.price_books import PRICE_BOOK_MATRIX, PriceBookHead
from domain.offers.quotes import QUOTE_MATRIX, Quote
from domain.store import Cause, CellKind, Check, Matrix, Move, UnitOfWork, table_of
from tests.support.guards import without
from tests.support.offers import Offers

AGGREGATES = [
    pytest.param(Quote, QUOTE_MATRIX, id="quote"),
    pytest.param(ApprovalRequest, REQUEST_MATRIX, id="approval request"),
    pytest.param(ApprovalRequirement, REQUIREMENT_MATRIX, id="approval requirement"),
    pytest.param(AuthorityGrant, GRANT_MATRIX, id="authority grant"),
    pytest.param(PriceBookHead, PRICE_BOOK_MATRIX, id="price book"),
]
# What moves write into the row beside its state; anything of the right type will do.
VALUES: dict[str, Any] = {
    "next_revision_id": uuid4(),
    "reason_code": "TEST",
    "valid_until": None,
    "approver_group": "approverDirector",
    "remind_after": timedelta(hours=1),
    "sla": timedelta(hours=2),
    "price_book_version": "p-45",
    "notice": "Somebody else is asked.",
    "refusal_notice": "Somebody was refused.",
    "confirmed_by": "third admin",
}
# An override with an authority of its own: a state that the table knows, and that no command leads to yet.
NOT_MADE = {"approval_requirement.waive"}


def moves(entity: Any, matrix: Matrix[Any, Any]) -> dict[StrEnum, Move]:
    names = {event: f"{table_of(entity).name}.{event.value.lower()}" for event in matrix.events}
    made = {event: Check.registry[name] for event, name in names.items() if name not in NOT_MADE}
    return {event: move for event, move in made.items() if isinstance(move, Move)}


def done(connection: Connection, offers: Offers, entity: Any, move: Move, state: StrEnum) -> str:
    """What the move does to a row in this state: where it leads, or `refused`; the transaction is not committed."""
    table = table_of(entity)
    connection.execute(text(f"UPDATE {table.name} SET status = '{state}'"))
    first = select(*table.c).order_by(table.c.id).limit(1)
    before = connection.execute(first).one()
    uow = UnitOfWork(connection, Cause(tenant_id=offers.tenant_id, actor="test", command="test"))
    try:
        row = uow.apply(move, **{entity.ID_FIELD: before.id, "price_book": getattr(before, "price_book", None), **VALUES})
    except Conflict:
        assert connection.execute(first).one() == before
        return "refused"
    assert (row.prior_status, row.version) == (state, before.version + 1)
    return str(row.status)


@pytest.mark.parametrize(("entity", "matrix"), AGGREGATES)
def test_each_event_does_in_each_state_what_its_cell_says(
    entity: Any, matrix: Matrix[Any, Any], offers: Offers, db: Engine
) -> None:
    """The guards are gone, so that the state alone decides."""
    offers.quote_in_approval()
    built: dict[tuple[str, str], str] = {}
    written: dict[tuple[str, str], str] = {}
    for event, move in moves(entity, matrix).items():
        for state in matrix.states:
            with without(move, *range(len(move.guards))), db.connect() as connection:
                built[event, state] = done(connection, offers, entity, move, state)
            cell = matrix.cell(event, state)
            written[event, state] = str(cell.target) if cell is not None and cell.kind is CellKind.MOVE else "refused"

    assert built == written


@pytest.mark.parametrize(("entity", "matrix"), AGGREGATES)
def test_a_state_that_no_matrix_knows_is_refused_by_the_table(
    entity: Any, matrix: Matrix[Any, Any], offers: Offers, db: Engine
) -> None:
    offers.quote_in_approval()

    with db.connect() as connection, pytest.raises(IntegrityError, match=f"ck_{table_of(entity).name}_status"):
        connection.execute(text(f"UPDATE {table_of(entity).name} SET status = 'NO_SUCH_STATE'"))
