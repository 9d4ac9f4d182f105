"""`q2o audit`: compares what the database, the engine, Kafka, the provider and the archive say. It changes nothing."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar
from uuid import UUID

import typer

from domain.texts import reason_of
from workers.cli_errors import AsJson, err, known_tenants, out, plain_errors, require_tenant, settings_of
from workers.runtime.counting import counted
from workers.runtime.settings import SettingError, Settings

if TYPE_CHECKING:
    from sqlalchemy import Engine as Database

    from reconciliation.audit import Audit, Outside
    from reconciliation.audit_clients import ClientRecord
    from reconciliation.audit_report import AuditReport
    from workers.runtime.kafka_access import KafkaAccess

EXIT_VIOLATION, EXIT_OUT_OF_REACH = 1, 2
GIVE_UP = 3  # tenants in a row whose audit has failed: then the others would only wait for the same error
T = TypeVar("T")


def audit(
    *,
    tenant: Annotated[UUID | None, typer.Option(help="Audit this tenant only. Default: all, one after the other.")] = None,
    settled: Annotated[
        bool, typer.Option("--settled", help="Nothing is under way any more: what is on its way counts as missing.")
    ] = False,
    clients: Annotated[
        Path | None, typer.Option(help="A record of what clients were told (docs/audit.md).", exists=True, dir_okay=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Look every invariant up in the database, the engine, Kafka, the provider's ledger and the archive.

    Exit code 1: something is wrong; 2: a side or a tenant could not be read or a rule not be checked, and nothing is wrong in the others.
    """
    from reconciliation.audit import Audit
    from workers import suite
    from workers.runtime.database_fitness import require_fit

    with plain_errors():
        settings = settings_of("audit")
        outside, archive = _outside(settings, _record_of(clients)), settings.archive
        database = suite.connect(settings, "audit")
        require_fit(database, only_to_read=archive is None)
        chosen = _chosen(database, tenant)
        reports = _audit(Audit(database, outside, archive), chosen, settled=settled)
    passed = all(report.passed for report in reports)
    if as_json:
        told = {"passed": passed, "settled": settled, "audits": [report.as_json() for report in reports]}
        sys.stdout.write(json.dumps(told, indent=2) + "\n")
    else:
        _show(reports)
    if not passed:
        raise typer.Exit(EXIT_VIOLATION if any(report.violations for report in reports) else EXIT_OUT_OF_REACH)


def _record_of(clients: Path | None) -> ClientRecord:
    from reconciliation.audit_clients import ClientRecord

    try:
        return ClientRecord.read(clients) if clients else ClientRecord()
    except (OSError, ValueError) as error:
        raise SettingError(f"--clients cannot be read: {error}") from error


def _outside(settings: Settings, record: ClientRecord) -> Outside:
    """The sides beside the database. One that is not set up is named in the report."""
    from reconciliation.audit import Outside
    from reconciliation.audit_sources import Absent, CamundaHistory, KafkaTopics
    from workers import suite
    from workers.providers.ledger import HttpLedger

    def found(make: Callable[[], T]) -> T | Absent:
        try:
            return make()
        except SettingError as missing:
            return Absent(str(missing).partition(":")[0])

    return Outside(
        # Reconciliation has the right to read every instance.
        engine=found(lambda: CamundaHistory(suite.engine_of(settings.of("reconcile")))),
        events=found(lambda: KafkaTopics(settings.kafka, replayed=partial(_replayed, settings.kafka))),
        ledger=found(lambda: HttpLedger(settings.provider_ledger_url, settings.provider_ledger_tls)).entries,
        clients=record,
    )


def _replayed(kafka: KafkaAccess) -> Collection[str]:
    """The ids of the events that `q2o dead-letters replay` has sent again, or may have."""
    from workers.kafka.letters import Letters, Replay

    return {letter.ids.get("eventId", "") for letter in Letters(kafka).all() if letter.replay is not Replay.NONE}


def _chosen(database: Database, tenant: UUID | None) -> Sequence[UUID]:
    known = known_tenants(database)
    if tenant is None:
        return known
    require_tenant(tenant, known)
    return [tenant]


def _audit(audit: Audit, chosen: Sequence[UUID], *, settled: bool) -> Sequence[AuditReport]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from reconciliation.audit import STAGES

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=err, transient=True) as progress:
        bar = progress.add_task("", total=STAGES * len(chosen))

        def told(stage: str) -> None:
            progress.update(bar, advance=1, description=stage)

        return list(_reports(partial(audit.run, settled=settled, told=told), chosen))


def _reports(run: Callable[[UUID], AuditReport], chosen: Sequence[UUID]) -> Iterator[AuditReport]:
    """Audit one tenant after the other. A tenant whose audit fails is not looked at, so that what was found in others is told."""
    from reconciliation.audit_report import AuditReport

    reason, failed = "", 0
    for tenant_id in chosen:
        if failed < GIVE_UP:
            try:
                yield run(tenant_id)
            except Exception as error:  # noqa: BLE001 - the report names it
                reason, failed = _told(error), failed + 1
            else:
                failed = 0
                continue
        yield AuditReport.unread(tenant_id, reason)


def _told(error: Exception) -> str:
    """Say in one line why an audit has failed, and write the trace of a fault of ours to standard error."""
    from workers.runtime.outages import is_waited_out

    if is_waited_out(error):
        return reason_of(error)
    traceback.print_exception(error)
    return f"{type(error).__name__}: {reason_of(error)}"


def _show(reports: Sequence[AuditReport]) -> None:
    from reconciliation.audit_report import as_table

    for report in reports:
        out.print(as_table(report, f"Tenant {report.tenant_id}"))
    for reason in dict.fromkeys(reason for report in reports for reason in report.out_of_reach):
        err.print(f"q2o: not looked at: {reason}", markup=False)
    wrong = sum(report.violations for report in reports)
    partly = " in what was looked at" if any(report.out_of_reach for report in reports) else ""
    found = counted(wrong, "violation") if wrong else "no violation"
    out.print(f"{counted(len(reports), 'tenant')}, {found}{partly}")
