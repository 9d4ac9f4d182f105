"""A client that accepts quotes over HTTP, with connections that stay open."""

from __future__ import annotations

import http.client
import json
from datetime import timedelta
from threading import local
from urllib.parse import urlsplit
from uuid import uuid4

from domain.store import as_json
from tests.benchmarks.approved import NAMED, Approved
from tests.support.http import JWT_SECRET
from tests.support.offers import CUSTOMER
from workers.http.auth import Role
from workers.http.tokens import issue_token

LIMIT = 30.0  # seconds for one request; longer than the edge takes to give up


class Client:
    """Accepts over one connection for each thread. `address` may change: the next connection goes to the new one."""

    def __init__(self, approved: Approved, address: str) -> None:
        self.address = address
        self._approved = approved
        token = issue_token(JWT_SECRET, CUSTOMER, approved.copies.tenant_id, [Role.CUSTOMER], "EU", timedelta(hours=1), [CUSTOMER])
        version = f'"{approved.copies.version}"'
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "If-Match": version}
        self._mine = local()
        self._open: list[http.client.HTTPConnection] = []

    def __call__(self, number: int) -> None:
        status, told = self.send(number, str(uuid4()))
        assert status == 201, told

    def send(self, number: int, key: str) -> tuple[int, bytes]:
        """Send one acceptance under an idempotency key; returns status and body. Raises OSError and HTTPException without an answer."""
        command = self._approved.copies.acceptance(number)
        body = json.dumps(as_json({name: getattr(command, name) for name in (*NAMED[1:], "channel")}))
        connection = self._connection()
        try:
            connection.request("POST", f"/quotes/{command.quote_id}/acceptances", body, {**self._headers, "Idempotency-Key": key})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            del self._mine.connection
            raise

    def _connection(self) -> http.client.HTTPConnection:
        if not hasattr(self._mine, "connection"):
            self._mine.connection = http.client.HTTPConnection(urlsplit(self.address).netloc, timeout=LIMIT)
            self._open.append(self._mine.connection)
        connection: http.client.HTTPConnection = self._mine.connection
        return connection

    def close(self) -> None:
        for connection in self._open:
            connection.close()
