"""Every command dies at every gate, in one scene each; `make faults` crashes it in all scenes, and its repeat as well."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import text

from domain.store import UnitOfWork
from domain.store.isolation import open_for
from tests.faults.crashes.ring import WITHOUT_IDENTITY, Part, Ring, parts
from tests.races.explorer.commands import cancel
from tests.races.explorer.registry import COMMANDS
from tests.races.explorer.scenes import Scene
from tests.races.explorer.stage import Stage

PARTS = parts(every_scene=False)


@pytest.fixture(scope="module")
def ring(stage: Stage) -> Iterator[Ring]:
    ring = Ring(stage)
    yield ring
    ring.close()


@pytest.mark.parametrize("scene", sorted({part.scene for part in PARTS}))
def test_a_command_that_died_and_is_sent_again_leaves_what_it_leaves_undisturbed(scene: str, ring: Ring) -> None:
    fates = [ring.crash(part, depth=1) for part in PARTS if part.scene == scene]

    assert not [sentence for fate in fates for sentence in fate.wrong]


def cancel_in_two_halves(scene: Scene, uow: UnitOfWork, rank: int) -> str:
    """A fault: the quote is cancelled in a transaction before the one that keeps the key."""
    word = cancel(scene, uow, rank)
    uow.flush()
    uow.connection.commit()
    uow.connection.begin()
    open_for(uow.connection, uow.tenant_id)
    return word


def test_a_command_in_two_transactions_is_found(ring: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMMANDS, "cancel", replace(COMMANDS["cancel"], work=cancel_in_two_halves))

    fate = ring.crash(Part(scene="DRAFT", command="cancel", rank=0, has_key=True))

    assert fate.wrong


def test_a_command_that_waits_for_a_row_in_a_second_transaction_is_found(ring: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
    def cancel_and_wait(scene: Scene, uow: UnitOfWork, rank: int) -> str:
        word = cancel_in_two_halves(scene, uow, rank)
        uow.connection.execute(text("SELECT FROM price_book_head FOR SHARE"))
        return word

    monkeypatch.setitem(COMMANDS, "cancel", replace(COMMANDS["cancel"], work=cancel_and_wait))

    fate = ring.crash(Part(scene="DRAFT", command="cancel", rank=0, has_key=True), depth=1)

    assert [sentence for sentence in fate.wrong if "while it waited for a row of price_book_head" in sentence]


def test_a_command_that_waits_for_the_row_of_its_quote_is_ended_there(ring: Ring) -> None:
    part = Part(scene="DRAFT", command="cancel", rank=0, has_key=True)

    assert ring.crash(part, depth=1).waits == 1


def test_every_command_of_the_explorer_is_crashed() -> None:
    assert {part.command for part in PARTS} == set(COMMANDS)
    assert set(WITHOUT_IDENTITY) <= {*COMMANDS, *map(str, parts(every_scene=True))}
