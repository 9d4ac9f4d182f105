"""The HTTP connection to the engine's REST interface: one pooled session, a time limit on every call, and errors by what they prove.

The rule it keeps: a caller can always tell apart "nothing was sent", "it may have taken effect" and "the engine refused".

    EngineError
    ├── EngineUnavailableError     no connection: the engine never saw the request
    │   ├── EngineLockedOutError   the engine does not accept the password for now
    │   └── EngineUntrustedError   the engine and this process do not accept each other's certificate or password
    ├── EngineOutcomeUnknownError  sent, no usable response: it may have taken effect
    └── EngineRefusedError         a response with an error: status, type, message, code
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import MaxRetryError, NewConnectionError

from workers.runtime.engine_login import LONGEST_LOCK, Login
from workers.runtime.outages import OutageError, UntrustedError
from workers.runtime.secret_files import Secret
from workers.runtime.transport import ClientTls

CONNECT_TIMEOUT = 3.05  # seconds; just above the three seconds after which TCP sends its first packet again
# A call runs the process up to its next wait state, which takes milliseconds without a fault.
RESPONSE_TIMEOUT = timedelta(seconds=10)
# For what sets an engine up: a JVM that has just started, on a busy machine, takes several seconds for the first call of each kind.
SET_UP_TIMEOUT = timedelta(seconds=60)
POOL_SIZE = 64  # connections kept: one per handler thread of a large pod, one for the poll, one for the heartbeat
PAGE = 1000  # rows; half of the most that docker/engine/application.yaml allows for one query
OPTIMISTIC_LOCKING = 1
DEADLOCK = 10000
PUBLIC_AUTHORITIES = ClientTls(peer="engine")


class EngineError(Exception):
    """A call to the engine failed."""


class EngineUnavailableError(EngineError, OutageError):
    """The engine cannot be reached; the request was not sent."""


class EngineLockedOutError(EngineUnavailableError):
    """The engine does not accept the password for now; the request was not carried out.

    Somebody's wrong password locks a user for some seconds. When this lasts longer than any lock, it becomes EngineUntrustedError.
    """


class EngineUntrustedError(EngineUnavailableError, UntrustedError):
    """The engine and this process do not accept each other's certificate or password; the request was not carried out."""


class EngineOutcomeUnknownError(EngineError, OutageError):
    """The request was sent, and no usable response came back; it may or may not have taken effect."""


class EngineRefusedError(EngineError):
    """The engine refused the request, or failed to carry it out, and says so."""

    def __init__(self, status: int, kind: str, message: str, code: int | None) -> None:
        super().__init__(f"the engine answered {status} {kind}: {message}")
        self.status = status
        self.kind = kind
        self.message = message
        self.code = code

    @property
    def is_concurrency(self) -> bool:
        """Whether another transaction was faster (optimistic lock, deadlock): the same call may be sent again."""
        return self.code in (OPTIMISTIC_LOCKING, DEADLOCK)

    @property
    def is_not_found(self) -> bool:
        return self.status == HTTPStatus.NOT_FOUND


class EngineConnection:
    """Calls below `url` (which ends in `/engine-rest`) with basic authentication; safe to share between threads.

    Every method raises EngineUnavailableError, EngineOutcomeUnknownError or EngineRefusedError.
    """

    def __init__(
        self,
        url: str,
        user: str,
        password: Secret,
        *,
        tls: ClientTls = PUBLIC_AUTHORITIES,
        response_timeout: timedelta = RESPONSE_TIMEOUT,
    ) -> None:
        self.url = url.rstrip("/")
        self.user = user
        self._tls = tls
        self._response_timeout = response_timeout
        self._session = requests.Session()
        # Proxy settings and .netrc are not meant for an engine, and reading them costs more than the rest of a call.
        self._session.trust_env = False
        self._session.verify, self._session.cert = tls.of_requests
        self._login = self._session.auth = Login(user, password)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_connections=1, pool_maxsize=POOL_SIZE))

    def close(self) -> None:
        self._session.close()

    def get(self, path: str, **params: Any) -> Any:
        """GET. A list is read page by page, because the engine refuses a query that may find any number of rows."""
        if "maxResults" in params:
            return self.call("GET", path, params=params)
        found = page = self.call("GET", path, params={**params, "maxResults": PAGE})
        while isinstance(page, list) and len(page) == PAGE:
            page = self.call("GET", path, params={**params, "firstResult": len(found), "maxResults": PAGE})
            found = [*found, *page]
        return found

    def post(self, path: str, body: Mapping[str, Any], *, timeout: timedelta | None = None) -> Any:
        return self.call("POST", path, json=body, timeout=timeout)

    def put(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        return self.call("PUT", path, json=body or {})

    def find(self, path: str, **params: Any) -> Any | None:
        """GET that returns None for 404."""
        try:
            return self.get(path, **params)
        except EngineRefusedError as refusal:
            if refusal.is_not_found:
                return None
            raise

    def call(self, method: str, path: str, *, timeout: timedelta | None = None, **options: Any) -> Any:
        """Send one request and return the parsed JSON of the response, or None when the response has no body."""
        url = path if path.startswith(self.url) else f"{self.url}{path}"
        limits = CONNECT_TIMEOUT, (timeout or self._response_timeout).total_seconds()
        try:
            # An engine never redirects, and another host must not get its password.
            response = self._session.request(method, url, timeout=limits, allow_redirects=False, **options)
        except OSError as error:  # requests' own errors are OSErrors, and a certificate file that is gone is a plain one
            raise self._classified(error, method, url) from error
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            raise self._not_believed(f"{method} {url}")
        self._login.accepted()
        if not response.ok:
            raise _refusal(response)
        return _parsed(response)

    def _not_believed(self, request: str) -> EngineUnavailableError:
        refused = f"{request} was not carried out: the engine does not accept the password of user {self._login.user}"
        longest, settings = f"{LONGEST_LOCK.total_seconds():.0f} s", "Q2O_ENGINE_USER and Q2O_ENGINE_PASSWORD"
        if self._login.refused():
            return EngineLockedOutError(
                f"{refused}. Somebody else's wrong password locks a user for up to {longest}: try again, or correct {settings}"
            )
        return EngineUntrustedError(f"{refused}, for longer than any lock lasts ({longest}): correct {settings}")

    def _classified(self, error: OSError, method: str, url: str) -> EngineError:
        request, reason = f"{method} {url}", self._tls.explain(error, url)
        # Without proof, a change may have been made over a connection that was accepted earlier.
        if reason and (method == "GET" or self._tls.proves_refusal(error)):
            return EngineUntrustedError(f"{request} was not carried out: {reason}")
        if _was_never_sent(error):
            return EngineUnavailableError(f"the engine cannot be reached for {request}: {error}. Is it started?")
        return EngineOutcomeUnknownError(
            f"no response to {request}: {reason or error}. It may have taken effect: ask before sending it again"
        )


def _was_never_sent(error: OSError) -> bool:
    if not isinstance(error, requests.RequestException) or isinstance(
        error, (requests.ConnectTimeout, requests.exceptions.InvalidURL)
    ):
        return True
    cause = error.args[0] if error.args else None
    return isinstance(cause, MaxRetryError) and isinstance(cause.reason, NewConnectionError)


def _refusal(response: requests.Response) -> EngineRefusedError:
    try:
        body = response.json()
    except (ValueError, RecursionError):
        body = {}
    if not isinstance(body, dict):
        body = {}
    message = body.get("message") or response.reason or "no message"
    return EngineRefusedError(response.status_code, str(body.get("type") or "no type"), str(message), body.get("code"))


def _parsed(response: requests.Response) -> Any:
    if response.is_redirect:
        raise _no_engine(response, "a redirect")
    if response.status_code == HTTPStatus.NO_CONTENT or not response.content:
        return None
    try:
        return response.json()
    except (ValueError, RecursionError) as error:
        raise _no_engine(response, "not JSON") from error


def _no_engine(response: requests.Response, what: str) -> EngineOutcomeUnknownError:
    return EngineOutcomeUnknownError(f"the response of {response.url} is {what}: is this address an engine's REST interface?")
