"""How fast an acceptance is beside its bounds and a peer (P1, P2, P3), what many rivals cost (P13), and what one costs the database.

All sides accept quotes of one tenant in one database, in turns, with as many clients; each acceptance is of a quote of its own. Both sides
begin each run with new connections and may use two processors: ours two processes, pgbench two threads. Server and clients share the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from domain.offers import quoting
from domain.offers.quotes import QuoteVersionConflict
from domain.schema import METADATA
from tests.benchmarks import orm_peer
from tests.benchmarks.approved import Approved, accept
from tests.benchmarks.clients import Fleet, Work, fleet, per_second
from tests.benchmarks.figures import Figure, figure, ratio, tell
from tests.benchmarks.pgbench import Contender, one_by_one, script
from tests.support.statements import Sent, listening

ROUNDS = 5
CLIENTS = (1, 4)
ACCEPTANCES = 300  # of each client in each round
BY_ORM = 60  # several times slower: this is as long a run
WARM_UP = 100
RIVALS = 32
EDITS = 100


@pytest.fixture
def approved(db: Engine) -> Approved:
    """Give the supply of approved quotes."""
    return Approved(db)


def clients_of(fleet: Fleet, approved: Approved, work: Work, some: int = ACCEPTANCES) -> Contender:
    """Our side: the work in processes of their own."""

    def run(numbers: range, clients: int) -> float:
        return fleet.per_second(work, approved.copies, numbers[: some * clients], clients)

    return run


def sent_by_one(approved: Approved) -> list[Sent]:
    """The statements of one acceptance."""
    [number] = approved.supply(1)
    with listening(approved.engine) as transactions:
        accept(approved.engine, approved.copies.tenant_id, approved.copies.acceptance(number))
    [sent] = transactions
    return sent


def bound(approved: Approved, name: str, sent: list[Sent], directory: Path) -> Contender:
    """The same statements in pgbench."""

    def run(numbers: range, clients: int) -> float:
        return script(name, approved, sent, numbers, directory).per_second(approved.engine, numbers, clients)

    return run


def in_turns(approved: Approved, contenders: dict[str, Contender], clients: int) -> dict[str, list[float]]:
    """Let each do its share in every round, each round beginning with another."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    for turn in range(ROUNDS):
        for name in order[turn % len(order) :] + order[: turn % len(order)]:
            rates[name].append(contenders[name](approved.supply(ACCEPTANCES * clients), clients))
    return rates


@pytest.mark.benchmark
@pytest.mark.timeout(900)
def test_the_acceptance_is_measured_beside_its_bounds_and_a_peer(approved: Approved, tmp_path: Path) -> None:
    identical = sent_by_one(approved)
    with one_by_one():
        separate = sent_by_one(approved)
    tell(figures_of_statements(identical, separate))
    with fleet(approved.engine) as processes:
        contenders = {
            "command": clients_of(processes, approved, accept),
            "identical": bound(approved, "identical", identical, tmp_path),
            "separate": bound(approved, "separate", separate, tmp_path),
            "orm": clients_of(processes, approved, orm_peer.accept, BY_ORM),
        }
        for clients in CLIENTS:
            rates = in_turns(approved, contenders, clients)
            tell(figures_of_rates(rates, f"{clients} client{'s' * (clients > 1)}"))


def figures_of_statements(identical: list[Sent], separate: list[Sent]) -> Iterator[Figure]:
    """What is sent: the same on every machine."""
    for name, sent in (("accept", identical), ("accept, a statement for each row", separate)):
        yield figure(f"{name}: round trips, the first with BEGIN and the last COMMIT", [len(sent) + 1], "round trips")


def figures_of_rates(rates: dict[str, list[float]], clients: str) -> Iterator[Figure]:
    """The ratios, and what they are made of."""
    ours = rates["command"]
    yield ratio(f"P1 accept / separate prepared statements in pgbench, {clients}", ours, rates["separate"])
    yield ratio(f"P2 accept / the identical statements in pgbench, {clients}", ours, rates["identical"])
    yield ratio(f"P3 accept / the same by an ORM session, {clients}", ours, rates["orm"])
    yield figure(f"accept, {clients}", ours, "1/s")
    yield figure(f"the identical statements in pgbench, {clients}", rates["identical"], "1/s")
    yield figure(f"separate prepared statements in pgbench, {clients}", rates["separate"], "1/s")
    yield figure(f"accept by an ORM session, {clients}", rates["orm"], "1/s")


@pytest.mark.benchmark
@pytest.mark.timeout(600)
def test_what_an_acceptance_costs_the_database_is_counted(approved: Approved) -> None:
    """Counters of the server: they do not depend on how busy the machine is."""
    numbers = approved.supply(WARM_UP + ACCEPTANCES)
    with fleet(approved.engine) as processes:
        run = clients_of(processes, approved, accept)
        run(numbers[:WARM_UP], 1)
        with per_acceptance(approved.engine, ACCEPTANCES) as figures:
            run(numbers[WARM_UP:], 1)
    tell(figures)


class per_acceptance:  # noqa: N801 - reads as a phrase after `with`
    """Counters of the database over a block, divided by the number of acceptances in it."""

    COUNTERS = (
        ("WAL", "SELECT wal_bytes FROM pg_stat_wal", "bytes"),
        ("WAL records", "SELECT wal_records FROM pg_stat_wal", "records"),
        ("shared buffers hit", "SELECT blks_hit FROM pg_stat_database WHERE datname = current_database()", "buffers"),
        (
            "transactions",
            "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()",
            "transactions",
        ),
    )

    def __init__(self, engine: Engine, acceptances: int) -> None:
        self._engine, self._acceptances = engine, acceptances
        self._figures: list[Figure] = []

    def __enter__(self) -> list[Figure]:
        self._before = self._read()
        return self._figures

    def __exit__(self, *_: object) -> None:
        for (name, _query, unit), old, new in zip(self.COUNTERS, self._before, self._read(), strict=True):
            self._figures.append(figure(f"accept: {name}", [(new - old) / self._acceptances], unit))

    def _read(self) -> list[float]:
        self._engine.dispose()  # a backend tells what it did at the latest when it ends
        with self._engine.connect() as connection:
            connection.execute(text("SELECT pg_stat_force_next_flush()"))
            return [float(connection.scalar(text(query)) or 0) for _, query, _ in self.COUNTERS]


def edits(approved: Approved, wanted: int) -> Callable[[int], int]:
    """Edit one quote until it was edited `wanted` times, always with the version that the last answer told; how many were refused."""
    quote = approved.offers.draft_quote()
    limit = quote.version + wanted

    def client(_: int) -> int:
        version, refused = quote.version, 0
        while version < limit:
            changed = quoting.EditQuote(
                quote_id=quote.quote_id,
                revision_id=quote.revision_id,
                expected_version=version,
                reason_code="BENCH",
                term_months=12,
            )
            try:
                with approved.offers.uow() as uow:
                    version = quoting.edit(uow, changed).version
            except QuoteVersionConflict as refusal:
                version, refused = refusal.current_version or version, refused + 1
        return refused

    return client


@pytest.mark.benchmark
@pytest.mark.timeout(900)
def test_a_hot_quote_is_measured_with_one_client_and_with_many_rivals(approved: Approved) -> None:
    alone: list[float] = []
    contended: list[float] = []
    for _ in range(ROUNDS):
        for clients, rates in ((1, alone), (RIVALS, contended)):
            seconds = clients / per_second(edits(approved, EDITS), range(clients), clients)
            rates.append(EDITS / seconds)
    tell(
        [
            ratio(f"P13 useful edits of one quote, {RIVALS} rivals / 1 client", contended, alone),
            figure("useful edits of one quote, 1 client", alone, "1/s"),
            figure(f"useful edits of one quote, {RIVALS} rivals", contended, "1/s"),
        ]
    )


def isolate(engine: Engine, *, on: bool) -> None:
    """Switch row level security of every table; connections start anew, so that no plan of before is left."""
    with engine.begin() as connection:
        for table in METADATA.sorted_tables:
            connection.execute(text(f"ALTER TABLE {table.name} {'ENABLE' if on else 'DISABLE'} ROW LEVEL SECURITY"))
    engine.dispose()


@pytest.mark.benchmark
@pytest.mark.timeout(600)
def test_the_acceptance_is_measured_with_and_without_row_level_security(approved: Approved) -> None:
    rates: dict[bool, list[float]] = {True: [], False: []}
    clients = max(CLIENTS)
    try:
        with fleet(approved.engine) as processes:
            run = clients_of(processes, approved, accept)
            for turn in range(2 * ROUNDS):
                on = turn % 2 == 0
                isolate(approved.engine, on=on)
                rates[on].append(run(approved.supply(ACCEPTANCES * clients), clients))
    finally:
        isolate(approved.engine, on=True)
    tell([ratio(f"P15 accept, row level security on / off, {clients} clients", rates[True], rates[False])])
