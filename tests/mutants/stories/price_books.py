"""Prices are published."""

from __future__ import annotations

from tests.mutants.stories.commands import publish
from tests.mutants.telling import refused_by
from tests.mutants.trial import Trial


@refused_by("price_book_head.publish/PRICE_BOOK_CONFLICT")
def publishing_over_a_version_that_the_administrator_has_not_seen(trial: Trial) -> None:
    publish(trial, "p-45", "p-44")
    publish(trial, "p-46", "p-44")
