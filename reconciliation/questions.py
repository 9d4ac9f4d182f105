"""Questions to providers, each under the idempotency key of the request that it is about.

The rule it keeps: a provider that is away or slow does not delay the questions to others. A question that brought no news is asked again
after twice as long a pause.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any, Final, TypeAlias
from uuid import UUID

import structlog
from sqlalchemy import Row

from reconciliation.backoff import Backoff
from workers.providers.port import Provider, ProviderError, ProviderReply, ProviderUnavailableError
from workers.runtime.set_aside import set_aside

BUDGET = timedelta(seconds=5)  # for the questions of one sweep: the other sweeps wait meanwhile

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """How long each kind of silence may last; the same for every question.

    `attempt_stale_after`: after this time a silent worker counts as dead, and a callback as overdue.
    `request_safe_interval`: the longest time that a request may be on its way; before it is over, "never seen" proves nothing.
    `give_up_after`: after this time a person must find out.
    """

    attempt_stale_after: timedelta
    request_safe_interval: timedelta
    give_up_after: timedelta


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


class Questions:
    """Asks about rows that bring `question_id`, `provider_name` and `has_lookup`, under the key that `key_of` returns for a row."""

    def __init__(self, providers: Mapping[str, Provider], key_of: Callable[[Row[Any]], str]) -> None:
        self._providers = providers
        self._key_of = key_of
        self._backoff = Backoff()
        self._unreachable: set[str] = set()

    def put(self, rows: Sequence[Row[Any]]) -> Iterator[tuple[Row[Any], Outcome]]:
        """Ask about every row that may be asked again now, and yield it with the outcome. Ends when the budget is used up."""
        self._backoff.keep_only({row.question_id for row in rows})
        ends_at = time.monotonic() + BUDGET.total_seconds()
        known, self._unreachable = self._unreachable, set()
        for row in rows:
            if time.monotonic() > ends_at:
                break
            if self._backoff.may_ask(row.question_id):
                yield row, self._ask(row)
        for name in self._unreachable - known:
            _log.error("provider_cannot_be_asked", provider=name, hint="is it configured, and started?")

    def ask_later(self, question_id: UUID) -> None:
        """Postpone a question whose outcome brought no news."""
        self._backoff.wait(question_id)

    def _ask(self, row: Row[Any]) -> Outcome:
        provider = self._providers.get(row.provider_name)
        if not row.has_lookup or row.provider_name in self._unreachable:
            return NO_REPLY
        # The first row that finds a provider unreachable speaks for all of this provider's rows.
        if provider is None:
            self._unreachable.add(row.provider_name)
            return NO_REPLY
        key = self._key_of(row)
        try:
            reply = provider.query(key)
        except ProviderUnavailableError:
            self._unreachable.add(row.provider_name)
            return NO_REPLY
        except ProviderError as error:
            _log.warning("provider_gave_no_answer", provider=row.provider_name, idempotencyKey=key, reason=str(error))
            self._backoff.wait(row.question_id)
            return NO_REPLY
        except Exception as error:  # noqa: BLE001 - what one answer raises must not end the questions about the other rows
            set_aside("reconcile", "answer", error, provider=row.provider_name, idempotencyKey=key)
            self._backoff.wait(row.question_id)
            return NO_REPLY
        return NEVER_SEEN if reply is None else Replied(reply)


def key_of_attempt(row: Row[Any]) -> str:
    """The key that the attempt was sent with."""
    return str(row.idempotency_key)
