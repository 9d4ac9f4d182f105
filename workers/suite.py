"""Builds the loops of the suite from its settings. A service process runs one of them; `q2o up` runs all of them in one process.

Each builder imports its own loop: a service process starts in half of the time without the modules of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from threading import Event
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import Engine as Database
from tenacity import Retrying, retry_if_exception_type, wait_fixed

import domain.schema  # noqa: F401 - a process knows every table and move, also those that its own modules do not import
from workers.providers.http_provider import HttpProvider
from workers.providers.port import Provider
from workers.runtime import database
from workers.runtime.database import OF_REPORTS
from workers.runtime.database_fitness import named, require_fit
from workers.runtime.database_roles import require_role
from workers.runtime.engine import Engine, EngineError, EngineLockedOutError
from workers.runtime.engine_connection import RESPONSE_TIMEOUT
from workers.runtime.kafka import ensure_topics
from workers.runtime.outages import needs_a_person
from workers.runtime.process import Loop
from workers.runtime.production import is_production
from workers.runtime.retries import until_begun
from workers.runtime.settings import SettingError, Settings
from workers.runtime.turns import turns_of

if TYPE_CHECKING:
    from reconciliation.loop import Reconciler
    from reconciliation.retention import Retainer
    from workers.restarts import Restarts

ARCHIVE_WAIT = timedelta(days=1)  # a small tenant gets one file a day, not one for each order
KAFKA_PATIENCE = timedelta(seconds=10)  # a process that waits for Kafka does not see a signal to end meanwhile
LOCKED_OUT_WAIT = timedelta(seconds=3)  # the shortest lock after a wrong password

_log = structlog.get_logger()


def connect(settings: Settings, process: str, purpose: str = "") -> Database:
    """The product's database, with the login of a process; its sessions carry the name of the process, and what they are for."""
    name = f"{process} {purpose}".rstrip()
    its, limits = settings.of(process), OF_REPORTS if process == "audit" else None
    pool = database.connect(its.database_url, name, only_tenant=settings.only_tenant, limits=limits)
    return named(pool, its.environment.source("database_url"))


def engine_of(settings: Settings, *, response_timeout: timedelta = RESPONSE_TIMEOUT) -> Engine:
    """The engine, with the worker id of this process."""
    return Engine(
        settings.engine_url,
        settings.engine_user,
        settings.engine_password,
        settings.worker_id,
        tls=settings.engine_tls,
        response_timeout=response_timeout,
        login_named=settings.engine_login_named,
    )


def trusted_engine_of(settings: Settings) -> Engine:
    """The engine for a process that starts; tenants that it does not serve are named in the log.

    Raises EngineUntrustedError, so that its person learns of a wrong certificate or password; the latter after a minute, because it is
    like a lock until then. In production raises SettingError for a user that may deploy. Any other failure is an outage, which the
    process waits out.
    """
    engine = engine_of(settings)
    try:
        if not _once_not_locked_out(engine.may_deploy):
            _name_unserved_tenants(engine)
        elif is_production(settings.variables):
            raise SettingError(
                f"{settings.environment.source('engine_user')}={settings.engine_user} may deploy models, which only `q2o deploy` needs: "
                "set it to the account of this process (docs/rights-engine.md)"
            )
    except EngineError as error:
        if needs_a_person(error):
            raise
    return engine


def _name_unserved_tenants(engine: Engine) -> None:
    unserved = [str(tenant) for tenant in engine.unserved_tenants()]
    if unserved:
        remedy = "q2o deploy --tenant makes the group workers a member"
        _log.error("engine_tenants_not_served", tenants=unserved, engineUser=engine.user, remedy=remedy)


def _once_not_locked_out(ask: Callable[[], bool]) -> bool:
    return Retrying(
        retry=retry_if_exception_type(EngineLockedOutError),
        wait=wait_fixed(LOCKED_OUT_WAIT.total_seconds()),
        before_sleep=lambda state: _log.warning("engine_login_refused", reason=str(state.outcome and state.outcome.exception())),
        reraise=True,
    )(ask)


def providers_of(settings: Settings) -> Mapping[str, Provider]:
    """The providers, by the names that steps have for them."""
    return {"sandbox": HttpProvider(settings.provider_url, settings.provider_token, tls=settings.provider_tls)}


def http(settings: Settings) -> Loop:
    """Serves the HTTP edge: commands, callbacks, OpenAPI."""
    from workers.http.edge import HttpEdge
    from workers.http.limits import Limits
    from workers.http.tokens import tokens_of

    return HttpEdge(
        connect(settings, "http"),
        authenticate=tokens_of(settings.tokens),
        callback_secrets={"sandbox": settings.callback_secrets},
        host=settings.http_host,
        port=settings.http_port,
        limits=Limits(
            head_time=settings.http_head_time, body_time=settings.http_body_time, rate=settings.http_rate, burst=settings.http_burst
        ),
    )


def tasks(settings: Settings) -> Loop:
    """Works on external tasks, of all topics or of those in `settings.topics`."""
    from workers.pod.pod import Pod
    from workers.tasks.topics import topics

    database, engine = connect(settings, "tasks"), trusted_engine_of(settings)
    known = topics(database, engine, providers_of(settings), settings)
    chosen = {name: topic for name, topic in known.items() if not settings.topics or name in settings.topics}
    return Pod(engine, chosen, lock_duration=settings.lock_duration)


def dispatch(settings: Settings) -> Loop:
    """Carries workflow commands to the engine."""
    from workers.dispatch import Dispatcher

    return Dispatcher(connect(settings, "dispatch"), trusted_engine_of(settings))


def relay(settings: Settings) -> Loop:
    """Publishes events to Kafka."""
    from workers.kafka.relay import Relay
    from workers.kafka.topics import all_topics

    database = connect(settings, "relay")
    ensure_topics(settings.kafka, all_topics(), timeout=KAFKA_PATIENCE)
    return Relay(database, settings.kafka)


def inbox(settings: Settings) -> Loop:
    """Builds the projections from the events in Kafka."""
    from workers.kafka.inbox import Inboxes
    from workers.kafka.topics import all_topics

    database = connect(settings, "inbox")
    ensure_topics(settings.kafka, all_topics(), timeout=KAFKA_PATIENCE)
    return Inboxes.of(database, settings.kafka)


def reconcile(settings: Settings, *, dry_run: bool = False) -> Reconciler:
    """Runs the sweeps of reconciliation."""
    from reconciliation.loop import Intervals, Reconciler

    database, intervals = connect(settings, "reconcile"), Intervals.of(settings)
    return Reconciler(
        database, trusted_engine_of(settings), providers_of(settings), intervals, dry_run=dry_run, turns=turns_of(settings)
    )


def retain(settings: Settings, *, dry_run: bool = False, wait: timedelta = ARCHIVE_WAIT) -> Retainer:
    """Deletes old data, and archives finished business."""
    from reconciliation.retention import Retainer

    database, keep = connect(settings, "retain"), settings.retention
    return Retainer(database, keep.ages, keep.archive, dry_run=dry_run, wait=wait)


def restarts(settings: Settings, *, dry_run: bool) -> Restarts:
    """Restarts the instances of our processes that belong to no tenant."""
    from domain.workflows.keys import PROCESSES as OURS
    from workers.restarts import Restarts

    database = connect(settings, "reconcile", "restart-instances")
    require_fit(database)
    return Restarts(database, engine_of(settings), OURS, dry_run=dry_run)


PROCESSES: Mapping[str, Callable[[Settings], Loop]] = {
    "http": http,
    "tasks": tasks,
    "dispatch": dispatch,
    "relay": relay,
    "inbox": inbox,
    "reconcile": reconcile,
    "retain": retain,
}


def prepare(process: str, settings: Settings, database: Database, stop: Event) -> Loop | None:
    """The loop of a process, made when its database and its Kafka are there; a loop waits for the engine itself. None: `stop` was set before.

    Raises what a person has to put right: DatabaseUntrustedError, DatabaseUnfitError, DatabaseRoleError, EngineUntrustedError, SettingError.
    """

    def require_database() -> bool:
        require_fit(database)
        require_role(database, process, production=is_production(settings.variables))
        return True

    if not until_begun(require_database, stop, service="database"):
        return None
    return until_begun(lambda: PROCESSES[process](settings), stop, service="Kafka")
