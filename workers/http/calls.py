"""One command as it arrived over HTTP: who sent it, under which key, on which version; and how its answer goes back.

The rule: the fingerprint of a request is its path, its precondition, its body and its sender, so a stored answer is only for who earned it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

from fastapi import Header, Request
from fastapi.responses import JSONResponse
from fastapi.routing import RouteContext
from pydantic import BaseModel

from domain.store import Answer, Cause, UnitOfWork
from workers.http.auth import Principal, Role
from workers.http.execution import Executor, Work
from workers.http.ownership import must_own
from workers.http.preconditions import etag
from workers.http.problems import IdempotencyKeyInvalidError, IdempotencyKeyMissingError

# Printable ASCII without the quotes of a structured-field string, which are taken off.
_KEY = re.compile(r'"?([\x20-\x21\x23-\x7e]{1,255})"?')

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A command's surroundings. `run` carries it out once."""

    name: str
    principal: Principal
    roles: frozenset[Role]
    key: str
    path: str
    named: Mapping[str, str]
    if_match: str | None
    executor: Executor

    def run(self, body: BaseModel, work: Work, location: str | None = None) -> JSONResponse:
        """Do `work` under the key and answer; `location` is the path of what a 201 created, with members of the body in braces.

        Raises the domain's refusals.
        """
        cause = Cause(tenant_id=self.principal.tenant_id, actor=self.principal.subject, command=self.name, idempotency_key=self.key)
        request = {
            "path": self.path,
            "ifMatch": self.if_match,
            "actor": self.principal.subject,
            "body": body.model_dump(mode="json", by_alias=True, exclude_unset=True),
        }
        return answered(self.executor.command(cause, request, self._allow, work), location)

    @property
    def customers(self) -> frozenset[str] | None:
        """The customers that the caller is confined to; None for every customer."""
        return self.principal.confined_to(self.roles)

    def _allow(self, uow: UnitOfWork) -> None:
        self.principal.must_be(self.roles)
        must_own(uow, self.named, self.customers)


@dataclass(frozen=True, slots=True)
class Commanding:
    """Dependency that reads the surroundings of the command `name`, which needs one of `roles`."""

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
        return Call(
            name=self.name,
            principal=request.state.principal,
            roles=self.roles,
            key=read_key(idempotency_key),
            path=request.url.path,
            named=request.path_params,
            if_match=request.headers.get("if-match"),
            executor=request.app.state.executor,
        )


def read_key(header: str | None) -> str:
    """The idempotency key. Raises IdempotencyKeyMissingError, IdempotencyKeyInvalidError."""
    if not (header or "").strip():
        raise IdempotencyKeyMissingError
    found = _KEY.fullmatch(str(header).strip())
    if found is None:
        raise IdempotencyKeyInvalidError
    return found[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A read's surroundings: whose it is."""

    principal: Principal
    roles: frozenset[Role]
    named: Mapping[str, str]
    executor: Executor

    def at(self, read: Callable[[UnitOfWork], _Value]) -> _Value:
        """Read for the caller's tenant, and a buyer's customers. Raises Forbidden, NotFound, TryAgain."""
        self.principal.must_be(self.roles)
        cause = Cause(tenant_id=self.principal.tenant_id, actor=self.principal.subject, command="read")

        def own(uow: UnitOfWork) -> _Value:
            must_own(uow, self.named, self.customers)
            return read(uow)

        return self.executor.read(cause, own)

    @property
    def customers(self) -> frozenset[str] | None:
        """The customers that the caller is confined to; None for every customer."""
        return self.principal.confined_to(self.roles)


@dataclass(frozen=True, slots=True)
class Looking:
    """Dependency that reads the surroundings of a look-up, which needs one of `roles`."""

    roles: frozenset[Role]

    def __call__(self, request: Request) -> Look:
        return Look(
            principal=request.state.principal,
            roles=self.roles,
            named=request.path_params,
            executor=request.app.state.executor,
        )


def let_in(route: RouteContext) -> frozenset[Role]:
    """The roles of which a route asks for one; none when it asks for no token."""
    reads = route.dependant.dependencies if route.dependant else []
    return next((read.call.roles for read in reads if isinstance(read.call, Commanding | Looking)), frozenset())


def answered(answer: Answer, location: str | None = None) -> JSONResponse:
    """An answer on the wire: ETag, Location, and whether it is a repeat."""
    headers = {"Cache-Control": "no-store"}
    if answer.version is not None:
        headers["ETag"] = etag(answer.version)
    if location is not None:
        headers["Location"] = location.format_map({name: quote(str(value), safe="") for name, value in answer.body.items()})
    if answer.replayed:
        headers["Idempotent-Replayed"] = "true"
    return JSONResponse(answer.body, answer.status, headers)


def shown(body: dict[str, Any]) -> JSONResponse:
    """What was looked up, with its version as ETag where it has one."""
    headers = {"Cache-Control": "no-store"} | ({"ETag": etag(body["version"])} if "version" in body else {})
    return JSONResponse(body, headers=headers)
