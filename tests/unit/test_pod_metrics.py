"""A pod shows how much it does, how much more it could do, and how much of its locks was left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from threading import Event, Thread

from tests.support.answering import Reply, Request, answering
from tests.support.metrics import metric
from tests.support.waiting import eventually
from tests.unit.test_isolated_tasks import FakeEngine, row
from workers.pod.contract import Task, Topic
from workers.pod.pod import CAPACITY, Pod
from workers.runtime.engine import Engine
from workers.runtime.variables import Variable

TOPIC = "order.decompose"


class Handler:
    """Works until it is told to end."""

    def __init__(self) -> None:
        self.begun, self.may_end = Event(), Event()

    def __call__(self, _: Task) -> Mapping[str, Variable]:
        self.begun.set()
        assert self.may_end.wait(30)
        return {}


@contextmanager
def at_work(lock: timedelta = timedelta(seconds=20)) -> Iterator[tuple[Handler, list[str]]]:
    """A pod with one task in work; the paths of the requests to its engine."""
    handler, fake, asked, stop = Handler(), FakeEngine([[row("task-1")]]), [], Event()

    def answer(request: Request) -> Reply:
        asked.append(request.path)
        return fake.answer(request)

    with answering(answer) as address:
        engine = Engine(f"{address}/engine-rest", "user", "password")
        pod = Pod(engine, {TOPIC: Topic(name=TOPIC, handler=handler)}, lock_duration=lock, poll=timedelta(milliseconds=50))
        loop = Thread(target=pod.run, args=(stop,))
        loop.start()
        try:
            assert handler.begun.wait(30)
            yield handler, asked
        finally:
            handler.may_end.set()
            stop.set()
            loop.join(30)
            engine.close()


def test_a_task_in_work_takes_one_place_and_gives_it_back() -> None:
    with at_work() as (handler, _):
        assert metric("q2o_external_task_in_flight", topic=TOPIC) == 1
        assert metric("q2o_external_task_capacity_free") == CAPACITY - 1

        handler.may_end.set()

        eventually(lambda: metric("q2o_external_task_in_flight", topic=TOPIC) == 0, "the task is put away")
        eventually(lambda: metric("q2o_external_task_capacity_free") == CAPACITY, "the place is free")


def test_a_task_is_timed_by_its_outcome() -> None:
    labels = {"topic": TOPIC, "outcome": "completed"}
    before = metric("q2o_external_task_duration_seconds_count", **labels)

    with at_work() as (handler, _):
        handler.may_end.set()
        eventually(lambda: metric("q2o_external_task_duration_seconds_count", **labels) == before + 1, "the task is timed")


def test_each_fetch_is_timed() -> None:
    before = metric("q2o_external_task_poll_duration_seconds_count")

    with at_work():
        eventually(lambda: metric("q2o_external_task_poll_duration_seconds_count") > before, "a fetch is timed")


def test_a_lock_that_is_extended_is_counted() -> None:
    before = metric("q2o_external_task_lock_extensions_total", result="extended")

    with at_work(lock=timedelta(seconds=1)) as (_, asked):
        eventually(lambda: any(path.endswith("/extendLock") for path in asked), "the pod extends the lock")
        eventually(lambda: metric("q2o_external_task_lock_extensions_total", result="extended") > before, "it is counted")


def test_the_share_of_a_lock_that_was_left_is_shown() -> None:
    before, share = (metric(f"q2o_external_task_lock_remaining_ratio_{part}", topic=TOPIC) for part in ("count", "sum"))

    with at_work() as (handler, _):
        handler.may_end.set()
        eventually(lambda: metric("q2o_external_task_lock_remaining_ratio_count", topic=TOPIC) == before + 1, "it is shown")

    assert 0 < metric("q2o_external_task_lock_remaining_ratio_sum", topic=TOPIC) - share <= 1
