"""OpenAPI links: which requests an answer makes possible, and which of its ids and versions they need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Next(NamedTuple):
    """A possible operation: the path parameter `named` comes from the answer; `body` maps members of its body to members of the answer."""

    operation: str
    named: str
    body: Mapping[str, str] = {}
    is_versioned: bool = True


REVISION = {"revisionId": "revisionId"}
CONFIGURATION = {"configResultId": "configResultId"}
PRICE = {"priceResultId": "priceResultId"}

NEXT: Mapping[str, tuple[Next, ...]] = {
    "createQuote": (
        Next("priceQuote", "quoteId", {**CONFIGURATION, "catalogVersion": "catalogVersion"}),
        Next("editQuote", "quoteId", {"expectedRevisionId": "revisionId"}),
        Next("cancelQuote", "quoteId", REVISION),
        Next("readQuote", "quoteId", is_versioned=False),
    ),
    "priceQuote": (Next("submitQuote", "quoteId", {**REVISION, **CONFIGURATION, **PRICE}),),
    "submitQuote": (
        Next("recallQuote", "quoteId", REVISION),
        Next("explainApprovals", "quoteId", is_versioned=False),
    ),
    "readQuote": (
        Next("issueDocument", "quoteId", {**REVISION, **PRICE}),
        Next("acceptQuote", "quoteId", {**REVISION, **PRICE, "approvalRequestId": "approvalRequestId", "documentId": "documentId"}),
        Next("declineQuote", "quoteId", REVISION),
    ),
    "acceptQuote": (Next("readOrder", "orderId", is_versioned=False),),
    "grantAuthority": (Next("delegateAuthority", "grantId"), Next("revokeAuthority", "grantId")),
    "delegateAuthority": (Next("revokeAuthority", "grantId"),),
}
"""Operation -> the operations that its answer makes possible."""


def links_of(operation: str) -> dict[str, dict[str, Any]]:
    """The links of an operation's successful response, by name."""
    return {f"{operation}-{each.operation}": _link(each) for each in NEXT.get(operation, ())}


def _link(following: Next) -> dict[str, Any]:
    version = {"header.If-Match": "$response.header.ETag"} if following.is_versioned else {}
    body = {member: f"$response.body#/{source}" for member, source in following.body.items()}
    return {
        "operationId": following.operation,
        "parameters": {f"path.{following.named}": f"$response.body#/{following.named}", **version},
        **({"requestBody": body} if body else {}),
    }
