"""Turns between processes that would do the same work: a lock in Redis that spares work, and on which nothing right depends.

The rule it keeps: without Redis, while Redis is away, and after a lock has expired, the work is done; the worst is that it is done twice. A
lock that nobody gives back delays the work by a minute at most.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from workers.runtime.metrics import REDIS_LOCK_EXPIRED
from workers.runtime.retries import OutageLog
from workers.runtime.secret_files import reveal
from workers.runtime.settings import Settings
from workers.runtime.transport import ClientTls

if TYPE_CHECKING:
    from redis import Redis
    from redis.lock import Lock

LASTS = timedelta(seconds=10)  # twice the budget of a sweep; the turn of a process that was killed is free after that
TIMEOUT = timedelta(milliseconds=250)  # a turn that costs more than this spares nothing
AWAY = timedelta(seconds=10)  # how long Redis is not asked after a failure
PATIENCE = timedelta(minutes=1)  # whoever was refused for so long does the work: the lock may belong to nobody

_Value = TypeVar("_Value")
_log = structlog.get_logger()


class Turns:
    """The turns of this process. Without `redis` every turn is its own. Only processes of one `scope` share turns."""

    def __init__(
        self,
        redis: Redis | None = None,
        *,
        scope: str = "all",
        lasts: timedelta = LASTS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis = redis
        self._scope = scope
        self._lasts = lasts
        self._clock = clock
        self._asked_again_at = 0.0
        self._outage = OutageLog("Redis")
        self._last_turn: dict[str, float] = {}

    @contextmanager
    def turn(self, work: str, *, rests: timedelta) -> Iterator[bool]:
        """Say whether this process should do the work now. Work that ends well rests for `rests`: nobody else repeats it at once."""
        lock = self._lock(work)
        taken = None if lock is None else self._ask(lambda: lock.acquire(blocking=False))
        if lock is None or taken is None:
            yield True
        elif not taken:
            yield self._waits_in_vain(work)
        else:
            self._last_turn[work] = self._clock()
            try:
                yield True
            except BaseException:
                self._end(work, lock.release)
                raise
            self._end(work, lambda: lock.extend(rests.total_seconds(), replace_ttl=True))

    def close(self) -> None:
        """Close the connections."""
        if self._redis is not None:
            self._redis.close()

    def _lock(self, work: str) -> Lock | None:
        if self._redis is None or self._clock() < self._asked_again_at:
            return None
        lock: Lock = self._redis.lock(f"q2o:turn:{self._scope}:{work}", timeout=self._lasts.total_seconds(), thread_local=False)
        return lock

    def _waits_in_vain(self, work: str) -> bool:
        now = self._clock()
        is_over = now - self._last_turn.setdefault(work, now) >= PATIENCE.total_seconds()
        if is_over:
            self._last_turn[work] = now
        return is_over

    def _end(self, work: str, give_back: Callable[[], object]) -> None:
        from redis.exceptions import LockNotOwnedError

        try:
            self._ask(give_back)
        except LockNotOwnedError:
            REDIS_LOCK_EXPIRED.labels(purpose=work).inc()
            _log.warning("redis_lock_expired", purpose=work, seconds=self._lasts.total_seconds())

    def _ask(self, call: Callable[[], _Value]) -> _Value | None:
        """Ask Redis; None when it does not answer. Raises LockNotOwnedError."""
        from redis.exceptions import LockError, RedisError

        try:
            answer = call()
        except LockError:
            raise
        except RedisError as error:
            self._outage.failed(error)
            self._asked_again_at = self._clock() + AWAY.total_seconds()
            return None
        self._outage.worked()
        return answer


def turns_of(settings: Settings) -> Turns:
    """The turns by Q2O_REDIS_URL; those of a process alone when it is not set."""
    if settings.redis_url is None:
        return Turns()
    return Turns(client(reveal(settings.redis_url), settings.redis_tls), scope=str(settings.only_tenant or "all"))


def client(url: str, tls: ClientTls | None = None, *, timeout: timedelta = TIMEOUT) -> Redis:
    """Make a client that gives up after `timeout` and repeats nothing; `tls` is for `rediss://`."""
    # Here, because most processes have no Redis, and the library takes a fifth of a second to load.
    from redis import Redis

    return Redis.from_url(
        url,
        socket_timeout=timeout.total_seconds(),
        socket_connect_timeout=timeout.total_seconds(),
        **(_files(tls) if tls is not None and url.startswith("rediss://") else {}),
    )


def _files(tls: ClientTls) -> dict[str, Any]:
    names = {"ssl_ca_certs": tls.ca_file, "ssl_certfile": tls.certificate_file, "ssl_keyfile": tls.key_file}
    return {"ssl_check_hostname": True, "ssl_cert_reqs": "required"} | {name: str(file) for name, file in names.items() if file}
