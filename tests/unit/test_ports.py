"""The ports of the parts of a local suite."""

from __future__ import annotations

import pytest

from workers.local.errors import StackError
from workers.local.ports import CHOICE, NEEDS, with_fixed_ports


def test_every_part_has_its_own_fixed_port() -> None:
    asked = with_fixed_ports({})

    assert asked == {name: str(need.port) for name, need in NEEDS.items()}
    assert len(set(asked.values())) == len(NEEDS)


def test_tests_never_choose_a_fixed_port_of_a_suite() -> None:
    assert [need.port for need in NEEDS.values() if need.port in CHOICE] == []


def test_a_port_that_was_set_is_not_changed() -> None:
    assert with_fixed_ports({"Q2O_HTTP_PORT": "9999"})["Q2O_HTTP_PORT"] == "9999"


def test_a_given_service_needs_no_fixed_port() -> None:
    asked = with_fixed_ports({"Q2O_KAFKA": "kafka:9092", "Q2O_ENGINE_URL": "http://engine/engine-rest"})

    assert set(asked) & {"Q2O_KAFKA_PORT", "Q2O_KAFKA_CONTROLLER_PORT", "Q2O_ENGINE_PORT"} == set()
    assert {"Q2O_DATABASE_PORT", "Q2O_HTTP_PORT", "Q2O_PROVIDER_PORT"} < set(asked)


def test_no_port_is_fixed_when_free_ports_are_wanted() -> None:
    assert with_fixed_ports({"Q2O_PORTS": "free"}) == {"Q2O_PORTS": "free"}


def test_an_unknown_choice_of_ports_is_refused() -> None:
    with pytest.raises(StackError, match=r"Q2O_PORTS=any is neither fixed nor free: set it to one of them"):
        with_fixed_ports({"Q2O_PORTS": "any"})
