"""Quotes and orders as their callers have read them: the version, and the ids that the next command must name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

# A command that is built too early names this id instead of None, and is refused because there is no such row.
NO_ID = UUID(int=0)
_IDS = ("config_result_id", "price_result_id", "approval_request_id", "document_id", "order_id")
_QUOTE = text("""
    SELECT q.status, q.version, r.id AS revision_id, r.config_result_id, r.price_result_id, a.id AS approval_request_id, o.order_id,
        (SELECT d.id FROM quote_document d WHERE d.tenant_id = :tenant AND d.quote_revision_id = r.id ORDER BY d.created_at DESC LIMIT 1)
            AS document_id
    FROM quote q JOIN quote_revision r ON r.tenant_id = :tenant AND r.id = q.current_revision_id
    LEFT JOIN approval_request a ON a.tenant_id = :tenant AND a.quote_revision_id = r.id
    LEFT JOIN quote_acceptance o ON o.tenant_id = :tenant AND o.quote_revision_id = r.id
    WHERE q.tenant_id = :tenant AND q.id = :id
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A quote: its version, and the ids that its next commands must name."""

    quote_id: UUID
    status: str
    version: int
    revision_id: UUID
    config_result_id: UUID
    price_result_id: UUID
    approval_request_id: UUID
    document_id: UUID
    order_id: UUID

    @property
    def ids(self) -> dict[str, str]:
        """The ids as a client has read them, and names them in the next request."""
        return {
            "revisionId": str(self.revision_id),
            "configResultId": str(self.config_result_id),
            "priceResultId": str(self.price_result_id),
            "approvalRequestId": str(self.approval_request_id),
            "documentId": str(self.document_id),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An order. `steps` maps step code -> step id."""

    order_id: UUID
    status: str
    version: int
    steps: dict[str, UUID]
    body: dict[str, Any] = field(repr=False)


def read_offer(connection: Connection, tenant_id: UUID, quote_id: UUID) -> Offer:
    """Read by one statement what the next command must name: every builder does so after each of its commands."""
    row = connection.execute(_QUOTE, {"tenant": tenant_id, "id": quote_id}).one()
    ids = {name: getattr(row, name) or NO_ID for name in _IDS}
    return Offer(quote_id=quote_id, status=row.status, version=row.version, revision_id=row.revision_id, **ids)
