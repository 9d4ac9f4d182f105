"""The layers that keep a rule, by name: guards (`quote.edit/STALE_REVISION`), a move's check of the state
(`the state in quote.edit`), a single condition of a guard (`conditions`), a statement of a command (`statements`), row level security of a table, and
constraints, unique indexes and triggers by their name in the catalogue. Each layer can be removed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from enum import StrEnum

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from domain.delivery.orders import CancellationAlreadyOpen
from domain.delivery.steps import StepAlreadyStarted
from domain.errors import AlreadyExists, InvalidTransition, Refusal, TryAgain
from domain.offers.price_books import PriceBookConflict, PriceBookVersionExists
from domain.store.moves import Check, Move
from tests.mutants.conditions import NAMED, ON, guard_of, without_condition
from tests.mutants.statements import LOOK_AT_GRANT, STATEMENTS
from tests.support.guards import allowed_in, without

GUARDS = NAMED
STATE = "the state in "
MOVES = {STATE + move.name: move for move in Check.registry.values() if isinstance(move, Move)}
POLICY = "row level security of "
FUNCTIONS = {
    "approval_decision_four_eyes": "refuse_own_approval()",
    "quote_line_frozen": "refuse_frozen_content()",
    "quote_revision_frozen": "refuse_frozen_revision()",
}
"""Triggers that do not keep a table append-only, and the functions that they run."""
RAISES: dict[str, tuple[type[Exception], ...]] = {
    "uq_order_quote_revision_primary": (AlreadyExists, TryAgain),
    "uq_approval_request_open": (AlreadyExists,),
    "uq_approval_requirement_tenant_id_request_id_type_level": (AlreadyExists,),
    "uq_price_book_head_tenant_id_price_book": (PriceBookConflict,),
    "pk_price_book_version": (PriceBookVersionExists,),
    "uq_cancellation_request_open": (CancellationAlreadyOpen,),
    "uq_provider_attempt_live": (StepAlreadyStarted,),
    LOOK_AT_GRANT: (AttributeError,),
}
"""Constraints that a command meets with ON CONFLICT DO NOTHING, and the refusals that the command raises then; and the error of a read that finds no row."""


@contextmanager
def off(connection: Connection, *layers: str) -> Iterator[None]:
    """Run the block without these layers, in a savepoint that is rolled back."""
    positions: defaultdict[Check, list[int]] = defaultdict(list)
    with ExitStack() as stack:
        savepoint = connection.begin_nested()
        stack.callback(savepoint.rollback)
        for layer in layers:
            if layer in GUARDS:
                positions[GUARDS[layer].check].append(GUARDS[layer].position)
            elif layer in MOVES:
                stack.enter_context(allowed_in(MOVES[layer], *elsewhere(MOVES[layer])))
            elif ON in layer:
                stack.enter_context(without_condition(layer))
            elif layer in STATEMENTS:
                stack.enter_context(STATEMENTS[layer]())
            else:
                _drop(connection, layer)
        for check, dropped in positions.items():
            stack.enter_context(without(check, *dropped))
        yield


def elsewhere(move: Move) -> list[StrEnum]:
    """List the states in which the move is not made."""
    return [state for state in type(next(iter(move.targets))) if state not in move.targets]


class Kept(Exception):
    """The layer refused nothing, and still nothing was changed."""


def is_refusal_of(layer: str, error: BaseException) -> bool:
    """Whether this layer raised the error."""
    if isinstance(error, (Kept, *RAISES.get(layer, ()))):
        return True
    if layer in GUARDS or ON in layer:
        named = GUARDS.get(layer) or guard_of(layer)
        return type(error) is named.guard.refusal and _came_from(named.check, error)
    if layer in MOVES:
        return type(error) in {InvalidTransition, *MOVES[layer].illegal.values()} and _came_from(MOVES[layer], error)
    return isinstance(error, DBAPIError) and _is_violation_of(layer, error)


def _came_from(check: Check, error: BaseException) -> bool:
    return isinstance(error, Refusal) and f"{error.aggregate_type}.{error.evidence.get('event', '').lower()}" == check.name


def _is_violation_of(layer: str, error: DBAPIError) -> bool:
    diagnosis = getattr(error.orig, "diag")  # noqa: B009 - psycopg's errors have it, SQLAlchemy does not know
    if diagnosis.constraint_name is not None:
        return bool(diagnosis.constraint_name == layer)
    if layer in FUNCTIONS:
        return FUNCTIONS[layer] in (diagnosis.context or "")
    return bool(diagnosis.message_primary == f"evidence in {layer.removesuffix('_append_only')} is never changed")


def _drop(connection: Connection, layer: str) -> None:
    if layer.startswith(POLICY):
        dropping = f"ALTER TABLE {layer.removeprefix(POLICY)} DISABLE ROW LEVEL SECURITY"
    else:
        dropping = connection.execute(_DROPPING, {"name": layer}).scalar_one()
    # PostgreSQL does not alter a table that has deferred checks to do.
    for statement in ("SET CONSTRAINTS ALL IMMEDIATE", "SET CONSTRAINTS ALL DEFERRED", dropping):
        connection.execute(text(statement))


# CASCADE: foreign keys that reference the key are dropped with it.
_DROPPING = text("""
    SELECT format('ALTER TABLE %s DROP CONSTRAINT %I CASCADE', conrelid::regclass, conname) FROM pg_constraint WHERE conname = :name
    UNION ALL
    SELECT format('DROP INDEX %I', relname) FROM pg_class WHERE relkind = 'i' AND relname = :name
        AND NOT EXISTS (SELECT FROM pg_constraint WHERE conname = :name)
    UNION ALL
    SELECT format('DROP TRIGGER %I ON %s', tgname, tgrelid::regclass) FROM pg_trigger WHERE NOT tgisinternal AND tgname = :name
""")
