"""The inbox shows how many dead letters wait, and since when. The broker is a real one."""

from __future__ import annotations

from datetime import datetime
from math import isnan

import pytest

from tests.support.letter_desk import Desk
from tests.support.metrics import metric
from tests.support.topics import Topics
from workers.kafka.topics import ORDERS, dead_letters
from workers.kafka.waiting_letters import WaitingLetters


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
