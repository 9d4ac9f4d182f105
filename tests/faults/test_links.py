"""Each kind of fault on each kind of link: what the client sees, and how often the target has carried its request out.

HTTP stands for three links: a client's to the edge, and those to the engine and to a provider.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from uuid import uuid4

import httpx
import psycopg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from sqlalchemy import Engine

from tests.support.links.link import Link
from tests.support.links.protocols import HOST, Http, Postgres
from tests.support.links.rules import Kind
from tests.support.waiting import eventually
from workers.local.stack import LocalStack

PATIENCE = 1.5  # seconds after which a client gives up
WRITES = {"http": "POST /orders", "postgres": "INSERT INTO link_test", "kafka": "Produce"}
BROKEN, ANSWERED = False, True


@dataclass(frozen=True)
class Peer:
    """A target behind a link. `write` asks for one write and raises when no answer comes; `written` counts those carried out."""

    link: Link
    write: Callable[[], object]
    written: Callable[[], int]
    name: str

    def succeeds(self) -> bool:
        try:
            self.write()
        except (httpx.HTTPError, psycopg.Error, TimeoutError):
            return BROKEN
        return ANSWERED


@contextmanager
def over_http() -> Iterator[Peer]:
    written = []

    class Target(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            written.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(201)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer((HOST, 0), Target)
    Thread(target=server.serve_forever, daemon=True).start()
    with Link(HOST, server.server_port, Http()) as link, httpx.Client(timeout=PATIENCE) as client:
        url = f"http://{HOST}:{link.port}/orders"
        yield Peer(link, lambda: client.post(url, json={"a": 1}).raise_for_status(), lambda: len(written), "http")
    server.shutdown()
    server.server_close()


@contextmanager
def over_postgres(db: Engine) -> Iterator[Peer]:
    with db.begin() as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS link_test; CREATE TABLE link_test (text text)")

    def written() -> int:
        with db.connect() as connection:
            return int(connection.exec_driver_sql("SELECT count(*) FROM link_test").scalar_one())

    with Link(str(db.url.host), int(db.url.port or 5432), Postgres()) as link, ThreadPoolExecutor(1) as pool:
        url = db.url.set(drivername="postgresql", host=HOST, port=link.port).render_as_string(hide_password=False)

        def write() -> None:
            with psycopg.connect(url, connect_timeout=2) as connection:
                connection.execute("INSERT INTO link_test VALUES ('a')")

        def write_with_patience() -> None:
            future: Future[None] = pool.submit(write)
            try:
                future.result(PATIENCE)
            except TimeoutError:
                link.clear()
                link.cut()
                link.mend()
                raise psycopg.OperationalError("no answer in time") from future.exception()

        yield Peer(link, write_with_patience, written, "postgres")
    with db.begin() as connection:
        connection.exec_driver_sql("DROP TABLE link_test")


@contextmanager
def over_kafka(broker: LocalStack) -> Iterator[Peer]:
    topic = f"link-{uuid4()}"
    host, port = broker.environment["Q2O_KAFKA"].split(":")
    admin = AdminClient({"bootstrap.servers": f"{host}:{port}"})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(10)
    reader = Consumer({"bootstrap.servers": f"{host}:{port}", "group.id": topic})

    def write() -> None:
        settings = {"bootstrap.servers": f"{HOST}:{link.port}", "retries": 0, "message.timeout.ms": 5000, "log_level": 0}
        carried_out: list[bool] = []
        producer = Producer(settings)
        producer.produce(topic, b"a", on_delivery=lambda error, _: carried_out.append(error is None))
        producer.flush(10)
        producer.purge()
        if carried_out != [True]:
            raise TimeoutError("the broker has not answered, or has refused")

    with Link.to_kafka(host, int(port)) as link:
        yield Peer(link, write, lambda: reader.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)[1], "kafka")
    reader.close()


@pytest.fixture(params=["http", "postgres", "kafka"])
def peer(request: pytest.FixtureRequest) -> Iterator[Peer]:
    match request.param:
        case "http":
            opened = over_http()
        case "postgres":
            opened = over_postgres(request.getfixturevalue("db"))
        case _:
            opened = over_kafka(request.getfixturevalue("broker"))
    with opened as peer:
        yield peer


EVERYWHERE = tuple(WRITES)
CASES = [
    (Kind.DROP_ANSWER, BROKEN, 1, ("http", "kafka")),
    (Kind.DROP_ANSWER, BROKEN, 0, ("postgres",)),  # the session ends before its COMMIT
    (Kind.DROP_REQUEST, BROKEN, 0, EVERYWHERE),
    (Kind.DUPLICATE, ANSWERED, 2, ("http", "kafka")),  # a statement belongs to its session
    (Kind.RESET, BROKEN, 0, EVERYWHERE),
    (Kind.HALF_OPEN, BROKEN, 0, EVERYWHERE),
]


@pytest.mark.parametrize(
    ("peer", "kind", "is_answered", "times"),
    [
        pytest.param(name, kind, is_answered, times, id=f"{kind}-{name}")
        for kind, is_answered, times, names in CASES
        for name in names
    ],
    indirect=["peer"],
)
def test_a_fault_breaks_the_exchange_that_it_names(peer: Peer, kind: Kind, *, is_answered: bool, times: int) -> None:
    {
        Kind.DROP_ANSWER: peer.link.drop_answer,
        Kind.DROP_REQUEST: peer.link.drop_request,
        Kind.DUPLICATE: peer.link.duplicate,
        Kind.RESET: peer.link.reset,
        Kind.HALF_OPEN: peer.link.half_open,
    }[kind](WRITES[peer.name])

    assert peer.succeeds() is is_answered

    eventually(lambda: peer.written() == times, "the target has carried out what has arrived")
    assert peer.link.struck == {kind: 1}
    assert peer.succeeds()


def test_an_answer_that_is_held_back_arrives_when_it_is_released(peer: Peer) -> None:
    released = Event()
    peer.link.hold(WRITES[peer.name], released)

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(peer.succeeds)
        eventually(lambda: peer.link.struck[Kind.HOLD], "the answer is held back")
        assert not future.done()
        released.set()

        assert future.result(10)


@pytest.mark.parametrize("peer", ["http"], indirect=True)
def test_a_request_that_is_delayed_arrives_after_its_client_has_given_up(peer: Peer) -> None:
    released = Event()
    peer.link.delay(WRITES[peer.name], released)

    assert not peer.succeeds()
    assert peer.written() == 0
    released.set()

    eventually(lambda: peer.written() == 1, "the delayed request arrives")


def test_a_client_of_a_silent_link_waits_and_goes_on_when_it_speaks_again(peer: Peer) -> None:
    peer.link.silence()

    assert not peer.succeeds()

    assert peer.link.held >= 1
    peer.link.mend()
    assert peer.succeeds()


def test_a_link_that_is_cut_refuses_and_passes_again_when_it_is_mended(peer: Peer) -> None:
    peer.link.cut()

    assert not peer.succeeds()

    assert peer.link.refused >= 1
    peer.link.mend()
    assert peer.succeeds()


@pytest.mark.parametrize("peer", ["http"], indirect=True)
def test_a_link_that_is_cut_tells_how_many_connections_it_has_broken(peer: Peer) -> None:
    assert peer.succeeds()

    assert (peer.link.cut(), peer.link.cut()) == (1, 0)


@pytest.mark.parametrize("peer", ["http"], indirect=True)
def test_an_order_of_a_fault_counts_what_it_has_struck_and_strikes_no_more_when_it_is_forgotten(peer: Peer) -> None:
    rule = peer.link.drop_answer(times=2)
    assert not peer.succeeds()

    peer.link.forget(rule)

    assert peer.succeeds()
    assert rule.struck == 1


def test_a_commit_whose_answer_is_cut_is_carried_out(db: Engine) -> None:
    with over_postgres(db) as peer:
        peer.link.cut_after_commit()

        assert not peer.succeeds()

        assert peer.written() == 1
        assert peer.link.struck == {Kind.CUT_AFTER_COMMIT: 1}
