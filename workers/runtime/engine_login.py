"""How a process proves to the engine who it is, and what it means when the engine does not believe it.

The engine answers 401 to a wrong password, and for some seconds also to the right one: after somebody else's wrong password for the same
user. Nothing but time tells the two apart, so the connection remembers since when it has been refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

import requests
from requests.auth import AuthBase, HTTPBasicAuth

from workers.runtime.secret_files import Secret, reveal

LONGEST_LOCK = timedelta(seconds=60)
"""The longest lock after a wrong password: `login-delay-max-time` in docker/engine/application.yaml."""
ROOM = timedelta(seconds=10)
"""A loop tries again within this time after a lock has ended."""


class Login(AuthBase):
    """The user and the current password of a connection. Safe to share between threads."""

    def __init__(self, user: str, password: Secret, clock: Callable[[], float] = time.monotonic) -> None:
        self.user = user
        self._password = password
        self._clock = clock
        self._refused_since: float | None = None

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        # Bytes, because text would be sent as Latin-1.
        HTTPBasicAuth(self.user.encode(), self.password.encode())(request)
        return request

    @property
    def password(self) -> str:
        """The current password."""
        return reveal(self._password)

    def accepted(self) -> None:
        """Note that the engine has believed us."""
        self._refused_since = None

    def refused(self) -> bool:
        """Note a 401; returns whether it may be a lock. False: the refusals last longer than any lock, so the password is wrong."""
        since = self._refused_since
        if since is None:
            self._refused_since = since = self._clock()
        return self._clock() - since < (LONGEST_LOCK + ROOM).total_seconds()
