"""The people of a storm: clients that repeat what got no answer, under the same key, and a case worker who resolves what is left to a person."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import count
from threading import Event, Lock, Thread
from typing import Any
from uuid import UUID, uuid4

import httpx

from tests.faults.storm.history import History
from workers.demo.api import Answer, Api, UnexpectedAnswerError
from workers.demo.command import tasklist
from workers.demo.courses import sample_quotes
from workers.demo.driver import Driver, SampleQuote
from workers.demo.people import FALLOUT_MANAGER, SALES, Actor
from workers.runtime.engine import Engine, EngineError

TIMEOUT_SECONDS = 8.0  # well above what the edge takes for a command whose database says nothing
PAUSE_SECONDS = 0.3
TRY_AGAIN = frozenset({429, 503})
IN_PROGRESS = "IDEMPOTENT_REQUEST_IN_PROGRESS"
REGISTERS = {"quotes": "quote", "orders": "sales_order"}
MANAGER_OF_CASES = Actor(subject=FALLOUT_MANAGER.id, roles=tuple(FALLOUT_MANAGER.groups))
CHOICES = ("RETRY", "KEEP_AS_IS", "CANCEL_STEP")
"""What the case worker chooses, the first that the case allows; a request that the provider has rejected is repaired."""
REPAIR = "REPAIR_AND_RETRY"
OF_REJECTIONS = frozenset({"PROVIDER_REJECTED", "COMPENSATION_FAILED"})
"""Types of cases about a request, or an undoing, that the provider rejects again when it is sent again unchanged."""


class StormOverError(UnexpectedAnswerError):
    """No answer came until the end of the storm."""


class RecordingApi(Api):
    """Sends what `Api` sends, until there is an answer, and records all of it."""

    def __init__(self, client: str, url: str, acting_for: tuple[str, UUID], history: History, over: Event) -> None:
        """`acting_for`: the secret that signs tokens, and the tenant. Nothing is sent any more when `over` is set."""
        super().__init__(url, *acting_for)
        self._http.timeout = httpx.Timeout(TIMEOUT_SECONDS)
        self._client, self._history, self._over = client, history, over

    def get(self, path: str, actor: Actor = SALES, **params: Any) -> Any:
        """Read until there is an answer: a read has no effect, so each attempt is a read of its own."""
        while True:
            number = self._history.invoked(client=self._client, request=f"GET {path}")
            response = self._attempt(number, lambda: self._http.get(path, params=params, headers=self._headers(actor)))
            if response is not None:
                self._history.answered(number, code=response.status_code, **_register(path, response))
                response.raise_for_status()
                return response.json()
            self._pause()

    def send(
        self,
        path: str,
        body: Mapping[str, Any],
        *,
        actor: Actor = SALES,
        version: int | None = None,
        key: str | None = None,
        method: str = "POST",
    ) -> Answer:
        """Send a command under one key until its outcome is known."""
        key = key or str(uuid4())
        headers = self._headers(actor) | {"Idempotency-Key": f'"{key}"'}
        if version is not None:
            headers["If-Match"] = f'"{version}"'
        number = self._history.invoked(client=self._client, request=f"{method} {path}", key=key, expected=version)
        while True:
            response = self._attempt(number, lambda: self._http.request(method, path, json=dict(body), headers=headers))
            if response is not None:
                answer = response.json()
                is_ok = response.status_code < 300
                # A stored answer has its fields in another order.
                digest = hashlib.sha256(json.dumps(answer, sort_keys=True).encode()).hexdigest()[:16] if is_ok else None
                facts = {"problem": answer.get("code"), "body": digest, "order": answer.get("orderId")}
                self._history.answered(number, code=response.status_code, **facts)
                replayed = response.headers.get("Idempotent-Replayed") == "true"
                return Answer(status=response.status_code, body=answer, replayed=replayed)
            self._pause()

    def _attempt(self, number: int, send: Callable[[], httpx.Response]) -> httpx.Response | None:
        """Send once; None when the outcome is not known, or the edge asks to try again."""
        try:
            response = send()
        except httpx.TransportError as error:
            self._history.lost(number, type(error).__name__)
            return None
        if response.status_code in TRY_AGAIN or (response.status_code == 409 and response.json().get("code") == IN_PROGRESS):
            self._history.lost(number, f"{response.status_code} {response.json().get('code')}")
            return None
        return response

    def _pause(self) -> None:
        if self._over.wait(PAUSE_SECONDS):
            raise StormOverError("no answer came until the end of the storm")


def _register(path: str, response: httpx.Response) -> dict[str, Any]:
    match path.strip("/").split("/"):
        case [("quotes" | "orders") as kind, subject] if response.status_code == 200:
            shown = response.json()
            return {"aggregate": f"{REGISTERS[kind]}:{subject}", "version": shown["version"], "status": shown["status"]}
        case _:
            return {}


class Clients:
    """Several clients, each of which takes one sample quote after the other through its course until `leave` is called.

    `over` ends also those that wait for something. `failures` gets a sentence for each course that a client could not go on with.
    """

    def __init__(
        self, number: int, api_of: Callable[[str], RecordingApi], manager: Engine, over: Event, failures: list[str]
    ) -> None:
        self._over, self._leaving, self._lock, self._failures = over, Event(), Lock(), failures
        self._samples = _without_end()
        self.finished: list[SampleQuote] = []
        self._under_way: list[SampleQuote] = []
        self._apis = [api_of(f"client-{each}") for each in range(number)]
        self._drivers = [Driver(api, over, _tasklist(manager)) for api in self._apis]
        self._threads = [Thread(target=self._work, args=(driver,), name="client", daemon=True) for driver in self._drivers]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def leave(self) -> None:
        """Begin no further quotes."""
        self._leaving.set()

    @property
    def are_gone(self) -> bool:
        """Whether every quote that was begun has come to its end."""
        return not any(thread.is_alive() for thread in self._threads)

    @property
    def waiting(self) -> list[str]:
        """A sentence for each quote that is under way."""
        return [
            f"a client waits in the course {each.course!r}: quote {each.quote.get('status')}, order {each.order.get('status')}"
            for each in list(self._under_way)
        ]

    def close(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        for driver, api in zip(self._drivers, self._apis, strict=True):
            driver.close()
            api.close()

    def _work(self, driver: Driver) -> None:
        while not self._leaving.is_set() and not self._over.is_set():
            with self._lock:
                sample = next(self._samples)
            self._under_way.append(sample)
            try:
                driver.drive(sample)
            except httpx.HTTPStatusError as error:
                sample.end = f"{error.response.status_code} for {error.request.url.path}"
            except Exception as error:  # noqa: BLE001 - the storm tells it at the end, and the client begins another quote
                self._failures.append(f"a client failed in the course {sample.course!r}: {type(error).__name__}: {error}")
            self._under_way.remove(sample)
            self.finished.append(sample)


def _without_end() -> Iterator[SampleQuote]:
    for number in count(1):
        yield sample_quotes(number)[-1]


def _tasklist(manager: Engine) -> Callable[[str, str], bool]:
    sign = tasklist(manager)

    def complete(decision: str, business_key: str) -> bool:
        """Complete a manager's task. Returns False if there is no task, or if the engine has not confirmed the completion."""
        with suppress(EngineError):
            return sign(decision, business_key)
        return False

    return complete


class CaseWorker:
    """Resolves every case until `over`; `resolved` counts them. `failures` gets a sentence for each look that failed."""

    def __init__(self, api: RecordingApi, over: Event, failures: list[str]) -> None:
        self._api, self._over, self._failures = api, over, failures
        self._thread = Thread(target=self._work, name="case-worker", daemon=True)
        self.resolved = 0

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._thread.join()
        self._api.close()

    def _work(self) -> None:
        while not self._over.wait(1.0):
            try:
                self._look()
            except (UnexpectedAnswerError, httpx.HTTPStatusError):
                continue
            except Exception as error:  # noqa: BLE001 - the storm tells it at the end, and the case worker looks again
                self._failures.append(f"the case worker failed: {type(error).__name__}: {error}")

    def _look(self) -> None:
        for status in ("OPEN", "IN_PROGRESS"):
            for case in self._api.get("/fallout-cases", MANAGER_OF_CASES, status=status)["items"]:
                self.resolved += self._resolve(case["caseId"])

    def _resolve(self, case_id: str) -> bool:
        path = f"/fallout-cases/{case_id}"
        version = self._api.get(path, MANAGER_OF_CASES)["version"]
        claimed = self._api.send(f"{path}/claims", {}, actor=MANAGER_OF_CASES, version=version)
        if claimed.status != 201 or (chosen := _choice(claimed.body)) is None:
            return False
        body = {"resolution": chosen, "expectedStepVersion": claimed.body["stepVersion"], "evidence": "Looked at in the storm."}
        if chosen == REPAIR:
            old = claimed.body["request"]["instructions"]
            body["repairs"] = [{"field": "instructions", "old": old, "new": f"Deliver by hand, {uuid4()}"}]
        resolved = self._api.send(f"{path}/resolutions", body, actor=MANAGER_OF_CASES, version=claimed.body["version"])
        return resolved.status == 201


def _choice(case: Mapping[str, Any]) -> str | None:
    wanted = (REPAIR, *CHOICES) if case["type"] in OF_REJECTIONS and case["request"] else CHOICES
    return next((each for each in wanted if each in case["resolutions"]), None)
