"""What a route gets besides its body: who calls, under which idempotency key, on which version; and how the answer goes back.

The rule: the fingerprint of a request covers its path, its precondition, its body and its sender, so that only the sender of the first
request gets the stored answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

from fastapi import Header, Request
from fastapi.responses import JSONResponse
from fastapi.routing import RouteContext
from pydantic import BaseModel

from domain.store import Answer, Cause, UnitOfWork
from workers.http.auth import Principal, Role
from workers.http.entrance import require_json, require_known_parameters
from workers.http.execution import Executor, Work
from workers.http.headers import BLANKS
from workers.http.ownership import must_own
from workers.http.preconditions import etag, plain_tag
from workers.http.problems import IdempotencyKeyInvalidError, IdempotencyKeyMissingError

# Printable ASCII without the quotes of a structured-field string, which are taken off.
_KEY = re.compile(r'"?([\x20-\x21\x23-\x7e]{1,255})"?')

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Caller:
    """Who calls, the roles that the route lets in, and what the path names."""

    principal: Principal
    roles: frozenset[Role]
    path_parameters: Mapping[str, str]
    executor: Executor

    @property
    def customers(self) -> frozenset[str] | None:
        """The customers that the caller is confined to; None for every customer."""
        return self.principal.confined_to(self.roles)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(_Caller):
    """The request of a command. `run` carries it out once."""

    name: str
    key: str
    path: str
    if_match: str | None

    def run(self, body: BaseModel, work: Work, location: str | None = None) -> JSONResponse:
        """Carry out `work` once under the key; `location` is the path of what a 201 created, with members of the answer in braces.

        Raises the domain's refusals.
        """
        cause = Cause(tenant_id=self.principal.tenant_id, actor=self.principal.subject, command=self.name, idempotency_key=self.key)
        request = {
            "path": self.path,
            "ifMatch": self.if_match,
            "actor": self.principal.subject,
            "body": body.model_dump(mode="json", by_alias=True, exclude_unset=True),
        }
        return command_response(self.executor.command(cause, request, self._authorize, work), location)

    def _authorize(self, uow: UnitOfWork) -> None:
        self.principal.must_be(self.roles)
        must_own(uow, self.path_parameters, self.customers)


@dataclass(frozen=True, slots=True)
class Commanding:
    """Dependency of a route that runs the command `name`, which needs one of `roles`; it gives the `Call`."""

    name: str
    roles: frozenset[Role]

    def __call__(
        self,
        request: Request,
        idempotency_key: Annotated[
            str | None,
            Header(alias="Idempotency-Key", description="Names this one command of yours: send it again with every repeat."),
        ] = None,
    ) -> Call:
        require_json(request.headers)
        require_known_parameters(request)
        return Call(
            name=self.name,
            principal=request.state.principal,
            roles=self.roles,
            key=read_key(idempotency_key),
            path=request.url.path,
            path_parameters=request.path_params,
            if_match=plain_tag(request.headers.get("if-match")),
            executor=request.app.state.executor,
        )


def read_key(header: str | None) -> str:
    """The idempotency key. Raises IdempotencyKeyMissingError, IdempotencyKeyInvalidError."""
    if not (header or "").strip(BLANKS):
        raise IdempotencyKeyMissingError
    found = _KEY.fullmatch(str(header).strip(BLANKS))
    if found is None:
        raise IdempotencyKeyInvalidError
    return found[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Read(_Caller):
    """The request of a read."""

    def run(self, read: Callable[[UnitOfWork], _Value]) -> _Value:
        """Read in the caller's tenant; a buyer reads only what belongs to their customers. Raises Forbidden, NotFound, TryAgain."""
        self.principal.must_be(self.roles)
        cause = Cause(tenant_id=self.principal.tenant_id, actor=self.principal.subject, command="read")

        def read_own(uow: UnitOfWork) -> _Value:
            must_own(uow, self.path_parameters, self.customers)
            return read(uow)

        return self.executor.read(cause, read_own)


@dataclass(frozen=True, slots=True)
class Reading:
    """Dependency of a route that only reads, which needs one of `roles`; it gives the `Read`."""

    roles: frozenset[Role]

    def __call__(self, request: Request) -> Read:
        require_known_parameters(request)
        return Read(
            principal=request.state.principal,
            roles=self.roles,
            path_parameters=request.path_params,
            executor=request.app.state.executor,
        )


def roles_of(route: RouteContext) -> frozenset[Role]:
    """The roles that a route lets in; none when it needs no token."""
    dependencies = route.dependant.dependencies if route.dependant else []
    return next((each.call.roles for each in dependencies if isinstance(each.call, Commanding | Reading)), frozenset())


def answer_with(body: dict[str, Any], status: HTTPStatus) -> Answer:
    """The answer of a command that shows `body`; the version in it becomes the ETag."""
    return Answer(status=status, body=body, version=body["version"])


def command_response(answer: Answer, location: str | None = None) -> JSONResponse:
    """The response to a command, with ETag and Location, and with a header that tells a replay."""
    headers = {"Cache-Control": "no-store"}
    if answer.version is not None:
        headers["ETag"] = etag(answer.version)
    if location is not None:
        headers["Location"] = location.format_map({name: quote(str(value), safe="") for name, value in answer.body.items()})
    if answer.replayed:
        headers["Idempotent-Replayed"] = "true"
    return JSONResponse(answer.body, answer.status, headers)


def read_response(body: dict[str, Any]) -> JSONResponse:
    """The response to a read; the version in the body, where there is one, becomes the ETag."""
    headers = {"Cache-Control": "no-store"} | ({"ETag": etag(body["version"])} if "version" in body else {})
    return JSONResponse(body, headers=headers)
