"""The disorder of the demo: a start whose answer is lost, a provider that misbehaves, and a worker that is killed in the middle of a call.

Everything is done from outside (a wire, a provider's switch, a signal); the suite itself has no switch for it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy import Engine as Database

from domain.delivery import reading, steps
from domain.store import Cause, unit_of_work
from workers.demo.local_suite import LocalSuite
from workers.runtime.engine import new_worker_id
from workers.runtime.engine_processes import start_path
from workers.sandbox.faults import FaultKind
from workers.sandbox.proxy import FaultProxy

# The step in whose call a worker dies: its answer is held long enough to find out who waits for it.
VICTIM_STEP = "CHECK_SERVICEABILITY"
HOLD = timedelta(seconds=60)
# A callback that comes when everybody has stopped expecting it soon.
LATE = timedelta(seconds=4)
# How often to look whether the held call has begun, seconds.
LOOK = 0.2


class Pods:
    """Two task pods as processes of their own, so that one can be killed while the other goes on."""

    def __init__(self, environment: Mapping[str, str], log_dir: Path) -> None:
        self._environment = {**os.environ, **environment}
        self._log_dir = log_dir
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        for name in ("pod-a", "pod-b"):
            worker_id = new_worker_id(name)
            log = (self._log_dir / f"{name}.log").open("ab")
            self._running[worker_id] = subprocess.Popen(
                [sys.executable, "-m", "workers", "tasks"],
                env={**self._environment, "Q2O_WORKER_ID": worker_id},
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the demo, which then stops its pods in order
            )
            log.close()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            process.wait()

    def kill(self, worker_id: str) -> bool:
        """Kill the pod with this worker id, without a chance to say goodbye."""
        process = self._running.pop(worker_id, None)
        if process is None:
            return False
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True


class Disorder:
    """Switches the disorder on for the length of the block; `killed` and `wire.faults` tell afterwards what was done.

    Nothing of it stays: a process that goes to the engine by `engine_url` must end before the block does.
    """

    def __init__(self, running: LocalSuite, database: Database, tenant_id: UUID, pods: Pods) -> None:
        self._running = running
        self._database = database
        self._looking = Cause(tenant_id=tenant_id, actor="demo", command="find-waiting-worker")
        self._pods = pods
        engine = urlsplit(running.settings.engine_url)
        self.wire = FaultProxy(str(engine.hostname), int(engine.port or 80))
        self.engine_url = f"{self.wire.url}{engine.path}"
        self.killed: str | None = None
        self._over = Event()
        self._killer = Thread(target=self._kill_whoever_waits, name="killer", daemon=True)

    def __enter__(self) -> Self:
        self.wire.drop_response(start_path("order-fulfillment"), times=1)
        faults = self._running.provider.faults
        faults.clear()
        faults.add(FaultKind.HOLD_ANSWER, step_code=VICTIM_STEP, duration=HOLD)
        faults.add(FaultKind.LOSE_ANSWER, step_code="ACTIVATE_BILLING")
        faults.add(FaultKind.DUPLICATE_CALLBACK, step_code="PROVISION_SERVICE", times=4)
        faults.add(FaultKind.DELAY_CALLBACK, step_code="SHIP_ROUTER", times=2, duration=LATE)
        faults.add(FaultKind.LOSE_CALLBACK, step_code="SHIP_ROUTER")
        faults.add(FaultKind.REJECT, step_code="UPDATE_INSTALLED_BASE")
        self._killer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._killer.join()
        self._running.provider.faults.clear()
        self.wire.down()

    def _kill_whoever_waits(self) -> None:
        """Once the provider has had the effect and holds its answer, kill the worker that waits for it."""
        while not self._over.wait(LOOK):
            key = self._held_key()
            if key is None:
                continue
            with unit_of_work(self._database, self._looking) as uow:
                worker_id = reading.worker_of(uow, key)
            if worker_id and self._pods.kill(worker_id):
                self.killed = worker_id
                return

    def _held_key(self) -> str | None:
        """The key of the held call; the ledger also remembers the calls of earlier demos."""
        ours = steps.business_keys(self._looking.tenant_id)
        for entry in self._running.provider.ledger.entries():
            if entry["stepCode"] == VICTIM_STEP and str(entry["stepRef"]).startswith(ours) and entry["effects"]:
                return str(entry["idempotencyKey"])
        return None
