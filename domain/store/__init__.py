"""How a command changes PostgreSQL: matrices, guards, moves, the unit of work, the idempotency claim.

    quote = uow.apply(ACCEPT, command)     one UPDATE … WHERE guards … RETURNING, or the named refusal

Which verb when:

| you want to | verb | waits for the database | leaves besides the row |
|---|---|---|---|
| change an aggregate's state | `uow.apply(MOVE, command)` | yes | version + 1, transition log, the move's event |
| demand something of a row, without a change | `uow.require(CHECK, command)` | yes: locks it FOR SHARE | – |
| create an aggregate that a rival may create, too | `uow.create(Entity, reason=…)` | yes: AlreadyExists | version 1, transition log, event |
| create an aggregate that only this transaction can create | `uow.create_own(Entity, reason=…, status=…)` | no | version 1, transition log |
| insert evidence, or parts of an aggregate | `uow.add(Entity, row, …)` | no | – |
| change a part of an aggregate that is locked here | `uow.change(Entity, row_id, …)` | no | – |
| run a statement that is declared once and returns nothing | `uow.write(STATEMENT, …)` | no | – |
| read one row by its id | `uow.read(Entity, row_id)` | yes: NotFound | – |
| read one row by its id and lock it until commit | `uow.read(Entity, row_id, lock=True)` | yes: NotFound | – |
| read the one row of a query | `uow.one(query, what)` | yes: NotFound | – |
| run any other query, or a claim by insert | `uow.connection.execute(…)` | yes | – |
| tell other systems something that no move tells | `uow.emit(aggregate, row, event_type)` | no | an event in the outbox |
| have the engine start, correlate, complete, assign | `uow.ask_engine(kind, name, business_key)` | no | a workflow command |
| keep a refusal although the transaction commits | `uow.flag_conflict(refusal)` | no | conflict log |
| have the log tell of a repeat, or of ids that no row has | `uow.summary.repeat(aggregate, row)`, `uow.summary.note(…)` | no | a line after COMMIT |
| run a command once for an idempotency key | `once(uow, key, request)`, then `remember(uow, key, answer)` | yes, no | the stored answer |

A read opens `reading(database, cause)` instead of `unit_of_work`: its transaction cannot write, and may be repeated.

What does not wait is collected, and sent together before the next look at the database and before COMMIT. Statements that meet one table
keep their order. A rule about an aggregate belongs into its move: `change` and `write` have no guard.
"""

from __future__ import annotations

from domain.store.base import Aggregate, Base, Owned, append_only, as_json, check_in, ref, sql_list, table_of, without
from domain.store.facts import Cause
from domain.store.idempotency import Answer, once, remember
from domain.store.matrix import CellKind, Matrix
from domain.store.moves import Check, Guard, Move, is_one_of, param
from domain.store.numbers import next_number
from domain.store.reading import reading
from domain.store.summary import Outcome
from domain.store.unit_of_work import UnitOfWork, unit_of_work

__all__ = [
    "Aggregate",
    "Answer",
    "Base",
    "Cause",
    "CellKind",
    "Check",
    "Guard",
    "Matrix",
    "Move",
    "Outcome",
    "Owned",
    "UnitOfWork",
    "append_only",
    "as_json",
    "check_in",
    "is_one_of",
    "next_number",
    "once",
    "param",
    "reading",
    "ref",
    "remember",
    "sql_list",
    "table_of",
    "unit_of_work",
    "without",
]
