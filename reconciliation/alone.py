"""How a sweep acts on one row: what the row raises stops neither the other rows nor the other sweeps.

The rule it keeps: an outage passes, because it concerns every row. Any other error is the row's own: it is logged with the row's ids, it is
counted, and nothing of the row is changed, so that a later sweep finds it again. The pause before that doubles with each failure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import structlog

from domain.errors import TryAgain
from domain.store.base import camel
from workers.runtime.set_aside import Pauses, isolated

_IDS = frozenset(
    {"tenant_id", "id", "row_id", "question_id", "business_key", "order_id", "step_id", "process_instance_id", "provider_name"}
)

_log = structlog.get_logger()
_pauses = Pauses()


class Named(Protocol):
    """A row of a query, or a named tuple."""

    def _asdict(self) -> dict[str, Any]: ...


def alone(sweep: str, act: Callable[..., bool], row: Named, *more: object) -> bool:
    """Act on a row, and say whether that changed something; not when the row fails or is locked by another process. Raises outages."""
    ids = ids_of(row)
    key = (sweep, *ids.values())
    if key in _pauses:
        return False
    try:
        with isolated("reconcile", sweep, **ids):
            is_changed = act(row, *more)
            _pauses.end(key)
            return is_changed
        _pauses.prolong(key)
    except TryAgain as busy:
        _log.info("reconciliation_row_busy", sweep=sweep, reason=str(busy), **ids)
    return False


def ids_of(row: Named) -> Mapping[str, object]:
    """What names a row in the log."""
    return {camel(name): value for name, value in row._asdict().items() if name in _IDS}  # noqa: SLF001 - its public name
