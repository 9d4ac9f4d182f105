"""The case worker of the demo: claims cases about requests that the provider rejected, and has each step retried after a repair of the data."""

from __future__ import annotations

from threading import Event, Thread
from types import TracebackType
from typing import Self

import structlog

from workers.demo.api import Api
from workers.demo.people import CASE_WORKER

# Seconds between two looks for open cases.
POLL_SECONDS = 0.5

log = structlog.get_logger(__name__)


class CaseWorker:
    """Works on cases while the block runs. `resolved` counts the cases that it has resolved."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._over = Event()
        self._work = Thread(target=self._work_on, name="case-worker", daemon=True)
        self.resolved = 0

    def __enter__(self) -> Self:
        self._work.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._work.join()

    def _work_on(self) -> None:
        while not self._over.wait(POLL_SECONDS):
            try:
                self._look()
            except Exception:
                log.exception("demo_cases_not_worked_on")

    def _look(self) -> None:
        for case in self._api.get("/fallout-cases", CASE_WORKER, status="OPEN")["items"]:
            if case["type"] == "PROVIDER_REJECTED":
                is_done = self._api.repair_case(case, "The customer moved within the house.", "Deliver to the second floor")
                self.resolved += is_done
                log.info("demo_case_worked_on", caseNumber=case["caseNumber"], resolved=is_done)
