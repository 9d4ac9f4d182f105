"""Providers' callbacks over HTTP, signed by Standard Webhooks.

The rule: the raw bytes are verified before anything is parsed; the event's own id is its idempotency key, so no other one is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse

from domain.delivery import callbacks, steps
from domain.delivery.callbacks import ProviderConflict
from domain.errors import OutcomeUnknownError, TryAgain
from domain.store import Cause
from workers.http.calls import answered
from workers.http.document.responses import problems
from workers.http.execution import Executor
from workers.http.problems import (
    BodyTooLargeError,
    BodyTooSlowError,
    SignatureRefusedError,
    UnfitRequestError,
    UnknownProviderError,
    problem_of,
)
from workers.http.routes.evaluation import evaluate
from workers.http.shapes import answers, bodies
from workers.providers.signatures import SignatureInvalidError, verify
from workers.runtime import metrics
from workers.runtime.refusals import record_refusal

router = APIRouter(prefix="/callbacks", tags=["callbacks"])

# Standard Webhooks asks senders to stay below 20 kB.
LARGEST_CALLBACK_BYTES = 20_000


async def raw_body(request: Request) -> bytes:
    """The body as it was signed. Raises BodyTooLargeError."""
    body = await request.body()
    if len(body) > LARGEST_CALLBACK_BYTES:
        raise BodyTooLargeError
    return body


@router.post(
    "/{provider}",
    responses={
        200: {"model": answers.ShownCallback},
        **problems(
            [
                SignatureRefusedError,
                UnknownProviderError,
                ProviderConflict,
                BodyTooLargeError,
                BodyTooSlowError,
                UnfitRequestError,
                TryAgain,
                OutcomeUnknownError,
            ]
        ),
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/CallbackBody"}}},
        },
        "parameters": [
            {"name": name, "in": "header", "required": True, "schema": {"type": "string"}}
            for name in ("webhook-id", "webhook-timestamp", "webhook-signature")
        ],
    },
)
def receive_callback(request: Request, provider: str, raw: Annotated[bytes, Depends(raw_body)]) -> JSONResponse:
    """Take a provider's event: repeats change nothing, the same id with another content is kept as a conflict."""
    _verify(request.headers, raw, request.app.state.callback_secrets.get(provider))
    payload, event = _parse(raw)
    if request.headers["webhook-id"] != event.event_id:
        raise UnfitRequestError("webhook-id and eventId must be the same.")
    tenant_id, step_id = _step(event.step_ref)
    cause = Cause(
        tenant_id=tenant_id,
        actor=f"provider:{provider}",
        command="receive-callback",
        external_event_id=event.event_id,
        business_key=event.step_ref,
    )
    command = callbacks.ReceiveCallback(
        provider_name=provider,
        external_event_id=event.event_id,
        event_type=event.event_type,
        step_id=step_id,
        external_ref=event.external_ref,
        external_request_id=event.request_id,
        external_event_at=event.occurred_at,
        payload=payload,
    )
    received = _receive(request.app.state.executor, cause, command)
    if received.conflict:
        conflict = ProviderConflict(aggregate_type="fulfillment_step", aggregate_id=step_id)
        record_refusal(conflict, cause)
        return problem_of(conflict)
    shown = answers.ShownCallback(processed_status=received.processed_status, replayed=received.replayed)
    return answered(replace(shown.answer(HTTPStatus.OK), replayed=received.replayed))


def _verify(headers: Mapping[str, str], raw: bytes, secrets: Sequence[str] | None) -> None:
    if secrets is None:
        raise UnknownProviderError
    try:
        verify(headers, raw, secrets)
    except SignatureInvalidError as error:
        raise SignatureRefusedError(str(error)) from error


def _parse(raw: bytes) -> tuple[dict[str, Any], bodies.CallbackBody]:
    if b"\\u0000" in raw:
        raise UnfitRequestError
    try:
        payload = json.loads(raw)
        # The payload is kept as it came: what a jsonb column would not take (NaN, half a surrogate pair, NUL) is no JSON to us.
        json.dumps(payload, ensure_ascii=False, allow_nan=False).encode()
        return payload, bodies.CallbackBody.model_validate(payload)
    except (ValueError, RecursionError) as error:
        raise UnfitRequestError from error


def _step(step_ref: str) -> tuple[UUID, UUID | None]:
    """Tenant and step that a reference names; a step that cannot be one of ours is None."""
    named = steps.named_by(step_ref)
    if named is None:
        raise UnfitRequestError("stepRef is not step:{tenant}:{step}.")
    return named


def _receive(executor: Executor, cause: Cause, command: callbacks.ReceiveCallback) -> callbacks.Received:
    received = executor.decided(cause, lambda uow: callbacks.receive(uow, command))
    if received.replayed or received.conflict:
        metrics.CALLBACK_DUPLICATES.labels(command.provider_name, str(received.replayed).lower()).inc()
    if received.order_id is not None:
        evaluate(executor, cause, received.order_id)
    return received
