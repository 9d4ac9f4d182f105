"""The callbacks of the sandbox provider: stored together with the effect, signed, and sent until they are received.

The rule: a callback is delivered when the receiver accepts it (2xx) or says that it contradicts what is recorded (409). Its id and its
bytes are the same in every attempt, also after a restart.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import structlog
from standardwebhooks.webhooks import Webhook

from workers.sandbox.faults import FaultKind, strike
from workers.sandbox.store import Store

log = structlog.get_logger(__name__)

_BATCH = 50
_FIRST_PAUSE = timedelta(milliseconds=200)
_LONGEST_PAUSE = timedelta(seconds=15)
_LONGEST_SLEEP_SECONDS = 0.1  # a new callback may be due before the one that the loop waits for


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackEvent:
    """The content of a callback. `external_ref` is None when the request had no effect."""

    event_id: str
    event_type: str
    step_ref: str
    request_id: str
    external_ref: str | None
    occurred_at: str

    def body(self) -> str:
        return json.dumps(
            {
                "eventId": self.event_id,
                "eventType": self.event_type,
                "stepRef": self.step_ref,
                "requestId": self.request_id,
                "externalRef": self.external_ref,
                "occurredAt": self.occurred_at,
            }
        )


def promise(
    connection: sqlite3.Connection, event: CallbackEvent, *, idempotency_key: str, step_code: str, due_at: float, now: float
) -> None:
    """Store the callback in the transaction of its request. The faults of callbacks strike here."""
    delay = strike(connection, FaultKind.DELAY_CALLBACK, step_code) or timedelta(0)
    is_early = strike(connection, FaultKind.EARLY_CALLBACK, step_code) is not None
    at = now if is_early else due_at + delay.total_seconds()
    copies = 1 if strike(connection, FaultKind.DUPLICATE_CALLBACK, step_code) is None else 2
    is_lost = strike(connection, FaultKind.LOSE_CALLBACK, step_code) is not None
    events = [event] * copies
    events += [change(event) for kind, change in DISTORTIONS.items() if strike(connection, kind, step_code) is not None]
    for each in events:
        say(connection, each, idempotency_key, at, state="LOST" if is_lost else "PENDING")


def say(
    connection: sqlite3.Connection, event: CallbackEvent, idempotency_key: str, due_at: float, *, state: str = "PENDING"
) -> None:
    """Store one delivery of an event. `due_at`: seconds since the epoch."""
    connection.execute(
        "INSERT INTO callback (event_id, idempotency_key, body, state, due_at) VALUES (?, ?, ?, ?, ?)",
        (event.event_id, idempotency_key, event.body(), state, due_at),
    )


def _other_content(event: CallbackEvent) -> CallbackEvent:
    return replace(event, external_ref=f"{event.external_ref}-changed")


def _contradiction(event: CallbackEvent) -> CallbackEvent:
    opposite = "step.rejected" if event.event_type == "step.completed" else "step.completed"
    return replace(event, event_id=new_event_id(), event_type=opposite)


def _to_nobody(event: CallbackEvent) -> CallbackEvent:
    return replace(event, event_id=new_event_id(), step_ref=f"{event.step_ref.rpartition(':')[0]}:{uuid4()}")


DISTORTIONS: Mapping[FaultKind, Callable[[CallbackEvent], CallbackEvent]] = {
    FaultKind.CHANGE_CALLBACK: _other_content,
    FaultKind.CONTRADICT_CALLBACK: _contradiction,
    FaultKind.MISADDRESS_CALLBACK: _to_nobody,
}
"""For each fault of this kind: the false event that is sent after the true one."""


def new_event_id() -> str:
    return f"evt-{uuid4()}"


class Courier:
    """The loop that delivers callbacks to one address."""

    def __init__(self, store: Store, url: str, secret: str, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._url = httpx.URL(url)  # a malformed address fails here, and does not end the loop later
        self._webhook = Webhook(secret)
        self._clock = clock
        self._http = httpx.Client(timeout=5.0, trust_env=False)

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                self.run_once()
                pause = self._pause()
            except Exception:
                log.exception("sandbox_callbacks_not_sent")
                pause = _LONGEST_PAUSE.total_seconds()
            stop.wait(pause)

    def run_once(self) -> int:
        """Send the callbacks that are due, at most one batch. Returns their number."""
        with self._store.transaction() as connection:
            due = connection.execute(
                "SELECT * FROM callback WHERE state = 'PENDING' AND due_at <= ? ORDER BY due_at, delivery_id LIMIT ?",
                (self._clock(), _BATCH),
            ).fetchall()
        for delivery in due:
            self._record(delivery, self._send(delivery))
        return len(due)

    def close(self) -> None:
        self._http.close()

    def _send(self, delivery: sqlite3.Row) -> str:
        """Send it once. Returns the status code of the response, or the name of the error."""
        try:
            return str(self._post(delivery).status_code)
        except Exception as error:
            if not isinstance(error, httpx.HTTPError):
                log.exception("sandbox_callback_not_sent", externalEventId=delivery["event_id"])
            return type(error).__name__

    def _post(self, delivery: sqlite3.Row) -> httpx.Response:
        sent_at = datetime.fromtimestamp(self._clock(), UTC)
        headers = {
            "Content-Type": "application/json",
            "webhook-id": delivery["event_id"],
            "webhook-timestamp": str(int(sent_at.timestamp())),
            "webhook-signature": self._webhook.sign(delivery["event_id"], sent_at, delivery["body"]),
        }
        return self._http.post(self._url, content=delivery["body"].encode(), headers=headers)

    def _record(self, delivery: sqlite3.Row, response: str) -> None:
        attempts = delivery["attempts"] + 1
        state = "DELIVERED" if response.startswith("2") else "CONFLICT" if response == "409" else "PENDING"
        pause = min(_FIRST_PAUSE * 2 ** min(attempts - 1, 10), _LONGEST_PAUSE)
        with self._store.transaction() as connection:
            connection.execute(
                "UPDATE callback SET state = ?, attempts = ?, last_answer = ?, due_at = ? WHERE delivery_id = ?",
                (state, attempts, response, self._clock() + pause.total_seconds(), delivery["delivery_id"]),
            )
        log.info("sandbox_callback_sent", externalEventId=delivery["event_id"], answer=response, state=state, attempts=attempts)

    def _pause(self) -> float:
        with self._store.transaction() as connection:
            row = connection.execute("SELECT min(due_at) AS due_at FROM callback WHERE state = 'PENDING'").fetchone()
        if row["due_at"] is None:
            return _LONGEST_SLEEP_SECONDS
        return float(min(max(row["due_at"] - self._clock(), 0.0), _LONGEST_SLEEP_SECONDS))
