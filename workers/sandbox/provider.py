"""A fulfilment provider to play with: idempotent by key, with signed callbacks, and badly behaved on request.

The rule: it shares nothing with the product but HTTP, so its ledger can be held against the product's own records.
It runs in a thread (`SandboxProvider`) or in a process of its own (`python -m workers.sandbox.provider`).
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from workers.sandbox.app import create_app
from workers.sandbox.callbacks import Courier
from workers.sandbox.faults import Faults
from workers.sandbox.ledger import ASYNCHRONOUS_STEPS, CALLBACK_LATENCY, Ledger
from workers.sandbox.server import ServerStartError, ServerThread
from workers.sandbox.store import Store

LEDGER_FILE = "sandbox-provider.sqlite3"


class SandboxProvider:
    """The provider on `http://host:port`; ledger and pending callbacks live in `data_dir` and outlast the object.

    `faults` and `ledger` may be used directly by whoever runs it in a thread. An object is started once.
    Raises ServerStartError if the port cannot be had.
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
        """Serve and deliver callbacks; returns when connections are accepted."""
        self._server.start()
        self._delivery.start()

    def stop(self) -> None:
        """End both threads; callbacks that were not received stay pending in the file."""
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the provider in this process until SIGINT or SIGTERM; the secret comes from Q2O_CALLBACK_SECRET, never from the command line."""
    parser = argparse.ArgumentParser(prog="workers.sandbox.provider", description="Run the sandbox provider.")
    parser.add_argument("--data-dir", type=Path, required=True, help="where the ledger is kept")
    parser.add_argument("--callback-url", required=True, help="where callbacks are sent")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    options = parser.parse_args(arguments)
    secret = os.environ.get("Q2O_CALLBACK_SECRET")
    if not secret:
        parser.error("Q2O_CALLBACK_SECRET is not set: give the secret that signs the callbacks")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        serve(options.data_dir, options.callback_url, secret, options.host, options.port, stop=stop)
    except ServerStartError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
