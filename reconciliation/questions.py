"""Questions to providers, each under the idempotency key of the request that it is about.

The rule it keeps: a provider that hangs, is slow or away costs its own share alone. Each provider has places of its own in each sweep, and a
sweep leaves behind what is not answered in time: the answer counts in the next sweep. A question that brought no news is asked again after
twice as long a wait, which stands in the database. What is to be given up does not wait for a place at a provider that answers nothing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from math import inf
from threading import Lock
from typing import Any, Final, TypeAlias

import structlog
from sqlalchemy import Connection, Row, Table
from sqlalchemy import Engine as Database

from domain.delivery.unanswered import Unasked
from domain.store import claims
from domain.store.claims import LONGEST_WAIT
from domain.store.unit_of_work import housekeeping
from reconciliation.alone import alone
from reconciliation.rounds import LEASE, ROUND, budget_ends, in_time
from workers.providers.port import Provider, ProviderError, ProviderReply, ProviderUnavailableError
from workers.runtime.set_aside import set_aside

PLACES = 4  # questions of one sweep to one provider at the same time
HANGS_AFTER = timedelta(minutes=1)  # a provider whose places are all taken, and that has answered nothing for so long, hangs
PATIENCE = timedelta(seconds=1)  # without any answer, a sweep waits so long for those that are left
LONGEST_WAIT_WITHOUT_REPLY = timedelta(seconds=30)  # a provider that is back is asked again soon

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Replied:
    """The provider has the request, and says what became of it."""

    reply: ProviderReply


class Unreplied(Enum):
    """A question that brought no reply: the provider has never seen the request, or nobody could be asked."""

    NEVER_SEEN = "never seen"
    NO_REPLY = "no reply"


NEVER_SEEN: Final = Unreplied.NEVER_SEEN
NO_REPLY: Final = Unreplied.NO_REPLY
Outcome: TypeAlias = Replied | Unreplied
Take: TypeAlias = Callable[[Connection, int, timedelta | None, Unasked], Sequence[Row[Any]]]
"""Claims rows: how many, for how long (None: a dry run), and which providers cannot be asked now."""


class ProviderPlaces:
    """Asks each provider in its own threads, and knows which providers hang."""

    def __init__(self, providers: Mapping[str, Provider], places: int = PLACES) -> None:
        self._providers = providers
        self._places = places
        self._threads = {name: ThreadPoolExecutor(places, thread_name_prefix=f"ask {name}") for name in providers}
        self._running: Counter[str] = Counter()
        self._silent_since: dict[str, float] = {}
        self._lock = Lock()

    def __contains__(self, name: object) -> bool:
        return name in self._providers

    def full(self) -> set[str]:
        """The providers whose places are all taken."""
        with self._lock:
            return {name for name, running in self._running.items() if running >= self._places}

    def hanging(self) -> set[str]:
        """The providers whose places are all taken, and that have answered nothing for a minute (`HANGS_AFTER`)."""
        long_ago = time.monotonic() - HANGS_AFTER.total_seconds()
        return {name for name in self.full() if self._silent_since.get(name, inf) <= long_ago}

    def ask(self, name: str, key: str, away: set[str]) -> Future[Outcome]:
        """Ask when a place is free; a provider that is found unreachable is put into `away`, and is not asked while it is there."""
        return self._threads[name].submit(self._ask, name, key, away)

    def _ask(self, name: str, key: str, away: set[str]) -> Outcome:
        with self._lock:
            self._running[name] += 1
        try:
            return NO_REPLY if name in away else self._outcome(name, key)
        except ProviderUnavailableError:
            # One question that finds a provider unreachable speaks for all of its questions. It is away, and does not hang.
            away.add(name)
            self._silent_since.pop(name, None)
        except ProviderError as error:
            _log.warning("provider_gave_no_answer", provider=name, idempotencyKey=key, reason=str(error))
        except Exception as error:  # noqa: BLE001 - what one answer raises must not end the questions about the other rows
            set_aside("reconcile", "answer", error, provider=name, idempotencyKey=key)
        finally:
            with self._lock:
                self._running[name] -= 1
        return NO_REPLY

    def _outcome(self, name: str, key: str) -> Outcome:
        self._silent_since.setdefault(name, time.monotonic())
        reply = self._providers[name].query(key)
        self._silent_since.pop(name, None)
        return NEVER_SEEN if reply is None else Replied(reply)


class Questions:
    """Asks about rows of `table` that bring `provider_name` and `has_lookup`, under the key that `key_of` returns for a row.

    `row_key` is the name that the rows give to the id of the table.
    """

    def __init__(
        self,
        database: Database,
        providers: Mapping[str, Provider],
        table: Table,
        *,
        take: Take,
        key_of: Callable[[Row[Any]], str],
        row_key: str = "id",
        dry_run: bool = False,
    ) -> None:
        self._database = database
        self._places = ProviderPlaces(providers)
        self._table = table
        self._claim = take
        self._key_of = key_of
        self._row_key = row_key
        self._dry_run = dry_run
        self._away: set[str] = set()
        self._late: dict[Future[Outcome], Row[Any]] = {}

    def put(self, sweep: str, act: Callable[[Row[Any], Outcome], bool], until: float | None = None) -> int:
        """Ask about every row that is due, until the budget is used up; returns how often `act` says that the outcome changed something.

        `until`: what `budget_ends` has said; None: the budget begins now.
        """
        known, self._away = self._away, set()
        until = budget_ends() if until is None else until
        changed = self._deal(sweep, in_time(self._answered_late(), until), act)
        while rows := self._take(hanging := self._places.hanging()):
            changed += self._deal(sweep, self._ask(rows, hanging, until), act)
            if self._dry_run or time.monotonic() >= until:
                break
        for name in self._away - known:
            _log.error("provider_cannot_be_asked", provider=name, hint="is it configured, and started?")
        return changed

    def _take(self, hanging: set[str]) -> Sequence[Row[Any]]:
        unasked = Unasked(busy=frozenset((self._places.full() - hanging) | self._away), hanging=frozenset(hanging))
        with housekeeping(self._database) as connection:
            return self._claim(connection, ROUND, None if self._dry_run else LEASE, unasked)

    def _deal(
        self, sweep: str, outcomes: Iterator[tuple[Row[Any], Outcome | None]], act: Callable[[Row[Any], Outcome], bool]
    ) -> int:
        changed, unasked = 0, []
        no_news: list[tuple[Row[Any], timedelta]] = []
        for row, outcome in outcomes:
            if outcome is None:
                unasked.append(row)
            elif alone(sweep, act, row, outcome):
                changed += 1
            else:
                longest = LONGEST_WAIT_WITHOUT_REPLY if outcome is NO_REPLY else LONGEST_WAIT
                no_news.append((row, claims.longer(row.claim_no, longest)))
        if not self._dry_run and (no_news or unasked):
            with housekeeping(self._database) as connection:
                claims.check_later(connection, self._table, no_news, key=self._row_key)
                claims.give_back(connection, self._table, unasked, key=self._row_key)
        return changed

    def _ask(self, rows: Sequence[Row[Any]], hanging: set[str], until: float) -> Iterator[tuple[Row[Any], Outcome | None]]:
        """Yield each row with its outcome, or with None if nobody asked about it. The next sweep deals with answers that come too late."""
        calls: dict[Future[Outcome], Row[Any]] = {}
        silent: list[Row[Any]] = []
        for row in rows:
            if not row.has_lookup or row.provider_name in hanging:
                silent.append(row)
            elif row.provider_name in self._places:
                calls[self._places.ask(row.provider_name, self._key_of(row), self._away)] = row
            else:
                self._away.add(row.provider_name)
                silent.append(row)
        left_over = iter(silent)
        yield from ((row, NO_REPLY) for row in in_time(left_over, until))
        yield from ((row, None) for row in left_over)
        while calls and (left := until - time.monotonic()) > 0:
            done, _ = wait(calls, timeout=min(PATIENCE.total_seconds(), left), return_when=FIRST_COMPLETED)
            if not done:
                break
            for call in in_time(done, until):
                yield calls.pop(call), call.result()
        for call, row in calls.items():
            if call.cancel():
                yield row, None
            else:
                self._late[call] = row

    def _answered_late(self) -> Iterator[tuple[Row[Any], Outcome]]:
        for call in [call for call in self._late if call.done()]:
            yield self._late.pop(call), call.result()


def key_of_attempt(row: Row[Any]) -> str:
    """The key that the attempt was sent with."""
    return str(row.idempotency_key)
