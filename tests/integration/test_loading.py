"""Tests that load many rows wait for as long as that takes, although a client of the product gives up."""

from __future__ import annotations

from sqlalchemy import Engine, event, text

from tests.support.loading import loading
from workers.runtime.database import connect

IMPATIENT = 0.1  # seconds


def test_loading_takes_as_long_as_it_needs_and_leaves_the_session_its_time_limit(db: Engine) -> None:
    impatient = connect(db.url.render_as_string(hide_password=False), "tests")
    event.listen(impatient, "checkout", lambda session, *_: setattr(session, "response_timeout", IMPATIENT))

    with loading(impatient) as connection:
        session = connection.connection.driver_connection
        connection.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": 3 * IMPATIENT})

    assert session is not None
    assert session.response_timeout == IMPATIENT
    impatient.dispose()
