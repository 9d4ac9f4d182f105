"""What a process needs to know of its surroundings, read from the environment once at start.

Everything has a name that starts with `Q2O_`. The local stack (`workers.local`) fills in what is not set.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID

DEMO_TENANT = UUID("00000000-0000-4000-8000-000000000001")


def data_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """Where this machine keeps what is its own: the local stack's databases, logs, credentials."""
    return Path(environment.get("Q2O_DATA_DIR") or ".q2o")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Addresses, credentials and time limits of one process.

    `database_url` is an SQLAlchemy address (`postgresql+psycopg://…`), `engine_url` ends in `/engine-rest`,
    `kafka` is a bootstrap list `host:port[,host:port]`. `topics` empty means all; `worker_id` None means a fresh one;
    `health_port` is where processes other than the HTTP edge answer the platform (None: nowhere).
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
    health_port: int | None
    data_dir: Path
    worker_id: str | None
    topics: frozenset[str]
    start_safe_interval: timedelta
    attempt_stale_after: timedelta
    lock_duration: timedelta

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ, **defaults: str) -> Settings:
        """Read `Q2O_*`; `defaults` (without the prefix, lower case) stand in for what is not set.

        Raises SettingMissingError with the name of the variable that has neither.
        """

        def text(name: str, fallback: str | None = None) -> str:
            value = environment.get(f"Q2O_{name.upper()}") or defaults.get(name) or fallback
            if value is None:
                raise SettingMissingError(f"Q2O_{name.upper()} is not set: give its value, or start the local stack with `q2o up`")
            return value

        def seconds(name: str, fallback: str) -> timedelta:
            return timedelta(seconds=float(text(name, fallback)))

        return cls(
            database_url=text("database_url"),
            kafka=text("kafka"),
            engine_url=text("engine_url"),
            engine_user=text("engine_user"),
            engine_password=text("engine_password"),
            jwt_secret=text("jwt_secret"),
            provider_url=text("provider_url"),
            provider_token=text("provider_token"),
            callback_secret=text("callback_secret"),
            http_host=text("http_host", "127.0.0.1"),
            http_port=int(text("http_port", "8080")),
            health_port=int(environment.get("Q2O_HEALTH_PORT") or 0) or None,
            data_dir=data_dir(environment),
            worker_id=environment.get("Q2O_WORKER_ID") or None,
            topics=frozenset(name for name in environment.get("Q2O_TOPICS", "").split(",") if name),
            # Longer than the engine may take to answer a start, so that "not found" then means "never arrived".
            start_safe_interval=seconds("start_safe_interval_seconds", "15"),
            # Three heartbeats of a pod (it extends a lock at a third of its duration): its silence then means it is gone.
            attempt_stale_after=seconds("attempt_stale_after_seconds", "20"),
            # Short enough that a dead pod's task is soon fetched again, long enough for three heartbeats.
            lock_duration=seconds("lock_duration_seconds", "20"),
        )


class SettingMissingError(Exception):
    """A required setting has no value."""
