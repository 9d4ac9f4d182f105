"""The locks, the clocks and the claims of commands are needed: without one of them a rival does harm."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from tests.mutants.rivalry import RIVALRIES
from tests.mutants.stories import rivals, rivals_of_delivery
from tests.support.evidence import record
from tests.support.offers import Offers

LOADED = (rivals, rivals_of_delivery)


@pytest.mark.parametrize("layer", sorted(RIVALRIES))
def test_with_the_layer_the_rivals_end_as_they_should(layer: str, db: Engine, offers: Offers) -> None:
    assert RIVALRIES[layer].tell(db, offers) == RIVALRIES[layer].kept


@pytest.mark.parametrize("layer", sorted(RIVALRIES))
def test_without_the_layer_a_rival_does_harm(layer: str, db: Engine, offers: Offers) -> None:
    with RIVALRIES[layer].without(db):
        assert RIVALRIES[layer].tell(db, offers) == RIVALRIES[layer].broken


def test_the_number_of_locks_clocks_and_claims_is_evidence() -> None:
    record("locks, clocks and claims with a mutant killed", len(RIVALRIES), "layers")
