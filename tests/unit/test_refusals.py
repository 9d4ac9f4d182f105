"""A refusal about a row names the row and its state."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from uuid import uuid4

from domain import schema
from domain.errors import Conflict, Refusal


class LampConflict(Conflict):
    """The lamp has moved on."""

    aggregate = "lamp"


def all_refusals(kind: type[Refusal] = Refusal) -> Iterator[type[Refusal]]:
    for refusal in kind.__subclasses__():
        yield refusal
        yield from all_refusals(refusal)


def test_a_refusal_about_a_row_carries_its_id_version_and_status() -> None:
    lamp = SimpleNamespace(id=uuid4(), version=3, status="LIT")

    refusal = LampConflict.about(lamp, expected_version=2)

    assert str(refusal) == "The lamp has moved on."
    assert (refusal.aggregate_type, refusal.aggregate_id) == ("lamp", lamp.id)
    assert (refusal.expected_version, refusal.current_version, refusal.current_status) == (2, 3, "LIT")


def test_a_refusal_about_a_row_without_a_version_names_none() -> None:
    refusal = LampConflict.about(SimpleNamespace(id=uuid4()), "It is broken.", aggregate_type="shade", reason="glass")

    assert str(refusal) == "It is broken."
    assert (refusal.aggregate_type, refusal.current_version, refusal.evidence) == ("shade", None, {"reason": "glass"})


def test_every_refusal_about_rows_of_one_table_names_a_table_of_the_schema() -> None:
    named = {refusal.aggregate for refusal in all_refusals() if refusal.__module__.startswith("domain.") and refusal.aggregate}

    assert named
    assert named <= set(schema.METADATA.tables)
