"""Audits what belongs to the next quotes, all the time, with the rules that the database alone can answer (decision 0041).

The rule it keeps: a round reads what belongs to some quotes and no more, however many there are. What is on its way is no violation, because
each rule knows how old it must be. Nothing is repaired: a violation is logged once, and counted as long as it is there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from itertools import groupby
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Connection, Row, literal, select, tuple_
from sqlalchemy import Engine as Database

from domain.auditing.checking import RULES
from domain.auditing.excerpts import Excerpts
from domain.auditing.looking import UncheckedRulesError
from domain.offers.quotes import Quote
from domain.retaining.dossiers import IDS_OF_SEVERAL, PARTS
from domain.store import leases, table_of
from domain.store.reading import SNAPSHOT
from domain.store.transactions import transaction
from domain.store.unit_of_work import housekeeping
from reconciliation.rounds import LEASE
from workers.runtime.metrics import AUDIT_VIOLATIONS, AUDITED_QUOTES
from workers.runtime.set_aside import isolated

PAGE = 50  # quotes of a round: some thousand rows, some tenths of a second
MOST = 10_000  # violations that are remembered: beyond that, more of them tell nobody more
START = (UUID(int=0), UUID(int=0))
QUOTE = table_of(Quote)
_EXCERPTS = Excerpts(IDS_OF_SEVERAL, PARTS)

_log = structlog.get_logger()
Violation = tuple[UUID, str, str]


class Audits:
    """`interval`: how long it rests between two rounds. `clock` returns seconds."""

    kind = "audit"

    def __init__(
        self,
        database: Database,
        interval: timedelta,
        *,
        page: int = PAGE,
        dry_run: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._interval = interval
        self._page = page
        self._clock = clock
        self._dry_run = dry_run
        self._due = clock()
        self._last = START
        self._walk = 0
        self._is_whole = True
        self._known: dict[Violation, int] = {}
        self._unchecked: set[tuple[UUID, str]] = set()

    def sweep(self) -> int:
        """Audit the next quotes when it is time; returns 0, because nothing is changed."""
        if self._clock() >= self._due:
            self._due = self._clock() + self._interval.total_seconds()
            self._round()
        return 0

    def _round(self) -> None:
        with housekeeping(self._database) as connection:
            page = self._next(connection)
            taken = {} if self._dry_run else leases.take(connection, self.kind, page, LEASE)
        mine = [row for row in page if self._dry_run or leases.key_of(row) in taken]
        try:
            for tenant_id, rows in groupby(mine, key=lambda row: row.tenant_id):
                self._audit(tenant_id, [row.id for row in rows])
        finally:
            with housekeeping(self._database) as connection:
                leases.end(connection, self.kind, taken)
        if len(mine) == len(page):  # otherwise another reconciler audits the others: this walk comes back to them
            self._go_on(page)

    def _next(self, connection: Connection) -> list[Row[Any]]:
        key = (QUOTE.c.tenant_id, QUOTE.c.id)
        after = tuple_(*key) > tuple_(*(literal(part) for part in self._last))
        return list(connection.execute(select(*key).where(after).order_by(*key).limit(self._page)))

    def _audit(self, tenant_id: UUID, quotes: Sequence[UUID]) -> None:
        """Audit quotes of one tenant. When that fails, they are set aside until the next walk, and this walk forgets nothing."""
        with isolated("reconcile", "audited_quotes", tenantId=tenant_id, firstQuoteId=quotes[0], lastQuoteId=quotes[-1]):
            with transaction(self._database, tenant_id, SNAPSHOT) as connection:
                self._look(connection, tenant_id, quotes)
            AUDITED_QUOTES.inc(len(quotes))
            return
        self._is_whole = False

    def _look(self, connection: Connection, tenant_id: UUID, quotes: Sequence[UUID]) -> None:
        """Note each violation. A rule that could not be checked is noted as well, because it may be violated."""
        try:
            for code, sentence in _EXCERPTS.violations(connection, tenant_id, quotes):
                self._note(tenant_id, code, sentence)
        except UncheckedRulesError as error:
            for code, reason in error.reasons.items():
                self._unchecked.add((tenant_id, code))
                self._note(tenant_id, code, f"{code} could not be checked: {reason}")

    def _note(self, tenant_id: UUID, code: str, sentence: str) -> None:
        violation = (tenant_id, code, sentence)
        if violation not in self._known:
            if len(self._known) >= MOST:
                return
            _log.error("audit_violation_found", invariant=code, violation=sentence, tenantId=str(tenant_id))
        self._known[violation] = self._walk

    def _go_on(self, page: Sequence[Row[Any]]) -> None:
        """Remember the place. At the end of a walk without failures, forget the violations that were not found again."""
        self._last = (page[-1].tenant_id, page[-1].id) if len(page) == self._page else START
        if self._last == START and self._is_whole:
            self._forget()
            self._walk += 1
        if self._last == START:
            self._unchecked.clear()
        self._is_whole = self._is_whole or self._last == START
        for code in dict.fromkeys(self._codes()):
            AUDIT_VIOLATIONS.labels(code).set(sum(known[1] == code for known in self._known))

    def _forget(self) -> None:
        """A violation of a rule that could not be checked may still be there."""
        gone = [known for known, walk in self._known.items() if walk < self._walk and known[:2] not in self._unchecked]
        for tenant_id, code, sentence in gone:
            del self._known[tenant_id, code, sentence]
            _log.info("audit_violation_gone", invariant=code, violation=sentence, tenantId=str(tenant_id))

    @staticmethod
    def _codes() -> Iterator[str]:
        return (RULES[number].code for number, _ in _EXCERPTS.queries)
