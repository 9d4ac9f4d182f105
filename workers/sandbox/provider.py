"""The sandbox provider: a fulfilment provider that recognises idempotency keys, sends signed callbacks, and shows faults on request.

The rule: it shares nothing with the product but HTTP, so its ledger is independent evidence to compare the product's records with.
It runs in a thread (`SandboxProvider`) or in a process of its own (`q2o sandbox`).
"""

from __future__ import annotations

import sys
import threading
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from workers.sandbox.app import create_app
from workers.sandbox.callbacks import Courier
from workers.sandbox.faults import Faults
from workers.sandbox.ledger import ASYNCHRONOUS_STEPS, CALLBACK_LATENCY, Ledger
from workers.sandbox.server import ServerThread
from workers.sandbox.store import Store

LEDGER_FILE = "sandbox-provider.sqlite3"


class SandboxProvider:
    """The provider on `http://host:port`. Its ledger and its pending callbacks are in a file in `data_dir`, so they outlast the object.

    Code in the same process may use `faults` and `ledger` directly. An object can be started once.
    Raises ServerStartError if it cannot listen on the port.
    """

    def __init__(
        self,
        data_dir: Path,
        callback_url: str,
        callback_secret: str,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        token: str | None = None,
        asynchronous: frozenset[str] = ASYNCHRONOUS_STEPS,
        callback_latency: timedelta = CALLBACK_LATENCY,
    ) -> None:
        self._store = Store(data_dir / LEDGER_FILE)
        self.faults = Faults(self._store)
        self.ledger = Ledger(self._store, asynchronous=asynchronous, callback_latency=callback_latency)
        self._stopping = threading.Event()
        self._courier = Courier(self._store, callback_url, callback_secret)
        self._server = ServerThread(create_app(self.ledger, self.faults, token=token, stopping=self._stopping), host, port)
        self._delivery = threading.Thread(target=self._courier.run, args=(self._stopping,), name="sandbox-callbacks", daemon=True)
        self.url = f"http://{host}:{self._server.port}"

    def start(self) -> None:
        """Serve requests and deliver callbacks. Returns when the port accepts connections."""
        self._server.start()
        self._delivery.start()

    def stop(self) -> None:
        """End both threads. Callbacks that were not delivered stay pending in the file."""
        self._stopping.set()
        self._server.stop()
        if self._delivery.is_alive():
            self._delivery.join()
        self._courier.close()
        self._store.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


def serve(
    data_dir: Path,
    callback_url: str,
    callback_secret: str,
    host: str,
    port: int,
    *,
    stop: threading.Event,
    callback_latency: timedelta = CALLBACK_LATENCY,
) -> None:
    """Run the provider until `stop` is set; its address is the first line on standard output."""
    with SandboxProvider(data_dir, callback_url, callback_secret, host, port, callback_latency=callback_latency) as provider:
        sys.stdout.write(f"sandbox provider on {provider.url}\n")
        sys.stdout.flush()
        stop.wait()
