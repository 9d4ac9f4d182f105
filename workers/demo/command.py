"""The commands `q2o up` and `q2o demo`: what they show, when the demo has passed, and their exit codes."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any
from uuid import UUID, uuid4

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlalchemy import Engine as Database

from domain.auditing.open_work import open_work
from domain.store.unit_of_work import housekeeping
from reconciliation.audit import Audit, Outside
from reconciliation.audit_report import AuditReport, as_table
from reconciliation.audit_sources import CamundaHistory, KafkaTopics
from workers import suite
from workers.demo import board
from workers.demo.api import Api
from workers.demo.casework import CaseWorker
from workers.demo.courses import sample_quotes
from workers.demo.disorder import Disorder, Pods
from workers.demo.driver import Driver, SampleQuote
from workers.demo.local_suite import PEOPLE_PASSWORD, LocalSuite
from workers.demo.people import CASE_WORKER, CUSTOMER, DIRECTOR_AND_FINANCE, MANAGER, PEOPLE, SALES, token_of
from workers.local.ports import with_fixed_ports
from workers.runtime import logs
from workers.runtime.counting import counted
from workers.runtime.engine import Engine
from workers.runtime.process import stop_on_signals
from workers.runtime.secret_files import reveal
from workers.runtime.settings import DEMO_TENANT, TENANT, data_dir

EXIT_VIOLATION = 1
# Sample quotes that are on their way at the same time.
AT_ONCE = 8
# The processes that run differently while the sample quotes are on their way: task pods that can be killed, and a dispatcher behind the
# fault proxy, which loses a response of the engine.
DISTURBED = frozenset({"tasks", "dispatch"})
# Time for what is still open when the last sample quote has ended: timers of 30 s, the lock of the killed worker, the safe interval of a
# lost start. A demo that is not quiet after this time has failed.
QUIET_WITHIN_SECONDS = 120.0
# An operator waits minutes before a worker counts as dead or a start as absent; in the demo, ten seconds are enough.
SHORT_INTERVALS = {
    "Q2O_LOCK_DURATION_SECONDS": "9",
    "Q2O_ATTEMPT_STALE_AFTER_SECONDS": "10",
    "Q2O_START_SAFE_INTERVAL_SECONDS": "10",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of a demo."""

    tenant_id: UUID
    samples: Sequence[SampleQuote]
    disorder: Mapping[str, Any]
    first_fulfilled_seconds: float | None
    report: AuditReport

    @property
    def unexpected(self) -> list[str]:
        """A sentence for each sample quote that ended otherwise than expected, each fault that did not happen, and what was not audited.

        Without its faults and its audit, the demo would prove nothing.
        """
        ended = [f"{each.course}: {each.end} instead of {each.expected}" for each in self.samples if not each.as_expected]
        without_fault = [f"{name} is {value}" for name, value in self.disorder.items() if not value]
        return [*ended, *without_fault, *(f"not audited: {reason}" for reason in self.report.out_of_reach)]

    @property
    def passed(self) -> bool:
        return not self.unexpected and not self.report.violations

    def as_json(self) -> dict[str, Any]:
        """The result for other programs."""
        return {
            "passed": self.passed,
            "tenantId": str(self.tenant_id),
            "quotes": len(self.samples),
            "firstFulfilledSeconds": self.first_fulfilled_seconds,
            "unexpected": self.unexpected,
            "disorder": dict(self.disorder),
            "audit": self.report.as_json(),
        }


def run_up(console: Console) -> int:
    """Run the whole suite for one tenant, until a signal comes. Returns the exit code: 70 when a loop ends before that."""
    environment = with_fixed_ports(os.environ) | {TENANT: str(DEMO_TENANT)}
    with LocalSuite(data_dir(), environment, say=console.print) as running:
        logs.configure_logs("up", stream=running.log_file.open("a"))
        running.add_tenant(DEMO_TENANT)
        running.start()
        stay_up(console, running, DEMO_TENANT)
    return running.exit_code


def run_demo(console: Console, *, once: bool, as_json: bool, quotes: int) -> int:
    """Run the demo, and unless `once`, stay up after it.

    Returns the exit code: 1 when an invariant is broken or a sample quote ended otherwise than expected, 70 when a loop ended early.
    """
    began = monotonic()
    tenant_id = uuid4()
    # Nobody needs the addresses of a demo that exits, so it takes free ports: several demos can run at the same time.
    given = os.environ if once else with_fixed_ports(os.environ)
    with LocalSuite(data_dir(), {**SHORT_INTERVALS, **given, TENANT: str(tenant_id)}, say=console.print) as running:
        logs.configure_logs("demo", stream=running.log_file.open("a"))
        outcome = play(console, running, tenant_id, quotes, began)
        if as_json:
            sys.stdout.write(json.dumps(outcome.as_json(), indent=2) + "\n")
        else:
            show_outcome(console, outcome)
        if once:
            tell_early_ends(console, running)
        else:
            stay_up(console, running, tenant_id)
    return running.exit_code or (0 if outcome.passed else EXIT_VIOLATION)


def play(console: Console, running: LocalSuite, tenant_id: UUID, quotes: int, began: float) -> Outcome:
    """Take all sample quotes to their ends in disorder, wait until everything is quiet, and audit."""
    running.add_tenant(tenant_id)
    database = suite.connect(running.settings, "audit")
    samples = sample_quotes(quotes)
    with (
        Pods(running.settings.of("tasks").variables, running.stack.data_dir / "logs", running.end_early) as pods,
        Disorder(running, database, tenant_id, pods) as disorder,
        running.detour("dispatch", disorder.engine_url),
        closing(as_manager(running)) as manager,
        closing(Api(running.api_url, reveal(running.settings.jwt_secret), tenant_id)) as api,
    ):
        running.start(frozenset(suite.PROCESSES) - DISTURBED)
        driver = Driver(api, running.stopped, tasklist(manager))
        case_worker = CaseWorker(api)
        with board.live(console, samples, "Sample quotes"), case_worker, ThreadPoolExecutor(AT_ONCE) as pool:
            with ending_on_error(running):
                list(pool.map(driver.drive, samples))
            quiet = wait_until_quiet(database, suite.engine_of(running.settings), tenant_id, running)
        driver.close()
        outside = Outside(
            engine=CamundaHistory(suite.engine_of(running.settings)),
            events=KafkaTopics(running.settings.kafka),
            ledger=running.provider.ledger.entries,
        )
        report = Audit(database, outside).run(tenant_id)
        seen = {
            "startAnswersLost": disorder.wire.faults["drop_response"],
            "workerKilled": disorder.killed,
            "casesResolved": case_worker.resolved,
            "quietInTime": quiet,
        }
    # The pods and the dispatcher of the disorder have ended with it. A suite that stays up needs both, this time without faults.
    running.start(DISTURBED)
    fulfilled = [sample.fulfilled_at - began for sample in samples if sample.fulfilled_at]
    return Outcome(
        tenant_id=tenant_id,
        samples=samples,
        disorder=seen,
        first_fulfilled_seconds=round(min(fulfilled), 1) if fulfilled else None,
        report=report,
    )


@contextmanager
def ending_on_error(running: LocalSuite) -> Iterator[None]:
    """Stop the sample quotes when the block is interrupted, so that Ctrl-C does not wait for their ends."""
    try:
        yield
    except BaseException:
        running.stopped.set()
        raise


def as_manager(running: LocalSuite) -> Engine:
    """The engine as the manager uses it, who is logged in. The caller closes it."""
    return Engine(running.settings.engine_url, MANAGER.subject, PEOPLE_PASSWORD)


def tasklist(manager: Engine) -> Callable[[str, str], bool]:
    """A function that completes a user task in the engine, as the manager does in Tasklist; False when the task is not there yet."""

    def complete(decision: str, business_key: str) -> bool:
        for user_task in manager.user_tasks(business_key):
            return manager.complete_user_task(user_task.id, {"decision": decision, "reasonCode": "STRATEGIC_DEAL", "comment": ""})
        return False

    return complete


def wait_until_quiet(database: Database, engine: Engine, tenant_id: UUID, running: LocalSuite) -> bool:
    """Wait until nothing is open, unknown or on its way, in the database and in the engine. False when that takes too long."""
    deadline = monotonic() + QUIET_WITHIN_SECONDS
    processes = [("order-fulfillment", f"order:{tenant_id}:%"), ("fallout-case", f"fallout:{tenant_id}:%")]
    while monotonic() < deadline and not running.stopped.wait(0.5):
        with housekeeping(database) as connection:
            waiting = open_work(connection, tenant_id)
        running_processes = (engine.count_unfinished(*of_tenant) for of_tenant in processes)
        if not any(waiting.values()) and not any(running_processes):
            return True
    return False


def show_outcome(console: Console, outcome: Outcome) -> None:
    """Print the result for people."""
    console.print(as_table(outcome.report))
    for sentence in outcome.unexpected:
        console.print(f"[red]unexpected:[/red] {sentence}")
    broken = f"{counted(outcome.report.violations, 'violation')}, {counted(len(outcome.unexpected), 'unexpected result')}"
    disorder = ", ".join(f"{name} {value}" for name, value in outcome.disorder.items())
    verdict = "[green]every invariant holds[/green]" if outcome.passed else f"[red]{broken}[/red]"
    console.print(f"{verdict}; disorder: {disorder}; first order fulfilled after {outcome.first_fulfilled_seconds} s")


def show_addresses(console: Console, running: LocalSuite, tenant_id: UUID) -> None:
    """Print the addresses, the logins and the tokens."""
    web = running.settings.engine_url.removesuffix("/engine-rest") + "/camunda/app"
    table = Table(title="The suite is up. Ctrl-C ends it.", title_justify="left", show_header=False, pad_edge=False)
    for name, value in (
        ("API", f"{running.api_url}/docs"),
        ("Tasklist", f"{web}/tasklist/default/"),
        ("Cockpit", f"{web}/cockpit/default/"),
        ("sandbox provider", running.settings.provider_url),
        ("logins", ", ".join(f"{person.id} ({person.groups[0]})" for person in PEOPLE) + f", password {PEOPLE_PASSWORD}"),
        ("administrator", f"{running.settings.engine_user}, password {reveal(running.settings.engine_password)}"),
        ("tenant", str(tenant_id)),
        (
            "from another shell",
            f". {shlex.quote(str(running.environment_file))}; then for example .venv/bin/q2o reconcile --once --dry-run",
        ),
        ("first quote by hand", "docs/first-quote.md"),
    ):
        table.add_row(name, value)
    console.print(table)
    for actor in (SALES, MANAGER, DIRECTOR_AND_FINANCE, CUSTOMER, CASE_WORKER):
        token = token_of(actor, reveal(running.settings.jwt_secret), tenant_id)
        console.print(f"token of {actor.subject} ({', '.join(actor.roles)}): {token}", soft_wrap=True)


def stay_up(console: Console, running: LocalSuite, tenant_id: UUID) -> None:
    """Print the addresses, and wait until a signal comes or a loop ends. A loop that ended early is named, with its log."""
    show_addresses(console, running, tenant_id)
    wait_for_signal(running)
    tell_early_ends(console, running)


def tell_early_ends(console: Console, running: LocalSuite) -> None:
    """Print one line for each loop that ended before it was asked to, with what ends because of it and where its trace is."""
    for end in running.early_ends:
        console.print(
            f"[red]q2o:[/red] {escape(end)}, so the suite ends, and PostgreSQL, Kafka and Camunda with it; the log is {running.log_file}"
        )


def wait_for_signal(running: LocalSuite) -> None:
    """Wait for Ctrl-C, SIGTERM, or the end of a loop."""
    stop = stop_on_signals()
    while not (stop.wait(0.5) or running.stopped.is_set()):
        pass
