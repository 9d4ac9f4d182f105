"""The command line `q2o`, with a command for every process. A process reads its settings here, once, and nowhere else.

Exit codes: 0 success; 1 `demo`, `audit`, `check`, `restart-instances` or `retain` found something wrong; 2 a person must put something right outside of the
product (one line says what); 70 a fault of ours.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from datetime import timedelta
from typing import Annotated
from uuid import UUID

import typer

from workers.cli_asking import explain, status
from workers.cli_auditing import audit
from workers.cli_errors import AsJson, err, plain_errors, refuse_together, require, settings_of, tell_end, tell_fault
from workers.cli_installing import DryRun, check, deploy, migrate, restart_instances
from workers.cli_letters import dead_letters
from workers.cli_repairing import rebuild
from workers.runtime.production import is_production, require_local
from workers.runtime.secret_files import reveal
from workers.runtime.setting_kinds import HIGHEST_PORT, HOST, LIFETIME, NAME, URL
from workers.runtime.settings import SettingError, data_dir

# Printed before the suite is imported, because on a busy machine the import takes seconds.
LOADING = "Loading the suite …"
LOCAL_SUITE = "it has demo logins with a known password, and a sandbox in the place of providers"

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Quote-to-order on Camunda 7: the whole suite, its single processes, and tools.",
)
Once = Annotated[bool, typer.Option("--once", help="Run once, then exit.")]


@app.callback()
def every_command(context: typer.Context) -> None:
    """Configure the logs of each command before it runs; one that runs a process does it anew."""
    from workers.runtime.logs import warnings_only

    warnings_only(str(context.invoked_subcommand))


for command in (migrate, deploy, restart_instances, check, status, explain, audit, rebuild):
    app.command()(command)
app.add_typer(dead_letters, name="dead-letters")


def run_process(name: str, **given: str) -> None:
    """Run the loop of one process until a signal comes; `given` are variables that its options set.

    Services that are away when it starts are waited for; it is not ready meanwhile.
    """
    from workers import suite
    from workers.needs import needs_of
    from workers.runtime.health import serve_health
    from workers.runtime.logs import configure_logs
    from workers.runtime.process import run_loops, stop_on_signals
    from workers.runtime.readiness import Readiness

    with plain_errors(), ExitStack() as opened:
        opens = ("http_port", "health_port") if name == "http" else ("health_port",)
        settings = settings_of(name, opens=opens, **given)
        configure_logs(name)
        stop = stop_on_signals()
        readiness = Readiness(stop)
        if settings.health_port:
            # At once, so that a platform sees a process that waits for its database as alive, and not as ready.
            serve_health(settings.http_host, settings.health_port, readiness.complaints)
        database = suite.connect(settings, name, "start")
        opened.callback(database.dispose)
        loop = suite.prepare(name, settings, database, stop)
        if loop is None:
            raise typer.Exit(0)
        readiness.watch(needs_of(name, settings, loop, opened))
        raise typer.Exit(run_loops({name: loop}, stop, say=tell_end))


@app.command()
def http() -> None:
    """Serve the HTTP API: commands, callbacks, OpenAPI."""
    run_process("http")


@app.command()
def tasks(
    topic: Annotated[list[str] | None, typer.Option(help="Work on this topic only. May be given several times.")] = None,
) -> None:
    """Work on external tasks, of all topics or of those given."""
    with plain_errors():
        for each in topic or ():
            require("--topic", NAME, each)  # an empty one would stand for all topics
    run_process("tasks", **({"Q2O_TOPICS": ",".join(topic)} if topic else {}))


@app.command()
def dispatch() -> None:
    """Carry workflow commands to the engine: start processes, send messages, complete and assign tasks."""
    run_process("dispatch")


@app.command()
def relay() -> None:
    """Publish events to Kafka."""
    run_process("relay")


@app.command()
def inbox() -> None:
    """Build the projections, which lists read, from the events in Kafka."""
    run_process("inbox")


@app.command()
def reconcile(*, once: Once = False, dry_run: DryRun = False) -> None:
    """Find what a fault left behind, and repair it by the same commands as normal work."""
    from workers import suite
    from workers.runtime.database_fitness import require_fit
    from workers.runtime.database_roles import require_role
    from workers.runtime.logs import configure_logs

    if not (once or dry_run):
        run_process("reconcile")
        return
    with plain_errors():
        settings = settings_of("reconcile")
        configure_logs("reconcile")
        database = suite.connect(settings, "reconcile")
        require_fit(database)
        require_role(database, "reconcile", production=is_production(os.environ))
        suite.engine_of(settings).version()
        found = suite.reconcile(settings, dry_run=dry_run).run_once()
    err.print(f"{found} {'to repair' if dry_run else 'repaired'}")


@app.command()
def retain(
    *,
    loop: Annotated[bool, typer.Option("--loop", help="Go on, every five minutes, until a signal comes.")] = False,
    dry_run: DryRun = False,
    json: AsJson = False,
) -> None:
    """Delete what is older than its age, and archive finished business. Once, or with --loop for good."""
    from reconciliation import retention
    from workers import suite
    from workers.runtime.database_fitness import require_fit
    from workers.runtime.database_roles import require_role
    from workers.runtime.logs import configure_logs

    if loop:
        with plain_errors():
            refuse_together("--loop", {"--dry-run": dry_run, "--json": json}, "they are for a single run, so leave --loop out")
        run_process("retain")
        return
    with plain_errors():
        settings = settings_of("retain")
        retainer = suite.retain(settings, dry_run=dry_run, wait=timedelta())
        configure_logs("retain")
        database = suite.connect(settings, "retain")
        require_fit(database)
        require_role(database, "retain", production=is_production(os.environ))
        done = retainer.run_once()
    sys.stdout.write(retention.as_text(done, dry_run=dry_run, as_json=json))
    raise typer.Exit(1 if any(each.failed for each in done) else 0)


@app.command()
def sandbox(
    callback_url: Annotated[str, typer.Option(help="Where to send callbacks: …/callbacks/sandbox of the HTTP API.")],
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on; 0 takes a free one.", min=0, max=HIGHEST_PORT)] = 0,
) -> None:
    """Run the sandbox provider. The first line on standard output is its address."""
    from workers.runtime.logs import configure_logs
    from workers.runtime.process import stop_on_signals
    from workers.sandbox.provider import serve

    with plain_errors():
        configure_logs("sandbox")
        require_local(os.environ, "sandbox", "it is a provider to play with")
        require("--callback-url", URL, callback_url)
        require("--host", HOST, host)
        serve(data_dir(), callback_url, settings_of("sandbox").callback_secrets.read()[0], host, port, stop=stop_on_signals())


@app.command()
def token(
    *,
    subject: Annotated[str, typer.Option(help="Who acts; the name is written to every row of the log.")],
    role: Annotated[list[str], typer.Option(help="A role of this person. May be given several times.")],
    customer: Annotated[list[str] | None, typer.Option(help="A customer of a buyer. May be given several times.")] = None,
    tenant: Annotated[UUID | None, typer.Option(help="The tenant. Default: that of the suite that was started last.")] = None,
    region: Annotated[str, typer.Option(help="The region in which this person acts.")] = "ID-JAVA",
    hours: Annotated[float, typer.Option(help="How long the token is valid, in hours.")] = 8,
) -> None:
    """Issue a bearer token for the local suite."""
    from workers.http.actors import person
    from workers.http.auth import BUYERS, Role
    from workers.http.tokens import issue_token
    from workers.local.credentials import known_secret, known_tenant

    with plain_errors():
        require_local(os.environ, "token", "tokens come from the identity provider")
        require("--hours", LIFETIME, f"{hours:f}")
        for name, texts in {"--region": [region], "--customer": customer or ()}.items():
            for text in texts:
                require(name, NAME, text)
        if unknown := set(role) - set(Role):
            raise SettingError(f"no such role: {', '.join(sorted(unknown))}; there are {', '.join(Role)}")
        if BUYERS & set(role) and not customer:
            raise SettingError("a buyer's token must name the customers for whom they buy: give --customer")
        given = settings_of("token").environment.find_secret("jwt_secret")
        secret = reveal(given) if given else known_secret(data_dir())
        lifetime, whose = timedelta(hours=hours), tenant or known_tenant(data_dir(), os.environ)
        sys.stdout.write(issue_token(secret, person(subject), whose, role, region, lifetime, customer or ()) + "\n")


@app.command()
def openapi() -> None:
    """Print the OpenAPI description of the HTTP API."""
    from workers.http.app import description

    sys.stdout.write(description())


@app.command()
def up() -> None:
    """Run the whole suite on this machine until Ctrl-C."""
    with plain_errors():
        require_local(os.environ, "up", LOCAL_SUITE)
        settings_of("up")
        err.print(LOADING)
        from workers.demo.command import run_up

        raise typer.Exit(run_up(err))


@app.command()
def demo(
    *,
    once: Once = False,
    json: AsJson = False,
    quotes: Annotated[int, typer.Option(min=20, help="The number of sample quotes.")] = 26,
) -> None:
    """Take sample quotes to fulfilled orders while faults happen, and audit the result. Then stay up."""
    with plain_errors():
        require_local(os.environ, "demo", LOCAL_SUITE)
        settings_of("up")
        err.print(LOADING)
        from workers.demo.command import run_demo

        raise typer.Exit(run_demo(err, once=once, as_json=json, quotes=quotes))


def main() -> None:
    """The entry point `q2o`."""
    try:
        app()
    except Exception as fault:  # noqa: BLE001 - whatever it is, the person who gave the command gets a sentence
        from workers.runtime.process import EXIT_SOFTWARE

        tell_fault(fault)
        sys.exit(EXIT_SOFTWARE)


if __name__ == "__main__":
    main()
