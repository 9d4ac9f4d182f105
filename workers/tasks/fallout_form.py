"""What a case worker reads in form `resolve-fallout`: the case, the timeline by both clocks, the attempts, the allowed resolutions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from domain.delivery import reading, repairing, timelines
from domain.delivery.orders import SalesOrder
from domain.delivery.resolving import RULES, Resolution, resolutions_for
from domain.delivery.steps import FulfillmentStep
from domain.store import UnitOfWork
from domain.texts import LONGEST_IDENTIFIER
from workers.runtime.variables import Variable
from workers.tasks.markdown import LONGEST_PROSE, moment, plain, table

SHOWN = (
    "caseNumber",
    "caseTitle",
    "caseType",
    "caseSeverity",
    "orderNumber",
    "stepCode",
    "stepStatus",
    "whatHappened",
    "timelineText",
    "attemptsText",
    "requestText",
    "allowedText",
    "confirmationText",
)
PROPOSED = ("proposedBy", "proposedReference", "proposedEvidence")
OF_CASE = ("case_number", "type", "severity", "queue", "detail", "escalation_level")
OF_STEP = ("version", "status", "step_code", "attempt_no", "failure_class", "external_ref")
OF_ORDER = ("version", "status", "order_number")
TIMELINE_HEAD = "| Our clock (UTC) | Provider's clock | What | Step | Who |\n|---|---|---|---|---|\n"
ATTEMPTS_HEAD = "| Sent | Command | No. | Key | Status | Known by |\n|---|---|---:|---|---|---|\n"
REQUEST_HEAD = "| Field | Value |\n|---|---|\n"
ALLOWED_HEAD = "| Resolution | Needs | From |\n|---|---|---|\n"
WHAT: Mapping[str, str] = {
    "TRANSITION": "{transitionFrom} → {transitionTo} ({reason})",
    "ATTEMPT_SENT": "{command} sent, attempt {attemptNo}",
    "ATTEMPT_SETTLED": "{command} {status} by {source}",
    "CALLBACK": "callback {eventType}: {status}",
    "CALLBACK_CONFLICT": "the same event with other content",
    "CONTRADICTION": "contradiction: {said} of a step that was {known}",
    "CONTRADICTION_ANSWERED": "contradiction settled: {status}",
    "NOTE": "{status}: {reason}",
    "REPAIR": "{field} of request {requestNo} repaired: {old} → {new}",
}


def shown(uow: UnitOfWork, case: Row[Any]) -> dict[str, Variable]:
    """The variables in the form's texts."""
    step = uow.read(FulfillmentStep, case.step_id) if case.step_id else None
    order = uow.read(SalesOrder, case.order_id) if case.order_id else None
    entries = timelines.timeline(uow, case.order_id) if case.order_id else []
    return {
        "caseNumber": case.case_number,
        "caseTitle": case.type.replace("_", " ").lower(),
        "caseType": case.type,
        "caseSeverity": case.severity,
        "orderNumber": order.order_number if order is not None else "",
        "stepCode": step.step_code if step is not None else "",
        "stepStatus": step.status if step is not None else "",
        "whatHappened": plain(case.detail, longest=1000),
        "timelineText": table(TIMELINE_HEAD, [_entry(entry) for entry in reversed(entries)]) if entries else "",
        "attemptsText": _attempts(uow, step) if step is not None else "",
        "requestText": _request(repairing.request_to_repair(uow, step)),
        "allowedText": table(ALLOWED_HEAD, [_allowed(each) for each in resolutions_for(case, step, order)]),
        "confirmationText": _confirmation(case, step),
    }


def evidence(uow: UnitOfWork, case: Row[Any]) -> dict[str, Any]:
    """What a person decides by, as it is kept with the decision. Who owns the case is left out: whoever claims it sees the same facts."""
    step = uow.read(FulfillmentStep, case.step_id) if case.step_id else None
    order = uow.read(SalesOrder, case.order_id) if case.order_id else None
    return {
        "case": {name: getattr(case, name) for name in OF_CASE},
        "step": {name: getattr(step, name) for name in OF_STEP} if step is not None else None,
        "request": repairing.request_to_repair(uow, step),
        "order": {name: getattr(order, name) for name in OF_ORDER} if order is not None else None,
        "allowed": [str(each) for each in resolutions_for(case, step, order)],
    }


def proposed(proposal: Row[Any] | None) -> dict[str, Variable]:
    """What a second person is asked to confirm."""
    if proposal is None:
        return dict.fromkeys(PROPOSED)
    return {
        "proposedBy": plain(proposal.proposed_by),
        "proposedReference": plain(proposal.external_ref, longest=LONGEST_IDENTIFIER),
        "proposedEvidence": plain(proposal.evidence, longest=LONGEST_PROSE),
    }


def _allowed(resolution: Resolution) -> str:
    rule = RULES[resolution]
    needs = {"the provider's reference and a second person": rule.needs_reference, "evidence": rule.needs_evidence}
    return f"| {plain(resolution)} | {', '.join(what for what, is_needed in needs.items() if is_needed)} | {rule.role} |"


def _entry(entry: Mapping[str, Any]) -> str:
    words = {name: plain(str(value)) for name, value in entry.items()}
    what = WHAT[entry["kind"]].format_map(_Known(words))
    cells = (_moment(entry["at"]), _moment(entry.get("providerAt")), what, words.get("stepCode", ""), words.get("actor", ""))
    return f"| {' | '.join(cells)} |"


class _Known(dict[str, str]):
    """The fields of an entry; a field that the entry does not have is shown as a dash."""

    def __missing__(self, key: str) -> str:
        return "–"


def _moment(text: str | None) -> str:
    return datetime.fromisoformat(text).strftime("%m-%d %H:%M:%S") if text else ""


def _attempts(uow: UnitOfWork, step: Row[Any]) -> str:
    rows: Sequence[Row[Any]] = reading.attempts_at(uow, step.id)
    return table(
        ATTEMPTS_HEAD,
        [
            f"| {moment(row.sent_at)} | {row.command} | {row.attempt_no} | `{row.idempotency_key}` | {row.status} "
            f"| {row.outcome_source or ''} |"
            for row in rows
        ],
    )


def _request(request: Mapping[str, Any] | None) -> str:
    if request is None:
        return ""
    return table(
        REQUEST_HEAD, [f"| {name} | {plain(str(value)) if value is not None else ''} |" for name, value in request.items()]
    )


def _confirmation(case: Row[Any], step: Row[Any] | None) -> str:
    if step is None:
        return ""
    return (
        f"Somebody wants to mark **{plain(step.step_code)}** of case {case.case_number} as completed. Confirm only when you have seen "
        "yourself, at the provider, that the reference below stands for this step."
    )
