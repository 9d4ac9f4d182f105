"""The invariants of a whole history, as read-only queries: what must be true of a tenant once everything has settled.

Every rule holds by construction somewhere else (a guard, a constraint, a claim). Here nothing is trusted: each rule is looked up in
the rows that are left, so that a mistake in a guard is seen by something that does not share it. Codes are those of the design's list.
"""

from __future__ import annotations

from domain.auditing.checking import CheckResult
from domain.auditing.outside import CommittedEvent, Snapshot, StepOutcome, WantedWorkflow, inspect

__all__ = ["CheckResult", "CommittedEvent", "Snapshot", "StepOutcome", "WantedWorkflow", "inspect"]
