"""What clients send about orders and fallout cases, what providers send about steps, and the commands that these bodies become."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from domain.delivery.callbacks import ReceiveCallback
from domain.delivery.cancelling import AssessCancellation, RequestCancellation
from domain.delivery.proposing import AnswerProposal
from domain.delivery.repairing import FIELDS, Change
from domain.delivery.resolving import Resolution, ResolveCase
from domain.fallout.casework import CaseCommand
from workers.http.shapes.bodies import Body
from workers.http.shapes.fields import Comment, Moment, ReasonCode, Text, Version


class CancelOrderBody(Body):
    expected_status: Annotated[str, StringConstraints(pattern=r"^[A-Z_]{1,40}$")] = Field(
        description="The status that the order was seen in"
    )
    reason: ReasonCode

    def command(self, order_id: UUID, expected_version: int, requested_by: str) -> RequestCancellation:
        return RequestCancellation(
            order_id=order_id,
            expected_version=expected_version,
            expected_status=self.expected_status,
            reason=self.reason,
            requested_by=requested_by,
        )


class AssessCancellationBody(Body):
    decision: Literal["ACCEPT", "DECLINE"]
    reason: ReasonCode

    def command(self, cancellation_id: UUID, expected_version: int, decided_by: str, roles: Sequence[str]) -> AssessCancellation:
        return AssessCancellation(
            cancellation_id=cancellation_id,
            expected_version=expected_version,
            accept=self.decision == "ACCEPT",
            reason=self.reason,
            decided_by=decided_by,
            roles=roles,
        )


class QuestionBody(Body):
    question: Comment


class InformationBody(Body):
    information: Comment


class HoldBody(Body):
    reason: Comment


class SecondOpinionBody(Body):
    proposal_id: UUID = Field(description="What you confirm or decline, exactly as it was proposed")
    text: Comment = Field(description="Where you have seen yourself that it is so, or why you decline")

    def command(self, case: CaseCommand) -> AnswerProposal:
        return AnswerProposal(
            proposal_id=self.proposal_id,
            case_id=case.case_id,
            expected_version=case.expected_version,
            person=case.person,
            roles=case.roles,
            text=self.text,
        )


class RepairBody(Body):
    """One repaired field of the request to the provider: the value that it has, and the one that it gets."""

    field: Literal["productOfferingId", "quantity", "instructions"]
    old: Text | int | None = Field(description="As the case shows it")
    new: Text | int | None

    def change(self) -> Change:
        return Change(field=self.field, old=self.old, new=self.new)


class ResolutionBody(Body):
    resolution: Resolution
    expected_step_version: Version | None = Field(None, description="As the step was seen; null for a case about none")
    external_ref: Text | None = Field(None, description="For MARK_COMPLETED")
    evidence: Comment | None = Field(None, description="What was seen, and where")
    repairs: list[RepairBody] = Field([], max_length=len(FIELDS), description="For REPAIR_AND_RETRY")

    def command(self, case: CaseCommand) -> ResolveCase:
        return ResolveCase(
            case_id=case.case_id,
            expected_version=case.expected_version,
            person=case.person,
            roles=case.roles,
            resolution=self.resolution,
            expected_step_version=self.expected_step_version,
            external_ref=self.external_ref,
            evidence=self.evidence,
            changes=[repair.change() for repair in self.repairs],
        )


class CallbackBody(BaseModel):
    """A provider's event; what it adds beyond these members is kept, not read."""

    model_config = ConfigDict(extra="ignore", frozen=True, alias_generator=to_camel, validate_by_alias=True, validate_by_name=False)

    event_id: Text
    event_type: Text
    step_ref: Text
    request_id: Text | None = None
    external_ref: Text | None = None
    occurred_at: Moment | None = None

    def command(self, provider_name: str, step_id: UUID | None, payload: dict[str, Any]) -> ReceiveCallback:
        return ReceiveCallback(
            provider_name=provider_name,
            external_event_id=self.event_id,
            event_type=self.event_type,
            step_id=step_id,
            external_ref=self.external_ref,
            external_request_id=self.request_id,
            external_event_at=self.occurred_at,
            payload=payload,
        )
