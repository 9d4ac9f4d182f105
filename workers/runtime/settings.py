"""The settings of a service process, read from the environment once at its start.

Every variable has a name that starts with `Q2O_`. The local stack (`workers.local`) gives those that are not set.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID

DEMO_TENANT = UUID("00000000-0000-4000-8000-000000000001")
# Names the tenant of a running suite or demo, for whoever joins in.
TENANT = "Q2O_TENANT"
# HMAC-SHA256 with a shorter key than its hash can be guessed more easily than the hash (RFC 7518, 3.2).
SECRET_BYTES = 32


def data_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """The folder of the local stack: its databases, logs and credentials."""
    return Path(environment.get("Q2O_DATA_DIR") or ".q2o")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Addresses, credentials and time limits of one process.

    `database_url` is an SQLAlchemy address (`postgresql+psycopg://…`), `engine_url` ends in `/engine-rest`,
    `kafka` is a bootstrap list `host:port[,host:port]`. `topics` empty means all; `worker_id` None means a fresh one;
    `http_rate` is how many requests a second one tenant may send in the long run, `http_burst` how many at once, `http_body_time` how long
    a body may take to arrive; `health_port` is the port for the platform's probes in processes other than the HTTP edge (None: no port).
    """

    database_url: str
    kafka: str
    engine_url: str
    engine_user: str
    engine_password: str
    jwt_secret: str
    provider_url: str
    provider_token: str
    callback_secret: str
    http_host: str
    http_port: int
    http_body_time: timedelta
    http_rate: float
    http_burst: int
    health_port: int | None
    worker_id: str | None
    topics: frozenset[str]
    start_safe_interval: timedelta
    attempt_stale_after: timedelta
    lock_duration: timedelta

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Read `Q2O_*`. Raises SettingError with the name of the variable that is missing or not valid."""
        read = _Reader(environment)
        return cls(
            database_url=read.text("database_url"),
            kafka=read.text("kafka"),
            engine_url=read.text("engine_url"),
            engine_user=read.text("engine_user"),
            engine_password=read.text("engine_password"),
            jwt_secret=read.secret("jwt_secret"),
            provider_url=read.text("provider_url"),
            provider_token=read.text("provider_token"),
            callback_secret=read.text("callback_secret"),
            http_host=read.text("http_host", "127.0.0.1"),
            http_port=int(read.number("http_port", "8080")),
            # Half a megabit a second for the largest body (1 MiB).
            http_body_time=read.seconds("http_body_seconds", "20"),
            # A tenant that is alone may use a whole process; one that sends far too much leaves the others their share.
            http_rate=read.above_zero("http_rate_per_second", "500"),
            http_burst=int(read.above_zero("http_burst", "1000")),
            health_port=int(read.number("health_port", "0")) or None,
            worker_id=environment.get("Q2O_WORKER_ID") or None,
            topics=frozenset(name for name in environment.get("Q2O_TOPICS", "").split(",") if name),
            # Longer than the engine may take for a start, so that "not found" then means "never arrived".
            start_safe_interval=read.seconds("start_safe_interval_seconds", "15"),
            # Three heartbeats of a pod (it extends a lock at a third of its duration): a pod that is silent for longer is dead.
            attempt_stale_after=read.seconds("attempt_stale_after_seconds", "20"),
            # Short enough that a dead pod's task is soon fetched again, long enough for three heartbeats.
            lock_duration=read.seconds("lock_duration_seconds", "20"),
        )


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads one variable at a time. Raises SettingError with one line that says what is wrong with it."""

    environment: Mapping[str, str]

    def text(self, name: str, fallback: str | None = None) -> str:
        value = self.environment.get(f"Q2O_{name.upper()}") or fallback
        if value is None:
            raise SettingError(f"Q2O_{name.upper()} is not set: give its value, or start the local stack with `q2o up`")
        return value

    def secret(self, name: str) -> str:
        value = self.text(name)
        if len(value.encode()) < SECRET_BYTES:
            raise SettingError(f"Q2O_{name.upper()} is too short: give at least {SECRET_BYTES} random bytes")
        return value

    def number(self, name: str, fallback: str) -> float:
        value = self.text(name, fallback)
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if not 0 <= number < math.inf:
            raise SettingError(f"Q2O_{name.upper()}={value} is not a number from 0 on: correct it, or unset it")
        return number

    def above_zero(self, name: str, fallback: str) -> float:
        number = self.number(name, fallback)
        if number < 1:
            raise SettingError(f"Q2O_{name.upper()}={number:g} would let nothing in: give a number from 1 on, or unset it")
        return number

    def seconds(self, name: str, fallback: str) -> timedelta:
        return timedelta(seconds=self.number(name, fallback))


class SettingError(Exception):
    """A setting is missing or not valid; the text names it and says what to do."""
