"""The explorer's power: with a protection taken away it finds a schedule that shows what the protection is for.

One mutant for each way in which commands protect themselves from each other; the guards one by one are in `tests/mutants`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch
from uuid import UUID

import pytest
from sqlalchemy import Row, event, insert, select, update

from domain.accepting import ACCEPT
from domain.delivery import evaluating
from domain.delivery.orders import ONE_ORDER_PER_REVISION, OrderEvent
from domain.offers.prices import StalenessPolicy
from domain.offers.quoting import EDIT
from domain.store import Answer, Move, UnitOfWork
from domain.store.idempotency import RECORD, request_hash
from tests.races.explorer import programs
from tests.races.explorer.expected import objections_to
from tests.races.explorer.exploring import Explorer, Played
from tests.races.explorer.worlds import WORLDS
from tests.support.guards import without, without_unique

ACCEPTED_ONCE = "uq_quote_acceptance_tenant_id_quote_revision_id"
# All of them show with that many preemptions.
PREEMPTIONS = 2
_HOLDS = re.compile(r" FOR (?:NO KEY UPDATE|SHARE)(?: OF \w+)?$")


@contextmanager
def nothing_held(explorer: Explorer) -> Iterator[None]:
    """Rows are looked at and not locked: no statement that only reads holds anything until commit."""

    def let_go(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> tuple[str, Any]:
        return _HOLDS.sub("", statement), parameters

    engines = [actor.engine for actor in explorer.scheduler.actors]
    for engine in engines:
        event.listen(engine, "before_cursor_execute", let_go, retval=True)
    try:
        yield
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", let_go)


@contextmanager
def acceptance_written_after_a_look(_explorer: Explorer) -> Iterator[None]:
    """The acceptance looks at its guards, and then writes the quote whatever it has become."""
    apply = UnitOfWork.apply

    def look_then_write(uow: UnitOfWork, move: Move, command: Any = None, **more: Any) -> Row[Any]:
        if move is not ACCEPT:
            return apply(uow, move, command, **more)
        uow._refuse(move, uow._values(move, command, more))
        quote = move.table
        accepted = {"status": "ACCEPTED", "prior_status": quote.c.status, "version": quote.c.version + 1}
        row = uow.connection.execute(update(quote).filter_by(id=command.quote_id).values(accepted).returning(*quote.c)).one()
        uow._record(quote.name, row, str(move.event), move.emits)
        return row

    with patch.object(UnitOfWork, "apply", look_then_write):
        yield


@contextmanager
def acceptance_written_after_a_look_without_the_indexes(explorer: Explorer) -> Iterator[None]:
    """The last layer is gone, too."""
    with without_unique(explorer.stage.engine, ONE_ORDER_PER_REVISION, ACCEPTED_ONCE), acceptance_written_after_a_look(explorer):
        explorer.forget()
        yield
    explorer.forget()


@contextmanager
def edits_that_name_no_version(_explorer: Explorer) -> Iterator[None]:
    with without(EDIT, 0):
        yield


@contextmanager
def claim_inserted_after_a_look(_explorer: Explorer) -> Iterator[None]:
    """The idempotency key is looked up, and inserted when it is not there."""

    def look_then_insert(uow: UnitOfWork, key: str, request: Any) -> Answer | None:
        identity = {"tenant_id": uow.tenant_id, "command_name": uow.cause.command, "idempotency_key": key}
        known = uow.connection.execute(select(*RECORD.c).filter_by(**identity)).one_or_none()
        if known is not None:
            return Answer(status=known.response_status, body=known.response_body, replayed=True)
        claim = {"request_hash": request_hash(request), "status": "IN_PROGRESS", "actor": uow.cause.actor}
        uow.connection.execute(insert(RECORD), {**identity, **claim})
        return None

    with patch.object(programs, "once", look_then_insert):
        yield


@contextmanager
def looked_at_twice(_explorer: Explorer) -> Iterator[None]:
    """The evaluation asks whether everything is known when it plans what is undone, and again when it settles the order."""
    plan, settle = evaluating._undo, evaluating._undo_event

    def planned(uow: UnitOfWork, order_id: UUID, rows: Sequence[Row[Any]]) -> Sequence[Row[Any]]:
        return rows if is_unclear(uow, order_id) else plan(uow, order_id, rows)

    def settled(uow: UnitOfWork, order: Row[Any], rows: Sequence[Row[Any]]) -> OrderEvent | None:
        return None if is_unclear(uow, order.id) else settle(uow, order, rows)

    is_unclear = evaluating._is_unclear
    looking = (
        patch.object(evaluating, "_undo", planned),
        patch.object(evaluating, "_undo_event", settled),
        patch.object(evaluating, "_is_unclear", lambda *_: False),
    )
    with looking[0], looking[1], looking[2]:
        yield


Mutation = Callable[[Explorer], Any]
MUTANTS: list[tuple[Mutation, str, str]] = [
    (acceptance_written_after_a_look, "APPROVED: accept | edit", "I3: "),
    (acceptance_written_after_a_look, "APPROVED: accept | accept", "unexpected: ok / TRY_AGAIN"),
    (acceptance_written_after_a_look_without_the_indexes, "APPROVED: accept | accept", "I1: "),
    (edits_that_name_no_version, "DRAFT: edit | edit", "unexpected: ok / ok"),
    (claim_inserted_after_a_look, "APPROVED: accept | accept, one key", "unexpected: ok / IntegrityError"),
    (nothing_held, "APPROVAL_IN_PROGRESS: approve | approve for finance", "unexpected: ok / ok -> signature"),
    (nothing_held, "SUBMITTED_FOR_APPROVAL: open requirements | open requirements", "unexpected: ok OPEN / STALE_APPROVAL"),
    (nothing_held, "APPROVAL_IN_PROGRESS: approve | revoke", "rightful decision: "),
    (nothing_held, "APPROVAL_IN_PROGRESS: delegate | revoke", "rightful decision: "),
    (nothing_held, "step under way: ask to cancel | start B", "no start: "),
    (looked_at_twice, "step being cancelled: completed | cancellation refused | evaluate", "unexpected: "),
    (nothing_held, f"APPROVED, {StalenessPolicy.REPRICE_REQUIRED_ON_PUBLISH}: accept | publish", "I6: "),
]


@pytest.mark.parametrize(("mutation", "name", "complaint"), MUTANTS, ids=lambda part: getattr(part, "__name__", part))
def test_a_protection_that_is_gone_is_missed(mutation: Mutation, name: str, complaint: str, explorer: Explorer) -> None:
    shown: list[str] = []

    def stops(played: Played) -> bool:
        shown.extend(each for each in objections_to(name, played) if each.startswith(complaint))
        return bool(shown)

    with mutation(explorer):
        explorer.explore(WORLDS[name], PREEMPTIONS, stops=stops)

    assert shown
