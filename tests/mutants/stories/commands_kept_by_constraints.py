"""Commands whose harm only a constraint prevents, once the guard, the state or the statement before it is removed."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import uuid4

from sqlalchemy.exc import MultipleResultsFound

from domain import accepting
from domain.catalog import FIBRE
from domain.errors import NotFound
from domain.offers import approving, quotes, withdrawing
from domain.offers.approvals import ApprovalRequest
from domain.offers.quotes import RevisionStatus
from domain.offers.quoting import LineChange
from domain.store import once
from tests.mutants.layers import Kept
from tests.mutants.statements import COUNTING, GOING_ON, STAYING, SUPERSEDING, without_tenant
from tests.mutants.stories.accepting import APPROVAL_OF_ITS_REVISION
from tests.mutants.stories.commands import accept, decide, document, edit, publish
from tests.mutants.stories.quoting import DOCUMENT_OF_ITS_PRICE, DOCUMENT_OF_ITS_QUOTE
from tests.mutants.telling import kept_by
from tests.mutants.trial import Trial
from tests.support.offers import ENTRIES, SIGNATURE

ONE_ORDER = "uq_order_quote_revision_primary"
LOG = "uq_transition_log_tenant_id_aggregate_type_aggregate_id_d6b0"


@kept_by(ONE_ORDER, behind=("the state in quote.accept",))
def a_second_order_of_one_revision(trial: Trial) -> None:
    command = trial.acceptance(trial.accepted_quote())
    with trial.uow() as uow:
        accepting._create_order(uow, uow.apply(accepting.ACCEPT, command), command)
    assert trial.count("sales_order") == 2


@kept_by("uq_quote_acceptance_tenant_id_quote_revision_id", behind=("the state in quote.accept", ONE_ORDER))
def a_second_acceptance_of_one_revision(trial: Trial) -> None:
    accept(trial, trial.accepted_quote())


@kept_by("fk_quote_acceptance_tenant_id_document_id", behind=("quote.accept/DOCUMENT_MISMATCH",))
def an_acceptance_with_a_document_that_does_not_exist(trial: Trial) -> None:
    accept(trial, trial.approved_quote(), document_id=uuid4())


@kept_by(APPROVAL_OF_ITS_REVISION, behind=("quote.accept/STALE_APPROVAL", "quote.accept/APPROVAL_MISSING"))
def an_acceptance_with_the_approval_of_another_offer(trial: Trial) -> None:
    accept(trial, trial.approved_quote(), approval_request_id=trial.approved_quote().approval_request_id)


@kept_by("uq_quote_revision_working", behind=(SUPERSEDING, STAYING))
def a_second_working_revision(trial: Trial) -> None:
    edit(trial, trial.draft_quote())


@kept_by("uq_quote_revision_accepted", behind=("the state in quote.edit", SUPERSEDING))
def a_second_accepted_revision(trial: Trial) -> None:
    offer = trial.accepted_quote()
    edit(trial, offer)
    with trial.uow() as uow:
        quotes.change_revision(uow, trial.quote(offer.quote_id).revision_id, status=RevisionStatus.ACCEPTED)


@kept_by("quote_line_frozen", behind=(GOING_ON,), masked_by=("quote_revision_frozen",))
def an_edit_of_the_lines_of_a_quote_in_approval(trial: Trial) -> None:
    edit(trial, trial.quote_in_approval())


@kept_by("quote_revision_frozen", behind=(GOING_ON, "quote_line_frozen"))
def an_edit_of_the_revision_of_a_quote_in_approval(trial: Trial) -> None:
    edit(trial, trial.quote_in_approval())


@kept_by(LOG, behind=(COUNTING,))
def a_change_that_does_not_count_the_version_up(trial: Trial) -> None:
    edit(trial, trial.draft_quote())


@kept_by("uq_outbox_event_tenant_id_aggregate_type_aggregate_id_a_1d6a", behind=(COUNTING, LOG))
def two_changes_that_do_not_count_the_version_up(trial: Trial) -> None:
    offer = trial.draft_quote()
    for _ in range(2):
        edit(trial, offer)


@kept_by("row level security of quote")
def a_command_that_forgot_its_tenant(trial: Trial) -> None:
    offer = Trial(trial.connection).draft_quote()
    names: dict[str, Any] = {"quote_id": offer.quote_id, "expected_version": offer.version, "revision_id": offer.revision_id}
    with without_tenant(withdrawing.CANCEL, "quote_id"), trial.uow() as uow:
        try:
            uow.apply(withdrawing.CANCEL, reason_code="TEST", **names)
        except NotFound:
            raise Kept from None


@kept_by("pk_idempotency_record")
def a_command_that_runs_twice_under_one_idempotency_key(trial: Trial) -> None:
    for _ in range(2):
        with trial.uow() as uow:
            answer = once(uow, "a key", {})
    if answer is not None or trial.count("idempotency_record") == 1:
        raise Kept


@kept_by(DOCUMENT_OF_ITS_QUOTE, behind=("quote.document/STALE_REVISION", "quote.document/STALE_PRICE"))
def a_document_of_another_offer(trial: Trial) -> None:
    other = trial.priced_quote()
    document(trial, trial.priced_quote(), revision_id=other.revision_id, price_result_id=other.price_result_id)


@kept_by(DOCUMENT_OF_ITS_PRICE, behind=("quote.document/STALE_PRICE",))
def a_document_with_the_price_of_another_offer(trial: Trial) -> None:
    document(trial, trial.priced_quote(), price_result_id=trial.priced_quote().price_result_id)


@kept_by("uq_quote_document_tenant_id_quote_revision_id_sha256")
def a_document_that_is_issued_twice(trial: Trial) -> None:
    offer = trial.priced_quote()
    document(trial, offer)
    with suppress(MultipleResultsFound):
        document(trial, offer)
        raise Kept


@kept_by("uq_approval_request_open", behind=("the state in quote.open_requirements",))
def a_second_request_for_one_revision(trial: Trial) -> None:
    offer = trial.quote_in_approval()
    names: dict[str, Any] = {
        "quote_id": offer.quote_id,
        "quote_revision_id": offer.revision_id,
        "price_result_id": offer.price_result_id,
    }
    with trial.uow() as uow:
        uow.apply(approving.OPEN_REQUIREMENTS, **names)
        uow.create(ApprovalRequest, reason="OPEN", status="OPEN", policy_definition_id="approval-requirements:1", **names)


@kept_by("uq_approval_requirement_tenant_id_request_id_type_level")
def two_requirements_for_one_signature(trial: Trial) -> None:
    trial.quote_in_approval(SIGNATURE, replace(SIGNATURE, approver_group="approverDirector"))


@kept_by("fk_approval_request_tenant_id_quote_revision_id_price_result_id", behind=("quote.open_requirements/STALE_APPROVAL#2",))
def requirements_for_a_price_of_another_revision(trial: Trial) -> None:
    trial.open_requirements(replace(trial.submitted_quote(), price_result_id=trial.priced_quote().price_result_id), SIGNATURE)


@kept_by(
    "fk_approval_request_tenant_id_quote_id_quote_revision_id",
    behind=("quote.open_requirements/STALE_APPROVAL", "quote.open_requirements/STALE_APPROVAL#2"),
)
def requirements_for_another_offer(trial: Trial) -> None:
    offer, other = trial.submitted_quote(), trial.submitted_quote()
    trial.open_requirements(replace(other, quote_id=offer.quote_id), SIGNATURE)


@kept_by("fk_approval_decision_tenant_id_quote_revision_id_price__6a38", behind=("approval_requirement.approve/STALE_APPROVAL",))
def a_signature_for_a_price_of_another_revision(trial: Trial) -> None:
    offer = trial.quote_in_approval()
    decide(trial, offer, trial.requirement_ids(offer)[0], price_result_id=trial.priced_quote().price_result_id)


@kept_by("uq_approval_decision_tenant_id_approval_task_id")
def two_signatures_for_one_approval_task(trial: Trial) -> None:
    trial.grant_authority("dana", "approverDirector")
    offer, first, second = trial.two_levels()
    decide(trial, offer, first, approval_task_id="task")
    decide(trial, offer, second, approval_task_id="task", decided_by="dana", roles=("approverDirector",))


@kept_by("ck_quote_line_quantity")
def an_edit_to_quantity_zero(trial: Trial) -> None:
    edit(trial, trial.draft_quote(), lines=[LineChange(line_no=1, quantity=0)])


@kept_by("ck_quote_line_discount")
def an_edit_to_a_discount_above_one_hundred_percent(trial: Trial) -> None:
    edit(trial, trial.draft_quote(), lines=[LineChange(line_no=1, discount_percent=Decimal(101))])


@kept_by("ck_authority_grant_discount")
def authority_for_a_discount_above_one_hundred_percent(trial: Trial) -> None:
    trial.grant_authority(max_discount_percent=Decimal(101))


@kept_by("ck_price_book_entry_amounts")
def a_price_below_zero(trial: Trial) -> None:
    publish(trial, "p-45", "p-44", entries={**ENTRIES, FIBRE: (Decimal(-1), Decimal(0))})


@kept_by("uq_price_book_head_tenant_id_price_book")
def a_first_version_of_a_price_book_that_has_one(trial: Trial) -> None:
    publish(trial, "p-45", None)


@kept_by("pk_price_book_version", masked_by=("pk_price_book_entry",))
def a_version_that_was_published_before(trial: Trial) -> None:
    publish(trial, "p-45", "p-44")
    publish(trial, "p-44", "p-45")
