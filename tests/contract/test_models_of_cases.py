"""`fallout-case` in the real engine: a person resolves the case, a second one confirms, time runs out, or the trouble ends by itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from tests.support.walk import Walk
from workers.runtime.engine import Engine
from workers.runtime.variables import Variable

pytestmark = pytest.mark.stack

IN_AN_HOUR = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
SHOWN = (
    *("caseType", "caseSeverity", "orderNumber", "stepCode", "stepStatus", "whatHappened", "timelineText", "attemptsText"),
    *("allowedText", "confirmationText"),
)


def prepared(status: str = "OPEN", *, owner: str | None = None, queue: str = "falloutL1") -> dict[str, Variable]:
    times = {"claimDueAt": IN_AN_HOUR, "dueAt": IN_AN_HOUR}
    named = {"caseStatus": status, "caseQueue": queue, "caseOwner": owner, "caseNumber": "F-1", "caseTitle": "outcome unknown"}
    return {**named, **times, **dict.fromkeys(SHOWN, "…")}


@pytest.fixture
def case(engine: Engine) -> Walk:
    """A process of a case, registered."""
    ids = {name: str(uuid4()) for name in ("orderId", "stepId", "caseId", "startToken")}
    walk = Walk.start(engine, "fallout-case", "fallout:t1", tenantId="t1", **ids)
    walk.work("workflow.register")
    return walk


def applied(outcome: str, refused: str | None = None) -> dict[str, Variable]:
    return {"resolutionOutcome": outcome, "resolutionRefused": refused}


def complete(case: Walk, **variables: Variable) -> None:
    [task] = case.people(1)
    assert case.engine.complete_user_task(task.id, variables)


def test_a_case_ends_after_its_resolution_has_proven_right(case: Walk) -> None:
    case.work("fallout.prepare-case", **prepared())
    [task] = case.people(1)
    assert (task.name, task.assignee) == ("Resolve fallout F-1: outcome unknown", None)
    complete(case, resolution="RETRY", externalReference="", evidence="seen")
    apply = case.take("fallout.apply-resolution", "caseId", "resolution", "evidence")
    assert (apply.variables["resolution"], apply.variables["evidence"]) == ("RETRY", "seen")
    case.done(apply, **applied("APPLIED"))
    case.work("fallout.prepare-case", **prepared("RESOLVED"))
    case.let_time_pass("verification-wait-over")
    case.work("fallout.prepare-case", **prepared("RESOLVED"))
    case.tell("FalloutCaseChanged")
    case.work("fallout.prepare-case", **prepared("CLOSED"))
    case.ends_as("Case closed")


def test_the_task_belongs_to_the_owner_and_the_queue_of_the_case(case: Walk, engine: Engine) -> None:
    case.work("fallout.prepare-case", **prepared("IN_PROGRESS", owner="bert", queue="falloutL2"))

    [task] = case.people(1)

    groups = {link["groupId"] for link in engine.get(f"/task/{task.id}/identity-links") if link["groupId"]}
    assert (task.assignee, groups) == ("bert", {"falloutL2"})


def test_a_refused_resolution_gets_a_new_task_with_the_reason(case: Walk) -> None:
    case.work("fallout.prepare-case", **prepared())
    complete(case, resolution="SKIP", externalReference="", evidence="")
    case.work("fallout.apply-resolution", **applied("REFUSED", "anna: not yours to choose"))
    case.work("fallout.prepare-case", **prepared())
    [task] = case.people(1)

    assert case.seen_by(task)["resolutionRefused"] == "anna: not yours to choose"


def test_marking_a_step_completed_needs_the_confirmation_of_a_second_person(case: Walk) -> None:
    case.work("fallout.prepare-case", **prepared())
    complete(case, resolution="MARK_COMPLETED", externalReference="r-7", evidence="seen")
    case.work("fallout.apply-resolution", **applied("CONFIRMATION_NEEDED"))
    [task] = case.people(1)
    assert task.name == "Confirm resolution F-1"
    complete(case, confirmed=True, confirmationComment="seen too")
    confirm = case.take("fallout.confirm-resolution", "confirmed", "externalReference", "resolution")
    assert confirm.variables == {"confirmed": True, "externalReference": "r-7", "resolution": "MARK_COMPLETED"}
    case.done(confirm, **applied("APPLIED"))
    case.work("fallout.prepare-case", **prepared("CLOSED"))
    case.ends_as("Case closed")


@pytest.mark.parametrize("waiting", ["resolve", "confirm"])
def test_a_case_that_was_cancelled_ends_its_open_task(case: Walk, waiting: str) -> None:
    case.work("fallout.prepare-case", **prepared())
    if waiting == "confirm":
        complete(case, resolution="MARK_COMPLETED", externalReference="r-7", evidence="seen")
        case.work("fallout.apply-resolution", **applied("CONFIRMATION_NEEDED"))
    case.people(1)
    case.tell("FalloutCaseChanged")
    case.work("fallout.prepare-case", **prepared("CANCELLED"))
    case.ends_as("Case closed")


@pytest.mark.parametrize(("timer", "cause"), [("claim-due", "CLAIM"), ("resolution-due", "RESOLUTION")])
def test_a_case_that_is_not_claimed_or_resolved_in_time_is_escalated(case: Walk, timer: str, cause: str) -> None:
    case.work("fallout.prepare-case", **prepared())
    case.people(1)
    case.let_time_pass(timer)
    escalate = case.take("fallout.escalate", "escalationCause")
    assert escalate.variables == {"escalationCause": cause}
    case.done(escalate)
    case.tell("FalloutCaseChanged")
    case.work("fallout.prepare-case", **prepared(queue="falloutL2"))
    case.people(1)
