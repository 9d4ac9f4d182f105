"""How a sweep acts on one row: what the row raises stops neither the other rows nor the other sweeps.

The rule it keeps: an outage passes, because it concerns every row. Any other error is the row's own: it is logged with the row's ids, it is
counted, and nothing of the row is changed, so that a later sweep finds it again. The pause before that doubles with each failure. So does
that of a row which another process has locked. An unusable answer of the engine is the row's own as well, until it is given for one row
after the other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import structlog

from domain.errors import TryAgain
from domain.store.base import camel
from workers.runtime.engine import EngineOutcomeUnknownError
from workers.runtime.set_aside import Pauses, isolated, set_aside

_IDS = frozenset(
    {
        *("tenant_id", "id", "question_id", "business_key", "order_id", "step_id"),
        *("process_instance_id", "activity_id", "provider_name"),
    }
)
UNUSABLE_IN_A_ROW = 3  # rows for which the engine's answer is unusable, one after the other: no row is to blame for that

_log = structlog.get_logger()
_pauses = Pauses()
_unusable: dict[str, set[tuple[object, ...]]] = defaultdict(set)
"""Sweep -> the rows for which the engine has given unusable answers, since it gave the sweep a usable one."""


class Named(Protocol):
    """A row of a query, or a named tuple."""

    def _asdict(self) -> dict[str, Any]: ...


def alone(sweep: str, act: Callable[..., bool], row: Named, *more: object) -> bool:
    """Act on a row, and say whether that changed something; not when the row fails or is locked by another process. Raises outages.

    One row's time-out or unusable answer of the engine is no outage yet: the engine may answer for the next row.
    """
    ids = ids_of(row)
    key = (sweep, *ids.values())
    if key in _pauses:
        return False
    try:
        with isolated("reconcile", sweep, **ids):
            is_changed = act(row, *more)
            _pauses.end(key)
            _unusable[sweep].clear()
            return is_changed
        _pauses.prolong(key)
    except TryAgain as busy:
        _pauses.prolong(key)
        _log.info("reconciliation_row_busy", sweep=sweep, reason=str(busy), **ids)
    except EngineOutcomeUnknownError as error:
        _pauses.prolong(key)
        set_aside("reconcile", sweep, error, **ids)
        _unusable[sweep].add(key)
        if len(_unusable[sweep]) >= UNUSABLE_IN_A_ROW:
            raise
    return False


def ids_of(row: Named) -> Mapping[str, object]:
    """What names a row in the log."""
    return {camel(name): value for name, value in row._asdict().items() if name in _IDS}  # noqa: SLF001 - its public name
