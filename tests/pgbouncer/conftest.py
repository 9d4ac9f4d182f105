"""A PgBouncer in transaction mode in front of the test database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from sqlalchemy import Engine

from domain.rights import PROCESSES
from domain.store.limits import Limits
from tests.support.database import acting
from tests.support.offers import Offers
from tests.support.pgbouncer import NEW, pgbouncer, through
from workers.runtime.database import connect

OWNER = "owner"
"""Makes quotes and orders as all processes together do: each process has rights for its own part alone."""
Through = Callable[..., Engine]
"""The pool of a process by way of PgBouncer, with limits if they are not a command's; closed at the end of the test."""


@pytest.fixture(scope="session")
def pooler(migrated: Engine) -> Iterator[int]:
    """The port of a PgBouncer that keeps prepared statements."""
    with pgbouncer(NEW, *(address_of(migrated, process) for process in (OWNER, *PROCESSES))) as port:
        yield port


@pytest.fixture
def pool_of(pooler: int, db: Engine) -> Iterator[Through]:
    with ExitStack() as opened:

        def make(process: str = OWNER, limits: Limits | None = None, pool_size: int = 10) -> Engine:
            pool = connect(through(pooler, address_of(db, process)), process, pool_size, limits=limits)
            opened.callback(pool.dispose)
            return pool

        yield make


@pytest.fixture
def offers_through(pool_of: Through, offers: Offers) -> Offers:
    """The commands of all processes by way of PgBouncer."""
    return Offers(pool_of(), offers.tenant_id)


def address_of(db: Engine, process: str) -> str:
    if process == OWNER:
        return db.url.render_as_string(hide_password=False)
    return acting(db, process).url.render_as_string(hide_password=False)
