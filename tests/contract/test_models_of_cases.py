"""The models of fallout cases in the real engine: a person resolves the case, a second one confirms, time runs out, or the trouble ends by itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from tests.support.waiting import eventually
from tests.support.walk import Walk, called
from workers.runtime.engine import Engine, EngineRefusedError, UserTask
from workers.runtime.variables import Variable

pytestmark = pytest.mark.stack

IN_AN_HOUR = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
SHOWN = (
    *("caseType", "caseSeverity", "orderNumber", "stepCode", "stepStatus", "whatHappened", "timelineText", "attemptsText"),
    *("allowedText", "confirmationText"),
)


def form(*, is_open: bool = True, owner: str | None = None, queue: str = "falloutL1") -> dict[str, Variable]:
    """What the worker sets before somebody is asked."""
    times: dict[str, Variable] = {"claimDueAt": IN_AN_HOUR, "dueAt": IN_AN_HOUR}
    named: dict[str, Variable] = {
        "isOpen": is_open,
        "caseQueue": queue,
        "caseOwner": owner,
        "caseNumber": "F-1",
        "caseTitle": "outcome unknown",
    }
    typed: dict[str, Variable] = dict.fromkeys(("resolution", "externalReference", "evidence"))
    return {"resolutionOutcome": "NONE", **named, **times, **dict.fromkeys(SHOWN, "…"), **typed}


@pytest.fixture
def case(engine: Engine) -> Walk:
    """A process of a case, registered."""
    ids = {name: str(uuid4()) for name in ("orderId", "stepId", "caseId", "startToken")}
    walk = Walk.start(engine, "fallout-case", "fallout:t1", tenantId="t1", **ids)
    walk.work("workflow.register")
    return walk


def asking(case: Walk, kind: str = "resolution") -> Walk:
    """The process that asks somebody about the case."""
    return called(case, f"{kind}:t1:{case.engine.instance_variables(case.instance_id)['caseId']}")


def asks(case: Walk, **changes: object) -> Walk:
    """Read an open case and prepare its form, so that somebody is asked; returns the process that asks."""
    case.work("fallout.read-case", caseStatus="OPEN", isProposed=False)
    resolving = asking(case)
    resolving.work("fallout.prepare-form", **form(**changes))  # type: ignore[arg-type]  # the fields of the form
    return resolving


def decided(resolving: Walk, outcome: str, **typed: Variable) -> None:
    """Complete the task as a person does, and carry the decision out as the worker does."""
    [task] = resolving.people(1)
    assert resolving.engine.complete_user_task(task.id, typed)
    resolving.work("fallout.apply-resolution", resolutionOutcome=outcome)


def test_a_case_ends_after_its_resolution_has_proven_right(case: Walk) -> None:
    resolving = asks(case)
    [task] = resolving.people(1)
    assert (task.name, task.assignee) == ("Resolve fallout F-1: outcome unknown", None)
    resolving.engine.complete_user_task(task.id, {"resolution": "RETRY", "externalReference": "", "evidence": "seen"})
    apply = resolving.take("fallout.apply-resolution", "resolution", "evidence")
    assert apply.variables == {"resolution": "RETRY", "evidence": "seen"}
    resolving.done(apply, resolutionOutcome="APPLIED")
    resolving.ends_as("Case decided")
    case.work("fallout.read-case", caseStatus="RESOLVED", isProposed=False)
    case.let_time_pass("verification-wait-over")
    case.work("fallout.read-case", caseStatus="RESOLVED", isProposed=False)
    case.tell("FalloutCaseChanged")
    case.work("fallout.read-case", caseStatus="CLOSED", isProposed=False)
    case.ends_as("Case closed")


def test_the_task_belongs_to_the_owner_and_the_queue_of_the_case(case: Walk, engine: Engine) -> None:
    resolving = asks(case, owner="bert", queue="falloutL2")

    [task] = resolving.people(1)

    groups = {link["groupId"] for link in engine.rows(f"/task/{task.id}/identity-links") if link["groupId"]}
    assert (task.assignee, groups) == ("bert", {"falloutL2"})


def test_nothing_that_a_case_worker_writes_reaches_the_case(case: Walk, engine: Engine) -> None:
    resolving = asks(case)
    before = engine.instance_variables(case.instance_id)
    forged: dict[str, Variable] = {"caseId": "another", "tenantId": "another", "caseStatus": "CLOSED", "surprise": True}
    decided(resolving, "APPLIED", resolution="RETRY", **forged)
    case.take("fallout.read-case")
    assert engine.instance_variables(case.instance_id) == before


def test_a_refused_resolution_gets_a_renewed_form_with_the_reason(case: Walk) -> None:
    resolving = asks(case)
    [task] = resolving.people(1)
    resolving.engine.complete_user_task(task.id, {"resolution": "SKIP"})
    resolving.work("fallout.apply-resolution", resolutionOutcome="REFUSED")
    resolving.work("fallout.prepare-form", **form(), resolutionRefused="anna: not yours to choose")
    [again] = resolving.people(1)

    assert again.id != task.id
    assert resolving.seen_by(again)["resolutionRefused"] == "anna: not yours to choose"


def test_nobody_is_asked_about_a_case_that_was_resolved_meanwhile(case: Walk) -> None:
    resolving = asks(case, is_open=False)
    resolving.ends_as("Nothing left to do")
    case.work("fallout.read-case", caseStatus="CLOSED", isProposed=False)
    case.ends_as("Case closed")


def confirming(case: Walk, *, is_open: bool = True) -> Walk:
    """Let the first person propose something that a second one must confirm; returns the process that asks the second."""
    decided(asks(case), "CONFIRMATION_NEEDED", resolution="MARK_COMPLETED", externalReference="r-7", evidence="seen")
    case.work("fallout.read-case", caseStatus="IN_PROGRESS", isProposed=True)
    second = asking(case, "confirmation")
    second.work("fallout.prepare-confirmation", **proposed(isOpen=is_open))
    return second


def proposed(**changes: Variable) -> dict[str, Variable]:
    """What the worker sets before a second person is asked."""
    shown: dict[str, Variable] = {**form(), **dict.fromkeys(("proposedBy", "proposedReference", "proposedEvidence"), "…")}
    return {**shown, "confirmers": "falloutL2,falloutManagers", "confirmed": None, "confirmationComment": None, **changes}


def test_marking_a_step_completed_needs_the_confirmation_of_a_second_person(case: Walk) -> None:
    second = confirming(case)
    [task] = second.people(1)
    assert task.name == "Confirm resolution F-1"
    second.engine.complete_user_task(task.id, {"confirmed": True, "confirmationComment": "seen too"})
    confirm = second.take("fallout.confirm-resolution", "confirmed", "confirmationComment")
    assert confirm.variables == {"confirmed": True, "confirmationComment": "seen too"}
    second.done(confirm, confirmationOutcome="APPLIED")
    second.ends_as("Confirmation recorded")
    case.work("fallout.read-case", caseStatus="CLOSED", isProposed=False)
    case.ends_as("Case closed")


def test_a_second_person_is_one_of_those_whom_the_domain_names(case: Walk, engine: Engine) -> None:
    [task] = confirming(case).people(1)

    links = engine.rows(f"/task/{task.id}/identity-links")

    assert {link["groupId"] for link in links} == {"falloutL2", "falloutManagers"}


def test_a_refused_confirmation_gets_a_renewed_form_with_the_reason(case: Walk) -> None:
    second = confirming(case)
    [task] = second.people(1)
    second.engine.complete_user_task(task.id, {"confirmed": True, "confirmationComment": "seen too"})
    second.work("fallout.confirm-resolution", confirmationOutcome="REFUSED")
    second.work("fallout.prepare-confirmation", **proposed(confirmationRefused="bert: it is yours"))

    [again] = second.people(1)

    assert again.id != task.id
    assert second.seen_by(again)["confirmationRefused"] == "bert: it is yours"


@pytest.mark.parametrize("waiting", ["resolve", "confirm"])
def test_nobody_ends_a_task_of_a_case_by_an_error(case: Walk, waiting: str) -> None:
    asked = confirming(case) if waiting == "confirm" else asks(case)
    [task] = asked.people(1)

    with pytest.raises(EngineRefusedError):
        asked.engine.post(f"/task/{task.id}/bpmnError", {"errorCode": "DUPLICATE_WORKFLOW"})

    assert [each.id for each in asked.people(1)] == [task.id]


def test_a_proposal_that_does_not_hold_any_more_asks_nobody(case: Walk) -> None:
    confirming(case, is_open=False).ends_as("Nothing to confirm")
    case.take("fallout.read-case")


@pytest.mark.parametrize("waiting", ["resolve", "confirm"])
def test_a_case_that_was_cancelled_ends_its_open_task(case: Walk, waiting: str) -> None:
    asked = confirming(case) if waiting == "confirm" else asks(case)
    asked.people(1)
    case.tell("FalloutCaseChanged")
    case.work("fallout.read-case", caseStatus="CANCELLED", isProposed=False)
    case.ends_as("Case closed")
    assert asked.engine.user_tasks(asked.business_key) == []


@pytest.mark.parametrize(("timer", "cause"), [("claim-due", "CLAIM"), ("resolution-due", "RESOLUTION")])
def test_a_case_that_is_not_claimed_or_resolved_in_time_is_escalated(case: Walk, timer: str, cause: str) -> None:
    resolving = asks(case)
    [task] = resolving.people(1)
    resolving.let_time_pass(timer)
    escalate = resolving.take("fallout.escalate")
    assert escalate.properties["escalationCause"] == cause
    resolving.done(escalate)
    case.tell("FalloutCaseChanged")
    case.work("fallout.read-case", caseStatus="OPEN", isProposed=False)

    def asked_again() -> list[UserTask]:
        return [each for each in case.engine.user_tasks(resolving.business_key) if each.id != task.id]

    eventually(lambda: len(case.engine.called_by(case.instance_id)) == 1, "the case asks again")
    asking(case).work("fallout.prepare-form", **form(queue="falloutL2"))
    eventually(asked_again, "the second level is asked")
