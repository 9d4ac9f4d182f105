"""Ends a process instance in the engine. The finding about it is recorded before, and stays OPEN until the instance has ended.

The rule it keeps: what the engine does not end is for a person, once. It is tried again after a pause, because the refusal may pass.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from domain.delivery import incidents
from domain.findings import FindingStatus
from reconciliation.repairs import Action, Repair, Repairs
from workers.runtime.engine import Engine, EngineRefusedError


def end_instance(engine: Engine, repairs: Repairs, repair: Repair, reason: str, recorded: Collection[str]) -> None:
    """End the instance that `repair` is about. Changes nothing in a dry run.

    `recorded`: the actions of the findings about it. Raises EngineError; before that, a refusal opens a case if the instance acts for
    something, and none was opened before. When another transaction of the engine was only faster, there is no case.
    """
    if repairs.dry_run:
        return
    instance_id = repair.evidence["processInstanceId"]
    try:
        engine.delete_instance(instance_id, reason)
    except EngineRefusedError as refusal:
        key, why = repair.business_key, str(refusal)
        if key is not None and not refusal.is_concurrency and Action.CASE_OPENED not in recorded:
            opened = replace(repair, action=Action.CASE_OPENED, status=FindingStatus.REPAIRED)
            repairs.make(opened, lambda uow: incidents.report_not_ended(uow, key, instance_id, why))
        raise
