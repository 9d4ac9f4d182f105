"""A connection of the pool that has ended is replaced before a command uses it, and no answer waits for an acknowledgement."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from tests.support.offers import Offers
from tests.support.statements import listening
from workers.http.edge import HttpEdge
from workers.runtime.database import connect
from workers.runtime.database_connection import PatientConnection
from workers.runtime.database_fitness import DatabaseUntrustedError, require_fit
from workers.runtime.outages import is_database_outage
from workers.runtime.secret_files import SecretFile

END = text("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name LIKE 'q2o victim %'")


def test_a_connection_that_the_server_ended_is_replaced_before_a_command_notices(db: Engine, offers: Offers) -> None:
    """Kills: leaving out the check of the socket."""
    pool = connect(db.url.render_as_string(hide_password=False), "victim")
    victims = Offers(pool, offers.tenant_id)
    quote_id = victims.draft_quote().quote_id
    with db.connect() as connection:
        assert connection.scalars(END).all() == [True]

    assert victims.quote(quote_id).status == "DRAFT"

    pool.dispose()


def test_a_new_connection_uses_the_address_that_its_file_has_by_then(db: Engine, tmp_path: Path) -> None:
    file = tmp_path / "address"
    file.write_text(db.url.set(password="outdated").render_as_string(hide_password=False))
    pool = connect(SecretFile(file), "rotated")
    with pytest.raises(OperationalError, match="password authentication failed"):
        pool.connect()

    file.write_text(db.url.render_as_string(hide_password=False) + "\n")

    with pool.connect() as connection:
        assert str(connection.scalar(text("SHOW application_name"))).startswith("q2o rotated ")
    pool.dispose()


@pytest.mark.parametrize(
    "parameter", [{"options": "-c nonsense=1"}, {"options": "--nonsense"}, {"options": "-z"}, {"client_encoding": "klingon"}]
)
def test_a_parameter_that_the_server_refuses_is_no_outage_that_passes(db: Engine, parameter: dict[str, str]) -> None:
    """Only the server knows these. Kills: waiting for ever at the start of a process."""
    pool = connect(db.url.update_query_dict(parameter).render_as_string(hide_password=False), "odd")

    with pytest.raises(DatabaseUntrustedError, match=r"Check Q2O_DATABASE_URL$"):
        require_fit(pool)


def test_a_connection_that_is_lost_while_it_is_new_is_an_outage(db: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first connection of a pool is asked about the server. Kills: a listener that raises an error of its own."""

    def lost(*arguments: Any, **parameters: Any) -> PatientConnection:
        connection = open_it(*arguments, **parameters)
        connection.close()
        return connection

    open_it = PatientConnection.open
    monkeypatch.setattr(PatientConnection, "open", lost)

    with pytest.raises(OperationalError) as lost_at_once:
        connect(db.url.render_as_string(hide_password=False), "lost").connect()

    assert is_database_outage(lost_at_once.value)


def test_taking_a_connection_from_the_pool_asks_the_server_nothing(db: Engine) -> None:
    with listening(db) as transactions, db.connect():
        pass

    assert transactions == []


def test_an_answer_does_not_wait_until_its_head_is_acknowledged(edge: HttpEdge) -> None:
    """Accepted sockets inherit the option. Kills: leaving Nagle's algorithm on, which delays every answer by 40 ms."""
    assert edge._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
