"""The unit of work of every process: the domain's, with the line that each command leaves in the log.

The rule it keeps: the line is written after COMMIT, so that no log tells of what was rolled back (decision 0042). Field names are those of
docs/domain.md#refusals-logs-and-metrics.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import structlog
from sqlalchemy import Engine as Database

from domain.errors import OutcomeUnknownError, Refusal, TryAgain
from domain.store import Cause, UnitOfWork
from domain.store import unit_of_work as domain_unit_of_work
from domain.store.summary import Summary
from workers.runtime.changes_counted import count_changes
from workers.runtime.log_fields import fields_of
from workers.runtime.refusals import record_refusal

OF_A_TRANSITION = ("aggregate_type", "aggregate_id", "transition_from", "transition_to")
_log = structlog.get_logger()


@contextmanager
def unit_of_work(database: Database, cause: Cause) -> Iterator[UnitOfWork]:
    """Open the transaction of one command, and log what became of it; a refusal is counted as well. Raises as the domain's does."""
    summary = Summary()
    try:
        with domain_unit_of_work(database, cause) as uow:
            summary = uow.summary
            yield uow
    except Refusal as refusal:
        record_refusal(refusal, cause, summary.facts)
        raise
    except (TryAgain, OutcomeUnknownError) as error:
        _log.warning("command_undecided", reason=error.code, **fields_of(cause, summary.facts))
        raise
    for conflict in summary.conflicts:
        record_refusal(conflict, cause, summary.facts)
    count_changes(transition for transition, _ in summary.transitions)
    _tell(cause, summary)


class _TakenBack(Exception):
    """Ends the transaction of a trial."""


@contextmanager
def trial(database: Database, cause: Cause) -> Iterator[UnitOfWork]:
    """Open a transaction that is always rolled back. It leaves no log line, because nothing has happened.

    A refusal must not leave the block: it would be recorded, as that of a command.
    """
    with suppress(_TakenBack), domain_unit_of_work(database, cause) as uow:
        yield uow
        raise _TakenBack


def _tell(cause: Cause, summary: Summary) -> None:
    # Looking for work, a sign of life: nothing that anybody traces, and by far the most of all units of work.
    write = _log.info if summary.transitions or summary.is_told else _log.debug
    changes = [_change(transition, expected) for transition, expected in summary.transitions]
    first = changes[0] if changes else {}
    more = {"transitions": [fields_of(None, change) for change in changes]} if len(changes) > 1 else {}
    write("command_committed", outcome=summary.outcome.value, **fields_of(cause, {**summary.facts, **first}), **more)


def _change(transition: Mapping[str, Any], expected: int | None) -> dict[str, Any]:
    emitted = {"event_id": transition["emitted_event_id"]} if "emitted_event_id" in transition else {}
    known = {name: transition[name] for name in OF_A_TRANSITION}
    return {**known, "expected_version": expected, "actual_version": transition["aggregate_version"], **emitted}
