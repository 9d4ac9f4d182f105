"""The audit of a tenant once everything is settled: it compares the database, the engine, Kafka and the provider.

It repairs nothing and trusts no side: every figure is counted, and every disagreement is a sentence with the ids that it is about.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import sqlalchemy
from rich.table import Table
from rich.text import Text

from domain import auditing
from domain.auditing import CheckResult, Snapshot
from reconciliation.archived_rows import load, seeing_archives
from reconciliation.audit_agreement import (
    LedgerEntry,
    events_agree,
    one_instance,
    processes_agree,
    provider_agrees,
    with_completions,
    with_deliveries,
    with_incidents,
)
from reconciliation.audit_sources import CamundaHistory, EngineHistory, EventRecords, KafkaTopics
from workers.runtime.engine import Engine
from workers.runtime.kafka_access import KafkaAccess

SHOWN = 5  # violations of one invariant that a table lists


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """What was counted and what was found, in the order of the invariants' numbers."""

    tenant_id: UUID
    checks: tuple[CheckResult, ...]

    @property
    def violations(self) -> int:
        """The number of violations of all invariants."""
        return sum(len(check.violations) for check in self.checks)

    @property
    def passed(self) -> bool:
        return not self.violations

    def as_json(self) -> dict[str, Any]:
        """The report for machines."""
        checks = [
            {
                "code": check.code,
                "title": check.title,
                "passed": check.passed,
                "counted": dict(check.counted),
                "violations": list(check.violations),
            }
            for check in self.checks
        ]
        return {"tenantId": str(self.tenant_id), "passed": self.passed, "violations": self.violations, "checks": checks}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """Everything that the database is compared with. `ledger`: the provider's entries as `GET /sandbox/ledger` gives them."""

    engine: EngineHistory
    events: EventRecords
    ledger: Callable[[], Sequence[LedgerEntry]]


class Audit:
    """Audits a tenant of which nothing is under way any more; what is still on its way would count as missing.

    Raises the errors of a side that cannot be reached: OperationalError, EngineError, KafkaUnavailableError, and the ledger's own.
    """

    def __init__(
        self,
        database: sqlalchemy.Engine,
        engine: Engine,
        kafka: KafkaAccess,
        provider_ledger: Callable[[], Sequence[LedgerEntry]],
        archive: Path | None = None,
    ) -> None:
        self._database = database
        self._archive = archive
        self._outside = Outside(engine=CamundaHistory(engine), events=KafkaTopics(kafka), ledger=provider_ledger)

    def run(self, tenant_id: UUID) -> AuditReport:
        """Audit one tenant. No transaction is open while the engine, Kafka and the provider are read."""
        return compare(*self.inspect(tenant_id), self._outside)

    def inspect(self, tenant_id: UUID) -> tuple[Snapshot, CheckResult]:
        """The database's side at one moment, with the rows that are archived, and whether the archive is whole."""
        with seeing_archives(self._database, self._archive) as connection:
            whole = load(connection, tenant_id, self._archive)
            return auditing.inspect(connection, tenant_id), whole


def compare(snapshot: Snapshot, archive: CheckResult, outside: Outside) -> AuditReport:
    """Compare the database's side with the others."""
    ledger = outside.ledger()
    instances = outside.engine.instances(snapshot.tenant_id)
    results = {result.code: result for result in snapshot.results}
    results["I13"] = with_deliveries(results["I13"], snapshot, ledger)
    results["I31"] = with_completions(results["I31"], snapshot, outside.engine)
    results["I23"] = with_incidents(results["I23"], snapshot, instances, outside.engine)
    checks = [
        *results.values(),
        archive,
        provider_agrees(snapshot, ledger),
        one_instance(snapshot, instances, outside.engine),
        processes_agree(snapshot, instances),
        *events_agree(snapshot, outside.events.read(snapshot.tenant_id), outside.events.lost_before()),
    ]
    return AuditReport(tenant_id=snapshot.tenant_id, checks=tuple(sorted(checks, key=lambda check: int(check.code[1:]))))


def as_table(report: AuditReport) -> Table:
    """The report for people: every invariant with its figures, and below it its first violations."""
    table = Table(title="Invariants", title_justify="left", show_lines=False)
    table.add_column("", no_wrap=True)
    table.add_column("What must hold")
    table.add_column("Counted")
    table.add_column("", no_wrap=True)
    for check in report.checks:
        figures = ", ".join(f"{name} {number}" for name, number in check.counted.items())
        verdict = Text("holds", style="green") if check.passed else Text(f"{len(check.violations)} broken", style="bold red")
        table.add_row(check.code, check.title, figures, verdict)
        for sentence in _shown(check):
            table.add_row("", Text(sentence, style="red"))
    return table


def _shown(check: CheckResult) -> list[str]:
    more = len(check.violations) - SHOWN
    return [*check.violations[:SHOWN], *([f"and {more} more"] if more > 0 else [])]
