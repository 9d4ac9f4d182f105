"""Quotes in approval on the running suite, and what people do with their approvals by the engine's REST."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from domain.offers import approvals
from domain.offers.approvals import ApprovalDecision, ApprovalRequest, ApprovalRequirement
from tests.support.logins import complete
from tests.support.suite import Shop, new_sample
from tests.support.waiting import eventually
from workers.demo.driver import SampleQuote
from workers.demo.people import MANAGER
from workers.runtime.engine import UserTask

APPROVE = {"decision": "APPROVE", "reasonCode": "STRATEGIC_DEAL", "comment": ""}
ESCALATE = {**APPROVE, "decision": "ESCALATE"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """A quote in approval, and what its approvers do with their own logins."""

    shop: Shop
    sample: SampleQuote = field(default_factory=lambda: new_sample("18"))

    @classmethod
    def at(cls, shop: Shop, discount: str) -> Offered:
        offered = cls(shop=shop, sample=new_sample(discount))
        shop.driver.offer(offered.sample)
        shop.driver.task_for(offered.sample, MANAGER)
        return offered

    @property
    def request(self) -> Row[Any]:
        [request] = self.shop.rows(ApprovalRequest, quote_revision_id=UUID(self.sample.quote["revisionId"]))
        return request

    def requirement(self, level: int = 1, kind: str = "DISCOUNT") -> Row[Any]:
        [row] = self.shop.rows(ApprovalRequirement, request_id=self.request.id, level=level, type=kind)
        return row

    @property
    def ids(self) -> dict[str, str]:
        """What a forger would have to know to point at this quote's first signature."""
        request = self.request
        return {
            "tenantId": str(self.shop.tenant_id),
            "requirementId": str(self.requirement().id),
            "quoteId": str(request.quote_id),
            "quoteRevisionId": str(request.quote_revision_id),
            "priceResultId": str(request.price_result_id),
        }

    def task(self, level: int = 1, *, after: str | None = None) -> UserTask:
        """Wait for the user task of a level, or for the one that follows task `after`."""
        return eventually(lambda: self.open_tasks(level, after=after), f"somebody is asked in {self.key(level)}")[0]

    def key(self, level: int = 1) -> str:
        """The business key of the process that asks for the signature of a level."""
        return approvals.business_key(self.shop.tenant_id, self.requirement(level).id)

    def open_tasks(self, level: int = 1, *, after: str | None = None) -> list[UserTask]:
        """The user tasks of a level that are open now, without task `after`."""
        return [task for task in self.shop.engine.user_tasks(self.key(level)) if task.id != after]

    def complete(self, person: str, task: UserTask, **variables: Any) -> None:
        complete(self.shop, person, task, **variables)

    def decisions(self) -> list[tuple[UUID, str]]:
        """Who has signed what of this quote."""
        rows = self.shop.rows(ApprovalDecision, quote_id=UUID(self.sample.quote["quoteId"]))
        return [(row.requirement_id, row.decided_by) for row in rows]

    def ends_as(self, status: str) -> None:
        eventually(lambda: self.shop.driver.refresh(self.sample) == status, f"the quote is {status}")
