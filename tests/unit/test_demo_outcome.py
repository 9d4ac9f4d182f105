"""When the demo has passed: every sample quote has the end that is expected, every fault happened, and the audit saw everything."""

from __future__ import annotations

from uuid import uuid4

import pytest

from domain.auditing import CheckResult
from reconciliation.audit_report import AuditReport
from tests.support.audits import wrong
from workers.demo.command import Outcome
from workers.demo.courses import sample_quotes
from workers.demo.driver import DECLINED

AWAY = "Kafka is away"


def report(*checks: CheckResult, out_of_reach: tuple[str, ...] = ()) -> AuditReport:
    return AuditReport(tenant_id=uuid4(), checks=checks, out_of_reach=out_of_reach)


def outcome(audited: AuditReport) -> Outcome:
    samples = sample_quotes(1)
    for sample in samples:
        sample.end = sample.expected
    return Outcome(
        tenant_id=audited.tenant_id, samples=samples, disorder={"lost answers": 1}, first_fulfilled_seconds=1.0, report=audited
    )


def test_a_demo_whose_audit_saw_everything_has_passed() -> None:
    assert outcome(report(CheckResult(code="I1", title="one order"))).passed


def test_a_demo_whose_audit_could_not_read_a_side_has_not_passed_and_says_which() -> None:
    """Kills: a demo that says that every invariant holds, although nobody could look."""
    judged = outcome(report(CheckResult(code="I18", title="events", unseen=AWAY), out_of_reach=(AWAY,)))

    assert not judged.passed
    assert judged.unexpected == [f"not audited: {AWAY}"]


@pytest.mark.parametrize(
    "audited",
    [
        report(CheckResult(code="I1", title="one order", violations=("two orders",))),
        report(CheckResult(code="I8", title="effects", unseen="no ledger is given")),
        report(out_of_reach=(AWAY,)),
    ],
    ids=["a violation", "a rule that was not looked at", "a side that is away"],
)
def test_a_run_with_all_sides_at_hand_is_wrong_when_something_was_not_looked_at(audited: AuditReport) -> None:
    assert len(wrong(audited)) == 1


def test_what_needs_a_record_of_the_clients_may_be_left_out() -> None:
    assert wrong(report(CheckResult(code="I24", title="answers", unseen="no record is given"))) == []


@pytest.mark.parametrize(
    ("end", "is_right"),
    [("CANCELLED", True), ("PARTIALLY_FULFILLED", True), (DECLINED, True), ("FULFILLED, cancellation DONE", False)],
)
def test_a_cancellation_may_come_too_late_but_a_cancelled_order_is_never_fulfilled(*, end: str, is_right: bool) -> None:
    [sample] = [each for each in sample_quotes(26) if each.expected == "CANCELLED"]
    sample.end = end

    assert sample.as_expected is is_right
