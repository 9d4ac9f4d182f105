"""What HTTP costs an acceptance (P4), and what logs and metrics cost (P14). The edge runs in a process of its own, its clients in this one."""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tests.benchmarks.approved import Approved, accept
from tests.benchmarks.clients import per_second
from tests.benchmarks.edge import edge_process
from tests.benchmarks.figures import figure, ratio, tell
from tests.benchmarks.http_client import Client
from tests.benchmarks.pgbench import one_by_one, script
from tests.support.statements import listening

ROUNDS = 5
CLIENTS = 8
ACCEPTANCES = 400
WARM_UP = 200


@pytest.mark.benchmark
@pytest.mark.timeout(900)
def test_the_acceptance_over_http_is_measured_beside_pgbench_and_without_logs_and_metrics(db: Engine, tmp_path: Path) -> None:
    approved = Approved(db)
    [number] = approved.supply(1)
    with one_by_one(), listening(db) as transactions:
        accept(db, approved.copies.tenant_id, approved.copies.acceptance(number))
    [separate] = transactions
    rates: dict[str, list[float]] = {"observed": [], "unobserved": [], "pgbench": []}
    with ExitStack() as stack:
        clients = {}
        for name in ("observed", "unobserved"):
            address = stack.enter_context(edge_process(db, tmp_path, observed=name == "observed"))
            clients[name] = stack.enter_context(closing(Client(approved, address)))
        for client in clients.values():
            per_second(client, approved.supply(WARM_UP), CLIENTS)
        order = list(rates)
        for turn in range(ROUNDS):
            for name in order[turn % len(order) :] + order[: turn % len(order)]:
                numbers = approved.supply(ACCEPTANCES)
                if name in clients:
                    rates[name].append(per_second(clients[name], numbers, CLIENTS))
                else:
                    bound = script("separate", approved, separate, numbers, tmp_path)
                    rates[name].append(bound.per_second(db, numbers, CLIENTS))
    tell(
        [
            ratio(
                f"P4 accept over HTTP / separate prepared statements in pgbench, {CLIENTS} clients",
                rates["observed"],
                rates["pgbench"],
            ),
            ratio(f"P14 accept over HTTP, logs and metrics on / off, {CLIENTS} clients", rates["observed"], rates["unobserved"]),
            figure(f"accept over HTTP, {CLIENTS} clients", rates["observed"], "1/s"),
            figure(f"separate prepared statements in pgbench, {CLIENTS} clients", rates["pgbench"], "1/s"),
        ]
    )
