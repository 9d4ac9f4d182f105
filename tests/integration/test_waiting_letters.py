"""The inbox shows how many dead letters wait, and since when. The broker is a real one."""

from __future__ import annotations

from datetime import datetime
from math import isnan
from uuid import uuid4

import pytest
from confluent_kafka import Message
from structlog.testing import capture_logs

from tests.support.letter_desk import Desk
from tests.support.metrics import metric
from tests.support.topics import Topics
from workers.kafka.letters import Mark, mark_of
from workers.kafka.topics import ORDERS, dead_letters
from workers.kafka.waiting_letters import WaitingLetters

BEFORE_THE_YEAR_1 = -62135596800001  # in milliseconds; a broker refuses times of the far future by itself


@pytest.fixture(scope="module")
def desk(made_topics: Topics) -> Desk:
    made_topics.empty()
    return Desk(made_topics)


@pytest.fixture
def waiting(desk: Desk) -> WaitingLetters:
    """What the inbox has counted so far."""
    counted = WaitingLetters(desk.topics.kafka)
    counted.look()
    return counted


def number_waiting() -> float:
    return metric("q2o_dead_letters_waiting", topic=ORDERS)


def test_letters_that_wait_are_counted_until_they_are_sent_again(desk: Desk, waiting: WaitingLetters) -> None:
    before = number_waiting()
    key, _ = desk.letter(b"rubbish"), desk.letter(b"rubbish")
    waiting.look()
    counted = number_waiting()
    desk.run("replay", desk.place(key))
    waiting.look()

    assert (counted - before, number_waiting() - before) == (2, 1)


def test_a_process_that_has_just_started_counts_the_same(desk: Desk, waiting: WaitingLetters) -> None:
    key, _ = desk.letter(b"rubbish"), desk.letter(b"rubbish")
    desk.run("replay", desk.place(key))
    waiting.look()
    counted = number_waiting()

    WaitingLetters(desk.topics.kafka).look()

    assert number_waiting() == counted == len(desk.listed("--topic", ORDERS, "--waiting"))


def test_a_letter_whose_replay_is_not_known_goes_on_waiting(desk: Desk, waiting: WaitingLetters) -> None:
    key = desk.letter(b"rubbish")
    waiting.look()
    before = number_waiting()
    marks = [("deadLetterReplayOf", desk.place(key).encode()), ("deadLetterReplayIs", b"BEGUN")]
    desk.send(dead_letters(ORDERS), None, key.encode(), marks)
    waiting.look()

    assert number_waiting() == before


def test_a_letter_with_a_time_that_no_calendar_has_waits_like_any_other(desk: Desk, waiting: WaitingLetters) -> None:
    """Kills: an inbox that ends for good because somebody gave a record such a time."""
    before, key = number_waiting(), str(uuid4())
    desk.send(dead_letters(ORDERS), b"rubbish", key.encode(), at=BEFORE_THE_YEAR_1)

    waiting.look()

    assert number_waiting() == before + 1
    assert len(desk.listed("--id", key, "--waiting")) == 1
    assert desk.run("show", desk.place(key)).exit_code == 0


def test_a_letter_that_cannot_be_looked_at_stops_no_other_and_is_logged_once(
    desk: Desk, waiting: WaitingLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, key = number_waiting(), desk.letter(b"rubbish")
    desk.letter(b"rubbish")

    def failing(message: Message) -> Mark | None:
        if message.key() == key.encode():
            raise ValueError("rubbish")
        return mark_of(message)

    monkeypatch.setattr("workers.kafka.waiting_letters.mark_of", failing)
    with capture_logs() as logs:
        waiting.look()
        waiting.look()

    [told] = [log for log in logs if log["event"] == "item_set_aside"]
    assert (told["loop"], told["item"], told["letter"]) == ("inbox", "letter", desk.place(key))
    assert number_waiting() == before + 1


def test_letters_that_kafka_has_no_more_do_not_wait(desk: Desk, waiting: WaitingLetters) -> None:
    desk.letter(b"rubbish")
    waiting.look()
    assert number_waiting() >= 1

    desk.topics.empty()
    waiting.look()

    assert number_waiting() == 0
    assert isnan(metric("q2o_dead_letters_oldest_timestamp_seconds", topic=ORDERS))


def test_the_oldest_letter_that_waits_is_shown_with_its_time(desk: Desk, waiting: WaitingLetters) -> None:
    desk.topics.empty()
    oldest, _ = desk.letter(b"rubbish"), desk.letter(b"rubbish")
    waiting.look()

    [letter] = desk.listed("--id", oldest)

    assert metric("q2o_dead_letters_oldest_timestamp_seconds", topic=ORDERS) == datetime.fromisoformat(letter["since"]).timestamp()
