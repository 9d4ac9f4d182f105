"""Audits what belongs to the next quotes, all the time, with the rules that the database alone can answer (decision 0041).

The rule it keeps: a round reads what belongs to some quotes and no more, however many there are. What is on its way is no violation, because
each rule knows how old it must be. Nothing is repaired: a violation is logged once, and counted as long as it is there.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from itertools import groupby, takewhile
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
from domain.store.leases import Key
from domain.store.reading import SNAPSHOT
from domain.store.transactions import transaction
from domain.store.unit_of_work import housekeeping
from reconciliation.rounds import LEASE, in_time
from workers.runtime.metrics import AUDIT_VIOLATIONS, AUDITED_QUOTES
from workers.runtime.set_aside import isolated

PAGE = 50  # quotes of a round: some thousand rows, some tenths of a second
MOST = 1_000  # violations of one invariant that are remembered: beyond that, more of them tell nobody more
START = (UUID(int=0), UUID(int=0))
QUOTE = table_of(Quote)
_EXCERPTS = Excerpts(IDS_OF_SEVERAL, PARTS)

_log = structlog.get_logger()
Violation = tuple[UUID, str]
"""The tenant, and the sentence that says what is wrong."""


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
        self._known: dict[str, dict[Violation, int]] = defaultdict(dict)
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
        audited: set[Key] = set()
        try:
            for tenant_id, rows in in_time(groupby(mine, key=lambda row: row.tenant_id)):
                quotes = [row.id for row in rows]
                self._audit(tenant_id, quotes)
                audited.update((tenant_id, quote) for quote in quotes)
        finally:
            with housekeeping(self._database) as connection:
                leases.end(connection, self.kind, taken)
        self._go_on(page, list(takewhile(lambda row: leases.key_of(row) in audited, page)))

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
        violation, known = (tenant_id, sentence), self._known[code]
        if violation not in known:
            if len(known) >= MOST:
                return
            _log.error("audit_violation_found", invariant=code, violation=sentence, tenantId=str(tenant_id))
        known[violation] = self._walk

    def _go_on(self, page: Sequence[Row[Any]], audited: Sequence[Row[Any]]) -> None:
        """Remember the place behind `audited`, the quotes at the head of the page that were audited.

        The walk comes back to the others: another reconciler audits them, or there was no time for them.
        """
        if audited:
            self._last = leases.key_of(audited[-1])
        if len(audited) == len(page) < self._page:
            self._end_walk()
        for code in dict.fromkeys(self._codes()):
            AUDIT_VIOLATIONS.labels(code).set(len(self._known[code]))

    def _end_walk(self) -> None:
        """Forget the violations that were not found again, unless quotes could not be audited."""
        if self._is_whole:
            for code, known in self._known.items():
                self._forget(code, known)
            self._walk += 1
        self._last, self._is_whole = START, True
        self._unchecked.clear()

    def _forget(self, code: str, known: dict[Violation, int]) -> None:
        """A violation of a rule that could not be checked may still be there."""
        gone = [each for each, walk in known.items() if walk < self._walk and (each[0], code) not in self._unchecked]
        for tenant_id, sentence in gone:
            del known[tenant_id, sentence]
            _log.info("audit_violation_gone", invariant=code, violation=sentence, tenantId=str(tenant_id))

    @staticmethod
    def _codes() -> Iterator[str]:
        return (RULES[number].code for number, _ in _EXCERPTS.queries)
