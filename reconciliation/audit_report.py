"""What an audit found, for people and for machines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

from rich.table import Table
from rich.text import Text

from domain.auditing import CheckResult
from domain.auditing.invariants import INVARIANTS

SHOWN = 5  # violations of one invariant that a table lists


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """What was counted and what was found, in the order of the invariants' numbers.

    `out_of_reach`: why sides could not be read that should have been; what was to be looked up there is in no check.
    """

    tenant_id: UUID
    checks: tuple[CheckResult, ...]
    out_of_reach: tuple[str, ...] = ()

    @classmethod
    def unread(cls, tenant_id: UUID, reason: str) -> Self:
        """The report of a tenant whose audit has failed: nothing of it was looked at."""
        checks = (CheckResult(code=each.code, title=each.title, unseen=reason) for each in INVARIANTS.values())
        return cls(tenant_id=tenant_id, checks=tuple(checks), out_of_reach=(f"tenant {tenant_id}: {reason}",))

    @property
    def violations(self) -> int:
        """The number of violations of all invariants."""
        return sum(len(check.violations) for check in self.checks)

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong, as far as there are sides to look at, and all of those were reached."""
        return not self.violations and not self.out_of_reach

    def as_json(self) -> dict[str, Any]:
        """The report as other programs read it."""
        checks = [
            {
                "code": check.code,
                "title": check.title,
                "passed": check.passed,
                "notLookedAt": check.unseen or None,
                "olderThanSeconds": check.age.total_seconds(),
                "counted": dict(check.counted),
                "violations": list(check.violations),
            }
            for check in self.checks
        ]
        return {
            "tenantId": str(self.tenant_id),
            "passed": self.passed,
            "violations": self.violations,
            "outOfReach": list(self.out_of_reach),
            "checks": checks,
        }


def as_table(report: AuditReport, title: str = "Invariants") -> Table:
    """The report for people: every invariant with its figures, and below it its first violations."""
    table = Table(title=title, title_justify="left", show_lines=False)
    table.add_column("", no_wrap=True)
    table.add_column("What must hold")
    table.add_column("Counted")
    table.add_column("", no_wrap=True)
    for check in report.checks:
        figures = ", ".join(f"{name} {number}" for name, number in check.counted.items())
        table.add_row(check.code, check.title, figures, _verdict(check))
        for sentence in _shown(check):
            table.add_row("", Text(sentence, style="red"))
        if check.unseen:
            table.add_row("", Text(f"not looked at: {check.unseen}", style="yellow"))
    return table


def _verdict(check: CheckResult) -> Text:
    if check.violations:
        return Text(f"{len(check.violations)} broken", style="bold red")
    return Text("not looked at", style="yellow") if check.unseen else Text("holds", style="green")


def _shown(check: CheckResult) -> list[str]:
    more = len(check.violations) - SHOWN
    return [*check.violations[:SHOWN], *([f"and {more} more"] if more > 0 else [])]
