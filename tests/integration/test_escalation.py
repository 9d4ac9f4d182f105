"""Reminders and escalations on a real database: one that is repeated, late, forged or wrongly modelled has one effect or none."""

from __future__ import annotations

import pytest

from domain.offers import withdrawing
from domain.workflows.instances import NotThisProcess
from tests.support.late import RULES, Late
from tests.support.offers import Offers
from workers.pod.contract import BpmnError, GiveUp
from workers.tasks.topics import CONTRACTS


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


def test_the_process_of_another_signature_escalates_nothing(late: Late, offers: Offers) -> None:
    """Kills: a guard that does not ask which process acts for the requirement."""
    other = Late(offers)
    offers.make_late()
    other.show()

    with pytest.raises(NotThisProcess):
        late.escalate(instance_id=other.instance_id)

    assert late.requirement.escalation_level == 0
