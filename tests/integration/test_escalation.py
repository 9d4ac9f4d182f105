"""Reminders and escalations on a real database: one that is repeated, late, forged or wrongly modelled has one effect or none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Row, select

from domain.offers import withdrawing
from domain.offers.approvals import ApprovalRequirement
from domain.store import table_of
from domain.store.facts import OutboxEvent, TransitionLog
from domain.workflows.instances import NotThisProcess
from domain.workflows.keys import BusinessKey, Kind
from tests.support.as_read import Offer
from tests.support.database import acting, in_order
from tests.support.offers import APPROVER, OWNER, Offers
from tests.support.rules import KnownEngine
from workers.pod.contract import BpmnError, GiveUp, Task
from workers.runtime.variables import encode
from workers.tasks.approval import Approval
from workers.tasks.escalation import Escalation
from workers.tasks.markdown import plain
from workers.tasks.topics import CONTRACTS

RULES = "approval-escalation"
DIRECTOR = {"nextApproverGroup": "approverDirector", "slaDuration": "PT24H"}
BY_HAND = {"decision": "ESCALATE", "reasonCode": "ABOVE_MY_AUTHORITY", "comment": "Not | mine"}
GROUPS = dict.fromkeys((APPROVER, OWNER, "rolf"), ("approverRsm",))


class Late:
    """A quote in approval whose requirement is overdue, and the tasks that the process of its signature gives to the workers."""

    def __init__(self, offers: Offers) -> None:
        self.offers = offers
        self.offer: Offer = offers.quote_in_approval()
        (self.requirement_id,) = offers.requirement_ids(self.offer)
        self.engine = KnownEngine(rows={RULES: [DIRECTOR]}, groups=GROUPS)
        self.key = BusinessKey(Kind.APPROVAL_REQUIREMENT, offers.tenant_id, (self.requirement_id,))
        self.instance_id = offers.process_of_signature(self.requirement_id)

    @property
    def requirement(self) -> Row[Any]:
        table = table_of(ApprovalRequirement)
        with self.offers.engine.connect() as connection:
            return connection.execute(select(*table.c).where(table.c.id == self.requirement_id)).one()

    def actors(self) -> list[str]:
        """Who escalated, by the log."""
        log = table_of(TransitionLog)
        escalated = (log.c.aggregate_id == self.requirement_id) & log.c.reason.in_(("ESCALATE", "HAND_ON"))
        with self.offers.engine.connect() as connection:
            return list(connection.scalars(in_order(select(log.c.actor), log).where(escalated)))

    def show(self) -> None:
        """Let the worker prepare the form."""
        values = Approval(acting(self.offers.engine, "tasks"), self.engine.door).prepare_form(
            self._task("approval.prepare-form"), self.key
        )
        self.engine.offer(self.instance_id, values)

    def escalate(self, instance_id: str | None = None, **variables: Any) -> dict[str, Any]:
        """Let the worker ask the next group; somebody completed the task when `engine.completed_by` says so."""
        return self._workers.escalate(self._task("approval.escalate-requirement", instance_id, **variables), self.key)

    def collect(self) -> dict[str, Any]:
        return self._workers.collect_facts(self._task("approval.collect-escalation-facts"), self.key)

    def extend(self, lasting: str = "PT24H") -> dict[str, Any]:
        """Let the worker give the same group more time."""
        task = self._task("approval.extend-deadline")
        return self._workers.extend(replace(task, properties={"slaDuration": lasting}), self.key)

    def remind(self) -> dict[str, Any]:
        return self._workers.remind(self._task("approval.remind-approver"), self.key)

    def hand_on(self, person: str = APPROVER, **variables: Any) -> dict[str, Any]:
        """Let a person escalate the task in Tasklist."""
        self.engine.completed_by = person
        self.engine.typed = encode({**BY_HAND, **variables})
        return self.escalate()

    def count_events(self, event_type: str) -> int:
        """The number of events of this type."""
        table = table_of(OutboxEvent)
        query = select(table.c.id).where(table.c.aggregate_id == self.requirement_id, table.c.event_type == event_type)
        with self.offers.engine.connect() as connection:
            return len(connection.execute(query).all())

    @property
    def _workers(self) -> Escalation:
        return Escalation(acting(self.offers.engine, "tasks"), self.engine.door)

    def _task(self, topic: str, instance_id: str | None = None, **variables: Any) -> Task:
        return Task(
            id="external-task-1",
            topic=topic,
            worker_id="worker-1",
            tenant_id=str(self.key.tenant_id),
            process_instance_id=instance_id or self.instance_id,
            business_key=str(self.key),
            activity_id="escalate-requirement",
            execution_id="execution-1",
            variables=variables,
        )


@pytest.fixture
def late(offers: Offers) -> Late:
    late = Late(offers)
    offers.make_late()
    late.show()
    return late


def test_an_escalation_asks_the_group_that_the_rules_name(late: Late) -> None:
    before = late.requirement

    late.escalate()

    after = late.requirement
    assert (after.approver_group, after.escalation_level) == ("approverDirector", 1)
    assert after.due_at > before.due_at
    assert after.escalation_notice == "approverRsm did not decide in time. The task was escalated."


def test_the_process_is_given_the_inputs_of_the_rules_by_the_domain(late: Late) -> None:
    """Kills: evaluating the rules with variables that whoever completed the task has written."""
    facts = {"approverGroup": "approverRsm", "escalationLevel": 0, "requirementType": "DISCOUNT"}

    assert late.collect() == facts
    assert set(facts) == set(CONTRACTS["approval.collect-escalation-facts"].sets)


def test_the_rules_are_asked_with_what_the_domain_has_kept_of_the_form(late: Late) -> None:
    """Kills: reading group, level or type from process variables, which whoever completes the task may write."""
    late.escalate(approverGroup="approverFinance", escalationLevel=7, requirementType="FINANCE", nextApproverGroup="dealDesk")

    assert late.engine.asked[RULES] == {"approverGroup": "approverRsm", "escalationLevel": 0, "requirementType": "DISCOUNT"}
    assert late.requirement.approver_group == "approverDirector"


def test_an_escalation_that_is_repeated_after_a_lost_reply_has_one_effect(late: Late) -> None:
    late.escalate()

    late.escalate()

    assert late.requirement.escalation_level == 1
    assert late.count_events("ApprovalEscalated") == 1


def test_a_timer_that_is_fired_before_its_time_has_no_effect(offers: Offers) -> None:
    early = Late(offers)
    early.show()

    assert (early.escalate(), early.remind()) == ({}, {})

    assert (early.requirement.escalation_level, early.requirement.reminded_at) == (0, None)


def test_a_repeated_reminder_makes_one_event(late: Late) -> None:
    first = late.remind()

    assert late.remind() == first
    assert set(first) == set(CONTRACTS["approval.remind-approver"].sets)
    assert str(first["reminderNotice"]).startswith("Half of the time is gone.")
    assert late.count_events("ApprovalReminded") == 1


def test_a_reminder_for_an_earlier_level_is_dropped(late: Late) -> None:
    late.escalate()

    assert late.remind() == {}
    assert late.requirement.reminded_at is None


def test_a_signed_requirement_is_neither_escalated_nor_reminded_of(late: Late) -> None:
    late.offers.decide(late.offer, late.requirement_id)

    with pytest.raises(BpmnError) as decided:
        late.escalate()

    assert decided.value.code == "APPROVAL_ALREADY_DECIDED"
    assert late.remind() == {}


def test_the_escalation_of_a_void_requirement_is_refused_as_stale(late: Late) -> None:
    offer = late.offers.quote(late.offer.quote_id)
    command = withdrawing.RecallQuote(
        quote_id=offer.quote_id, expected_version=offer.version, revision_id=offer.revision_id, reason_code="WRONG_PRICE"
    )
    with late.offers.uow() as uow:
        withdrawing.recall(uow, command)

    with pytest.raises(BpmnError) as stale:
        late.escalate()

    assert stale.value.code == "STALE_APPROVAL"
    assert late.remind() == {}


def test_an_escalation_by_hand_names_the_person_and_the_reason(late: Late) -> None:
    late.hand_on()

    after = late.requirement
    assert after.escalation_notice == rf"{APPROVER} (approverRsm) escalated the task: ABOVE\_MY\_AUTHORITY – Not \| mine"
    assert late.actors() == [APPROVER]
    assert after.approver_group == "approverDirector"


@pytest.mark.parametrize(
    ("person", "reason"),
    [
        (OWNER, "The owner of a quote must not decide on it."),
        ("stranger", "You are not one of those who are asked for this signature."),
        ("rolf", "You are not one of those who are asked for this signature."),
    ],
    ids=["the owner", "somebody of another group", "somebody without a grant in this tenant"],
)
def test_nobody_escalates_who_is_not_asked(late: Late, person: str, reason: str) -> None:
    late.hand_on(person)

    after = late.requirement
    assert (after.approver_group, after.escalation_level) == ("approverRsm", 0)
    assert after.refusal_notice == plain(f"{person}: {reason}")


@pytest.mark.parametrize("decision", ["APPROVE", "ESCALATE"])
def test_nobody_escalates_who_did_not_choose_it_on_the_form(late: Late, decision: str) -> None:
    """Kills: an operator who starts the escalation after somebody has approved, so that it is in that person's name."""
    if decision == "ESCALATE":
        late.engine.forge(netTotal="1.00")

    late.hand_on(decision=decision)

    after = late.requirement
    assert (after.approver_group, after.escalation_level) == ("approverRsm", 0)
    assert after.refusal_notice == plain(f"{APPROVER}: What the form shows has changed since it was opened.")


def test_an_escalation_by_hand_without_a_group_above_does_not_extend_the_deadline(late: Late) -> None:
    before = late.requirement
    late.engine.rows.clear()
    late.engine.completed_by, late.engine.typed = APPROVER, encode(BY_HAND)

    late.extend()

    after = late.requirement
    assert after.refusal_notice == (
        rf"{APPROVER} wanted to escalate the task (ABOVE\_MY\_AUTHORITY – Not \| mine), but nobody stands above approverRsm."
    )
    assert (after.due_at, after.escalation_level) == (before.due_at, 0)


def test_a_deadline_that_passed_without_a_group_above_is_extended(late: Late) -> None:
    before = late.requirement
    late.engine.rows.clear()

    late.extend("PT48H")

    after = late.requirement
    assert (after.approver_group, after.escalation_level) == ("approverRsm", 1)
    assert after.due_at > before.due_at
    assert after.escalation_notice == "approverRsm did not decide in time. Nobody stands above; the deadline is extended."


def test_without_a_group_above_only_the_model_gives_more_time(late: Late) -> None:
    """Kills: extending a deadline on the path of an escalation, to which a forged variable may lead."""
    late.engine.rows.clear()

    late.escalate(slaDuration="PT9999H")

    assert late.requirement.escalation_level == 0


def test_a_duration_that_is_none_makes_an_incident(late: Late) -> None:
    with pytest.raises(GiveUp, match="slaDuration must be an ISO duration such as PT24H, it is 'a day'"):
        late.extend("a day")


def test_an_escalation_of_which_nobody_knows_who_made_it_makes_an_incident(late: Late) -> None:
    late.engine.is_logged = False

    with pytest.raises(GiveUp, match="does not say who completed task task-1: check that history level is full"):
        late.escalate()

    assert late.requirement.escalation_level == 0


def test_the_process_of_another_signature_escalates_nothing(late: Late, offers: Offers) -> None:
    """Kills: a guard that does not ask which process acts for the requirement."""
    other = Late(offers)
    offers.make_late()
    other.show()

    with pytest.raises(NotThisProcess):
        late.escalate(instance_id=other.instance_id)

    assert late.requirement.escalation_level == 0
