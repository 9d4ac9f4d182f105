"""A broker that refuses the first records it gets, as one does that has just started and does not lead the partition yet."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Thread

from workers.runtime.kafka_access import KafkaAccess

PRODUCE = (0).to_bytes(2)
# How long the refused request waits for a second one behind it. A client that sends one at a time sends none.
PATIENCE_SECONDS = 0.3


class _Proxy(ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, broker: tuple[str, int], topic: str) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.broker, self.topic = broker, topic.encode()
        self.refused = 0

    def refuses(self, frame: bytes) -> bool:
        """Whether to refuse a request: the first one with records of the topic."""
        return self.refused == 0 and frame[4:6] == PRODUCE and self.topic in frame

    def misaddressed(self, frame: bytes) -> bytes:
        """Address the records to a topic that does not exist: the broker itself refuses them, and the client tries again."""
        self.refused += 1
        return frame.replace(self.topic, b"x" * len(self.topic), 1)

    def own_address(self, frame: bytes) -> bytes:
        """Have the broker's response name the proxy, so that the client finds no way around it."""
        host, port = self.broker
        name, own = host.encode(), self.server_address[1]
        return frame.replace(name + port.to_bytes(4), name + own.to_bytes(4))


class _Connection(BaseRequestHandler):
    server: _Proxy
    request: socket.socket

    def handle(self) -> None:
        with socket.create_connection(self.server.broker) as broker:
            responses = Thread(target=self._respond, args=(broker,), daemon=True)
            responses.start()
            for frame in _frames(self.request):
                broker.sendall(self._misaddressed(frame) if self.server.refuses(frame) else frame)
            broker.shutdown(socket.SHUT_RDWR)
            responses.join()

    def _respond(self, broker: socket.socket) -> None:
        for frame in _frames(broker):
            self.request.sendall(self.server.own_address(frame))

    def _misaddressed(self, frame: bytes) -> bytes:
        select.select([self.request], [], [], PATIENCE_SECONDS)
        return self.server.misaddressed(frame)


def _frames(source: socket.socket) -> Iterator[bytes]:
    while head := source.recv(4, socket.MSG_WAITALL):
        yield head + source.recv(int.from_bytes(head), socket.MSG_WAITALL)


@contextmanager
def refusing_the_first_records(kafka: KafkaAccess, topic: str) -> Iterator[KafkaAccess]:
    """Give a way to the broker on which the first request with records of this topic is refused."""
    host, port = kafka.bootstrap.split(":")
    with _Proxy((host, int(port)), topic) as proxy:
        thread = Thread(target=proxy.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield KafkaAccess(bootstrap=f"{host}:{proxy.server_address[1]}")
        finally:
            proxy.shutdown()
            thread.join()
    assert proxy.refused == 1, "no records of the topic were refused"
