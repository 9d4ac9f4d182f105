"""Questions put to providers, each by the key of the request that it is about.

The rule it keeps: one that is away, or slow, keeps nobody else waiting. What brought no news is asked again after twice as long a pause.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Row

from reconciliation.patience import Patience
from workers.providers.port import Provider, ProviderError, ProviderReply, ProviderUnavailableError

BUDGET = timedelta(seconds=5)  # for the questions of one sweep: the other sweeps wait meanwhile

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """How long each kind of silence may last; the same for every question.

    `stale_after`: silence after which a worker is taken for dead and a callback for overdue.
    `absence_interval`: the longest time that a request may be under way; before it is over, "never seen" proves nothing.
    `give_up_after`: the time after which a person must find out.
    """

    stale_after: timedelta
    absence_interval: timedelta
    give_up_after: timedelta


@dataclass(frozen=True, slots=True)
class Told:
    """The provider has answered; `reply` None: it has never seen the request."""

    reply: ProviderReply | None


class Questions:
    """Asks about rows that bring `question_id`, `provider_name` and `has_lookup`, by the key that `key_of` finds."""

    def __init__(self, providers: Mapping[str, Provider], key_of: Callable[[Row[Any]], str]) -> None:
        self._providers = providers
        self._key_of = key_of
        self._patience = Patience()
        self._unreachable: set[str] = set()

    def put(self, rows: Sequence[Row[Any]]) -> Iterator[tuple[Row[Any], Told | None]]:
        """Every row whose turn it is, with what was told; None when nobody told anything. Ends when the budget is used up."""
        self._patience.forget_all_but({row.question_id for row in rows})
        ends_at = time.monotonic() + BUDGET.total_seconds()
        known, self._unreachable = self._unreachable, set()
        for row in rows:
            if time.monotonic() > ends_at:
                break
            if self._patience.is_over(row.question_id):
                yield row, self._ask(row)
        for name in self._unreachable - known:
            _log.error("provider_cannot_be_asked", provider=name, hint="is it configured, and started?")

    def ask_later(self, question_id: UUID) -> None:
        """What was told brought no news."""
        self._patience.wait(question_id)

    def _ask(self, row: Row[Any]) -> Told | None:
        provider = self._providers.get(row.provider_name)
        if not row.has_lookup or row.provider_name in self._unreachable:
            return None
        # One row tells for all of this provider's.
        if provider is None:
            self._unreachable.add(row.provider_name)
            return None
        key = self._key_of(row)
        try:
            return Told(provider.query(key))
        except ProviderUnavailableError:
            self._unreachable.add(row.provider_name)
        except ProviderError as error:
            _log.warning("provider_gave_no_answer", provider=row.provider_name, idempotencyKey=key, reason=str(error))
            self._patience.wait(row.question_id)
        return None


def key_of_attempt(row: Row[Any]) -> str:
    """The key that the attempt was sent with."""
    return str(row.idempotency_key)
