"""The provider port over HTTP.

The rule it keeps: a response is a reply, or a refusal, only if it says in the agreed form what became of this key. A refused connection, and a
certificate that one side does not accept, prove that nothing was carried out; any other failure leaves the outcome unknown.
"""

from __future__ import annotations

from types import TracebackType
from typing import Annotated, Self

import httpx
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from domain.texts import cleaned, is_identifier, on_one_line
from workers.providers.budget import BudgetTransport, CallBudget
from workers.providers.port import (
    CancelRequest,
    ProviderContractError,
    ProviderOutcomeUnknownError,
    ProviderReply,
    ProviderRequest,
    ProviderUnavailableError,
    ReplyStatus,
)
from workers.runtime.secret_files import Secret, reveal
from workers.runtime.transport import ClientTls

PUBLIC_AUTHORITIES = ClientTls(peer="provider")
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_STATUS_OF = {200: ReplyStatus.COMPLETED, 202: ReplyStatus.ACCEPTED, 422: ReplyStatus.REJECTED}
# A gateway may send these after the provider has begun, and some ask for another try: they prove nothing. What a request is in conflict with
# (409, 423) may be a copy of itself that is being carried out.
_INCONCLUSIVE = frozenset({408, 409, 421, 423, 425, 429})
_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"  # the one conflict that is none with a copy: the key had another body before


class HttpProvider:
    """A provider behind an HTTP address; safe to share between threads, one connection pool per object."""

    def __init__(self, url: str, token: Secret, budget: CallBudget | None = None, *, tls: ClientTls = PUBLIC_AUTHORITIES) -> None:
        if httpx.URL(url).scheme not in {"http", "https"}:
            raise ValueError(f"the provider's address must start with http:// or https://, not {url!r}")
        self._tls = tls

        def with_current_token(request: httpx.Request) -> httpx.Request:
            request.headers["Authorization"] = f"Bearer {reveal(token)}"
            return request

        self._http = httpx.Client(
            base_url=url,
            transport=BudgetTransport(budget or CallBudget(), tls.context()),
            auth=with_current_token,
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
        )

    def execute(self, request: ProviderRequest) -> ProviderReply:
        """Send the request under its idempotency key. Raises the errors of the port."""
        response = self._call(
            "POST",
            idempotency_key=request.idempotency_key,
            body={
                "stepRef": request.step_ref,
                "stepCode": request.step_code,
                "productOfferingId": request.product_offering_id,
                "quantity": request.quantity,
                "orderRef": request.order_ref,
                "compensates": request.compensates,
                **({"instructions": request.instructions} if request.instructions else {}),
            },
        )
        return _settled(response, request.idempotency_key)

    def cancel(self, request: CancelRequest) -> ProviderReply | None:
        """Send the cancellation under its own key. Raises the errors of the port.

        None only when the provider itself says that it never saw the request.
        """
        body: dict[str, str | int | None] = {"stepRef": request.step_ref, "requestKey": request.request_key}
        response = self._call("POST", idempotency_key=request.idempotency_key, body=body, path="/v1/cancellations")
        if response.status_code == httpx.codes.NOT_FOUND and _problem(response).code == "REQUEST_UNKNOWN":
            return None
        return _settled(response, request.idempotency_key)

    def query(self, idempotency_key: str) -> ProviderReply | None:
        """Ask what became of a key; None only when the provider itself says that it never saw it. Raises the errors of the port."""
        response = self._call("GET", idempotency_key=idempotency_key)
        if response.status_code == httpx.codes.OK:
            return _reply(response, expected=None)
        # A wrong address or a proxy also responds with 404; taken as absence, it would have a step carried out twice.
        if response.status_code == httpx.codes.NOT_FOUND and _problem(response).code == "REQUEST_UNKNOWN":
            return None
        raise ProviderOutcomeUnknownError(
            f"the provider responded with {response.status_code} to the question about {idempotency_key}"
        )

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _call(
        self, method: str, *, idempotency_key: str, body: dict[str, str | int | None] | None = None, path: str = "/v1/requests"
    ) -> httpx.Response:
        try:
            return self._http.request(
                method,
                path,
                headers={"Idempotency-Key": idempotency_key},
                params=None if body else {"idempotencyKey": idempotency_key},
                json=body,
            )
        except httpx.LocalProtocolError:
            # Without the text of the error, which has the header, and so the token.
            raise ProviderUnavailableError(
                "nothing was sent to the provider, because the request is no HTTP: is Q2O_PROVIDER_TOKEN one line of visible characters?"
            ) from None
        except httpx.HTTPError as error:
            reason = self._tls.explain(error, str(self._http.base_url)) or f"{type(error).__name__} {error}"
            if isinstance(error, _NEVER_SENT) or self._tls.proves_refusal(error):
                raise ProviderUnavailableError(f"the provider cannot be reached, nothing was sent: {reason}") from error
            raise ProviderOutcomeUnknownError(f"no usable response to a request that was sent: {reason}") from error


def _identifier(text: str) -> str:
    if not is_identifier(text):
        raise ValueError("a reference has 1 to 200 visible characters, and no blank at its ends")
    return text


_Identifier = Annotated[str, AfterValidator(_identifier)]


class _Reply(BaseModel):
    """A reply on the wire. A provider may add fields that we do not know, and may leave out none of these."""

    model_config = ConfigDict(alias_generator=to_camel, extra="ignore", frozen=True)

    status: ReplyStatus
    request_id: _Identifier | None = None
    external_ref: _Identifier | None = None
    reason: Annotated[str, AfterValidator(cleaned)] | None = Field(default=None, max_length=2000)

    @model_validator(mode="after")
    def _names_what_it_did(self) -> Self:
        if self.status is not ReplyStatus.REJECTED and self.request_id is None:
            raise ValueError("requestId is missing")
        if self.status is ReplyStatus.COMPLETED and self.external_ref is None:
            raise ValueError("externalRef of a completed request is missing")
        return self


class _Problem(BaseModel):
    """A refusal in the provider's own form. Without a code it may be anybody's, for example a gateway's, and proves nothing.

    Whatever a person is shown of it is on one line.
    """

    code: Annotated[str, AfterValidator(on_one_line)] | None = None
    detail: Annotated[str, AfterValidator(on_one_line)] | None = None


def _settled(response: httpx.Response, idempotency_key: str) -> ProviderReply:
    if response.status_code in _STATUS_OF:
        return _reply(response, expected=_STATUS_OF[response.status_code])
    problem = _problem(response)
    is_refusal = response.is_client_error and response.status_code not in _INCONCLUSIVE and problem.code is not None
    if is_refusal or problem.code == _KEY_REUSED:
        raise ProviderContractError(_refusal(response, problem, idempotency_key))
    raise ProviderOutcomeUnknownError(f"the provider responded with {response.status_code}: the outcome has to be asked for")


def _reply(response: httpx.Response, *, expected: ReplyStatus | None) -> ProviderReply:
    try:
        reply = _Reply.model_validate_json(response.content)
    except ValidationError as error:
        raise ProviderOutcomeUnknownError(
            f"the provider's response {response.status_code} is malformed: {_first(error)}"
        ) from error
    if expected is not None and reply.status is not expected:
        raise ProviderOutcomeUnknownError(
            f"the provider's response contradicts itself: {response.status_code} with status {reply.status}"
        )
    return ProviderReply(status=reply.status, request_id=reply.request_id, external_ref=reply.external_ref, reason=reply.reason)


def _problem(response: httpx.Response) -> _Problem:
    try:
        return _Problem.model_validate_json(response.content)
    except ValidationError:
        return _Problem()


def _refusal(response: httpx.Response, problem: _Problem, idempotency_key: str) -> str:
    reason = problem.detail or problem.code or response.reason_phrase
    return f"the provider refuses {idempotency_key} with {response.status_code} ({reason[:200]}): correct the request or the address by hand"


def _first(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in fault['loc']) or 'body'}: {fault['msg']}"
