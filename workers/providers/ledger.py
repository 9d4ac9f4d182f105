"""Reads the ledger of a provider that has one: what it has really done, independent of what the product has recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

import httpx
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from workers.providers.budget import BudgetTransport, CallBudget
from workers.runtime.outages import OutageError
from workers.runtime.transport import ClientTls

BUDGET: Final = CallBudget(connect=timedelta(seconds=10), total=timedelta(seconds=30), response_bytes=256 * 1024 * 1024)
"""A ledger is one answer with every key that ever came: some 300 bytes for each."""


class LedgerUnavailableError(OutageError):
    """The provider did not show its ledger."""


class _Entry(BaseModel):
    """An idempotency key with what became of it at the provider."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    idempotency_key: str
    step_ref: str
    step_code: str
    effects: int
    reversals: int
    net: int
    requests: int
    callbacks: int


_ENTRIES = TypeAdapter(list[_Entry])


class HttpLedger:
    """A ledger behind an HTTP address."""

    def __init__(self, url: str, tls: ClientTls, budget: CallBudget = BUDGET) -> None:
        self._url = url
        self._tls = tls
        self._budget = budget

    def entries(self) -> Sequence[Mapping[str, Any]]:
        """Every key that ever came, and its effects. Raises LedgerUnavailableError."""
        try:
            with httpx.Client(transport=BudgetTransport(self._budget, self._tls.context())) as client:
                answer = client.get(self._url).raise_for_status()
            return [entry.model_dump(by_alias=True) for entry in _ENTRIES.validate_json(answer.content)]
        except ValidationError as error:
            raise LedgerUnavailableError(f"{self._url} answers no ledger: {error.errors()[0]['msg']}") from error
        except httpx.HTTPError as error:
            reason = self._tls.explain(error, self._url) or str(error) or type(error).__name__
            raise LedgerUnavailableError(f"the provider does not show its ledger at {self._url}: {reason}") from error
