"""The commands by which an operator repairs: projections that are wrong."""

from __future__ import annotations

import os
from typing import Annotated
from uuid import UUID

import typer

from workers.cli_errors import err, plain_errors, settings_of
from workers.runtime.counting import counted
from workers.runtime.production import is_production


def rebuild(
    projection: Annotated[str, typer.Argument(help="quote_search, order_search or approval_decisions")],
    *,
    tenant: Annotated[UUID | None, typer.Option(help="Rebuild the rows of this tenant only. Default: of all.")] = None,
) -> None:
    """Rebuild a projection from the tables that say what is true, while everything runs. It has the database login of q2o reconcile."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from workers import suite
    from workers.rebuilds import projection_named, require_rows, rows_to_read
    from workers.rebuilds import rebuild as run
    from workers.runtime.database_fitness import require_fit
    from workers.runtime.database_roles import require_role

    with plain_errors():
        chosen = projection_named(projection)
        database = suite.connect(settings_of("rebuild"), "reconcile", "rebuild")
        require_fit(database)
        require_role(database, "reconcile", production=is_production(os.environ))
        if tenant:
            require_rows(database, tenant)
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        with Progress(*columns, console=err) as progress:
            bar = progress.add_task(chosen, total=rows_to_read(database, chosen, tenant))
            done = run(database, chosen, tenant, lambda read: progress.advance(bar, read))
    err.print(
        f"{chosen}: {counted(done.read, 'row')} read, {done.changed} of them rebuilt; {done.put_back} were ahead and are put back, "
        f"{done.removed} showed nothing that exists and are removed",
        markup=False,
        soft_wrap=True,
    )
    if done.left:
        err.print(f"{done.left} such rows were locked by others, and stay as they are: run it again", markup=False, soft_wrap=True)
