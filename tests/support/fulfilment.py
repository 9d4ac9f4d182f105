"""Orders in delivery, moved by the domain's own commands as workers, providers, customers and case workers call them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select

from domain.catalog import CATALOG, StepSpecification
from domain.delivery import cancelling, compensating, decomposing, evaluating, fulfilling, proposing, resolving, starting
from domain.delivery.cancellations import CancellationRequest
from domain.delivery.fulfilling import Infer, OutcomeSource, RecordFact
from domain.delivery.orders import SalesOrder
from domain.delivery.proposing import AnswerProposal
from domain.delivery.repairing import INSTRUCTIONS, Change
from domain.delivery.resolving import Resolution, ResolveCase
from domain.delivery.starting import StartStep
from domain.delivery.steps import FulfillmentStep, StepEvent, StepKind
from domain.fallout import casework
from domain.fallout.cases import FalloutCase
from domain.fallout.casework import CaseCommand
from domain.store import CellKind, table_of
from tests.support.as_read import Order
from tests.support.database import in_order
from tests.support.offers import CUSTOMER, FELIX, STAFF, Offers

REPAIR = (Change(field=INSTRUCTIONS, old=None, new="Ring twice"),)
ROLES = {person: (role,) for person, role in STAFF.items()}


@dataclass(frozen=True, slots=True)
class Fulfilment:
    """One order, and the commands of everybody who acts on it. A step is named by its code, an undo step by `undo CODE`."""

    offers: Offers
    order_id: UUID

    @classmethod
    def running(cls, offers: Offers, **changes: Any) -> Fulfilment:
        """Make an order that is IN_PROGRESS, with every step PENDING."""
        return cls(offers, offers.running_order(**changes).order_id)

    @classmethod
    def of_steps(cls, offers: Offers, *specifications: StepSpecification) -> Fulfilment:
        """Make an order that is delivered by these steps, each once for the whole order."""
        work = cls(offers, offers.accepted_quote().order_id)
        with offers.uow("order-fulfillment") as uow:
            decomposing.decompose(uow, work.order_id, replace(CATALOG, steps=specifications))
        return work

    @classmethod
    def contradicted(cls, offers: Offers) -> Fulfilment:
        """Make an order with an open case of the second level: the provider reported a step completed before the step began."""
        work = cls.running(offers)
        work.say("RESERVE_INVENTORY", StepEvent.COMPLETE)
        return work

    @classmethod
    def being_cancelled(cls, offers: Offers) -> Fulfilment:
        """Make an order that is being cancelled; the request to cancel its one step under way has no reply."""
        work = cls.running(offers)
        work.start("RESERVE_INVENTORY")
        work.cancel()
        work.start_cancelling("RESERVE_INVENTORY")
        return work

    @property
    def order(self) -> Order:
        return self.offers.order(self.order_id)

    @property
    def status(self) -> str:
        return str(self.row().status)

    def row(self) -> Row[Any]:
        """Read the order's row."""
        [found] = self._rows(SalesOrder, id=self.order_id)
        return found

    def step(self, name: str) -> Row[Any]:
        """Read a step."""
        code, kind = (name.removeprefix("undo "), StepKind.COMPENSATE) if name.startswith("undo ") else (name, StepKind.FULFILL)
        [found] = self._rows(FulfillmentStep, order_id=self.order_id, step_code=code, kind=kind)
        return found

    def states(self) -> dict[str, str]:
        """Read the status of every step."""
        rows = self._rows(FulfillmentStep, order_id=self.order_id)
        return {f"{'undo ' if row.kind == StepKind.COMPENSATE else ''}{row.step_code}": row.status for row in rows}

    def start(self, name: str) -> starting.StartedStep:
        """Claim a step as a worker does."""
        return self.offers.start_step(self.step(name).id)

    def say(self, name: str, event: StepEvent, source: OutcomeSource = OutcomeSource.CALLBACK, **said: Any) -> CellKind:
        """Record a fact from the provider about a step, and evaluate the order as the edge does."""
        kind = self.say_only(name, event, source, **said)
        self.evaluate()
        return kind

    def say_only(self, name: str, event: StepEvent, source: OutcomeSource = OutcomeSource.CALLBACK, **said: Any) -> CellKind:
        """Record a fact from the provider about a step, and do not evaluate the order."""
        step_id = self.step(name).id
        with self.offers.uow("provider:sandbox") as uow:
            kind, _ = fulfilling.record_fact(uow, RecordFact(step_id=step_id, event=event, source=source, **said))
        return kind

    def infer(self, name: str, event: StepEvent) -> None:
        """Record an inference from silence about a step, however short the silence."""
        step = self.step(name)
        conclusion = Infer(step_id=step.id, expected_version=step.version, event=event, source=OutcomeSource.RECONCILIATION)
        with self.offers.uow("reconciliation") as uow:
            fulfilling.infer(uow, conclusion)

    def complete(self, *names: str) -> None:
        """Start steps and let the provider complete them."""
        for name in names:
            self.start(name)
            self.say(name, StepEvent.COMPLETE, external_ref=f"ref of {name}")

    def evaluate(self) -> str:
        with self.offers.uow("evaluate") as uow:
            return evaluating.evaluate(uow, self.order_id)

    def ask_to_cancel(self, **changes: Any) -> Row[Any]:
        """Request the order's cancellation as its customer."""
        order = self.order
        given = {"expected_version": order.version, "expected_status": order.status, "reason": "CHANGED_MIND", **changes}
        with self.offers.uow(CUSTOMER) as uow:
            return cancelling.request(uow, cancelling.RequestCancellation(order_id=self.order_id, requested_by=CUSTOMER, **given))

    def decide(self, *, accept: bool, reason: str = "POLICY") -> Row[Any]:
        """Decide on the order's newest cancellation request."""
        command = cancelling.DecideCancellation(
            cancellation_id=self.cancellation().id, accept=accept, reason=reason, decided_by="policy"
        )
        with self.offers.uow("policy") as uow:
            return cancelling.decide(uow, command)

    def assess(self, person: str = FELIX, *, accept: bool = True, **changes: Any) -> Row[Any]:
        """Decide on the newest cancellation request as a person, having seen its present version."""
        request = self.cancellation()
        given = {"cancellation_id": request.id, "expected_version": request.version, "roles": ROLES.get(person, ()), **changes}
        command = cancelling.AssessCancellation(accept=accept, reason="GOOD_CUSTOMER", decided_by=person, **given)
        with self.offers.uow(person) as uow:
            return cancelling.decide_by_person(uow, command)

    def cancel(self) -> None:
        """Request the cancellation and accept it."""
        self.ask_to_cancel()
        self.decide(accept=True)

    def cancellation(self) -> Row[Any]:
        return self.requests()[-1]

    def requests(self) -> list[Row[Any]]:
        """The order's cancellation requests, oldest first."""
        return self._rows(CancellationRequest, order_id=self.order_id)

    def start_cancelling(self, name: str) -> starting.StartedCancellation:
        """Claim a step's cancellation as a worker does."""
        step = self.step(name)
        command = StartStep(step_id=step.id, expected_version=step.version, worker_id="worker-1", external_task_id=None)
        with self.offers.uow("worker-1") as uow:
            return starting.start_cancellation(uow, command)

    def contradictions(self) -> Sequence[Row[Any]]:
        with self.offers.uow() as uow:
            return compensating.contradictions_of(uow, self.order_id)

    def answer(self, contradiction: Row[Any], *, in_effect: bool) -> None:
        """Let the provider's ledger settle a contradiction."""
        with self.offers.uow("reconciliation") as uow:
            compensating.settle_contradiction(uow, contradiction.id, in_effect=in_effect)
        self.evaluate()

    def cases(self, **named: Any) -> list[Row[Any]]:
        """The order's cases, oldest first."""
        return self._rows(FalloutCase, order_id=self.order_id, **named)

    def case(self) -> Row[Any]:
        [found] = self.cases()
        return found

    def claim(self, person: str, **changes: Any) -> Row[Any]:
        command = self.as_seen(person, **changes)
        with self.offers.uow(person) as uow:
            return casework.claim(uow, command)

    def as_seen(self, person: str, **changes: Any) -> CaseCommand:
        """Make a command on the case in its present version."""
        case = self.case()
        given = {"case_id": case.id, "expected_version": case.version, "roles": ROLES.get(person, ()), **changes}
        return CaseCommand(person=person, **given)

    def resolve(self, person: str, resolution: Resolution, **changes: Any) -> Row[Any]:
        """Resolve the case in its present version, and evaluate the order as the edge does. A repair without changes gets one."""
        resolved = self.resolve_only(person, resolution, **changes)
        self.evaluate()
        return resolved

    def resolve_only(self, person: str, resolution: Resolution, **changes: Any) -> Row[Any]:
        """Resolve the case without evaluating the order."""
        repair = {"changes": REPAIR} if resolution is Resolution.REPAIR_AND_RETRY else {}
        command = ResolveCase(person=person, resolution=resolution, **self._decided(person, **{**repair, **changes}))
        with self.offers.uow(person) as uow:
            return resolving.resolve(uow, command)

    def propose(self, person: str, resolution: Resolution = Resolution.MARK_COMPLETED, **changes: Any) -> UUID:
        """Propose a resolution of the case in its present version; returns the proposal's id."""
        command = ResolveCase(person=person, resolution=resolution, **self._decided(person, **changes))
        with self.offers.uow(person) as uow:
            return proposing.propose(uow, command)

    def proposal(self, case: Row[Any]) -> Row[Any] | None:
        """Read what waits for a second person, if anything does."""
        with self.offers.uow() as uow:
            return proposing.last_proposal(uow, case)

    def answer_proposal(self, person: str, proposal_id: UUID, *, confirm: bool = True, **changes: Any) -> None:
        """Confirm a proposal as a second person, or decline it, and evaluate the order as the edge does."""
        case = self.case()
        given = {"case_id": case.id, "expected_version": case.version, "roles": ROLES.get(person, ()), "text": "seen", **changes}
        act = proposing.confirm if confirm else proposing.decline
        with self.offers.uow(person) as uow:
            act(uow, AnswerProposal(person=person, proposal_id=proposal_id, **given))
        self.evaluate()

    def _decided(self, person: str, **changes: Any) -> dict[str, Any]:
        case = self.case()
        step = self._rows(FulfillmentStep, id=case.step_id)
        return {
            "case_id": case.id,
            "expected_version": case.version,
            "roles": ROLES.get(person, ()),
            "expected_step_version": step[0].version if step else None,
            "evidence": "seen in the provider's portal",
            **changes,
        }

    def _rows(self, entity: Any, **named: Any) -> list[Row[Any]]:
        table = table_of(entity)
        with self.offers.uow() as uow:
            query = in_order(select(*table.c), table).filter_by(tenant_id=self.offers.tenant_id, **named)
            return list(uow.connection.execute(query))
