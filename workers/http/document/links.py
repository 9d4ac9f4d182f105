"""What comes next, as OpenAPI links: from an answer to the request that it makes possible, with the ids and the version that it carries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Next(NamedTuple):
    """An operation, the path's parameter that it takes from the answer, and members of its body by the member of the answer."""

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
"""Operation -> what its answer leads to."""


def links_of(operation: str) -> dict[str, dict[str, Any]]:
    """The links of an operation's good answer, by name."""
    return {f"{operation}-{each.operation}": _link(each) for each in NEXT.get(operation, ())}


def _link(following: Next) -> dict[str, Any]:
    version = {"header.If-Match": "$response.header.ETag"} if following.is_versioned else {}
    body = {member: f"$response.body#/{source}" for member, source in following.body.items()}
    return {
        "operationId": following.operation,
        "parameters": {f"path.{following.named}": f"$response.body#/{following.named}", **version},
        **({"requestBody": body} if body else {}),
    }
