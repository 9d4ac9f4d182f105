"""A soak: 2,000 orders go through the whole suite while retention deletes and archives; tables and indexes must level off (ring R5).

Retention runs all the time with ages of a minute, beside the orders, as it does in production with ages of months.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread

import pytest
from sqlalchemy import Engine, text

from domain.retaining.dossiers import PARTS as TABLES_OF_DOSSIERS
from reconciliation.retention import Retainer
from tests.benchmarks.figures import Figure, tell
from tests.support.services import local_stack, open_to_tests
from tests.support.suite import EVERYTHING, Shop, closing_what_is_opened, new_sample, open_shop, prepared, working
from tests.support.waiting import eventually
from workers import suite
from workers.runtime.ages import DAYS

ORDERS, PARTS, CLIENTS = 2_000, 8, 6
SHARE = ORDERS // PARTS
AGES = dict.fromkeys(DAYS, timedelta(minutes=1))
REST = 5.0  # seconds between two rounds of retention
BY_AGE = ("outbox_event", "consumer_inbox", "idempotency_record", "workflow_command", "conflict_log")
NAMES = sorted({*BY_AGE, *TABLES_OF_DOSSIERS})
SOON = text("ALTER TABLE idempotency_record ALTER expires_at SET DEFAULT clock_timestamp() + interval '1 minute'")
"""An idempotency key is good for three days, and these orders take less than an hour."""
SIZES = text("SELECT relname, pg_total_relation_size(oid) FROM pg_class WHERE relkind = 'r' AND relname = ANY(:names)")
MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A share of the orders: how many were fulfilled a second, and the bytes of each table after them.

    A table holds what is younger than its age, so it grows with the rate of orders, and must not grow with their number.
    """

    rate: float
    sizes: Mapping[str, int]

    @property
    def room(self) -> float:
        """The megabytes of all tables."""
        return sum(self.sizes.values()) / MEGABYTE


def sizes(database: Engine) -> Mapping[str, int]:
    """The bytes of each table with its indexes."""
    with database.connect() as connection:
        return {str(name): int(size) for name, size in connection.execute(SIZES, {"names": NAMES})}


@contextmanager
def retaining(shop: Shop, archive: Path) -> Iterator[None]:
    """Let retention run until the block ends; no kind may fail."""
    over, failed = Event(), list[str]()

    def retain() -> None:
        retainer = Retainer(suite.connect(shop.local.settings, "retain"), AGES, archive)
        while not over.wait(REST):
            failed.extend(done.failed for done in retainer.run_once() if done.failed)

    with closing_what_is_opened():
        thread = Thread(target=retain)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
    assert failed == []


def fulfil(shop: Shop, number: int) -> None:
    """Take one order from a new quote to its end."""
    sample = new_sample("5")
    sample.number = number
    shop.driver.drive(sample)
    assert sample.as_expected, sample.end


@pytest.mark.benchmark
@pytest.mark.timeout(5400)
def test_tables_and_indexes_level_off_under_real_orders(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    with (
        local_stack(tmp_path_factory, {"postgres", "kafka", "engine"}) as stack,
        prepared(stack) as local,
        working(local.settings, *EVERYTHING - {"retain"}),
        open_shop(local) as shop,
        retaining(shop, tmp_path),
        ThreadPoolExecutor(CLIENTS) as clients,
    ):
        open_to_tests(stack)
        with shop.database.begin() as connection:
            connection.execute(SOON)
        parts: list[Part] = []
        for number in range(PARTS):
            began = time.monotonic()
            list(clients.map(lambda number: fulfil(shop, number), range(number * SHARE, (number + 1) * SHARE)))
            parts.append(Part(rate=SHARE / (time.monotonic() - began), sizes=sizes(shop.database)))
            _show((number + 1) * SHARE, parts[-1])
        eventually(lambda: not _orders(shop.database), "every order is archived", patience=600)
    tell(_figures(parts))


def _orders(database: Engine) -> int:
    with database.connect() as connection:
        return connection.scalar(text("SELECT count(*) FROM sales_order")) or 0


def _show(orders: int, part: Part) -> None:
    largest = sorted(part.sizes, key=lambda name: part.sizes[name], reverse=True)[:4]
    told = ", ".join(f"{name} {part.sizes[name] / MEGABYTE:.1f}" for name in largest)
    print(f"{orders:5} orders, {part.rate:.2f} a second: {part.room:6.1f} MB ({told})")  # noqa: T201 - progress


def _figures(parts: list[Part]) -> Iterator[Figure]:
    first, second = (max(part.room / part.rate for part in half) for half in (parts[: PARTS // 2], parts[PARTS // 2 :]))
    yield Figure(
        name="soak: most room of all tables for an order a second, second half of the orders / first half",
        value=second / first,
        unit="ratio",
        spread=", ".join(f"{part.room:.1f} MB at {part.rate:.2f}/s" for part in parts),
    )
