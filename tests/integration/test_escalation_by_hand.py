"""A person escalates the task of a signature: in their own name, and only if they are asked for it and chose it on the form."""

from __future__ import annotations

import pytest

from tests.support.late import BY_HAND, Late
from tests.support.offers import APPROVER, OWNER
from workers.pod.contract import GiveUp
from workers.runtime.variables import encode
from workers.tasks.markdown import plain


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


def test_an_escalation_of_which_nobody_knows_who_made_it_makes_an_incident(late: Late) -> None:
    late.engine.is_logged = False

    with pytest.raises(GiveUp, match="does not say who completed task task-1: check that history level is full"):
        late.escalate()

    assert late.requirement.escalation_level == 0
