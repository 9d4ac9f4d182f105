"""The HTTP connection to the engine's REST interface: one pooled session, a time limit on every call, and errors by what they prove.

The rule it keeps: a caller can always tell apart "nothing was sent", "it may have taken effect" and "the engine refused". Only the engine's
own word is an answer: an error is its refusal when it has the engine's `type` (the name of a class of Java), `message` and `code`, a success when
it has what the call asks for.
Whatever else comes (a gateway's page, another JSON, nothing) leaves the outcome unknown.

    EngineError
    ├── EngineUnavailableError     no connection: the engine never saw the request
    │   ├── EngineLockedOutError   the engine does not accept the password for now
    │   └── EngineUntrustedError   the engine and this process do not accept each other's certificate or password
    ├── EngineOutcomeUnknownError  sent, no usable response: it may have taken effect
    └── EngineRefusedError         the engine's own error: status, type, message, code
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from http import HTTPStatus
from types import NoneType
from typing import Any, TypeVar

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import MaxRetryError, NewConnectionError

from domain.retry_rules import START_REFUSED
from workers.runtime.engine_login import LONGEST_LOCK, Login
from workers.runtime.outages import OutageError, UntrustedError
from workers.runtime.secret_files import Secret
from workers.runtime.transport import ClientTls

CONNECT_TIMEOUT = 3.05  # seconds; just above the three seconds after which TCP sends its first packet again
# A call runs the process up to its next wait state, which takes milliseconds without a fault.
RESPONSE_TIMEOUT = START_REFUSED.call
# For what sets an engine up: a JVM that has just started, on a busy machine, takes several seconds for the first call of each kind.
SET_UP_TIMEOUT = timedelta(seconds=60)
POOL_SIZE = 64  # connections kept: one per handler thread of a large pod, one for the poll, one for the heartbeat
PAGE = 1000  # rows; half of the most that docker/engine/application.yaml allows for one query
OPTIMISTIC_LOCKING = 1
DEADLOCK = 10000
LOGIN_SETTINGS = "Q2O_ENGINE_USER and Q2O_ENGINE_PASSWORD"
PUBLIC_AUTHORITIES = ClientTls(peer="engine")
_JAVA_ERROR = re.compile(r"[A-Z]\w*(?:Exception|Error)", re.ASCII)
_T = TypeVar("_T")


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
    """The request was sent, and no usable response came back; it may or may not have taken effect.

    `status` is that of a response that is not JSON.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


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

    `login_named`: the variables that a person corrects when the engine does not accept the login.

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
        login_named: str = LOGIN_SETTINGS,
    ) -> None:
        self.url = url.rstrip("/")
        self.user = user
        self._tls = tls
        self._response_timeout = response_timeout
        self._login_named = login_named
        self._session = requests.Session()
        # Proxy settings and .netrc are not meant for an engine, and reading them costs more than the rest of a call.
        self._session.trust_env = False
        self._session.verify, self._session.cert = tls.of_requests
        self._login = self._session.auth = Login(user, password)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_connections=1, pool_maxsize=POOL_SIZE))

    def close(self) -> None:
        self._session.close()

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        """GET of one thing. A member that it lacks, when it is read, is an unusable answer as well."""
        return _as(dict, self.call("GET", path, params=params), path)

    def rows(self, path: str, **params: Any) -> list[dict[str, Any]]:
        """GET of a list, page by page, because the engine refuses a query that may find any number of rows."""
        if "maxResults" in params:
            return _rows(self.call("GET", path, params=params), path)
        found = page = _rows(self.call("GET", path, params={**params, "maxResults": PAGE}), path)
        while len(page) == PAGE:
            page = _rows(self.call("GET", path, params={**params, "firstResult": len(found), "maxResults": PAGE}), path)
            found = [*found, *page]
        return found

    def count(self, path: str, **params: Any) -> int:
        """GET of a number of rows."""
        return _as(int, self.get(path, **params)["count"], path)

    def ask(self, path: str, body: Mapping[str, Any], *, timeout: timedelta | None = None) -> dict[str, Any]:
        """POST that answers with one thing."""
        return _as(dict, self.call("POST", path, json=body, timeout=timeout), path)

    def ask_rows(self, path: str, body: Mapping[str, Any], *, timeout: timedelta | None = None) -> list[dict[str, Any]]:
        """POST that answers with a list."""
        return [_as(dict, row, path) for row in self.ask_list(path, body, timeout=timeout)]

    def ask_list(self, path: str, body: Mapping[str, Any], *, timeout: timedelta | None = None) -> list[Any]:
        """POST that answers with a list, whose members the caller judges one by one."""
        return _as(list, self.call("POST", path, json=body, timeout=timeout), path)

    def upload(self, path: str, fields: Mapping[str, str], files: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        """POST of a form with files, which answers with one thing."""
        return _as(dict, self.call("POST", path, data=fields, files=files, timeout=SET_UP_TIMEOUT), path)

    def post(self, path: str, body: Mapping[str, Any], *, timeout: timedelta | None = None) -> None:
        """POST that answers with nothing."""
        _as(NoneType, self.call("POST", path, json=body, timeout=timeout), path)

    def put(self, path: str, body: Mapping[str, Any] | None = None) -> None:
        _as(NoneType, self.call("PUT", path, json=body or {}), path)

    def delete(self, path: str) -> None:
        _as(NoneType, self.call("DELETE", path), path)

    def find(self, path: str, **params: Any) -> dict[str, Any] | None:
        """GET of one thing; None when the engine says that there is none."""
        try:
            return self.get(path, **params)
        except EngineRefusedError as refusal:
            if refusal.is_not_found:
                return None
            raise

    def call(self, method: str, path: str, *, timeout: timedelta | None = None, **options: Any) -> Any:
        """Send one request and return the parsed JSON of the response, or None for a response of 204, which has none."""
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
        return _parsed(response)

    def _not_believed(self, request: str) -> EngineUnavailableError:
        refused = f"{request} was not carried out: the engine does not accept the password of user {self._login.user}"
        longest, settings = f"{LONGEST_LOCK.total_seconds():.0f} s", self._login_named
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
        effect = "" if method == "GET" else ". It may have taken effect: ask before sending it again"
        return EngineOutcomeUnknownError(f"no response to {request}: {reason or error}{effect}")


def _was_never_sent(error: OSError) -> bool:
    if not isinstance(error, requests.RequestException) or isinstance(
        error, (requests.ConnectTimeout, requests.exceptions.InvalidURL)
    ):
        return True
    cause = error.args[0] if error.args else None
    return isinstance(cause, MaxRetryError) and isinstance(cause.reason, NewConnectionError)


def _parsed(response: requests.Response) -> Any:
    if response.status_code == HTTPStatus.NO_CONTENT:
        return None
    if response.is_redirect:
        raise _no_engine(response.url, "a redirect")
    try:
        answer = response.json(object_hook=_Members)
    except (ValueError, RecursionError) as error:
        unknown = _no_engine(response.url, f"not JSON (status {response.status_code})")
        unknown.status = response.status_code
        raise unknown from error
    if response.ok:
        return answer
    if not _is_own_error(answer):
        raise _no_engine(response.url, f"an error that is not the engine's (status {response.status_code})")
    # Some of the engine's errors have no message; each has the name of its class.
    raise EngineRefusedError(response.status_code, answer["type"], answer["message"] or response.reason, answer["code"])


def _is_own_error(answer: Any) -> bool:
    """Whether an error is written as the engine writes it. Gateways have a `type` or a `message` too: RFC 9457 has a URI as `type`."""
    if not isinstance(answer, dict) or not answer.keys() >= {"type", "message", "code"}:
        return False
    kind, message, code = answer["type"], answer["message"], answer["code"]
    return (
        isinstance(kind, str)
        and bool(_JAVA_ERROR.fullmatch(kind))
        and isinstance(message, str | None)
        and isinstance(code, int | None)
    )


class _Members(dict[str, Any]):
    """A JSON object of the engine. To read a member that it lacks is to find that the engine has not written it."""

    def __missing__(self, name: str) -> Any:
        raise EngineOutcomeUnknownError(f"a response lacks {name!r}: is this address an engine's REST interface?")


def _as(kind: type[_T], answer: Any, path: str) -> _T:
    if not isinstance(answer, kind):
        raise _no_engine(path, "not what the call asks for")
    return answer


def _rows(answer: Any, path: str) -> list[dict[str, Any]]:
    return [_as(dict, row, path) for row in _as(list, answer, path)]


def _no_engine(address: str, what: str) -> EngineOutcomeUnknownError:
    return EngineOutcomeUnknownError(f"the response of {address} is {what}: is this address an engine's REST interface?")
