"""The disorder of the demo: a process start whose response is lost, a provider with faults, and a worker that is killed during a call.

All faults come from outside (the fault proxy, the sandbox provider, a signal); the suite has no code for them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy import Engine as Database

from domain.delivery import reading, steps
from domain.store import Cause
from workers.demo.local_suite import LocalSuite
from workers.runtime.commands import unit_of_work
from workers.runtime.engine import new_worker_id
from workers.runtime.engine_processes import start_path
from workers.sandbox.faults import FaultKind
from workers.sandbox.proxy import FaultProxy

# The step during whose request a worker is killed. The reply is delayed long enough to find out which worker waits for it.
VICTIM_STEP = "CHECK_SERVICEABILITY"
REPLY_DELAY = timedelta(seconds=60)
CALLBACK_DELAY = timedelta(seconds=4)
# Seconds between two looks for the delayed request.
POLL_SECONDS = 0.2


class Pods:
    """Two task pods in processes of their own, so that one can be killed while the other continues.

    `say` gets a sentence when one of them ends by itself.
    """

    def __init__(self, environment: Mapping[str, str], log_dir: Path, say: Callable[[str], object]) -> None:
        self._environment = {**os.environ, **environment}
        self._log_dir = log_dir
        self._say = say
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        for name in ("pod-a", "pod-b"):
            worker_id = new_worker_id(name)
            file = self._log_dir / f"{name}.log"
            log = file.open("ab")
            self._running[worker_id] = subprocess.Popen(
                [sys.executable, "-m", "workers", "tasks"],
                env={**self._environment, "Q2O_WORKER_ID": worker_id},
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches only the demo, which then stops its pods in order
            )
            log.close()
            Thread(target=self._watch, args=(worker_id, name, file), name=name, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        processes, self._running = list(self._running.values()), {}
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()

    def _watch(self, worker_id: str, name: str, log: Path) -> None:
        code = self._running[worker_id].wait()
        if worker_id in self._running:
            self._say(f"{name} ended by itself with exit code {code}; its log is {log}")

    def kill(self, worker_id: str) -> bool:
        """Kill the pod with this worker id (SIGKILL). False when no pod with this id runs."""
        process = self._running.pop(worker_id, None)
        if process is None:
            return False
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True


class Disorder:
    """Causes the faults while the block runs. Afterwards `killed` and `wire.faults` say what happened.

    The proxy ends with the block: a process that reaches the engine through `engine_url` must end before.
    """

    def __init__(self, running: LocalSuite, database: Database, tenant_id: UUID, pods: Pods) -> None:
        self._running = running
        self._database = database
        self._cause = Cause(tenant_id=tenant_id, actor="demo", command="find-waiting-worker")
        self._pods = pods
        engine = urlsplit(running.settings.engine_url)
        self.wire = FaultProxy(str(engine.hostname), int(engine.port or 80))
        self.engine_url = f"{self.wire.url}{engine.path}"
        self.killed: str | None = None
        self._over = Event()
        self._killer = Thread(target=self._kill_waiting_worker, name="killer", daemon=True)

    def __enter__(self) -> Self:
        self.wire.drop_response(start_path(self._cause.tenant_id, "order-fulfillment"), times=1)
        faults = self._running.provider.faults
        faults.clear()
        faults.add(FaultKind.HOLD_ANSWER, step_code=VICTIM_STEP, duration=REPLY_DELAY)
        faults.add(FaultKind.LOSE_ANSWER, step_code="ACTIVATE_BILLING")
        faults.add(FaultKind.DUPLICATE_CALLBACK, step_code="PROVISION_SERVICE", times=4)
        faults.add(FaultKind.DELAY_CALLBACK, step_code="SHIP_ROUTER", times=2, duration=CALLBACK_DELAY)
        faults.add(FaultKind.LOSE_CALLBACK, step_code="SHIP_ROUTER")
        faults.add(FaultKind.REJECT, step_code="UPDATE_INSTALLED_BASE")
        self._killer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._killer.join()
        self._running.provider.faults.clear()
        self.wire.down()

    def _kill_waiting_worker(self) -> None:
        """When the provider has carried the request out and delays the reply, kill the worker that waits for it."""
        while not self._over.wait(POLL_SECONDS):
            key = self._delayed_key()
            if key is None:
                continue
            with unit_of_work(self._database, self._cause) as uow:
                worker_id = reading.worker_of(uow, key)
            if worker_id and self._pods.kill(worker_id):
                self.killed = worker_id
                return

    def _delayed_key(self) -> str | None:
        """The idempotency key of the delayed request; None when it has not arrived. The ledger also has requests of earlier demos."""
        ours = steps.business_keys(self._cause.tenant_id)
        for entry in self._running.provider.ledger.entries():
            if entry["stepCode"] == VICTIM_STEP and str(entry["stepRef"]).startswith(ours) and entry["effects"]:
                return str(entry["idempotencyKey"])
        return None
