"""The storm's parts that need no service: the choice of faults, and clients that repeat what got no answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Any
from unittest.mock import create_autospec
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import make_url

from tests.faults.storm import running
from tests.faults.storm.clients import Clients, RecordingApi, StormOverError
from tests.faults.storm.faults import FAULTS
from tests.faults.storm.history import History, Operation, read
from tests.faults.storm.processes import ALL
from tests.faults.storm.running import Progress, Weather, dealt
from tests.faults.storm.world import World, through
from tests.support.edge_answers import SECRET, URL, answer_with
from tests.support.waiting import eventually
from workers.local.logins import addresses_of_processes
from workers.runtime.engine import Engine
from workers.runtime.secret_files import reveal
from workers.runtime.settings import Settings

DATABASE = "postgresql+psycopg://owner:secret@127.0.0.1:5432/q2o"


def client(history: History, http: httpx.Client, over: Event | None = None) -> RecordingApi:
    api = RecordingApi("a", URL, (SECRET, uuid4()), history, over or Event())
    api.close()
    api._http = http
    return api


def told(history: History) -> list[Operation]:
    return read(history.file.read_text().splitlines()).operations


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with closing(History(tmp_path / "history.jsonl")) as history:
        yield history


def problem(status: int, code: str) -> httpx.Response:
    return httpx.Response(status, json={"code": code})


@pytest.mark.parametrize(
    "lost",
    [httpx.ReadTimeout("late"), problem(503, "OUTCOME_UNKNOWN"), problem(409, "IDEMPOTENT_REQUEST_IN_PROGRESS")],
    ids=["no answer", "outcome unknown", "in progress"],
)
def test_a_client_repeats_an_unknown_command_under_its_key(history: History, lost: httpx.Response | Exception) -> None:
    seen, http = answer_with(lost, httpx.Response(201, json={"orderId": "1"}))

    answer = client(history, http).send("/orders", {})

    assert answer.status == 201
    assert len({request.headers["Idempotency-Key"] for request in seen}) == 1
    [operation] = told(history)
    assert (operation.unknown, operation.code, operation.succeeded) == (1, 201, True)


def test_a_refusal_is_an_answer(history: History) -> None:
    seen, http = answer_with(problem(409, "QUOTE_VERSION_CONFLICT"))

    client(history, http).send("/quotes/1/price", {})

    [operation] = told(history)
    assert (len(seen), operation.was_refused, operation.problem) == (1, True, "QUOTE_VERSION_CONFLICT")


def test_a_command_without_an_answer_stays_unknown_when_the_storm_is_over(history: History) -> None:
    over = Event()
    over.set()

    with pytest.raises(StormOverError):
        client(history, answer_with(httpx.ReadTimeout("late"))[1], over).send("/orders", {})

    [operation] = told(history)
    assert (operation.answered, operation.unknown) == (None, 1)


def test_an_equal_answer_whose_fields_stand_in_another_order_is_the_same_answer(history: History) -> None:
    bodies: list[dict[str, Any]] = [{"orderId": "1", "status": "CREATED"}, {"status": "CREATED", "orderId": "1"}]
    api = client(history, answer_with(*(httpx.Response(201, content=json.dumps(body)) for body in bodies))[1])

    for _ in bodies:
        api.send("/orders", {}, key="k")

    assert len({operation.body for operation in told(history)}) == 1


def test_a_read_shows_the_version_of_its_register(history: History) -> None:
    shown = httpx.Response(200, json={"version": 4, "status": "APPROVED"})

    client(history, answer_with(shown)[1]).get("/quotes/17")

    [operation] = told(history)
    assert (operation.aggregate, operation.version, operation.status, operation.is_write) == ("quote:17", 4, "APPROVED", False)


def test_a_seed_chooses_the_same_faults_again() -> None:
    first, second = ([(name, random.random()) for name, random in islice(dealt(list(FAULTS), seed=7), 100)] for _ in range(2))

    assert first == second


def test_every_kind_of_fault_comes_before_one_comes_twice() -> None:
    names = [name for name, _ in islice(dealt(list(FAULTS), seed=7), len(FAULTS))]

    assert sorted(names) == sorted(FAULTS)


def test_only_a_fault_that_struck_something_is_counted(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills: counting what was ordered, so that a storm in which nothing broke would look like one that was survived."""
    calm = Event()
    world, progress = create_autospec(World, instance=True, calm=calm), Progress()
    world.last.side_effect = lambda _: calm.set() if progress.faults and progress.idle else None
    monkeypatch.setattr(running, "FAULTS", {"breaks": lambda *_: True, "finds nothing": lambda *_: False})
    weather = Weather(world, ["breaks", "finds nothing"], seed=7, history=history, progress=progress)

    weather.start()
    weather.join()

    assert (set(progress.faults), set(progress.idle)) == ({"breaks"}, {"finds nothing"})
    told = [json.loads(line) for line in history.file.read_text().splitlines()]
    assert {line["kind"]: line["struck"] for line in told if line["event"] == "fault over"} == {
        "breaks": True,
        "finds nothing": False,
    }


def test_a_client_that_cannot_read_an_answer_is_told_and_begins_another_quote(history: History) -> None:
    """Kills: a thread that dies unseen, and counts as a client that has come to its end."""
    over, failures = Event(), list[str]()
    seen, http = answer_with(httpx.Response(201, content=b"no JSON"))
    people = Clients(1, lambda _: client(history, http, over), create_autospec(Engine, instance=True), over, failures)

    people.start()
    eventually(lambda: len(seen) > 1, "the client begins another quote")
    people.close()

    assert failures
    assert "JSONDecodeError" in failures[0]


@pytest.mark.parametrize("process", ALL)
def test_a_process_of_a_storm_reaches_its_database_by_the_link_alone(process: str) -> None:
    """Kills: an address that the process does not read, because it has one of its own: then no fault of the link strikes it."""
    given = {"Q2O_DATABASE_URL": DATABASE, **addresses_of_processes(DATABASE)}

    settings = Settings({**given, **through(4711, Settings(given), process)}).of(process)

    assert make_url(reveal(settings.database_url)).port == 4711
