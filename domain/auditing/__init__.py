"""The invariants of a whole history, as read-only queries: what must be true of a tenant once everything is settled.

A guard, a constraint or a claim enforces each rule elsewhere. The audit checks it again on the rows that are left, with SQL of its own, so
that it finds a mistake in a guard. Codes are those of docs/domain.md#invariants.

This room needs every other room of the domain; only reconciliation, the demo and the tests need it.
"""

from __future__ import annotations

from domain.auditing.checking import CheckResult
from domain.auditing.outside import CommittedEvent, Snapshot, StepOutcome, WantedWorkflow, inspect

__all__ = ["CheckResult", "CommittedEvent", "Snapshot", "StepOutcome", "WantedWorkflow", "inspect"]
