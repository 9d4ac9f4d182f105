"""One command as it arrived over HTTP: who sent it, under which key, on which version; and how its answer goes back.

The rule: the fingerprint of a request is its path, its precondition, its body and its sender, so a stored answer is only for who earned it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Header, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from domain.store import Answer, Cause, UnitOfWork
from workers.http.auth import Principal, Role
from workers.http.execution import Executor, Work
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
        answer = self.executor.command(cause, request, lambda: self.principal.must_be(self.roles), work)
        return answered(answer, location)


def command(name: str, roles: frozenset[Role]) -> Callable[..., Call]:
    """Dependency that reads the surroundings of the command `name`, which needs one of `roles`."""

    def read(
        request: Request,
        idempotency_key: Annotated[
            str | None,
            Header(alias="Idempotency-Key", description="Names this one command of yours: send it again with every repeat."),
        ] = None,
    ) -> Call:
        return Call(
            name=name,
            principal=request.state.principal,
            roles=roles,
            key=read_key(idempotency_key),
            path=request.url.path,
            if_match=request.headers.get("if-match"),
            executor=request.app.state.executor,
        )

    return read


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
    executor: Executor

    def at(self, read: Callable[[UnitOfWork], _Value]) -> _Value:
        """Read for the caller's tenant. Raises NotFound, TryAgain."""
        return self.executor.read(Cause(tenant_id=self.principal.tenant_id, actor=self.principal.subject, command="read"), read)


def look(request: Request) -> Look:
    """Dependency that reads the surroundings of a look-up."""
    return Look(principal=request.state.principal, executor=request.app.state.executor)


Reading = Annotated[Look, Depends(look)]


def answered(answer: Answer, location: str | None = None) -> JSONResponse:
    """An answer on the wire: ETag, Location, and whether it is a repeat."""
    headers = {"Cache-Control": "no-store"}
    if answer.version is not None:
        headers["ETag"] = etag(answer.version)
    if location is not None:
        headers["Location"] = location.format_map(answer.body)
    if answer.replayed:
        headers["Idempotent-Replayed"] = "true"
    return JSONResponse(answer.body, answer.status, headers)


def shown(body: dict[str, Any]) -> JSONResponse:
    """What was looked up, with its version as ETag where it has one."""
    headers = {"Cache-Control": "no-store"} | ({"ETag": etag(body["version"])} if "version" in body else {})
    return JSONResponse(body, headers=headers)
