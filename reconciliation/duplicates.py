"""Running process instances that the domain does not count: a second one of the same business, or one that somebody started by hand.

The rule it keeps: the registered instance is never ended. Any other instance of our processes can do nothing, because the registration gate
refuses it, or because no process of ours has called it; it is ended after the gate had its time. What belongs to another tenant or to another
process is left alone, and reported once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import NAMESPACE_URL, UUID, uuid5

from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain import findings
from domain.findings import FindingStatus
from domain.store import UnitOfWork
from domain.store.unit_of_work import housekeeping
from domain.workflows import starts, watching
from domain.workflows.keys import PROCESSES, STARTED, BusinessKey, key_in
from domain.workflows.starts import CorrelationStatus
from reconciliation.alone import alone
from reconciliation.ending import end_instance
from reconciliation.repairs import Action, Repair, Repairs
from reconciliation.walks import PAGE, Walk
from workers.runtime.engine import Engine
from workers.runtime.engine_history import EngineInstance

REASON = "The domain does not count it: another instance has its place, or nobody has asked for it."
SETTLED = frozenset({CorrelationStatus.STARTED, CorrelationStatus.ENDED, CorrelationStatus.LOST})
"""Whether an instance of another start may still be on its way is not known before."""

NOBODY = UUID(int=0)


class _Found(NamedTuple):
    """A running instance; the log names its id."""

    process_instance_id: str
    instance: EngineInstance


class Duplicates:
    """Ends or reports running instances that the domain does not count.

    `gate_grace` is how long an instance may take to reach the registration gate. `ours` are the processes that only the suite may start.
    """

    kind = "duplicate"

    def __init__(
        self, database: Database, engine: Engine, repairs: Repairs, gate_grace: timedelta, ours: Collection[str] = PROCESSES
    ) -> None:
        self._database = database
        self._engine = engine
        self._repairs = repairs
        self._ours = ours
        self._gate_grace = gate_grace
        self._walk = Walk()

    def sweep(self) -> int:
        """Look at one page of the running instances; returns how many were ended or reported. Raises EngineError."""
        page = self._engine.running_roots(self._walk.first, PAGE, started_before=datetime.now(UTC) - self._gate_grace)
        keys = {one.id: key for one in page if (key := key_in(one.business_key)) is not None}
        with housekeeping(self._database) as connection:
            known = watching.correlations_of(connection, keys.values())
            recorded = findings.recorded_of(connection, self.kind, {_subject(one, keys.get(one.id)) for one in page})
            tenants = watching.tenants_among(connection, {each for one in page if (each := _tenant_of(one)) is not None})
        return sum(
            alone(
                self.kind,
                self._look_at,
                _Found(one.id, one),
                keys.get(one.id),
                known.get(one.business_key),
                recorded.get(one.id, ()),
            )
            for one in self._walk.through(page)
            if _tenant_of(one) in tenants or one.id in keys
        )

    def _look_at(self, found: _Found, key: BusinessKey | None, known: Row[Any] | None, recorded: Collection[str]) -> bool:
        one = found.instance
        if one.definition_key not in self._ours or (key is not None and one.tenant_id != str(key.tenant_id)):
            return key is not None and not recorded and self._report(one, key)
        if known is not None and not _is_duplicate(one, known):
            return False
        return self._terminate(one, key, known, recorded)

    def _report(self, one: EngineInstance, key: BusinessKey) -> bool:
        return self._repairs.make(_repair(one, key, Action.LEFT, None), lambda _: True)

    def _terminate(self, one: EngineInstance, key: BusinessKey | None, known: Row[Any] | None, recorded: Collection[str]) -> bool:
        repair = _repair(one, key, Action.TERMINATED, known)
        is_recorded = Action.TERMINATED in recorded
        if not is_recorded and not self._repairs.make(repair, lambda uow: _still_counts_not(uow, one, _subject(one, key))):
            return False
        # We may write only into the processes that the domain starts, so an instance of another one ends without the reason.
        reason = REASON if one.definition_key in STARTED else ""
        end_instance(self._engine, self._repairs, repair, reason, recorded)
        return not is_recorded


def _subject(one: EngineInstance, key: BusinessKey | None) -> tuple[UUID, UUID]:
    """The tenant and the aggregate that the finding about an instance names."""
    if key is not None:
        return key.tenant_id, key.id
    return _tenant_of(one) or NOBODY, uuid5(NAMESPACE_URL, one.id)  # it acts for nothing that has an id


def _repair(one: EngineInstance, key: BusinessKey | None, action: Action, known: Row[Any] | None) -> Repair:
    tenant_id, aggregate_id = _subject(one, key)
    evidence: Mapping[str, Any] = {
        "processInstanceId": one.id,
        "businessKey": one.business_key,  # whoever starts an instance by hand may type anything
        "workflow": one.definition_key,
        "engineTenant": one.tenant_id,
        "registeredInstanceId": known.process_instance_id if known is not None else None,
    }
    return Repair(
        kind=Duplicates.kind,
        tenant_id=tenant_id,
        aggregate_type="process_instance",
        aggregate_id=aggregate_id,
        business_key=str(key) if key is not None else None,
        action=action,
        evidence=evidence,
        status=FindingStatus.OPEN,  # until the instance has ended
    )


def _tenant_of(one: EngineInstance) -> UUID | None:
    try:
        return UUID(one.tenant_id)
    except ValueError:
        return None


def _is_duplicate(one: EngineInstance, known: Row[Any]) -> bool:
    is_its_process = one.definition_key == known.workflow_name
    return known.status in SETTLED and not (is_its_process and known.process_instance_id == one.id)


def _still_counts_not(uow: UnitOfWork, one: EngineInstance, subject: tuple[UUID, UUID]) -> bool:
    """Whether the instance still does not count and nobody has recorded that. Its correlation is locked by now."""
    known = starts.find_locked(uow, one.business_key)
    recorded = findings.recorded_of(uow.connection, Duplicates.kind, {subject}).get(one.id, ())
    return Action.TERMINATED not in recorded and (known is None or _is_duplicate(one, known))
