"""Start-up behind a pooler: what keeps prepared statements and transactions is accepted, anything else is refused in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tests.integration.test_command_line import assert_one_line, q2o_process
from tests.pgbouncer.conftest import Through, address_of
from tests.support.pgbouncer import NEW, OLD, pgbouncer, through
from workers.runtime.database import connect
from workers.runtime.database_fitness import DatabaseUnfitError, DatabaseUntrustedError, require_fit

FORGETFUL = [(OLD, {}), (NEW, {"max_prepared_statements": "0"}), (NEW, {"pool_mode": "session"})]


@contextmanager
def pool_behind(db: Engine, release: str, settings: dict[str, str]) -> Iterator[Engine]:
    address = address_of(db, "http")
    with pgbouncer(release, address, **settings) as port:
        pool = connect(through(port, address), "tests")
        yield pool
        pool.dispose()


def test_a_pooler_that_keeps_prepared_statements_is_accepted(pool_of: Through) -> None:
    require_fit(pool_of("http"))


@pytest.mark.parametrize(("release", "settings"), FORGETFUL)
def test_a_pooler_that_does_not_keep_prepared_statements_is_refused(release: str, settings: dict[str, str], db: Engine) -> None:
    with pool_behind(db, release, settings) as pool, pytest.raises(DatabaseUnfitError, match=r"PgBouncer 1\.21 or newer"):
        require_fit(pool)


@pytest.mark.parametrize(("release", "settings"), FORGETFUL)
def test_it_is_refused_at_every_start(release: str, settings: dict[str, str], db: Engine) -> None:
    """The first start leaves its prepared statement in a session of the server, where the second one meets it."""
    with pool_behind(db, release, settings) as pool:
        for _ in range(2):
            with pytest.raises(DatabaseUnfitError):
                require_fit(pool)
            pool.dispose()


def test_a_pooler_that_ends_transactions_early_is_refused(db: Engine) -> None:
    with pool_behind(db, NEW, {"pool_mode": "statement"}) as pool, pytest.raises(DatabaseUntrustedError, match="statement pooling"):
        require_fit(pool)


def test_a_wrong_password_is_refused(db: Engine) -> None:
    address = address_of(db, "http")
    with pgbouncer(NEW, address) as port:
        pool = connect(through(port, address).replace("local_http:", "local_http:not-it-"), "tests")
        with pytest.raises(DatabaseUntrustedError, match="authentication failed"):
            require_fit(pool)
        pool.dispose()


def test_a_process_says_in_one_line_which_version_it_needs(db: Engine, tmp_path: Path) -> None:
    address = address_of(db, "relay")
    with pgbouncer(OLD, address) as port:
        ended = q2o_process(tmp_path, "relay", database_url=through(port, address), kafka="127.0.0.1:1")

    assert_one_line(ended, "PgBouncer 1.21 or newer", "max_prepared_statements")
