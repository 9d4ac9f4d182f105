"""The ports of the parts of a local suite."""

from __future__ import annotations

import random
import socket
from pathlib import Path

import pytest

from workers.local.errors import StackError
from workers.local.ports import CHOICE, HOST, NEEDS, PortBook, with_fixed_ports


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


@pytest.fixture
def first_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every book try the same ports in the same order, as may happen by chance."""
    order = random.sample(CHOICE, len(CHOICE))
    monkeypatch.setattr(random, "sample", lambda *_: order)


@pytest.mark.usefixtures("first_free")
def test_servers_of_one_stack_never_get_the_same_port_before_they_listen(tmp_path: Path) -> None:
    with PortBook(tmp_path / "ports.json") as book:
        assert book.take("kafka") != book.take("kafka-controller")


@pytest.mark.usefixtures("first_free")
def test_two_stacks_never_choose_the_same_port_even_while_no_server_listens(tmp_path: Path) -> None:
    with PortBook(tmp_path / "one.json") as one, PortBook(tmp_path / "other.json") as other:
        assert one.take("engine") != other.take("engine")


@pytest.mark.usefixtures("first_free")
def test_a_port_is_free_again_when_its_stack_has_ended(tmp_path: Path) -> None:
    with PortBook(tmp_path / "one.json") as one:
        port = one.take("engine")

    with PortBook(tmp_path / "other.json") as other:
        assert other.take("engine") == port


def test_a_stack_gets_its_former_ports_again(tmp_path: Path) -> None:
    with PortBook(tmp_path / "ports.json") as book:
        before = book.take("engine")

    with PortBook(tmp_path / "ports.json") as book:
        assert book.take("engine") == before


def test_a_stack_gets_another_port_when_its_former_one_is_in_use(tmp_path: Path) -> None:
    with PortBook(tmp_path / "ports.json") as book:
        before = book.take("engine")

    with socket.create_server((HOST, before)), PortBook(tmp_path / "ports.json") as book:
        assert book.take("engine") != before
