"""A soak: 2,000 orders go through the whole suite while retention deletes and archives; tables and indexes must level off (ring R5).

Retention runs all the time with ages of a minute, beside the orders, as it does in production with ages of months.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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
AGES = dict.fromkeys(DAYS, timedelta(minutes=1))
REST = 5.0  # seconds between two rounds of retention
BY_AGE = ("outbox_event", "consumer_inbox", "idempotency_record", "workflow_command", "conflict_log")
NAMES = sorted({*BY_AGE, *TABLES_OF_DOSSIERS})
SOON = text("ALTER TABLE idempotency_record ALTER expires_at SET DEFAULT clock_timestamp() + interval '1 minute'")
"""An idempotency key is good for three days, and these orders take less than an hour."""
SIZES = text("SELECT relname, pg_total_relation_size(oid) FROM pg_class WHERE relkind = 'r' AND relname = ANY(:names)")
MEGABYTE = 1_000_000


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
        parts: list[Mapping[str, int]] = []
        begin = time.monotonic()
        for part in range(PARTS):
            numbers = range(part * ORDERS // PARTS, (part + 1) * ORDERS // PARTS)
            list(clients.map(lambda number: fulfil(shop, number), numbers))
            parts.append(sizes(shop.database))
            _show(numbers.stop, time.monotonic() - begin, parts[-1])
        eventually(lambda: not _orders(shop.database), "every order is archived", patience=600)
    tell(_figures(parts, time.monotonic() - begin))


def _orders(database: Engine) -> int:
    with database.connect() as connection:
        return connection.scalar(text("SELECT count(*) FROM sales_order")) or 0


def _show(orders: int, seconds: float, part: Mapping[str, int]) -> None:
    largest = sorted(part, key=lambda name: part[name], reverse=True)[:4]
    told = ", ".join(f"{name} {part[name] / MEGABYTE:.1f}" for name in largest)
    print(f"{orders:5} orders, {seconds:5.0f} s: {sum(part.values()) / MEGABYTE:6.1f} MB ({told})")  # noqa: T201 - progress


def _figures(parts: list[Mapping[str, int]], seconds: float) -> Iterator[Figure]:
    totals = [sum(part.values()) for part in parts]
    half = max(totals[: PARTS // 2])
    yield Figure(
        name=f"soak: room of all tables after {ORDERS} orders / after {ORDERS // 2}",
        value=totals[-1] / half,
        unit="ratio",
        spread=" ".join(f"{total / MEGABYTE:.1f}" for total in totals) + " MB",
    )
    yield Figure(name="soak: orders with retention on", value=ORDERS / seconds, unit="1/s", spread=f"{seconds:.0f} s in all")
