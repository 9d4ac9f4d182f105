"""An acceptance names a revision, an approval, a price and a document that belong together: one story for each condition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from domain.catalog import FIBRE, SUPPORT
from domain.offers.prices import StalenessPolicy
from tests.mutants.conditions import ON
from tests.mutants.stories.accepting import APPROVAL_OF_ITS_REVISION, accepting_a_revision_that_was_superseded
from tests.mutants.stories.commands import accept, publish
from tests.mutants.telling import allowed_by, refused_by
from tests.mutants.trial import Trial
from tests.support.as_read import Offer
from tests.support.offers import ENTRIES, PRICE_BOOK_VERSION, SIGNATURE, line

STALE_APPROVAL, APPROVAL_MISSING = "quote.accept/STALE_APPROVAL", "quote.accept/APPROVAL_MISSING"
STALE_PRICE, DOCUMENT = "quote.accept/STALE_PRICE", "quote.accept/DOCUMENT_MISMATCH"
STALE_PRICE_SIGNED = replace(SIGNATURE, type="STALE_PRICE")
IF_STALE, IF_MATERIAL = StalenessPolicy.APPROVAL_REQUIRED_IF_STALE, StalenessPolicy.REPRICE_ON_MATERIAL_CHANGE

refused_by(
    f"{STALE_APPROVAL}{ON}quote.current_revision_id", masked_by=(APPROVAL_MISSING, STALE_PRICE, "the state in quote.accept")
)(accepting_a_revision_that_was_superseded)


@allowed_by(f"{STALE_APPROVAL}{ON}approval_request.quote_revision_id")
def accepting_with_the_approval_of_the_revision(trial: Trial) -> None:
    accept(trial, trial.approved_quote())


@refused_by(
    f"{APPROVAL_MISSING}{ON}approval_request.quote_revision_id",
    behind=(STALE_APPROVAL,),
    masked_by=(f"{APPROVAL_MISSING}{ON}approval_request.price_result_id", APPROVAL_OF_ITS_REVISION),
)
def accepting_with_the_approval_of_another_quote(trial: Trial) -> None:
    accept(trial, trial.approved_quote(), approval_request_id=trial.approved_quote().approval_request_id)


@refused_by(f"{APPROVAL_MISSING}{ON}approval_request.price_result_id", behind=("quote.open_requirements/STALE_APPROVAL#2",))
def accepting_a_price_that_was_not_approved(trial: Trial) -> None:
    earlier = trial.priced_quote()
    offer = trial.submit(trial.price(earlier))
    in_approval = trial.open_requirements(replace(offer, price_result_id=earlier.price_result_id), SIGNATURE)
    signed = replace(in_approval, price_result_id=earlier.price_result_id)
    accept(trial, trial.issue_document(trial.decide(signed, trial.requirement_ids(in_approval)[0])))


@refused_by(f"{APPROVAL_MISSING}{ON}approval_request.status")
def accepting_with_an_approval_that_was_recalled(trial: Trial) -> None:
    offer = trial.approved_quote()
    trial.by_hand("UPDATE approval_request SET status = 'RECALLED' WHERE tenant_id = :tenant")
    accept(trial, offer)


@refused_by(f"{STALE_PRICE}{ON}price_result.input_hash", behind=("quote_revision_frozen",))
def accepting_a_revision_whose_content_was_never_priced(trial: Trial) -> None:
    offer = trial.approved_quote()
    trial.by_hand("UPDATE quote_revision SET content_hash = 'by hand' WHERE tenant_id = :tenant")
    accept(trial, offer)


def approved(trial: Trial, policy: StalenessPolicy, *signatures: object) -> Offer:
    offer = trial.open_requirements(trial.submit(trial.priced_quote(policy)), *(signatures or (SIGNATURE,)))  # type: ignore[arg-type]
    for requirement_id in trial.requirement_ids(offer):
        offer = trial.decide(offer, requirement_id)
    return trial.issue_document(offer)


@refused_by(f"{STALE_PRICE}{ON}price_book_head.active_version")
def accepting_after_a_publication_that_requires_a_new_price(trial: Trial) -> None:
    offer = approved(trial, StalenessPolicy.REPRICE_REQUIRED_ON_PUBLISH)
    publish(trial, "p-45", PRICE_BOOK_VERSION)
    accept(trial, offer)


@refused_by(f"{STALE_PRICE}{ON}price_book_head.price_book")
def accepting_after_a_publication_while_another_price_book_has_the_older_version(trial: Trial) -> None:
    publish(trial, PRICE_BOOK_VERSION, None, price_book="OTHER")
    accepting_after_a_publication_that_requires_a_new_price(trial)


@refused_by(f"{STALE_PRICE}{ON}approval_requirement.type")
def accepting_a_stale_price_for_which_only_the_discount_was_signed(trial: Trial) -> None:
    accept_stale(trial, approved(trial, IF_STALE))


@refused_by(f"{STALE_PRICE}{ON}approval_requirement.request_id")
def accepting_a_stale_price_that_was_signed_for_another_quote(trial: Trial) -> None:
    approved(trial, IF_STALE, STALE_PRICE_SIGNED)
    accept_stale(trial, approved(trial, IF_STALE))


@refused_by(f"{STALE_PRICE}{ON}approval_requirement.status")
def accepting_a_stale_price_that_was_not_approved(trial: Trial) -> None:
    offer = approved(trial, IF_STALE, STALE_PRICE_SIGNED)
    trial.by_hand("UPDATE approval_requirement SET status = 'REWORK' WHERE tenant_id = :tenant")
    accept_stale(trial, offer)


def accept_stale(trial: Trial, offer: Offer) -> None:
    publish(trial, "p-45", PRICE_BOOK_VERSION)
    accept(trial, offer)


def accept_after_publishing(trial: Trial, offer: Offer, material: Sequence[str]) -> None:
    publish(trial, "p-46", "p-45", material_offering_ids=material)
    accept(trial, offer)


@allowed_by(f"{STALE_PRICE}{ON}price_book_version.published_at")
def accepting_a_price_that_was_calculated_after_the_material_change(trial: Trial) -> None:
    publish(trial, "p-45", PRICE_BOOK_VERSION, material_offering_ids=[FIBRE])
    accept_after_publishing(trial, approved(trial, IF_MATERIAL), [])


@allowed_by(f"{STALE_PRICE}{ON}price_book_version.price_book")
def accepting_after_a_material_change_of_another_price_book(trial: Trial) -> None:
    publish(trial, "p-45", PRICE_BOOK_VERSION)
    offer = approved(trial, IF_MATERIAL)
    publish(trial, "p-1", None, price_book="OTHER", material_offering_ids=[FIBRE])
    accept_after_publishing(trial, offer, [])


@allowed_by(f"{STALE_PRICE}{ON}line.revision_id", f"{STALE_PRICE}{ON}price_book_version.material_offering_ids")
def accepting_after_a_material_change_of_a_product_that_only_another_quote_offers(trial: Trial) -> None:
    publish(trial, "p-45", PRICE_BOOK_VERSION, entries=ENTRIES)
    trial.draft_quote(lines=[line(1, SUPPORT)])
    accept_after_publishing(trial, approved(trial, IF_MATERIAL), [SUPPORT])


@refused_by(f"{DOCUMENT}{ON}quote_document.quote_revision_id", masked_by=(f"{DOCUMENT}{ON}quote_document.price_result_id",))
def accepting_with_the_document_of_another_quote(trial: Trial) -> None:
    accept(trial, trial.approved_quote(), document_id=trial.approved_quote().document_id)


@refused_by(f"{DOCUMENT}{ON}quote_document.price_result_id")
def accepting_with_a_document_that_shows_an_earlier_price(trial: Trial) -> None:
    earlier = trial.issue_document(trial.priced_quote())
    offer = trial.open_requirements(trial.submit(trial.price(earlier)), SIGNATURE)
    offer = trial.issue_document(trial.decide(offer, trial.requirement_ids(offer)[0]))
    assert offer.document_id != earlier.document_id
    accept(trial, offer, document_id=earlier.document_id)
