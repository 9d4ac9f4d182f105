"""The HTTP edge in a process of its own, so that whoever measures it does not share its interpreter."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from prometheus_client.metrics import MetricWrapperBase
from sqlalchemy import Engine

from tests.support.http import CALLBACK_SECRET, JWT_SECRET, PROVIDER
from workers.http.edge import HttpEdge
from workers.http.limits import Limits
from workers.http.tokens import local_tokens
from workers.runtime import metrics
from workers.runtime.callback_secrets import CallbackSecrets
from workers.runtime.database import connect
from workers.runtime.logs import configure_logs

UNLIMITED = Limits(rate=1e9, burst=10**9)  # one tenant sends everything here
START_TIMEOUT = 30.0  # seconds; only a failing run waits this long


class EdgeProcess:
    """An edge that serves since it was made. `observed` = logs and metrics as in production, otherwise none at all."""

    def __init__(self, database: Engine, directory: Path, *, observed: bool) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, there = spawn.Pipe()
        url = database.url.render_as_string(hide_password=False)
        self._process = spawn.Process(target=_serve, args=(url, str(directory / "edge.log"), observed, there), daemon=True)
        self._process.start()
        assert self._pipe.poll(START_TIMEOUT), "the edge did not start"
        self.address: str = self._pipe.recv()

    def stop(self) -> None:
        """End it in good order."""
        self._pipe.send(None)
        self._process.join()

    def kill(self) -> None:
        """End it as kill -9 does."""
        self._process.kill()
        self._process.join()


@contextmanager
def edge_process(database: Engine, directory: Path, *, observed: bool) -> Iterator[str]:
    """Serve until the block ends; yields the address."""
    process = EdgeProcess(database, directory, observed=observed)
    try:
        yield process.address
    finally:
        process.stop()


def _serve(database_url: str, log: str, observed: bool, pipe: Connection) -> None:  # noqa: FBT001 - the arguments of a process
    if not observed:
        _silence()
    with Path(log).open("a") as stream:
        configure_logs("http", level="INFO" if observed else "CRITICAL", stream=stream)
        edge = HttpEdge(
            connect(database_url, "http"),
            authenticate=local_tokens(JWT_SECRET),
            callback_secrets={PROVIDER: CallbackSecrets(CALLBACK_SECRET)},
            limits=UNLIMITED,
        )
        edge.start()
        pipe.send(edge.address)
        pipe.recv()
        edge.stop()


def _silence() -> None:
    nothing = SimpleNamespace(inc=_nothing, set=_nothing, observe=_nothing)
    nothing.labels = lambda *_, **__: nothing
    for name, metric in list(vars(metrics).items()):
        if isinstance(metric, MetricWrapperBase):
            setattr(metrics, name, nothing)


def _nothing(*_: Any, **__: Any) -> None:
    """Stands for what a metric would do."""
