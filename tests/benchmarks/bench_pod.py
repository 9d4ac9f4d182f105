"""How fast a pod works off tasks beside the least that any client has to do, and beside the worker that the client library ships (P9, P10).

All work on the same kind of task in one engine, in turns, in one run, and each in the way that is normal for it: the pod with its default
capacity, its lock heartbeat and its logs; the bare loop with nothing but requests; the library's worker with its defaults, unlogged.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock

import pytest
import requests
import structlog
from camunda.external_task.external_task import ExternalTask, TaskResult
from camunda.external_task.external_task_worker import ExternalTaskWorker
from requests.adapters import HTTPAdapter

from tests.benchmarks.figures import Figure, figure, ratio, tell
from tests.support.engines import running
from tests.support.models import TENANT, new_name, one_task
from tests.support.services import local_stack
from workers.pod.pod import Pod, Task, Topic
from workers.runtime.engine import Engine, new_worker_id
from workers.runtime.logs import configure_logs
from workers.runtime.variables import EncodedVariables, Variable

ROUNDS = 5
TASKS, TASKS_OF_STOCK = 200, 60  # the library's worker is a few times slower: this is as long a run
# The engine's JVM compiles its way to full speed first; a slow engine would flatter both ratios.
WARM_UPS = 3
STARTERS = 8
BATCH, COMPLETERS = 50, 8
LOCK = 60_000  # milliseconds
PATIENCE = 120.0  # seconds; only a failing run waits this long


class CountingEngine(Engine):
    """The product's door, which also tells when the last of `tasks` was completed: a pod runs until it is stopped."""

    def expect(self, tasks: int) -> Event:
        self._left, self._lock, self._done = tasks, Lock(), Event()
        return self._done

    def complete(self, task_id: str, variables: EncodedVariables) -> None:
        super().complete(task_id, variables)
        with self._lock:
            self._left -= 1
            if self._left == 0:
                self._done.set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The engine that every contender works for."""

    url: str
    user: str
    password: str
    engine: Engine

    def deploy(self, directory: Path) -> str:
        """Deploy a process with one external task; its key is also its topic."""
        key = new_name("bench")
        file = directory / f"{key}.bpmn"
        file.write_text(one_task(key, key), encoding="utf-8")
        self.engine.deploy(TENANT, key, [file])
        return key

    def begin(self, key: str, tasks: int) -> None:
        """Create the tasks before the clock runs."""
        with ThreadPoolExecutor(STARTERS) as starters:
            list(starters.map(lambda _: self.engine.start_process(TENANT, key, new_name("business"), {}), range(tasks)))

    def session(self) -> requests.Session:
        session = requests.Session()
        # As the product does: looking up proxies costs more than the rest of a call.
        session.trust_env = False
        session.auth = (self.user, self.password)
        session.mount("http://", HTTPAdapter(pool_maxsize=COMPLETERS + 1))
        return session

    def completed(self, key: str) -> int:
        answer = self.engine.get("/history/process-instance/count", processDefinitionKey=key, finished="true")
        return int(answer["count"])


Contender = Callable[[Bench, str, int], float]


def measure(bench: Bench, keys: Mapping[Contender, str]) -> list[Figure]:
    """Measure in turns, each round beginning with another contender; every task of every run has to be completed."""
    begun = dict.fromkeys(keys, 0)

    def run(contender: Contender) -> float:
        tasks = TASKS_OF_STOCK if contender is _stock else TASKS
        bench.begin(keys[contender], tasks)
        begun[contender] += tasks
        rate = tasks / contender(bench, keys[contender], tasks)
        assert bench.completed(keys[contender]) == begun[contender], contender.__name__
        return rate

    for _ in range(WARM_UPS):
        run(_raw)
    run(_pod)
    rates: dict[Contender, list[float]] = {contender: [] for contender in keys}
    order = list(keys)
    for turn in range(ROUNDS):
        for contender in order[turn % len(order) :] + order[: turn % len(order)]:
            rates[contender].append(run(contender))
    return _figures(pod=rates[_pod], raw=rates[_raw], stock=rates[_stock])


def _figures(*, pod: list[float], raw: list[float], stock: list[float]) -> list[Figure]:
    return [
        ratio("P9 pod / bare fetch-and-complete loop", pod, raw),
        ratio("P10 pod / the client library's worker", pod, stock),
        figure("pod throughput, no-op handler", pod, "tasks/s"),
        figure("bare fetch-and-complete loop throughput", raw, "tasks/s"),
        figure("the client library's worker throughput", stock, "tasks/s"),
    ]


def _pod(bench: Bench, key: str, tasks: int) -> float:
    """Let a pod as the suite runs it work off the tasks; seconds."""

    def nothing(_: Task) -> Mapping[str, Variable]:
        return {}

    engine = CountingEngine(bench.url, bench.user, bench.password)
    done = engine.expect(tasks)
    pod = Pod(engine, {key: Topic(name=key, handler=nothing)})
    try:
        with _logged():
            begin = time.perf_counter()
            with running(pod):
                assert done.wait(PATIENCE), f"the pod left {engine._left} tasks"
                return time.perf_counter() - begin
    finally:
        engine.close()


@contextmanager
def _logged() -> Iterator[None]:
    """Write the logs as in production, to nowhere, and restore what the test runner had set."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    with Path(os.devnull).open("w") as nowhere:
        configure_logs("pod", stream=nowhere)
        try:
            yield
        finally:
            root.handlers = handlers
            root.setLevel(level)
            structlog.reset_defaults()


def _raw(bench: Bench, key: str, tasks: int) -> float:
    """Fetch batches in one thread and complete in others, and look after nothing; seconds."""
    worker_id, base = new_worker_id("raw"), f"{bench.url}/external-task"
    fetch = {"workerId": worker_id, "maxTasks": BATCH, "topics": [{"topicName": key, "lockDuration": LOCK, "variables": []}]}
    begin = time.perf_counter()
    with bench.session() as session, ThreadPoolExecutor(COMPLETERS) as completers:

        def complete(task_id: str) -> None:
            session.post(f"{base}/{task_id}/complete", json={"workerId": worker_id}).raise_for_status()

        completions: list[Future[None]] = []
        while len(completions) < tasks:
            answer = session.post(f"{base}/fetchAndLock", json=fetch)
            answer.raise_for_status()
            completions += [completers.submit(complete, row["id"]) for row in answer.json()]
        for completion in completions:
            completion.result()
        return time.perf_counter() - begin


def _stock(bench: Bench, key: str, tasks: int) -> float:
    """Turn the library's worker as its `subscribe` does, which never ends: one fetch of one task, by default; seconds."""
    config = {"auth_basic": {"username": bench.user, "password": bench.password}}
    begin = time.perf_counter()
    worker = ExternalTaskWorker(new_worker_id("stock"), bench.url, config)
    for _ in range(tasks):
        worker.fetch_and_execute(key, _nothing)
    return time.perf_counter() - begin


def _nothing(task: ExternalTask) -> TaskResult:
    return task.complete()


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """An engine of its own, without Kafka: nothing else runs in it."""
    with local_stack(tmp_path_factory, {"postgres", "engine"}) as stack:
        url, user, password = (stack.environment[f"Q2O_ENGINE_{name}"] for name in ("URL", "USER", "PASSWORD"))
        engine = Engine(url, user, password)
        yield Bench(url=url, user=user, password=password, engine=engine)
        engine.close()


@pytest.mark.benchmark
@pytest.mark.timeout(600)
# Each call of the library's worker goes through models of pydantic's old style.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_pod_is_measured_beside_a_bare_loop_and_the_librarys_worker(bench: Bench, tmp_path: Path) -> None:
    tell(measure(bench, {contender: bench.deploy(tmp_path) for contender in (_pod, _raw, _stock)}))
