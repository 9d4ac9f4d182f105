"""The settings of the service processes, read from the environment.

Every variable has a name that starts with `Q2O_` (`workers.runtime.setting_table` lists them). The local stack (`workers.local`) gives those that are not
set. The rule: a setting is read when a process asks for it, so a process needs only its own; all of them are checked before it starts
(`workers.start_checks`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from workers.runtime.callback_secrets import CallbackSecrets
from workers.runtime.environment import ENGINE_USERS, Environment, SettingError, of_process, variable
from workers.runtime.kafka_access import KafkaAccess
from workers.runtime.retention_settings import Retention, archive_of
from workers.runtime.secret_files import Secret, reveal
from workers.runtime.token_settings import TokenSettings
from workers.runtime.transport import ClientTls

__all__ = ["DEMO_TENANT", "TENANT", "SettingError", "Settings", "data_dir"]

DEMO_TENANT = UUID("00000000-0000-4000-8000-000000000001")
# Names the tenant of a running suite or demo, for whoever joins in.
TENANT = "Q2O_TENANT"


def data_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """The folder of the local stack: its databases, logs and credentials."""
    return Path(environment.get("Q2O_DATA_DIR") or ".q2o")


@dataclass(frozen=True, slots=True)
class Settings:
    """Addresses, credentials and time limits of one process. Every property raises SettingError when its variable is missing or not valid."""

    variables: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    process: str = ""

    def having(self, **changes: str) -> Settings:
        """These settings with some changed, by the names of their variables: `having(engine_url="http://…")`."""
        return Settings({**self.variables, **{variable(name): value for name, value in changes.items()}}, self.process)

    def of(self, process: str) -> Settings:
        """These settings for one process: what it has of its own goes before what all have in common."""
        return Settings(of_process(process, self.variables), process)

    @property
    def environment(self) -> Environment:
        return Environment(self.variables, self.process)

    @property
    def database_url(self) -> Secret:
        """An SQLAlchemy address, `postgresql+psycopg://user:password@host:port/database`; it is a secret as a whole."""
        return self.environment.secret("database_url")

    @property
    def kafka(self) -> KafkaAccess:
        """Where Kafka is, and how a client and the brokers prove who they are."""
        return KafkaAccess.of(self.environment)

    @property
    def engine_url(self) -> str:
        """Ends in `/engine-rest`."""
        return self.environment.text("engine_url")

    @property
    def engine_tls(self) -> ClientTls:
        return ClientTls.of_url("engine", self.environment)

    @property
    def engine_user(self) -> str:
        return self.environment.text("engine_user")

    @property
    def engine_password(self) -> Secret:
        return self.environment.secret("engine_password")

    @property
    def engine_login_named(self) -> str:
        """The names of the variables that hold the login, for error messages."""
        return f"{self.environment.source('engine_user')} and {self.environment.source('engine_password')}"

    @property
    def engine_passwords(self) -> Mapping[str, Secret]:
        """The passwords that `q2o deploy` gives to the engine users of the processes, by process."""
        return {process: self.environment.secret(f"{process}_engine_password") for process in ENGINE_USERS}

    @property
    def tokens(self) -> TokenSettings:
        """Which tokens the HTTP edge accepts."""
        return TokenSettings.of(self.environment)

    @property
    def jwt_secret(self) -> Secret:
        """Signs the tokens of the local suite (HS256)."""
        return self.environment.secret("jwt_secret")

    @property
    def provider_url(self) -> str:
        return self.environment.text("provider_url")

    @property
    def provider_tls(self) -> ClientTls:
        return ClientTls.of_url("provider", self.environment)

    @property
    def provider_token(self) -> Secret:
        return self.environment.secret("provider_token")

    @property
    def provider_ledger_url(self) -> str:
        """Where the provider tells what it has really done."""
        return self.environment.text("provider_ledger_url")

    @property
    def provider_ledger_tls(self) -> ClientTls:
        return ClientTls.of_url("provider", self.environment, name="provider_ledger_url")

    @property
    def archive(self) -> Path | None:
        """The directory of the archive files of retention; None: nothing is archived here."""
        return archive_of(self.environment)

    @property
    def callback_secrets(self) -> CallbackSecrets:
        """Those of the provider: the first one is new and signs, each of them proves a callback."""
        return CallbackSecrets(self.environment.secret("callback_secret"), self.environment.source("callback_secret"))

    @property
    def http_host(self) -> str:
        return self.environment.text("http_host")

    @property
    def http_port(self) -> int:
        return self.environment.whole("http_port")

    @property
    def http_head_time(self) -> timedelta:
        """How long the head of a request may take to arrive. It has some hundred bytes, and comes in one packet."""
        return self.environment.seconds("http_head_seconds")

    @property
    def http_body_time(self) -> timedelta:
        """How long a body may take to arrive. The default is half a megabit a second for the largest body (1 MiB)."""
        return self.environment.seconds("http_body_seconds")

    @property
    def http_rate(self) -> float:
        """How many requests a second one tenant may send in the long run.

        A tenant that is alone may use a whole process; one that sends far too much leaves the others their share.
        """
        return self.environment.number("http_rate_per_second")

    @property
    def http_burst(self) -> int:
        """How many requests one tenant may send at once."""
        return self.environment.whole("http_burst")

    @property
    def health_port(self) -> int | None:
        """The port for the platform's probes and for metrics, which are never public; None: no port."""
        return int(self.environment.find("health_port") or 0) or None

    @property
    def worker_id(self) -> str | None:
        """The name of this process in the engine; None: a fresh one."""
        return self.environment.find("worker_id")

    @property
    def topics(self) -> frozenset[str]:
        """The topics to work on; empty: all."""
        return frozenset(self.environment.names("topics"))

    @property
    def only_tenant(self) -> UUID | None:
        """The one tenant whose work this process carries out, for an engine of its own; None: every tenant."""
        return self.environment.uuid("only_tenant")

    @property
    def retention(self) -> Retention:
        """How long data are kept, and where archives are written."""
        return Retention.of(self.environment)

    @property
    def start_safe_interval(self) -> timedelta:
        """Longer than the engine may take for a start, so that "not found" then means "never arrived"."""
        return self.environment.seconds("start_safe_interval_seconds")

    @property
    def attempt_stale_after(self) -> timedelta:
        """Three heartbeats of a pod (it extends a lock at a third of its duration): a pod that is silent for longer is dead."""
        return self.environment.seconds("attempt_stale_after_seconds")

    @property
    def redis_url(self) -> Secret | None:
        """Where turns are kept; None: nowhere."""
        return self.environment.find_secret("redis_url")

    @property
    def redis_tls(self) -> ClientTls:
        """The files of TLS with Redis, for an address with `rediss://`."""
        url = self.redis_url
        is_encrypted = url is not None and reveal(url).startswith("rediss://")
        return ClientTls.of("redis", self.environment, unencrypted=None if is_encrypted else variable("redis_url"))

    @property
    def projection_limit(self) -> timedelta:
        """How long a change may be missing from a projection, before its row is rebuilt from the authority."""
        return self.environment.seconds("projection_limit_seconds")

    @property
    def audit_interval(self) -> timedelta:
        """How long reconciliation rests before it audits the next quotes."""
        return self.environment.seconds("audit_interval_seconds")

    @property
    def lock_duration(self) -> timedelta:
        """Short enough that a dead pod's task is soon fetched again, long enough for three heartbeats."""
        return self.environment.seconds("lock_duration_seconds")
