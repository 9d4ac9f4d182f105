"""What clients send about approvals and authority, and the commands that these bodies become."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Literal
from uuid import UUID

from pydantic import Field

from domain.granting import DelegateAuthority, GrantAuthority
from domain.offers.approvals import Decision
from domain.offers.deciding import Decide
from workers.http.shapes.bodies import Body
from workers.http.shapes.fields import Comment, Moment, Money, Percent, ReasonCode, Text, Version


class DecideBody(Body):
    requirement_id: UUID
    expected_requirement_version: Version
    quote_revision_id: UUID
    price_result_id: UUID
    decision: Decision
    reason_code: ReasonCode
    comment: Comment | None = None

    def command(self, decided_by: str, roles: Sequence[str]) -> Decide:
        return Decide(
            requirement_id=self.requirement_id,
            expected_version=self.expected_requirement_version,
            quote_revision_id=self.quote_revision_id,
            price_result_id=self.price_result_id,
            decision=self.decision,
            reason_code=self.reason_code,
            comment=self.comment,
            decided_by=decided_by,
            roles=roles,
            approval_task_id=str(self.requirement_id),
        )


class GrantBody(Body):
    subject: Text
    role: Literal[
        "approverRsm",
        "approverDirector",
        "dealDesk",
        "approverFinance",
        "approverLegal",
        "falloutL1",
        "falloutL2",
        "falloutManagers",
        "fulfillmentManagers",
    ]
    max_discount_percent: Percent = Field(Decimal(0), description="For approvers")
    region: Text | None = Field(None, description="Null: every one")
    product_family: Text | None = Field(None, description="Null: every one")
    max_deal_amount: Money | None = Field(None, description="Null: any")
    valid_from: Moment | None = Field(None, description="Null: from now on")
    valid_until: Moment | None = Field(None, description="Null: until it is revoked")

    def command(self, granted_by: str) -> GrantAuthority:
        return GrantAuthority(
            granted_by=granted_by,
            subject=self.subject,
            role=self.role,
            max_discount_percent=self.max_discount_percent,
            region=self.region,
            product_family=self.product_family,
            max_deal_amount=self.max_deal_amount,
            valid_from=self.valid_from,
            valid_until=self.valid_until,
        )


class DelegateBody(Body):
    subject: Text = Field(description="Who may sign instead")
    valid_until: Moment
    valid_from: Moment | None = Field(None, description="Null: from now on")
    max_discount_percent: Percent | None = Field(None, description="Null: as much as the grant")
    max_deal_amount: Money | None = Field(None, description="Null: as much as the grant")

    def command(self, grant_id: UUID, expected_version: int, delegated_by: str) -> DelegateAuthority:
        return DelegateAuthority(
            grant_id=grant_id,
            expected_version=expected_version,
            delegated_by=delegated_by,
            subject=self.subject,
            valid_until=self.valid_until,
            valid_from=self.valid_from,
            max_discount_percent=self.max_discount_percent,
            max_deal_amount=self.max_deal_amount,
        )
