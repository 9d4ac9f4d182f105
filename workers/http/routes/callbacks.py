"""Callbacks of providers over HTTP, signed as Standard Webhooks describes.

The rule: the signature of the raw bytes is verified before anything is parsed. The event's own id is its idempotency key, so a callback
needs no Idempotency-Key header.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

import structlog
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from domain.delivery import callbacks
from domain.delivery.callbacks import ProviderConflict
from domain.errors import OutcomeUnknownError, TryAgain, UnknownTenantError
from domain.store import Cause
from domain.texts import UnfitJsonError, json_from
from workers.http.calls import command_response
from workers.http.document.responses import problem_responses
from workers.http.entrance import require_json
from workers.http.execution import Executor
from workers.http.limits import Rates
from workers.http.problems import (
    BodyTooLargeError,
    BodyTooSlowError,
    ContradictoryLengthError,
    RepeatedHeaderError,
    RequestError,
    SignatureRefusedError,
    TooManyRequestsError,
    UnfitRequestError,
    UnknownProviderError,
    UnreadableRequestError,
    UnsupportedMediaTypeError,
    problem_of,
)
from workers.http.routes.evaluation import evaluate
from workers.http.shapes.order_answers import ShownCallback
from workers.http.shapes.order_bodies import CallbackBody
from workers.providers.signatures import SignatureInvalidError, verify
from workers.runtime import metrics
from workers.runtime.callback_secrets import CallbackSecrets

router = APIRouter(prefix="/callbacks", tags=["callbacks"])

# Standard Webhooks asks senders to stay below 20 kB.
LARGEST_CALLBACK_BYTES = 20_000
_log = structlog.get_logger()


async def raw_body(request: Request) -> bytes:
    """The bytes that the signature covers. Raises BodyTooLargeError, TooManyRequestsError."""
    body = await request.body()
    if len(body) > LARGEST_CALLBACK_BYTES:
        request.app.state.rates.count(Rates.STRANGERS)
        raise BodyTooLargeError
    return body


@router.post(
    "/{provider}",
    responses={
        200: {"model": ShownCallback},
        **problem_responses(
            [
                SignatureRefusedError,
                UnknownProviderError,
                ProviderConflict,
                UnknownTenantError,
                BodyTooLargeError,
                BodyTooSlowError,
                ContradictoryLengthError,
                TooManyRequestsError,
                RepeatedHeaderError,
                UnsupportedMediaTypeError,
                UnreadableRequestError,
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
    """Take a provider's event. A repeat changes nothing; the same id with other content is kept and refused as a conflict."""
    _verify(request.headers, raw, request.app.state.callback_secrets.get(provider), request.app.state.rates)
    request.app.state.rates.count(provider)
    require_json(request.headers)
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
    received = _receive(request.app.state.executor, cause, event.command(provider, step_id, payload))
    if received.conflict:
        conflict = ProviderConflict(aggregate_type="fulfillment_step", aggregate_id=step_id)
        return problem_of(conflict)
    shown = ShownCallback(processed_status=received.processed_status, replayed=received.replayed)
    return command_response(replace(shown.answer(HTTPStatus.OK), replayed=received.replayed))


def _verify(headers: Mapping[str, str], raw: bytes, secrets: CallbackSecrets | None, rates: Rates) -> None:
    # Only what is signed counts for the provider: whoever sends unsigned callbacks in its name, or from its address, takes nothing from it.
    refusal: RequestError = UnknownProviderError()
    if secrets is not None:
        try:
            verify(headers, raw, secrets.read())
        except SignatureInvalidError as error:
            refusal = SignatureRefusedError(str(error))
        else:
            return
    rates.count(Rates.STRANGERS)
    raise refusal


def _parse(raw: bytes) -> tuple[dict[str, Any], CallbackBody]:
    try:
        # The payload is stored as it came.
        payload = json_from(raw)
        return payload, CallbackBody.model_validate(payload)
    except UnfitJsonError as error:
        raise UnfitRequestError(f"The event cannot be taken: {error}.") from error
    except ValidationError as error:
        raise UnfitRequestError from error


def _step(step_ref: str) -> tuple[UUID, UUID | None]:
    """The tenant and the step that a reference names; the step is None when its id cannot be one of ours."""
    named = callbacks.step_named_by(step_ref)
    if named is None:
        raise UnfitRequestError("stepRef is not step:{tenant}:{step}.")
    return named


def _receive(executor: Executor, cause: Cause, command: callbacks.ReceiveCallback) -> callbacks.Received:
    try:
        received = executor.decided(cause, lambda uow: callbacks.receive(uow, command))
    except UnknownTenantError:
        _log.warning("callback_of_unknown_tenant", provider=command.provider_name, externalEventId=command.external_event_id)
        raise
    if received.replayed or received.conflict:
        metrics.CALLBACK_DUPLICATES.labels(command.provider_name, str(received.replayed).lower()).inc()
    if received.order_id is not None:
        evaluate(executor, cause, received.order_id)
    return received
