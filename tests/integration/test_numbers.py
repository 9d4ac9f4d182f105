"""The numbers of quotes, orders and cases: counted for each tenant, without a gap between two that succeed, and without a queue."""

from __future__ import annotations

from threading import Barrier, Thread
from uuid import UUID, uuid4

from sqlalchemy import Engine, text

from domain.store import Cause, unit_of_work
from tests.support.offers import Offers


def numbers_of(db: Engine, tenant_id: UUID, *prefixes: str) -> list[str]:
    """Take a number for each prefix, in one transaction of a tenant."""
    with unit_of_work(db, Cause(tenant_id=tenant_id, actor="test", command="test")) as uow:
        return [str(uow.connection.scalar(text("SELECT next_number(:prefix)"), {"prefix": prefix})) for prefix in prefixes]


def test_each_tenant_counts_its_own_quotes_and_orders(offers: Offers) -> None:
    rival = Offers(offers.engine, uuid4())

    offers.draft_quote()
    with offers.uow() as uow:
        numbers = [row.quote_number for row in uow.connection.execute(text("SELECT quote_number FROM quote"))]

    assert numbers == ["Q-1"]
    assert numbers_of(offers.engine, offers.tenant_id, "Q", "Q", "O") == ["Q-2", "Q-3", "O-1"]
    assert numbers_of(offers.engine, rival.tenant_id, "Q", "O") == ["Q-1", "O-1"]


def test_transactions_that_take_the_first_number_at_the_same_time_take_different_ones(db: Engine) -> None:
    """Kills: making the sequence without a lock, which fails for all but one."""
    tenant_id, together, taken = uuid4(), Barrier(4), list[str]()

    def take() -> None:
        together.wait()
        taken.extend(numbers_of(db, tenant_id, "F"))

    threads = [Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(taken) == ["F-1", "F-2", "F-3", "F-4"]


def test_a_number_that_is_taken_holds_up_nobody_else(db: Engine) -> None:
    """A transaction that has taken a number is still open while the next one takes its own."""
    tenant_id = uuid4()
    numbers_of(db, tenant_id, "Q")
    with unit_of_work(db, Cause(tenant_id=tenant_id, actor="test", command="test")) as uow:
        uow.connection.scalar(text("SELECT next_number('Q')"))
        assert numbers_of(db, tenant_id, "Q") == ["Q-3"]
