"""The inboxes of one process end together: an inbox that dies must not leave a process that looks healthy."""

from __future__ import annotations

from threading import Event

import pytest

from workers.kafka.inbox import Inboxes


class Waiting:
    """A loop that goes on until it is told to stop."""

    has_ended = False

    def run(self, stop: Event) -> None:
        stop.wait()
        self.has_ended = True


class Dying:
    def run(self, stop: Event) -> None:  # noqa: ARG002 - as the loops have it
        raise SystemExit(3)


def test_an_inbox_that_dies_stops_the_others_and_is_raised() -> None:
    other, stop = Waiting(), Event()

    with pytest.raises(SystemExit):
        Inboxes({"other": other, "dying": Dying()}).run(stop)

    assert (other.has_ended, stop.is_set()) == (True, True)


def test_all_inboxes_end_when_they_are_told_to() -> None:
    inboxes, stop = {"first": Waiting(), "second": Waiting()}, Event()
    stop.set()

    Inboxes(inboxes).run(stop)

    assert all(inbox.has_ended for inbox in inboxes.values())
