"""The OpenAPI document agrees with the edge: every path is described, every code listed, and every answer has its documented shape."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import BaseModel
from sqlalchemy import create_engine

from domain.delivery.step_moves import DECISIONS
from domain.store import Check, Move
from domain.workflows.instances import NotThisProcess
from tests.support.http import CALLBACK_SECRET, JWT_SECRET, PROVIDER, Api, completed, named, new_quote, priced
from tests.support.offers import Offers
from tests.support.projected import show_all
from workers.http.app import create_app, description
from workers.http.auth import Role
from workers.http.document.examples import EXAMPLES
from workers.http.document.links import NEXT
from workers.http.document.responses import refusals_of
from workers.http.problems import MEDIA_TYPE, RequestError, status_of
from workers.http.shapes import answers, approval_answers, order_answers, quote_answers
from workers.http.tokens import local_tokens
from workers.runtime.callback_secrets import CallbackSecrets

UNCONNECTED = create_engine("postgresql+psycopg://nobody@localhost/nothing")
DOCUMENT: dict[str, Any] = create_app(UNCONNECTED, local_tokens(JWT_SECRET), {PROVIDER: CallbackSecrets(CALLBACK_SECRET)}).openapi()
OPERATIONS = {(method.upper(), path): operation for path, item in DOCUMENT["paths"].items() for method, operation in item.items()}
COMMANDS = {
    name: operation for name, operation in OPERATIONS.items() if name[0] in ("POST", "PATCH") and "callbacks" not in name[1]
}
MOVES = {
    ("PATCH", "/quotes/{quoteId}"): ["quote.edit"],
    ("POST", "/quotes/{quoteId}/price"): ["quote.price"],
    ("POST", "/quotes/{quoteId}/submissions"): ["quote.submit"],
    ("POST", "/quotes/{quoteId}/recalls"): ["quote.recall"],
    ("POST", "/quotes/{quoteId}/cancellations"): ["quote.cancel"],
    ("POST", "/quotes/{quoteId}/documents"): ["quote.document"],
    ("POST", "/quotes/{quoteId}/acceptances"): ["quote.accept"],
    ("POST", "/quotes/{quoteId}/declines"): ["quote.decline"],
    ("POST", "/approval-tasks/{taskId}/decisions"): [f"approval_requirement.{event}" for event in ("approve", "reject", "rework")],
    ("POST", "/authority-grants/{grantId}/confirmations"): ["authority_grant.confirm"],
    ("POST", "/cancellations/{cancellationId}/decisions"): [
        *("cancellation_request.decide", "cancellation_request.accept", "cancellation_request.decline"),
    ],
    ("POST", "/authority-grants/{grantId}/delegations"): ["authority_grant.delegate"],
    ("POST", "/authority-grants/{grantId}/revocations"): ["authority_grant.revoke"],
    ("POST", "/price-books/{priceBookId}/publications"): ["price_book_head.publish"],
    ("POST", "/orders/{orderId}/cancellations"): ["sales_order.request_cancel"],
    **{
        ("POST", f"/fallout-cases/{{caseId}}/{path}"): [f"fallout_case.{move}"]
        for path, move in (
            ("claims", "claim"),
            ("releases", "release"),
            ("information-requests", "request_information"),
            ("information", "receive_information"),
            ("holds", "hold"),
            ("resumptions", "resume"),
            ("escalations", "hand_on"),
            ("proposals", "propose"),
        )
    },
    ("POST", "/fallout-cases/{caseId}/declines"): ["fallout_case.confirm"],
    ("POST", "/fallout-cases/{caseId}/confirmations"): [
        "fallout_case.confirm",
        "fallout_case.resolve",
        *(move.name for move in DECISIONS.values()),
    ],
    ("POST", "/fallout-cases/{caseId}/resolutions"): ["fallout_case.resolve", *(move.name for move in DECISIONS.values())],
}
# These paths have no rate limit and need no token.
FOR_EVERYBODY = ("/callbacks/",)


def codes(operation: dict[str, Any], status: int) -> set[str]:
    """The codes that a path documents for a status."""
    schema = operation["responses"][str(status)]["content"][MEDIA_TYPE]["schema"]
    return set(schema["allOf"][1]["properties"]["code"]["enum"])


def header(operation: dict[str, Any], name: str) -> dict[str, Any] | None:
    return next((parameter for parameter in operation.get("parameters", []) if parameter["name"] == name), None)


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from ([value["$ref"]] if "$ref" in value else [])
        yield from (found for item in value.values() for found in references(item))
    elif isinstance(value, list):
        yield from (found for item in value for found in references(item))


def test_the_stored_document_is_current() -> None:
    """`make openapi` writes it again, so a review shows what changes for clients."""
    assert (Path(__file__).parents[2] / "docs" / "openapi.json").read_text() == description()


def test_every_move_that_a_person_makes_has_a_path() -> None:
    assert set(MOVES) <= set(OPERATIONS)
    assert set(COMMANDS) - set(MOVES) == {("POST", "/quotes"), ("POST", "/authority-grants")}


@pytest.mark.parametrize("body", EXAMPLES, ids=lambda body: body.__name__)
def test_every_example_is_a_valid_body(body: type[BaseModel]) -> None:
    body.model_validate(EXAMPLES[body])


def test_every_link_names_an_operation_and_fits_its_parameters() -> None:
    by_id = {operation["operationId"]: operation for operation in OPERATIONS.values()}
    links = [
        link
        for operation in OPERATIONS.values()
        for response in operation["responses"].values()
        for link in response.get("links", {}).values()
    ]

    assert len(links) == sum(map(len, NEXT.values()))
    for link in links:
        target = by_id[link["operationId"]]
        given = {name.partition(".")[2] for name in link["parameters"]}
        assert given == {each["name"] for each in target["parameters"] if each["in"] == "path" or each["name"] == "If-Match"}
        body = target.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
        members = DOCUMENT["components"]["schemas"].get(body.get("$ref", "").rpartition("/")[2], {}).get("properties", {})
        assert set(link.get("requestBody", {})) <= set(members)


def test_every_command_has_an_example() -> None:
    named = {operation["requestBody"]["content"]["application/json"]["schema"]["$ref"] for operation in COMMANDS.values()}

    assert {reference.rpartition("/")[2] for reference in named} <= {body.__name__ for body in EXAMPLES}


@pytest.mark.parametrize("name", sorted(name for name in OPERATIONS if not name[1].startswith(FOR_EVERYBODY)))
def test_every_path_with_roles_names_them_and_documents_its_refusals(name: tuple[str, str]) -> None:
    operation = OPERATIONS[name]

    assert {role for requirement in operation["security"] for role in requirement["token"]} <= set(Role)
    assert codes(operation, 401) == {"UNAUTHENTICATED"}
    assert "FORBIDDEN" in codes(operation, 403)
    assert codes(operation, 429) == {"TOO_MANY_REQUESTS"}
    assert "{" not in name[1] or "NOT_FOUND" in codes(operation, 404)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_requires_an_idempotency_key(name: tuple[str, str]) -> None:
    assert header(COMMANDS[name], "Idempotency-Key") is not None
    assert header(COMMANDS[name], "Idempotency-Key")["required"]  # type: ignore[index]  # not None, see above
    assert {"IDEMPOTENCY_KEY_MISSING", "IDEMPOTENCY_KEY_INVALID"} <= codes(COMMANDS[name], 400)
    assert "IDEMPOTENCY_KEY_REUSED" in codes(COMMANDS[name], 422)
    assert codes(COMMANDS[name], 408) == {"BODY_TOO_SLOW"}
    assert codes(COMMANDS[name], 413) == {"BODY_TOO_LARGE"}
    assert codes(COMMANDS[name], 503) == {"TRY_AGAIN", "OUTCOME_UNKNOWN", "SIGNING_KEYS_UNAVAILABLE"}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_command_that_needs_a_version_documents_the_answer_without_one(name: tuple[str, str]) -> None:
    operation = COMMANDS[name]
    is_versioned = header(operation, "If-Match") is not None

    assert is_versioned == ("428" in operation["responses"])
    assert not is_versioned or header(operation, "If-Match")["required"]  # type: ignore[index]  # a versioned command has it


@pytest.mark.parametrize("name", sorted(MOVES))
def test_every_refusal_of_a_move_is_documented_under_its_status(name: tuple[str, str]) -> None:
    for move in MOVES[name]:
        # No process sends a request over HTTP, so none is refused for being another one.
        refusals = {guard.refusal for guard in Check.registry[move].guards} - {NotThisProcess}
        for refusal in refusals:
            assert refusal.code in codes(OPERATIONS[name], status_of(refusal))
        if isinstance(Check.registry[move], Move):
            assert "INVALID_TRANSITION" in codes(OPERATIONS[name], 409)


def test_the_refusal_of_a_new_guard_is_documented_automatically() -> None:
    found = {refusal.code for refusal in refusals_of("quote.accept")}

    assert {
        "QUOTE_EXPIRED",
        "STALE_APPROVAL",
        "APPROVAL_MISSING",
        "STALE_PRICE",
        "DOCUMENT_MISMATCH",
        "QUOTE_VERSION_CONFLICT",
    } <= found


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_every_path_says_what_it_does_and_who_may_use_it(name: tuple[str, str]) -> None:
    operation = OPERATIONS[name]
    is_open = name[1].startswith(FOR_EVERYBODY)

    assert operation["description"]
    assert is_open != ("401" in operation["responses"] and "security" in operation)
    assert all(response["description"] for response in operation["responses"].values())


def test_every_reference_is_defined() -> None:
    schemas = DOCUMENT["components"]["schemas"]

    assert {reference.removeprefix("#/components/schemas/") for reference in references(DOCUMENT)} <= set(schemas)
    assert not {"HTTPValidationError", "ValidationError"} & set(schemas)


def test_the_signed_headers_and_the_body_of_a_callback_are_documented() -> None:
    operation = OPERATIONS["POST", "/callbacks/{provider}"]

    assert {"provider", "webhook-id", "webhook-timestamp", "webhook-signature"} == {p["name"] for p in operation["parameters"]}
    assert operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/CallbackBody")


def test_every_refusal_of_the_edge_has_its_own_code() -> None:
    assert all(kind.code == kind.code.upper() and kind.__doc__ for kind in RequestError.__subclasses__())


def has_documented_shape(response: httpx.Response, model: type[BaseModel]) -> dict[str, Any]:
    assert response.is_success, response.text
    model.model_validate_json(response.text)
    body: dict[str, Any] = response.json()
    return body


def test_every_answer_has_its_documented_shape(api: Api, offers: Offers) -> None:
    quote = has_documented_shape(api.sales.post("/quotes", new_quote()), quote_answers.ShownQuote)
    has_documented_shape(api.sales.get(f"/quotes/{quote['quoteId']}"), quote_answers.ShownQuote)
    quote_answers.ShownQuote.model_validate(priced(api.sales, quote))
    signed = offers.quote_in_approval()
    [task] = has_documented_shape(api.approver.get("/approval-tasks"), approval_answers.TaskPage)["items"]
    decision = named(task, "requirementId", "quoteRevisionId", "priceResultId") | {
        "expectedRequirementVersion": task["requirementVersion"],
        "decision": "REJECT",
        "reasonCode": "MARGIN",
        "comment": "Too cheap.",
    }
    has_documented_shape(api.approver.post(f"/approval-tasks/{task['taskId']}/decisions", decision), approval_answers.ShownDecision)
    has_documented_shape(api.approver.get(f"/quotes/{signed.quote_id}/approvals"), approval_answers.RequestPage)
    offer = offers.approved_quote()
    path, ids = f"/quotes/{offer.quote_id}", ("revisionId", "priceResultId")
    has_documented_shape(
        api.sales.post(f"{path}/documents", named(offer.ids, *ids), version=offer.version), quote_answers.ShownDocument
    )
    body = named(offer.ids, *ids, "approvalRequestId", "documentId")
    has_documented_shape(api.customer.post(f"{path}/acceptances", body, version=offer.version), quote_answers.ShownAcceptance)
    order = offers.running_order()
    has_documented_shape(api.sales.get(f"/orders/{order.order_id}"), order_answers.ShownOrder)
    show_all(offers.engine)
    assert has_documented_shape(api.sales.get("/orders"), order_answers.OrderPage)["items"]
    assert has_documented_shape(api.sales.get("/quotes"), quote_answers.QuotePage)["items"]
    offers.start_step(order.steps["RESERVE_INVENTORY"])
    has_documented_shape(api.call_back(completed(offers.tenant_id, order.steps["RESERVE_INVENTORY"])), order_answers.ShownCallback)
    problem = api.sales.get("/quotes/none")
    assert answers.Problem.model_validate_json(problem.text).code == "REQUEST_INVALID"
