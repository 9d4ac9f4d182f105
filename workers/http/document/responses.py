"""The responses of each path as OpenAPI shows them, refusals included.

The rule: the refusals of a command are collected from the guards of its moves, so that the document cannot fall behind the domain.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from http import HTTPStatus
from types import UnionType
from typing import Any

from pydantic import BaseModel

from domain.errors import (
    DomainError,
    Forbidden,
    IdempotencyKeyReused,
    IdempotentRequestInProgress,
    InvalidTransition,
    NotFound,
    OutcomeUnknownError,
    TryAgain,
)
from domain.store import Check, Move
from domain.workflows.instances import NotThisProcess
from workers.http.problems import (
    MEDIA_TYPE,
    BodyTooLargeError,
    BodyTooSlowError,
    ContradictoryLengthError,
    IdempotencyKeyInvalidError,
    IdempotencyKeyMissingError,
    KeysUnreadableError,
    PreconditionInvalidError,
    PreconditionRequiredError,
    RepeatedHeaderError,
    RequestError,
    TooManyRequestsError,
    UnauthenticatedError,
    UnfitRequestError,
    UnreadableRequestError,
    UnsupportedMediaTypeError,
    status_of,
)

Refused = type[DomainError] | type[RequestError]
Responses = dict[int | str, dict[str, Any]]

OF_EVERY_COMMAND: tuple[Refused, ...] = (
    IdempotencyKeyMissingError,
    IdempotencyKeyInvalidError,
    IdempotentRequestInProgress,
    IdempotencyKeyReused,
    BodyTooLargeError,
    BodyTooSlowError,
    ContradictoryLengthError,
    UnsupportedMediaTypeError,
    TryAgain,
    OutcomeUnknownError,
)
OF_EVERY_REQUEST: tuple[Refused, ...] = (
    UnauthenticatedError,
    KeysUnreadableError,
    Forbidden,
    TooManyRequestsError,
    RepeatedHeaderError,
    UnreadableRequestError,
    UnfitRequestError,
)
OF_A_PRECONDITION: tuple[Refused, ...] = (PreconditionRequiredError, PreconditionInvalidError)
REPLAY_HEADER = {
    "Idempotent-Replayed": {
        "description": "`true` if this is the stored answer of an earlier request",
        "schema": {"type": "string"},
    }
}
VERSION_HEADER = {
    "ETag": {"description": "The version, for If-Match", "schema": {"type": "string", "pattern": '^"[0-9]+(-gzip)?"$'}}
}

RETRY_AFTER = {"headers": {"Retry-After": {"description": "Seconds", "schema": {"type": "string", "pattern": "^[0-9]+$"}}}}
HEADERS = dict.fromkeys((HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE), RETRY_AFTER)


def refusals_of(*moves: str) -> list[Refused]:
    """The refusals of these moves and checks, which are named as in the registry (`quote.accept`).

    NotThisProcess is left out: no process sends a request over HTTP.
    """
    found: dict[Refused, None] = {}
    for check in (Check.registry[name] for name in moves):
        found |= dict.fromkeys(guard.refusal for guard in check.guards if guard.refusal is not NotThisProcess)
        if isinstance(check, Move):
            found |= dict.fromkeys([*check.illegal.values(), InvalidTransition])
    return [*found, NotFound] if found else []


def command_responses(
    model: type[BaseModel],
    status: int,
    *moves: str,
    refusals: Iterable[Refused] = (),
    also_ok: str | None = None,
    versioned: bool = True,
) -> Responses:
    """Responses of a command: `model` with `status` (and with 200 if `also_ok` tells when), and every refusal of its moves."""
    is_versioned = versioned and bool(moves)
    refused = [*refusals_of(*moves), *refusals, *OF_EVERY_COMMAND, *(OF_A_PRECONDITION if is_versioned else ()), *OF_EVERY_REQUEST]
    ok = {"model": model, "headers": REPLAY_HEADER | VERSION_HEADER}
    return {status: ok} | ({200: ok | {"description": also_ok}} if also_ok else {}) | problem_responses(refused)


def read_responses(model: type[BaseModel] | UnionType, *, has_version: bool = False, of_one: bool = False) -> Responses:
    """Responses of a read: of one thing, with its version if it has one, or else of a list."""
    refused = [*([NotFound] if has_version or of_one else []), *OF_EVERY_REQUEST, TryAgain]
    return {200: {"model": model, "headers": VERSION_HEADER if has_version else {}}} | problem_responses(refused)


def problem_responses(refused: Iterable[Refused]) -> Responses:
    """Problem documents by status, each with its codes and what they mean."""
    by_status: defaultdict[HTTPStatus, dict[str, str]] = defaultdict(dict)
    for kind in refused:
        by_status[_status(kind)][kind.code] = (kind.__doc__ or "").strip().splitlines()[0]
    return {int(status): _problem(codes) | HEADERS.get(status, {}) for status, codes in sorted(by_status.items())}


def _status(kind: Refused) -> HTTPStatus:
    return kind.status if issubclass(kind, RequestError) else status_of(kind)


def _problem(codes: dict[str, str]) -> dict[str, Any]:
    one_of_these = {"type": "object", "properties": {"code": {"type": "string", "enum": sorted(codes)}}}
    return {
        "description": "\n".join(f"- `{code}`: {meaning}" for code, meaning in sorted(codes.items())),
        "content": {MEDIA_TYPE: {"schema": {"allOf": [{"$ref": "#/components/schemas/Problem"}, one_of_these]}}},
    }
