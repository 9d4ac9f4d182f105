"""Judges a history against the truth in the database.

Quotes and orders are registers with gapless versions, each independent of the others. So a history is linearisable when every operation can be
given a moment between its request and its answer at which the register had the version that it has written or shown. The log of transitions
names the version of each write, and the search for these moments becomes a comparison of times.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from sqlalchemy import Engine as Database
from sqlalchemy import select

from domain.store import table_of
from domain.store.facts import TransitionLog
from domain.store.idempotency import RECORD
from tests.faults.storm.history import Operation

NEVER = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One row of the log of transitions."""

    aggregate: str
    version: int
    status: str
    reason: str
    key: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What the database says: the changes, and the status of the answer that each idempotency key has got."""

    changes: Sequence[Change]
    answers: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Event:
    """An operation on one aggregate, with the version that it has written or shown."""

    operation: Operation
    version: int
    is_write: bool

    @property
    def name(self) -> str:
        did = "wrote" if self.is_write else "showed"
        return f"operation {self.operation.number} ({self.operation.request}) {did} version {self.version}"


def truth_of(database: Database, tenant_id: UUID) -> Truth:
    """Read what is true of a tenant."""
    log = table_of(TransitionLog)
    names = (
        log.c.aggregate_type,
        log.c.aggregate_id,
        log.c.aggregate_version,
        log.c.transition_to,
        log.c.reason,
        log.c.idempotency_key,
    )
    with database.connect() as connection:
        changes = [
            Change(aggregate=f"{kind}:{subject}", version=version, status=status, reason=reason, key=key)
            for kind, subject, version, status, reason, key in connection.execute(select(*names).filter_by(tenant_id=tenant_id))
        ]
        records = connection.execute(select(RECORD.c.idempotency_key, RECORD.c.response_status).filter_by(tenant_id=tenant_id))
        return Truth(changes=changes, answers={record.idempotency_key: record.response_status for record in records})


def violations(operations: Sequence[Operation], truth: Truth) -> list[str]:
    """A sentence for everything in a history that the truth contradicts."""
    rules = (_answers, _effects, _one_order, _order)
    return [sentence for rule in rules for sentence in rule(operations, truth)]


def _answers(operations: Sequence[Operation], truth: Truth) -> Iterator[str]:
    """What is answered is kept, every unknown command is resolved, and one key has one answer."""
    bodies: dict[str, set[str | None]] = defaultdict(set)
    for operation in operations:
        name = f"operation {operation.number} ({operation.request})"
        if operation.code is not None and operation.code >= 500:
            yield f"{name} was answered {operation.code} {operation.problem or ''}".rstrip()
        if not operation.is_write:
            continue
        key = str(operation.key)
        if operation.answered is None:
            yield f"{name} never got an answer under its key"
        elif operation.succeeded:
            bodies[key].add(operation.body)
            if key not in truth.answers:
                yield f"{name} was answered {operation.code}, and the truth has no answer under its key"
    yield from (f"the key {key} got {len(found)} different answers" for key, found in bodies.items() if len(found) > 1)


def _effects(operations: Sequence[Operation], truth: Truth) -> Iterator[str]:
    """A command that is answered takes effect once, and one that is refused not at all."""
    succeeded = {operation.key for operation in operations if operation.succeeded and operation.is_write}
    refused = {operation.key: operation for operation in operations if operation.was_refused and operation.is_write}
    times: dict[tuple[str, str, str], int] = defaultdict(int)
    for change in truth.changes:
        if change.key is None:
            continue
        times[change.key, change.aggregate, change.reason] += 1
        if change.key in refused and change.key not in succeeded:
            operation = refused[change.key]
            yield f"operation {operation.number} ({operation.request}) was refused with {operation.problem}, and made {change.reason} of {change.aggregate}"
    yield from (
        f"the command with key {key} made {reason} of {aggregate} {number} times"
        for (key, aggregate, reason), number in times.items()
        if number > 1
    )


def _one_order(operations: Sequence[Operation], truth: Truth) -> Iterator[str]:
    """Every acceptance of a quote is answered with the same order, and that order is true."""
    named: dict[str, set[str | None]] = defaultdict(set)
    for operation in operations:
        if operation.succeeded and operation.request.endswith("/acceptances"):
            named[operation.request].add(operation.order)
    known = {change.aggregate for change in truth.changes}
    for request, orders in named.items():
        if len(orders) > 1:
            yield f"{request} was answered with {len(orders)} orders"
        yield from (
            f"{request} was answered with order {order}, which is not true"
            for order in orders
            if f"sales_order:{order}" not in known
        )


def _order(operations: Sequence[Operation], truth: Truth) -> Iterator[str]:
    """Each aggregate alone: whoever asks after an answer sees at least what that answer was about."""
    written: dict[str, list[Change]] = defaultdict(list)
    for change in truth.changes:
        if change.key is not None:
            written[change.key].append(change)
    statuses = {(change.aggregate, change.version): change.status for change in truth.changes}
    of_each: dict[str, list[_Event]] = defaultdict(list)
    for command in _commands(operations):
        for change in written.get(str(command.key), ()):
            of_each[change.aggregate].append(_Event(command, change.version, is_write=True))
    for operation in operations:
        if not operation.is_write and operation.succeeded and operation.aggregate and operation.version is not None:
            of_each[operation.aggregate].append(_Event(operation, operation.version, is_write=False))
    for aggregate, events in of_each.items():
        yield from (f"{aggregate}: {sentence}" for sentence in (*_shown(aggregate, events, statuses), *_in_order(events)))


def _commands(operations: Sequence[Operation]) -> Iterator[Operation]:
    """The commands, each once: one that is sent again under its key has begun with the first request, and is done at the first answer."""
    sent: dict[str, list[Operation]] = defaultdict(list)
    for operation in operations:
        if operation.is_write:
            sent[str(operation.key)].append(operation)
    for same in sent.values():
        first = min(same, key=lambda operation: operation.invoked)
        yield replace(first, answered=min((each.answered for each in same if each.succeeded and each.answered), default=None))


def _shown(aggregate: str, events: Sequence[_Event], statuses: Mapping[tuple[str, int], str]) -> Iterator[str]:
    for event in events:
        if event.is_write or event.operation.status is None:
            continue
        known = statuses.get((aggregate, event.version))
        if known != event.operation.status:
            yield f"{event.name} as {event.operation.status}, which was {known}"


def _in_order(events: Sequence[_Event]) -> Iterator[str]:
    """Compare each operation with the highest version of all that were answered before it began, and with writes that began after it."""
    by_answer = sorted(events, key=lambda event: event.operation.answered or NEVER)
    answered, best = 0, None
    for event in sorted(events, key=lambda event: event.operation.invoked):
        while answered < len(by_answer) and (by_answer[answered].operation.answered or NEVER) < event.operation.invoked:
            candidate = by_answer[answered]
            best = candidate if best is None or candidate.version > best.version else best
            answered += 1
        if best is not None and (event.version < best.version or (event.is_write and event.version == best.version)):
            yield f"{event.name}, after {best.name}"
