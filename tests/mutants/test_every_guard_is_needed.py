"""For every guard in the registry there is a story in which exactly that guard says no; without the guard the story ends otherwise.

A guard that is added without a story makes the completeness test fail.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import text

from domain import accepting, approving, deciding, documents, evaluating, fulfilling, quoting, reading, starting, workflows
from domain.approvals import Decision
from domain.catalog import CATALOG, FIBRE, ROUTER
from domain.fulfilling import Infer, OutcomeSource
from domain.orders import OrderStatus
from domain.prices import StalenessPolicy
from domain.quotes import business_key
from domain.starting import StartStep
from domain.steps import StepEvent
from tests.support.evidence import record
from tests.support.guards import NamedGuard, every_guard, without
from tests.support.offers import OWNER, SIGNATURE, Offer, Offers, line

Story = Callable[[Offers], None]
STORIES: dict[str, Story] = {}


def refused_by(*names: str) -> Callable[[Story], Story]:
    """Register a story under the guards that end it."""

    def register(story: Story) -> Story:
        STORIES.update(dict.fromkeys(names, story))
        return story

    return register


def edit(offers: Offers, offer: Offer, **changes: object) -> None:
    given = {
        "expected_version": offer.version,
        "revision_id": offer.revision_id,
        "reason_code": "TEST",
        "term_months": 36,
        **changes,
    }
    with offers.uow() as uow:
        quoting.edit(uow, quoting.EditQuote(quote_id=offer.quote_id, **given))  # type: ignore[arg-type]  # a story's changes


def price(offers: Offers, offer: Offer, **changes: object) -> None:
    given = {
        "expected_version": offer.version,
        "config_result_id": offer.config_result_id,
        "catalog_version": CATALOG.catalog_version,
        **changes,
    }
    with offers.uow() as uow:
        quoting.price(uow, quoting.PriceQuote(quote_id=offer.quote_id, **given))  # type: ignore[arg-type]  # a story's changes


def submit(offers: Offers, offer: Offer, **changes: object) -> None:
    names = ("quote_id", "revision_id", "config_result_id", "price_result_id")
    given = {"expected_version": offer.version, **{name: getattr(offer, name) for name in names}, **changes}
    with offers.uow() as uow:
        quoting.submit(uow, quoting.SubmitQuote(**given))


def document(offers: Offers, offer: Offer, **changes: object) -> None:
    names = ("quote_id", "revision_id", "price_result_id")
    given = {"expected_version": offer.version, **{name: getattr(offer, name) for name in names}, **changes}
    with offers.uow() as uow:
        documents.issue(uow, documents.IssueDocument(**given))


def accept(offers: Offers, offer: Offer, **changes: object) -> None:
    with offers.uow() as uow:
        accepting.accept(uow, offers.acceptance(offer, **changes))


@refused_by("quote.edit/QUOTE_VERSION_CONFLICT")
def an_edit_decided_on_an_older_version(offers: Offers) -> None:
    loaded = offers.draft_quote()
    offers.price(loaded)
    edit(offers, loaded)


@refused_by("quote.edit/STALE_REVISION")
def an_edit_of_another_revision(offers: Offers) -> None:
    edit(offers, offers.draft_quote(), revision_id=uuid4())


@refused_by("quote.price/QUOTE_VERSION_CONFLICT")
def pricing_on_an_older_version(offers: Offers) -> None:
    loaded = offers.draft_quote()
    offers.price(loaded)
    price(offers, loaded)


@refused_by("quote.price/STALE_CONFIGURATION")
def pricing_the_configuration_of_another_quote(offers: Offers) -> None:
    price(offers, offers.draft_quote(), config_result_id=offers.draft_quote().config_result_id)


@refused_by("quote.price/CATALOG_CHANGED")
def pricing_with_another_catalog_version(offers: Offers) -> None:
    price(offers, offers.draft_quote(), catalog_version="1999.01")


@refused_by("quote.price/CONFIGURATION_INVALID")
def pricing_a_router_without_a_line(offers: Offers) -> None:
    price(offers, offers.draft_quote(lines=[line(1, ROUTER)]))


@refused_by("quote.submit/QUOTE_VERSION_CONFLICT")
def submitting_on_an_older_version(offers: Offers) -> None:
    repriced = offers.price(offers.priced_quote())
    submit(offers, repriced, expected_version=repriced.version - 1)


@refused_by("quote.submit/STALE_REVISION")
def submitting_another_revision(offers: Offers) -> None:
    submit(offers, offers.priced_quote(), revision_id=uuid4())


@refused_by("quote.submit/STALE_CONFIGURATION")
def submitting_another_configuration(offers: Offers) -> None:
    submit(offers, offers.priced_quote(), config_result_id=offers.draft_quote().config_result_id)


@refused_by("quote.submit/STALE_PRICE")
def submitting_an_earlier_price(offers: Offers) -> None:
    priced = offers.priced_quote()
    submit(offers, offers.price(priced), price_result_id=priced.price_result_id)


@refused_by("quote.document/QUOTE_VERSION_CONFLICT")
def a_document_for_an_older_version(offers: Offers) -> None:
    offer = offers.priced_quote()
    document(offers, offer, expected_version=offer.version - 1)


@refused_by("quote.document/STALE_REVISION")
def a_document_for_another_revision(offers: Offers) -> None:
    document(offers, offers.priced_quote(), revision_id=offers.priced_quote().revision_id)


@refused_by("quote.document/STALE_PRICE")
def a_document_with_an_earlier_price(offers: Offers) -> None:
    priced = offers.priced_quote()
    document(offers, offers.price(priced), price_result_id=priced.price_result_id)


@refused_by("quote.accept/QUOTE_EXPIRED")
def accepting_after_the_offer_expired(offers: Offers) -> None:
    offer = offers.approved_quote()
    with offers.engine.begin() as connection:
        connection.execute(text("UPDATE quote SET valid_until = clock_timestamp() - interval '1 second'"))
    accept(offers, offer)


@refused_by("quote.accept/STALE_APPROVAL")
def accepting_a_revision_that_was_superseded(offers: Offers) -> None:
    old = offers.approved_quote()
    edit(offers, old)
    accept(offers, old, expected_version=offers.quote(old.quote_id).version)


@refused_by("quote.accept/APPROVAL_MISSING")
def accepting_without_an_approval(offers: Offers) -> None:
    accept(offers, offers.approved_quote(), approval_request_id=uuid4())


@refused_by("quote.accept/STALE_PRICE")
def accepting_a_price_that_a_publication_made_stale(offers: Offers) -> None:
    offer = offers.priced_quote(StalenessPolicy.REPRICE_REQUIRED_ON_PUBLISH)
    offer = offers.open_requirements(offers.submit(offer), SIGNATURE)
    offer = offers.issue_document(offers.decide(offer, offers.requirement_ids(offer)[0]))
    offers.publish_prices("p-45", replaces="p-44")
    accept(offers, offer)


@refused_by("quote.accept/DOCUMENT_MISMATCH")
def accepting_with_the_document_of_another_offer(offers: Offers) -> None:
    accept(offers, offers.approved_quote(), document_id=uuid4())


@refused_by("quote.accept/QUOTE_VERSION_CONFLICT")
def accepting_on_an_older_version(offers: Offers) -> None:
    offer = offers.approved_quote()
    accept(offers, offer, expected_version=offer.version - 1)


@refused_by("quote.approval_facts/STALE_REVISION")
def facts_of_another_revision(offers: Offers) -> None:
    offer = offers.submitted_quote()
    with offers.uow() as uow:
        approving.collect_facts(uow, offer.quote_id, uuid4(), offer.price_result_id)


@refused_by("quote.approval_facts/STALE_PRICE")
def facts_of_another_price(offers: Offers) -> None:
    offer = offers.submitted_quote()
    with offers.uow() as uow:
        approving.collect_facts(uow, offer.quote_id, offer.revision_id, uuid4())


@refused_by("quote.open_requirements/STALE_APPROVAL")
def requirements_for_another_revision(offers: Offers) -> None:
    offer, other = offers.submitted_quote(), offers.submitted_quote()
    with offers.uow() as uow:
        uow.apply(approving.OPEN_REQUIREMENTS, quote_id=offer.quote_id, quote_revision_id=other.revision_id)


@refused_by("quote.none_required/STALE_APPROVAL")
def automatic_approval_of_another_revision(offers: Offers) -> None:
    offer, other = offers.submitted_quote(), offers.submitted_quote()
    with offers.uow() as uow:
        uow.apply(approving.NONE_REQUIRED, quote_id=offer.quote_id, quote_revision_id=other.revision_id)


def outcome_for_another_revision(decision: Decision) -> Story:
    def story(offers: Offers) -> None:
        offer = offers.quote_in_approval()
        with offers.uow() as uow:
            uow.apply(deciding.QUOTE_OUTCOME[decision], quote_id=offer.quote_id, quote_revision_id=uuid4())

    return story


def signature_for_another_price(decision: Decision) -> Story:
    def story(offers: Offers) -> None:
        offer, other = offers.quote_in_approval(), offers.quote_in_approval()
        changes = {"quote_revision_id": other.revision_id, "price_result_id": other.price_result_id}
        with offers.uow() as uow:
            deciding.decide(uow, signature(offers, offer, decision, **changes))

    return story


def second_signature(decision: Decision) -> Story:
    def story(offers: Offers) -> None:
        offer = offers.quote_in_approval()
        [requirement_id] = offers.requirement_ids(offer)
        offers.decide(offer, requirement_id)
        offers.decide(offer, requirement_id, decision)

    return story


def signature_on_an_older_version(decision: Decision) -> Story:
    return signed_with(decision, expected_version=0)


def signature_before_the_level_below(decision: Decision) -> Story:
    def story(offers: Offers) -> None:
        offer = offers.quote_in_approval(SIGNATURE, replace(SIGNATURE, level=2, approver_group="approverDirector"))
        _, director = offers.requirement_ids(offer)
        offers.decide(offer, director, decision, roles=("approverDirector",))

    return story


def signature_of_the_owner(decision: Decision) -> Story:
    return signed_with(decision, decided_by=OWNER)


def signature_without_the_role(decision: Decision) -> Story:
    return signed_with(decision, roles=("salesAgent",))


def signed_with(decision: Decision, **changes: object) -> Story:
    def story(offers: Offers) -> None:
        offer = offers.quote_in_approval()
        with offers.uow() as uow:
            deciding.decide(uow, signature(offers, offer, decision, **changes))

    return story


def signature(offers: Offers, offer: Offer, decision: Decision, **changes: object) -> deciding.Decide:
    [requirement_id] = offers.requirement_ids(offer)
    given = {
        "quote_revision_id": offer.revision_id,
        "price_result_id": offer.price_result_id,
        "decided_by": "rita",
        "roles": ("approverRsm",),
        **changes,
    }
    return deciding.Decide(
        requirement_id=requirement_id,
        decision=decision,
        reason_code="TEST",
        approval_task_id=str(requirement_id),
        **given,  # type: ignore[arg-type]  # a story's changes
    )


for said in Decision:
    word = said.value.lower()
    STORIES |= {
        f"quote.{word}/STALE_APPROVAL": outcome_for_another_revision(said),
        f"approval_requirement.{word}/STALE_APPROVAL": signature_for_another_price(said),
        f"approval_requirement.{word}/APPROVAL_ALREADY_DECIDED": second_signature(said),
        f"approval_requirement.{word}/STALE_APPROVAL#2": signature_on_an_older_version(said),
        f"approval_requirement.{word}/EARLIER_LEVEL_OPEN": signature_before_the_level_below(said),
        f"approval_requirement.{word}/FOUR_EYES_VIOLATION": signature_of_the_owner(said),
        f"approval_requirement.{word}/AUTHORITY_EXCEEDED": signature_without_the_role(said),
    }


@refused_by("workflow_correlation.register/DUPLICATE_WORKFLOW")
def registering_with_another_token(offers: Offers) -> None:
    key = submitted_key(offers)
    command = workflows.RegisterWorkflow(business_key=key, start_token=uuid4(), process_instance_id="another")
    with offers.uow() as uow:
        workflows.register(uow, command)


@refused_by("workflow_correlation.find_absent/CORRELATION_MOVED_ON")
def starting_again_what_was_settled_meanwhile(offers: Offers) -> None:
    key = submitted_key(offers)
    with offers.uow() as uow:
        workflows.start_timed_out(uow, key)
        seen = workflows.find(uow, key).version
    with offers.uow() as uow:
        workflows.start_again(uow, key, seen - 1)


def submitted_key(offers: Offers) -> str:
    offer = offers.submitted_quote()
    return business_key(offers.tenant_id, offer.quote_id, offer.revision_id)


@refused_by("sales_order.running/ORDER_NOT_RUNNING")
def starting_a_step_of_an_order_on_hold(offers: Offers) -> None:
    order = offers.running_order()
    with offers.engine.begin() as connection:
        connection.execute(text("UPDATE sales_order SET status = 'HELD'"))
    offers.start_step(order.steps["CHECK_SERVICEABILITY"])


@refused_by("fulfillment_step.start/PREDECESSOR_OPEN")
def starting_a_step_before_its_predecessors(offers: Offers) -> None:
    offers.start_step(offers.running_order().steps["PROVISION_SERVICE"])


@refused_by("fulfillment_step.start/STEP_VERSION_CONFLICT")
def starting_a_step_from_an_older_version(offers: Offers) -> None:
    step_id = offers.running_order().steps["CHECK_SERVICEABILITY"]
    command = StartStep(step_id=step_id, expected_version=0, worker_id="worker-1", external_task_id=None)
    with offers.uow() as uow:
        starting.start_step(uow, command)


def inferred_from_an_older_version(event: StepEvent) -> Story:
    def story(offers: Offers) -> None:
        infer(offers, event, versions_ago=1)

    return story


@refused_by("fulfillment_step.time_out/ATTEMPT_ALIVE")
def timing_out_a_worker_that_just_gave_a_sign_of_life(offers: Offers) -> None:
    infer(offers, StepEvent.TIME_OUT, silent_for=timedelta(hours=1))


@refused_by("fulfillment_step.find_absent/ABSENCE_NOT_PROVEN")
def absent_before_the_safe_interval_is_over(offers: Offers) -> None:
    infer(offers, StepEvent.FIND_ABSENT, safe_interval=timedelta(hours=1))


def infer(offers: Offers, event: StepEvent, *, versions_ago: int = 0, **intervals: timedelta) -> None:
    step_id = offers.running_order(lines=[line(1, FIBRE)]).steps["CHECK_SERVICEABILITY"]
    offers.start_step(step_id)
    with offers.uow() as uow:
        version = reading.step(uow, step_id).version
    command = Infer(
        step_id=step_id,
        expected_version=version - versions_ago,
        event=event,
        source=OutcomeSource.RECONCILIATION,
        **intervals,  # type: ignore[arg-type]  # safe_interval or silent_for
    )
    with offers.uow() as uow:
        fulfilling.infer(uow, command)


for inference in (StepEvent.TIME_OUT, StepEvent.FIND_ABSENT, StepEvent.FIND_UNCLEAR):
    STORIES[f"fulfillment_step.{inference.value.lower()}/STEP_VERSION_CONFLICT"] = inferred_from_an_older_version(inference)


def settled_too_early(outcome: OrderStatus) -> Story:
    def story(offers: Offers) -> None:
        order = offers.running_order()
        with offers.uow() as uow:
            uow.apply(evaluating.OUTCOMES[outcome], order_id=order.order_id)

    return story


for outcome, move in evaluating.OUTCOMES.items():
    STORIES[f"{move.name}/STEPS_OPEN"] = settled_too_early(outcome)

GUARDS = every_guard()


def test_every_guard_has_a_story() -> None:
    assert {guard.name for guard in GUARDS} == set(STORIES)


@pytest.mark.parametrize("named", GUARDS, ids=lambda named: named.name)
def test_the_guard_says_no(named: NamedGuard, offers: Offers) -> None:
    with pytest.raises(named.guard.refusal) as refused:
        STORIES[named.name](offers)

    assert type(refused.value) is named.guard.refusal


@pytest.mark.parametrize("named", GUARDS, ids=lambda named: named.name)
def test_without_the_guard_the_story_ends_otherwise(named: NamedGuard, offers: Offers) -> None:
    refusal = named.guard.refusal
    with without(named.check, named.position):
        try:
            STORIES[named.name](offers)
        except Exception as other:  # noqa: BLE001 - another refusal or a constraint: also not this guard's answer
            assert type(other) is not refusal  # noqa: PT017 - the point is which one it is not


def test_the_number_of_guards_is_evidence() -> None:
    record("guards with a mutant killed", len(GUARDS), "guards")
