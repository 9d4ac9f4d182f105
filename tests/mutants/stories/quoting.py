"""A quote is edited, priced, submitted, and gets its document."""

from __future__ import annotations

from uuid import uuid4

from domain.catalog import ROUTER
from tests.mutants.stories.commands import document, edit, price, submit, withdraw
from tests.mutants.telling import refused_by
from tests.mutants.trial import Trial
from tests.support.offers import line

DOCUMENT_OF_ITS_QUOTE = "fk_quote_document_tenant_id_quote_id_quote_revision_id"
DOCUMENT_OF_ITS_PRICE = "fk_quote_document_tenant_id_quote_revision_id_price_result_id"


@refused_by("quote.edit/QUOTE_VERSION_CONFLICT")
def an_edit_on_an_older_version(trial: Trial) -> None:
    loaded = trial.draft_quote()
    trial.price(loaded)
    edit(trial, loaded)


@refused_by("quote.edit/STALE_REVISION")
def an_edit_of_another_revision(trial: Trial) -> None:
    edit(trial, trial.draft_quote(), revision_id=uuid4())


@refused_by("quote.edit/QUOTE_EXPIRED")
def an_edit_of_an_expired_offer_that_does_not_renew_it(trial: Trial) -> None:
    edit(trial, trial.expired_quote())


@refused_by("the state in quote.edit")
def an_edit_of_a_quote_that_was_cancelled(trial: Trial) -> None:
    offer = trial.draft_quote()
    withdraw("cancel", trial, offer)
    edit(trial, trial.quote(offer.quote_id))


@refused_by("quote.price/QUOTE_VERSION_CONFLICT")
def pricing_on_an_older_version(trial: Trial) -> None:
    loaded = trial.draft_quote()
    trial.price(loaded)
    price(trial, loaded)


@refused_by("quote.price/STALE_CONFIGURATION")
def pricing_the_configuration_of_another_quote(trial: Trial) -> None:
    price(trial, trial.draft_quote(), config_result_id=trial.draft_quote().config_result_id)


@refused_by("quote.price/CATALOG_CHANGED")
def pricing_with_another_catalog_version(trial: Trial) -> None:
    price(trial, trial.draft_quote(), catalog_version="1999.01")


@refused_by("quote.price/CONFIGURATION_INVALID")
def pricing_a_router_without_a_line(trial: Trial) -> None:
    price(trial, trial.draft_quote(lines=[line(1, ROUTER)]))


@refused_by("the state in quote.price")
def pricing_a_quote_that_waits_for_signatures(trial: Trial) -> None:
    price(trial, trial.quote_in_approval())


@refused_by("quote.submit/QUOTE_VERSION_CONFLICT")
def submitting_on_an_older_version(trial: Trial) -> None:
    repriced = trial.price(trial.priced_quote())
    submit(trial, repriced, expected_version=repriced.version - 1)


@refused_by("quote.submit/STALE_REVISION")
def submitting_another_revision(trial: Trial) -> None:
    submit(trial, trial.priced_quote(), revision_id=uuid4())


@refused_by("quote.submit/STALE_CONFIGURATION")
def submitting_another_configuration(trial: Trial) -> None:
    submit(trial, trial.priced_quote(), config_result_id=trial.draft_quote().config_result_id)


@refused_by("quote.submit/STALE_PRICE")
def submitting_an_earlier_price(trial: Trial) -> None:
    priced = trial.priced_quote()
    submit(trial, trial.price(priced), price_result_id=priced.price_result_id)


@refused_by("quote.submit/QUOTE_EXPIRED")
def submitting_after_the_offer_expired(trial: Trial) -> None:
    offer = trial.priced_quote()
    trial.end_validity(offer)
    submit(trial, offer)


@refused_by("the state in quote.submit")
def submitting_a_quote_that_was_cancelled(trial: Trial) -> None:
    offer = trial.priced_quote()
    withdraw("cancel", trial, offer)
    submit(trial, offer, expected_version=offer.version + 1)


@refused_by("quote.document/QUOTE_VERSION_CONFLICT")
def a_document_for_an_older_version(trial: Trial) -> None:
    offer = trial.priced_quote()
    document(trial, offer, expected_version=offer.version - 1)


@refused_by("quote.document/STALE_REVISION", masked_by=(DOCUMENT_OF_ITS_QUOTE, DOCUMENT_OF_ITS_PRICE))
def a_document_for_another_revision(trial: Trial) -> None:
    document(trial, trial.priced_quote(), revision_id=trial.priced_quote().revision_id)


@refused_by("quote.document/STALE_PRICE")
def a_document_with_an_earlier_price(trial: Trial) -> None:
    priced = trial.priced_quote()
    document(trial, trial.price(priced), price_result_id=priced.price_result_id)
