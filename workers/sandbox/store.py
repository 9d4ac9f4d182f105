"""The storage of the sandbox provider: one SQLite file, separate from the product's database.

The rule: every reply and every callback is in this file before it is sent, so a restart loses nothing.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# `effect` has no unique key on purpose: with one, a second effect of a key could not be recorded, and the ledger would prove nothing.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS request (
    idempotency_key TEXT PRIMARY KEY,
    body_hash TEXT NOT NULL,
    step_ref TEXT NOT NULL,
    step_code TEXT NOT NULL,
    order_ref TEXT NOT NULL,
    request_id TEXT NOT NULL UNIQUE,
    external_ref TEXT,
    reason TEXT,
    first_status TEXT,
    final_status TEXT,
    completes_at REAL,
    received_at REAL NOT NULL,
    requests INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE IF NOT EXISTS effect (
    effect_id INTEGER PRIMARY KEY,
    idempotency_key TEXT NOT NULL REFERENCES request,
    at REAL NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS effect_by_key ON effect (idempotency_key);
CREATE TABLE IF NOT EXISTS reversal (
    idempotency_key TEXT PRIMARY KEY REFERENCES request,
    by_key TEXT NOT NULL,
    at REAL NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS cancellation (
    idempotency_key TEXT PRIMARY KEY,
    request_key TEXT NOT NULL REFERENCES request,
    request_id TEXT NOT NULL,
    status TEXT NOT NULL,
    reason TEXT,
    decided_at REAL NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS callback (
    delivery_id INTEGER PRIMARY KEY,
    event_id TEXT NOT NULL,
    idempotency_key TEXT NOT NULL REFERENCES request,
    body TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('PENDING', 'DELIVERED', 'CONFLICT', 'LOST')),
    due_at REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    last_answer TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS callback_due ON callback (due_at) WHERE state = 'PENDING';
CREATE INDEX IF NOT EXISTS callback_by_key ON callback (idempotency_key);
CREATE TABLE IF NOT EXISTS fault (
    fault_id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    step_code TEXT,
    times INTEGER NOT NULL CHECK (times > 0),
    remaining INTEGER NOT NULL CHECK (remaining >= 0),
    seconds REAL NOT NULL CHECK (seconds >= 0)
) STRICT;
"""


class Store:
    """One connection with one writer at a time. Other processes may have the same file open."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA foreign_keys = ON")
        self._connection.executescript(_SCHEMA)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A transaction that takes the write lock when it begins, so that everything it reads is still true when it commits."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def close(self) -> None:
        with self._lock:
            self._connection.close()
