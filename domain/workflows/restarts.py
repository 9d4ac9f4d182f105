"""Restarts: a new process instance takes the place of the registered one, which its caller ends afterwards (docs/upgrade.md).

The rule it keeps: an aggregate never has two instances that count, and never none. The place is given away first, in one transaction with the
request for the new instance; from then on the old one is nobody's, and may be ended at any time.
"""

from __future__ import annotations

from enum import StrEnum
from uuid import uuid4

from sqlalchemy import func

from domain.store import Move, UnitOfWork, param
from domain.store.facts import WorkflowCommandKind
from domain.workflows import instances, starts
from domain.workflows.requests import expire_all
from domain.workflows.starts import (
    CORRELATION_MATRIX,
    IS_REGISTERED,
    CorrelationEvent,
    CorrelationMovedOn,
    CorrelationStatus,
    WorkflowCorrelation,
)

RESTART = Move(
    WorkflowCorrelation,
    CORRELATION_MATRIX,
    CorrelationEvent.RESTART,
    IS_REGISTERED,
    sets={
        WorkflowCorrelation.process_instance_id: None,
        WorkflowCorrelation.start_token: param("start_token"),
        WorkflowCorrelation.variables: param("variables"),
        WorkflowCorrelation.attempts: 1,
        WorkflowCorrelation.requested_at: func.clock_timestamp(),
        WorkflowCorrelation.next_check_at: func.clock_timestamp(),
    },
    key=WorkflowCorrelation.business_key,
    illegal=dict.fromkeys(CorrelationStatus, CorrelationMovedOn),
)


class Standing(StrEnum):
    """What a process instance is to the aggregate of its business key.

    REPLACED: another instance has its place, or is asked for. UNSETTLED: whether its start counts is not known yet.
    """

    REGISTERED = "REGISTERED"
    REPLACED = "REPLACED"
    UNSETTLED = "UNSETTLED"


def standing(uow: UnitOfWork, business_key: str, process_instance_id: str) -> Standing:
    """What a process instance is to the aggregate of its business key. Raises NotFound for a key that the domain has asked no process for."""
    correlation = starts.find(uow, business_key)
    if correlation.process_instance_id == process_instance_id:
        return Standing.REGISTERED
    has_passed_the_gate = instances.find(uow, process_instance_id) is not None
    return Standing.REPLACED if correlation.process_instance_id or has_passed_the_gate else Standing.UNSETTLED


def restart(uow: UnitOfWork, business_key: str, process_instance_id: str | None) -> None:
    """Give the place of the registered instance away, and ask for a new one. `process_instance_id` None: a start that has failed.

    What is still queued for the old instance expires: the new one reads from the domain how things stand. Raises NotFound, and
    CorrelationMovedOn when this instance is not the registered one any more.
    """
    token = uuid4()
    variables = {**starts.find(uow, business_key).variables, "start_token": str(token)}
    row = uow.apply(
        RESTART, business_key=business_key, process_instance_id=process_instance_id, start_token=token, variables=variables
    )
    expire_all(uow, business_key, "RESTARTED")
    uow.ask_engine(WorkflowCommandKind.START, row.workflow_name, business_key, variables)
