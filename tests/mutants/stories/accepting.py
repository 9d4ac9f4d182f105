"""A customer accepts one approved revision, with the price and the document of that revision."""

from __future__ import annotations

from uuid import uuid4

from domain.offers.prices import StalenessPolicy
from tests.mutants.stories.commands import accept, edit, publish, withdraw
from tests.mutants.telling import refused_by
from tests.mutants.trial import Trial
from tests.support.offers import SIGNATURE

APPROVAL_OF_ITS_REVISION = "fk_quote_acceptance_tenant_id_quote_revision_id_approva_801a"


@refused_by("quote.accept/QUOTE_EXPIRED")
def accepting_after_the_offer_expired(trial: Trial) -> None:
    offer = trial.approved_quote()
    trial.end_validity(offer)
    accept(trial, offer)


@refused_by(
    "quote.accept/STALE_APPROVAL",
    masked_by=("quote.accept/APPROVAL_MISSING", "quote.accept/STALE_PRICE", "the state in quote.accept"),
)
def accepting_a_revision_that_was_superseded(trial: Trial) -> None:
    old = trial.approved_quote()
    edit(trial, old)
    accept(trial, old, expected_version=trial.quote(old.quote_id).version)


@refused_by("quote.accept/APPROVAL_MISSING", masked_by=(APPROVAL_OF_ITS_REVISION,))
def accepting_without_an_approval(trial: Trial) -> None:
    accept(trial, trial.approved_quote(), approval_request_id=uuid4())


@refused_by("quote.accept/STALE_PRICE")
def accepting_a_price_that_a_publication_made_stale(trial: Trial) -> None:
    offer = trial.priced_quote(StalenessPolicy.REPRICE_REQUIRED_ON_PUBLISH)
    offer = trial.open_requirements(trial.submit(offer), SIGNATURE)
    offer = trial.issue_document(trial.decide(offer, trial.requirement_ids(offer)[0]))
    publish(trial, "p-45", "p-44")
    accept(trial, offer)


@refused_by("quote.accept/DOCUMENT_MISMATCH")
def accepting_with_the_document_of_another_offer(trial: Trial) -> None:
    accept(trial, trial.approved_quote(), document_id=trial.approved_quote().document_id)


@refused_by("quote.accept/QUOTE_VERSION_CONFLICT")
def accepting_on_an_older_version(trial: Trial) -> None:
    offer = trial.approved_quote()
    accept(trial, offer, expected_version=offer.version - 1)


@refused_by("the state in quote.accept")
def accepting_a_quote_that_the_customer_declined(trial: Trial) -> None:
    offer = trial.approved_quote()
    withdraw("decline", trial, offer)
    accept(trial, offer, expected_version=offer.version + 1)
