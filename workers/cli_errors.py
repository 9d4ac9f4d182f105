"""What all commands of `q2o` have in common: their settings, and how they tell a person what to put right."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer
from rich.console import Console
from rich.markup import escape

from domain.texts import reason_of
from workers.runtime.counting import counted
from workers.runtime.setting_kinds import Kind
from workers.runtime.settings import SettingError, Settings

if TYPE_CHECKING:
    from sqlalchemy import Engine as Database

EXIT_ASK_USER = 2
err = Console(stderr=True, highlight=False, soft_wrap=True)
out = Console(highlight=False, soft_wrap=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn errors that a person can put right outside of the product, and outages during a command, into one line and exit code 2."""
    try:
        yield
    except _outside_errors() as error:
        for line in str(error).splitlines():
            err.print(f"[red]q2o:[/red] {escape(line)}", markup=True)
        raise typer.Exit(EXIT_ASK_USER) from error
    except Exception as error:
        if (reason := _outage(error)) is None:
            raise
        err.print(
            f"[red]q2o:[/red] the command was interrupted ({escape(reason)}): run it again; what it has done counts once",
            markup=True,
        )
        raise typer.Exit(EXIT_ASK_USER) from error


def tell_end(end: str) -> None:
    """Say on standard error how a loop of this process ended, and where its trace is."""
    err.print(
        f"[red]q2o:[/red] {escape(end)}, so this process ends with exit code 70; its trace is in the log above, beside the loop's name"
    )


def tell_fault(fault: Exception) -> None:
    """Print the trace of a fault of ours, and a sentence below it."""
    traceback.print_exception(fault)
    err.print(
        f"[red]q2o:[/red] a fault of ours ends this command: {type(fault).__name__}: {escape(str(fault))}; its trace stands above"
    )


def _outage(error: Exception) -> str | None:
    """Why a service went away during a command; None for any other error. Imported after a failure, as the errors below."""
    from workers.runtime.outages import is_waited_out

    if not is_waited_out(error):
        return None
    return reason_of(error)


def _outside_errors() -> tuple[type[Exception], ...]:
    """The errors that need no traceback. They are imported after a failure, so that a command loads no part that it does not use."""
    from domain.rights import RolesMissingError
    from workers.http.actors import UnusableNameError
    from workers.http.edge import PortInUseError
    from workers.local.errors import StackError
    from workers.pod.pod import WorkerIdError
    from workers.runtime.database_fitness import DatabaseUnfitError, DatabaseUnreachableError
    from workers.runtime.database_roles import DatabaseRoleError
    from workers.runtime.engine import EngineError
    from workers.runtime.kafka import KafkaUnavailableError
    from workers.sandbox.server import ServerStartError

    databases = DatabaseUnreachableError, DatabaseUnfitError, DatabaseRoleError, RolesMissingError
    services = *databases, EngineError, KafkaUnavailableError
    return *services, SettingError, WorkerIdError, StackError, ServerStartError, PortInUseError, UnusableNameError


def settings_of(command: str, *, opens: Sequence[str] = (), **given: str) -> Settings:
    """The settings of a command, all of them checked; `opens` names those of its ports, `given` are variables that its options set.

    Raises SettingError with a line for each problem.
    """
    from workers.start_checks import require_settings

    return require_settings(command, {**os.environ, **given}, opens=opens)


def refuse_together(option: str, others: Mapping[str, object], reason: str) -> None:
    """Refuse other options that have no effect when `option` is given. Raises SettingError."""
    if given := [name for name, value in others.items() if value]:
        raise SettingError(f"{option} does not go with {' and '.join(given)}: {reason}")


def known_tenants(database: Database) -> Sequence[UUID]:
    """Every tenant of which something is stored. Needs the rights of `audit`."""
    from domain.auditing.tenants import tenants
    from domain.store.unit_of_work import housekeeping

    with housekeeping(database) as connection:
        return tenants(connection)


def require_tenant(tenant: UUID, known: Sequence[UUID]) -> None:
    """Raises SettingError for a tenant of which nothing is stored."""
    if tenant not in known:
        raise SettingError(
            f"nothing is stored of tenant {tenant}: give one of {counted(len(known), 'tenant')} by --tenant, or leave --tenant out"
        )


def require(option: str, kind: Kind, text: str) -> None:
    """Raises SettingError unless the value of an option is of a kind."""
    if fault := kind.fault(text):
        raise SettingError(f"{option} {text} {fault}: correct it")
