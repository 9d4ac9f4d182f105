"""Quotes and orders in the state that a test needs, made by the domain's own commands.

`offers` makes them for one new tenant with a published price book. Where the engine would act, a builder calls the command that the worker calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, Row, text

from domain import accepting
from domain.callers import keys_of_callers
from domain.catalog import CATALOG, FIBRE, ROUTER, SUPPORT
from domain.delivery import decomposing, starting
from domain.delivery import reading as delivery_reading
from domain.fallout import cases
from domain.offers import approvals, approving, deciding, documents, price_books, prices, quoting
from domain.offers import reading as offers_reading
from domain.offers.approvals import Decision
from domain.offers.quotes import Line
from domain.store import Cause, UnitOfWork, unit_of_work
from domain.workflows import instances
from domain.workflows.instances import Called
from tests.support.as_read import Offer, Order, read_offer
from tests.support.grants import ADMINISTRATORS, granted

OWNER = "sally"
APPROVER = "rita"
ANNA, BERT, MONA, FELIX = "anna", "bert", "mona", "felix"
STAFF = {ANNA: "falloutL1", BERT: "falloutL2", MONA: "falloutManagers", FELIX: "fulfillmentManagers"}
"""Case workers of the first and the second level, their manager, and who decides on cancellations; each with their role."""
CUSTOMER = "customer-1"
PRICE_BOOK, PRICE_BOOK_VERSION = "STANDARD", "p-44"
ENTRIES = {FIBRE: (Decimal(80), Decimal(40)), ROUTER: (Decimal(12), Decimal(6)), SUPPORT: (Decimal(15), Decimal(5))}
"""Offering -> (list price, cost) per piece and month."""
SIGNATURE = approving.Requirement(
    type="DISCOUNT",
    level=1,
    approver_group="approverRsm",
    min_authority=Decimal(20),
    because="A discount above 10 % needs the regional sales manager.",
    sla=timedelta(hours=24),
)
"""What the decision table asks for a discount of 20 %."""


def line(line_no: int, offering: str, **changes: Any) -> Line:
    """Make a line of one piece over twelve months with 20 % off."""
    given = {"quantity": 1, "term_months": 12, "discount_percent": Decimal(20), **changes}
    return Line(line_no=line_no, product_offering_id=offering, **given)


def new_quote(**changes: Any) -> quoting.CreateQuote:
    """Ask for a quote with a fibre line and a router at 20 % off; `changes` replace fields."""
    given = {
        "customer_id": CUSTOMER,
        "owner_user_id": OWNER,
        "region": "EU",
        "currency": "EUR",
        "payment_term_days": 30,
        "valid_until": datetime.now(UTC) + timedelta(days=30),
        "lines": [line(1, FIBRE), line(2, ROUTER)],
        **changes,
    }
    return quoting.CreateQuote(**given)


class Offers:
    """Makes quotes and orders of one tenant. Every builder returns its quote or order as it is after the last command."""

    def __init__(self, engine: Engine, tenant_id: UUID) -> None:
        self.engine = engine
        self.tenant_id = tenant_id

    @contextmanager
    def uow(self, actor: str = OWNER, command: str = "test") -> Iterator[UnitOfWork]:
        """Open the unit of work of one command of this tenant."""
        with unit_of_work(self.engine, Cause(tenant_id=self.tenant_id, actor=actor, command=command)) as uow:
            yield uow

    def publish_prices(self, version: str = PRICE_BOOK_VERSION, *, replaces: str | None = None, **changes: Any) -> None:
        """Publish the price book; `replaces` names the active version, `material_offering_ids` and `entries` may be given."""
        given = {"price_book": PRICE_BOOK, "price_book_version": version, "entries": ENTRIES, **changes}
        with self.uow(command="publish-price-book") as uow:
            price_books.publish(uow, price_books.PublishPriceBook(expected_active_version=replaces, **given))

    def make_late(self) -> None:
        """Let every deadline of signatures and cases have come."""
        with self.uow() as uow:
            for late in (
                "UPDATE approval_requirement SET remind_at = now() - (due_at - remind_at), due_at = now() WHERE tenant_id = :tenant",
                "UPDATE fallout_case SET claim_due_at = now(), due_at = now() WHERE tenant_id = :tenant",
            ):
                uow.connection.execute(text(late), {"tenant": self.tenant_id})

    def grant_authority(self, subject: str = APPROVER, role: str = "approverRsm", **changes: Any) -> Row[Any]:
        """Let somebody act in a role; `changes` replace fields of GrantAuthority (default: any discount, region, product, amount)."""
        with self.uow(ADMINISTRATORS[0], "grant-authority") as uow:
            return granted(uow, subject, role, {"max_discount_percent": Decimal(100), **changes})

    def grant_staff(self) -> None:
        """Let the approver sign anything, and the case workers work on cases."""
        with self.uow(ADMINISTRATORS[0], "grant-authority") as uow:
            granted(uow, APPROVER, "approverRsm", {"max_discount_percent": Decimal(100)})
            for person, role in STAFF.items():
                granted(uow, person, role, {})

    def quote(self, quote_id: UUID) -> Offer:
        """Read the version and the ids that the next command on the quote must name."""
        with self.uow() as uow:
            return read_offer(uow.connection, self.tenant_id, quote_id)

    def body(self, offer: Offer) -> dict[str, Any]:
        """Read a quote as a seller sees it."""
        with self.uow() as uow:
            return offers_reading.quote(uow, offer.quote_id)

    def draft_quote(self, **changes: Any) -> Offer:
        """Make a quote as `new_quote` asks for it."""
        with self.uow() as uow:
            created = quoting.create(uow, new_quote(**changes))
        return self.quote(created.id)

    def priced_quote(
        self, policy: prices.StalenessPolicy = prices.StalenessPolicy.VALID_UNTIL_QUOTE_EXPIRY, **changes: Any
    ) -> Offer:
        """Make a draft quote with a price that may go stale by `policy`."""
        return self.price(self.draft_quote(**changes), policy)

    def price(self, offer: Offer, policy: prices.StalenessPolicy = prices.StalenessPolicy.VALID_UNTIL_QUOTE_EXPIRY) -> Offer:
        """Price a quote."""
        command = quoting.PriceQuote(
            quote_id=offer.quote_id,
            expected_version=offer.version,
            config_result_id=offer.config_result_id,
            catalog_version=CATALOG.catalog_version,
            staleness_policy=policy,
        )
        with self.uow() as uow:
            quoting.price(uow, command)
        return self.quote(offer.quote_id)

    def submitted_quote(self, **changes: Any) -> Offer:
        """Make a priced quote, sent to approval; its process has not begun."""
        return self.submit(self.priced_quote(**changes))

    def submit(self, offer: Offer) -> Offer:
        """Send a priced quote to approval."""
        names = ("quote_id", "revision_id", "config_result_id", "price_result_id")
        command = quoting.SubmitQuote(expected_version=offer.version, **{name: getattr(offer, name) for name in names})
        with self.uow() as uow:
            quoting.submit(uow, command)
        return self.quote(offer.quote_id)

    def quote_in_approval(self, *requirements: approving.Requirement, **changes: Any) -> Offer:
        """Make a submitted quote with these requirements open (default: the regional sales manager's)."""
        return self.open_requirements(self.submitted_quote(**changes), *(requirements or (SIGNATURE,)))

    def open_requirements(self, offer: Offer, *requirements: approving.Requirement, reuse: bool = False) -> Offer:
        """Do what the approval process does with the decision tables' answers; without a requirement the quote is approved."""
        with self.uow("quote-approval") as uow:
            approving.open_requirements(
                uow,
                approving.OpenRequirements(
                    quote_id=offer.quote_id,
                    quote_revision_id=offer.revision_id,
                    price_result_id=offer.price_result_id,
                    policy_definition_id="approval-requirements:1",
                    process_instance_id=f"instance-{uuid4()}",
                    requirements=requirements,
                    reuse=reuse,
                ),
            )
        return self.quote(offer.quote_id)

    def requirement_ids(self, offer: Offer) -> list[UUID]:
        """List the requirements of a quote's current approval request, by level."""
        with self.uow() as uow:
            return [row.id for row in offers_reading.requirements_of(uow, offer.approval_request_id)]

    def process_of_signature(self, requirement_id: UUID) -> str:
        """Record the process that asks for a signature, called by the approval of its revision; returns its id."""
        return self.process_of(approvals.business_key(self.tenant_id, requirement_id))

    def process_of_case(self, case_id: UUID) -> str:
        """Record the process that asks somebody about a case; returns its id."""
        return self.process_of(cases.resolution_key(self.tenant_id, case_id))

    def process_of(self, key: str) -> str:
        """Record a called process of this business key, and its caller; returns its id."""
        instance_id = f"instance-{uuid4()}"
        with self.uow() as uow:
            caller_key = keys_of_callers(uow, key)[0]
            caller_id = next(iter(instances.acting_for(uow, [caller_key])), f"instance-{uuid4()}")
            instances.record_root(uow, caller_id, caller_key)
            instances.record_called(uow, caller_id, [Called(process_instance_id=instance_id, business_key=key)])
        return instance_id

    def decide(
        self, offer: Offer, requirement_id: UUID, decision: Decision = Decision.APPROVE, *, by: str = APPROVER, **changes: Any
    ) -> Offer:
        """Record a decision on a requirement (default: approve)."""
        given = {"roles": ("approverRsm",), "reason_code": "WITHIN_POLICY", "approval_task_id": str(requirement_id), **changes}
        command = deciding.Decide(
            requirement_id=requirement_id,
            quote_revision_id=offer.revision_id,
            price_result_id=offer.price_result_id,
            decision=decision,
            decided_by=by,
            **given,
        )
        with self.uow(by) as uow:
            deciding.decide(uow, command)
        return self.quote(offer.quote_id)

    def approved_quote(self, **changes: Any) -> Offer:
        """Make a quote with its signature and its document: ready to be accepted."""
        offer = self.quote_in_approval(**changes)
        for requirement_id in self.requirement_ids(offer):
            offer = self.decide(offer, requirement_id)
        return self.issue_document(offer)

    def issue_document(self, offer: Offer) -> Offer:
        """Issue the quote's document for the customer."""
        names = ("quote_id", "revision_id", "price_result_id")
        command = documents.IssueDocument(expected_version=offer.version, **{name: getattr(offer, name) for name in names})
        with self.uow() as uow:
            documents.issue(uow, command)
        return self.quote(offer.quote_id)

    def acceptance(self, offer: Offer, **changes: Any) -> accepting.AcceptQuote:
        """Make the command that accepts an approved quote."""
        names = ("quote_id", "revision_id", "price_result_id", "approval_request_id", "document_id")
        given = {"expected_version": offer.version, "channel": "WEB", **{name: getattr(offer, name) for name in names}, **changes}
        return accepting.AcceptQuote(**given)

    def accepted_quote(self, **changes: Any) -> Offer:
        """Make an approved quote that the customer accepted: its order is CREATED."""
        offer = self.approved_quote(**changes)
        with self.uow(CUSTOMER) as uow:
            accepting.accept(uow, self.acceptance(offer))
        return self.quote(offer.quote_id)

    def order(self, order_id: UUID) -> Order:
        """Read an order."""
        with self.uow() as uow:
            body = delivery_reading.order(uow, order_id)
        steps = {step["stepCode"]: UUID(step["stepId"]) for step in body["steps"]}
        return Order(order_id=order_id, status=body["status"], version=body["version"], steps=steps, body=body)

    def running_order(self, **changes: Any) -> Order:
        """Make an accepted quote's order, decomposed: IN_PROGRESS with every step PENDING."""
        order_id = self.accepted_quote(**changes).order_id
        with self.uow("order-fulfillment") as uow:
            decomposing.decompose(uow, order_id)
        return self.order(order_id)

    def start_step(self, step_id: UUID, worker_id: str = "worker-1", external_task_id: str | None = None) -> starting.StartedStep:
        """Claim a step for one attempt, as the worker does right before it asks the provider."""
        with self.uow(worker_id) as uow:
            version = delivery_reading.step(uow, step_id).version
            command = starting.StartStep(
                step_id=step_id, expected_version=version, worker_id=worker_id, external_task_id=external_task_id
            )
            return starting.start_step(uow, command)


def offers_of_new_tenant(engine: Engine) -> Offers:
    """Make a tenant with a published price book, whose regional sales manager may sign anything; returns its builders."""
    offers = Offers(engine, uuid4())
    offers.publish_prices()
    offers.grant_staff()
    return offers


@pytest.fixture
def offers(db: Engine) -> Offers:
    """Give the builders of a new tenant."""
    return offers_of_new_tenant(db)
