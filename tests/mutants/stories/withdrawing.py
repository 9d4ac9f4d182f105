"""A quote is recalled, declined, cancelled, or expires."""

from __future__ import annotations

from functools import partial

from tests.mutants.stories.commands import expire, withdraw
from tests.mutants.telling import refused_by
from tests.mutants.trial import Trial

READY = {"recall": Trial.quote_in_approval, "decline": Trial.approved_quote, "cancel": Trial.priced_quote}
"""Verb -> a quote in a state in which the verb is allowed."""


def withdrawing_on_an_older_version(verb: str, trial: Trial) -> None:
    offer = READY[verb](trial)
    withdraw(verb, trial, offer, expected_version=offer.version - 1)


def withdrawing_another_revision(verb: str, trial: Trial) -> None:
    withdraw(verb, trial, READY[verb](trial), revision_id=READY[verb](trial).revision_id)


for each in READY:
    refused_by(f"quote.{each}/QUOTE_VERSION_CONFLICT")(partial(withdrawing_on_an_older_version, each))
    refused_by(f"quote.{each}/STALE_REVISION")(partial(withdrawing_another_revision, each))


@refused_by("quote.decline/QUOTE_EXPIRED")
def declining_after_the_offer_expired(trial: Trial) -> None:
    offer = trial.approved_quote()
    trial.end_validity(offer)
    withdraw("decline", trial, offer)


@refused_by("quote.expire/QUOTE_VERSION_CONFLICT")
def expiring_an_offer_on_an_older_version(trial: Trial) -> None:
    found = trial.draft_quote()
    trial.price(found)
    trial.end_validity(found)
    expire(trial, found)


@refused_by("quote.expire/QUOTE_STILL_VALID")
def expiring_an_offer_before_its_end(trial: Trial) -> None:
    expire(trial, trial.draft_quote())


@refused_by("the state in quote.recall")
def recalling_a_quote_that_is_approved(trial: Trial) -> None:
    withdraw("recall", trial, trial.approved_quote())


@refused_by("the state in quote.decline")
def declining_a_quote_that_waits_for_signatures(trial: Trial) -> None:
    withdraw("decline", trial, trial.quote_in_approval())


@refused_by("the state in quote.cancel")
def cancelling_a_quote_that_was_accepted(trial: Trial) -> None:
    withdraw("cancel", trial, trial.accepted_quote())


@refused_by("the state in quote.expire")
def expiring_a_quote_that_was_accepted(trial: Trial) -> None:
    offer = trial.accepted_quote()
    trial.end_validity(offer)
    expire(trial, offer)
