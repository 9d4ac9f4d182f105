"""The commands that install and upgrade the suite: schema, roles, models, and the instances of an earlier release."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from workers.cli_errors import err, plain_errors, refuse_together, require, settings_of
from workers.runtime.counting import counted
from workers.runtime.setting_kinds import NAME
from workers.runtime.settings import SettingError

DryRun = Annotated[bool, typer.Option("--dry-run", help="Report what would be done, and change nothing.")]


def migrate() -> None:
    """Migrate the database to the newest schema, and make the roles of the processes with their rights."""
    from domain.migrations import migrate as bring_up_to_date
    from domain.rights import RolesMissingError
    from workers.runtime.database import OF_MIGRATION, connect
    from workers.runtime.database_fitness import named, require_fit
    from workers.runtime.database_roles import logins_of

    with plain_errors():
        settings = settings_of("migrate")
        database = named(
            connect(settings.database_url, "migrate", limits=OF_MIGRATION), settings.environment.source("database_url")
        )
        require_fit(database)
        try:
            bring_up_to_date(database, logins_of(settings))
        except RolesMissingError as missing:
            sys.stdout.write(missing.sql)
            raise
        finally:
            database.dispose()


def deploy(
    *,
    tenant: Annotated[
        list[UUID] | None,
        typer.Option(
            help="The tenant; a new one is added. May be given several times. Default: all but those with models of their own."
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="The name of the tenant. Default for a new one: its id.")] = "",
    models: Annotated[
        Path | None, typer.Option(help="A folder with the tenant's own models.", exists=True, file_okay=False)
    ] = None,
    suite_models: Annotated[
        bool, typer.Option("--suite-models", help="Replace the tenant's own models by those of the suite.")
    ] = False,
    accounts_only: Annotated[
        bool, typer.Option("--accounts-only", help="Set the rights and passwords of the accounts, and deploy nothing.")
    ] = False,
) -> None:
    """Deploy the models to the engine for each tenant, with groups, permissions, filters, and the accounts of the processes."""
    from workers import suite
    from workers.accounts import set_up_accounts
    from workers.bpmn_contract import unfit
    from workers.deployment import choose_tenants, set_up
    from workers.deployment import deploy as bring_models
    from workers.runtime.engine_connection import SET_UP_TIMEOUT
    from workers.tasks.topics import CONTRACTS

    with plain_errors():
        of_models = {"--name": name, "--models": models, "--suite-models": suite_models}
        if accounts_only:
            reason = "accounts belong to all tenants, and no model is deployed"
            refuse_together("--accounts-only", {"--tenant": tenant, **of_models}, reason)
        if models:
            refuse_together("--models", {"--suite-models": suite_models}, "a tenant has one of the two, so leave one out")
        if name:
            require("--name", NAME, name)
        if any(of_models.values()) and len(tenant or ()) != 1:
            raise SettingError("--models, --suite-models and --name are for one tenant: name it by --tenant")
        if models and (faults := unfit(models, CONTRACTS)):
            raise SettingError("\n".join(faults))
        settings = settings_of("deploy")
        engine = suite.engine_of(settings, response_timeout=SET_UP_TIMEOUT)
        if accounts_only:
            set_up_accounts(engine, settings)
            return
        wanted, left_alone = choose_tenants(engine, tenant or (), may_replace=bool(models or suite_models))
        set_up_accounts(engine, settings)
        set_up(engine)
        for each in wanted:
            done = "deployed" if bring_models(engine, each, name, models) else "unchanged"
            err.print(f"tenant {each} ({engine.name_of_tenant(each)}): {done}", markup=False)
        for each in left_alone:
            err.print(f"tenant {each} ({engine.name_of_tenant(each)}): left alone, because it has models of its own", markup=False)


def restart_instances(*, dry_run: DryRun = False) -> None:
    """Restart the process instances of 0.1.0, which belong to no tenant: each goes on in its tenant, where its business stands."""
    from workers import suite
    from workers.restarts import report
    from workers.runtime.logs import configure_logs

    with plain_errors():
        configure_logs("restart-instances")
        is_complete = report(suite.restarts(settings_of("restart-instances"), dry_run=dry_run), err.out)
    raise typer.Exit(0 if is_complete else 1)


def check() -> None:
    """Compare the models with the workers: topics, variables, error codes, references."""
    from workers.bpmn_contract import problems
    from workers.deployment import model_files, models_root
    from workers.tasks.topics import CONTRACTS

    found = problems(models_root(), CONTRACTS)
    for problem in found:
        err.print(problem, markup=False)
    if not found:
        compared = f"{counted(len(model_files()), 'model')} and {counted(len(CONTRACTS), 'topic')} of the workers"
        err.print(f"{compared} agree: topics, variables, error codes, references", markup=False)
    raise typer.Exit(1 if found else 0)
