"""The commands that tell people how things stand, and why. They read with the rights of `audit`, and change nothing."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import zip_longest
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer
from rich.markup import escape
from rich.table import Table

from workers.cli_errors import AsJson, known_tenants, out, plain_errors, require, require_tenant, settings_of
from workers.runtime.setting_kinds import NAME
from workers.runtime.settings import SettingError

if TYPE_CHECKING:
    from domain.auditing.backlog import Waiting
    from workers.runtime.database import AtWork


def explain(
    order: Annotated[str, typer.Argument(help="The number or the id of the order.")],
    *,
    tenant: Annotated[UUID | None, typer.Option(help="The tenant, where several have an order with this number.")] = None,
    as_json: AsJson = False,
) -> None:
    """Tell the story of an order in sentences: its offer, its steps, what was refused, found and repaired, and who did it."""
    from domain import stories
    from domain.store import Cause, reading
    from domain.store.unit_of_work import housekeeping
    from workers import suite
    from workers.explaining import sentences
    from workers.runtime.database_fitness import require_fit

    with plain_errors():
        require("the order", NAME, order)
        database = suite.connect(settings_of("audit"), "audit")
        require_fit(database, only_to_read=True)
        if tenant:
            require_tenant(tenant, known_tenants(database))
        with housekeeping(database) as connection:
            found = stories.find_orders(connection, order, tenant)
        if not found:
            raise SettingError(
                f"no order has the number or id {order!r}: look for it with GET /orders; one that ended longer ago than "
                "Q2O_RETAIN_ARCHIVE_DAYS is in the archive alone, in the files of Q2O_ARCHIVE_DIR"
            )
        if len(found) > 1:
            tenants = ", ".join(sorted(str(row.tenant_id) for row in found))
            raise SettingError(f"{len(found)} tenants have an order {order!r}: give one by --tenant ({tenants})")
        [row] = found
        with reading(database, Cause(tenant_id=row.tenant_id, actor="audit", command="explain")) as uow:
            told = stories.story(uow, row)
    if as_json:
        sys.stdout.write(json.dumps(told, indent=2) + "\n")
        return
    out.print(
        f"[bold]Order {escape(row.order_number)}[/bold] of customer {escape(row.customer_id)} is {row.status} (version {row.version})."
    )
    for at, text in sentences(told):
        out.print(f"[dim]{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03}[/dim]  {escape(text)}")


def status(*, as_json: AsJson = False) -> None:
    """Show how many processes of each kind run, on which hosts, what waits for them, and since when.

    A process shows by its sessions in the database: one that has just started may have none although it runs.
    """
    from domain.auditing.backlog import PEOPLE
    from domain.store.unit_of_work import housekeeping
    from workers import suite
    from workers.backlogs import in_kafka, in_the_database
    from workers.runtime.database import processes_at_work
    from workers.runtime.database_fitness import require_fit

    with plain_errors():
        settings = settings_of("audit")
        database = suite.connect(settings, "audit")
        require_fit(database, only_to_read=True)
        with housekeeping(database) as connection:
            waiting = in_the_database(connection, settings.retention.ages)
            at_work = processes_at_work(connection)
        waiting += in_kafka(settings)
    if as_json:
        told = {"processes": [asdict(each) for each in at_work], "waiting": [each.as_json() for each in waiting]}
        sys.stdout.write(json.dumps(told, indent=2) + "\n")
        return
    table = Table("process", "running", "on", "waiting", "what", "oldest", title="The suite", title_justify="left")
    for process in (*suite.PROCESSES, PEOPLE):
        running = ("", "") if process == PEOPLE else _running([each for each in at_work if each.process == process])
        items = [_cells(each) for each in waiting if each.process == process]
        for first, item in zip_longest([(process, *running)], items or [("", "", "")], fillvalue=("", "", "")):
            table.add_row(*first, *item)
    out.print(table)


def _running(processes: Sequence[AtWork]) -> tuple[str, str]:
    """How many, and on which hosts; a host with several of them has their number behind it."""
    hosts = Counter(each.host for each in processes)
    places = (host if number == 1 else f"{host} ({number})" for host, number in hosts.items())
    return str(len(processes) or "[red]none[/red]"), escape(", ".join(places))


def _cells(waiting: Waiting) -> tuple[str, str, str]:
    if waiting.count is None:
        return "[red]?[/red]", waiting.what, f"[red]{escape(waiting.unknown)}[/red]"
    return str(waiting.count), waiting.what, _age(waiting.oldest)


def _age(since: datetime | None) -> str:
    return "" if since is None else f"{str(datetime.now(UTC) - since).split('.')[0]} ago"
