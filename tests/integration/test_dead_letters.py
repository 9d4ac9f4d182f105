"""`q2o dead-letters` on a real broker: what nobody could process is listed, shown without harm, and sent again as it was."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import KafkaError

from tests.support.letter_desk import Desk, Headers
from tests.support.topics import Topics
from workers.cli_errors import out
from workers.kafka.dead_letters import DeadLetters, refusal_of
from workers.kafka.topics import ORDERS, dead_letters


@pytest.fixture(scope="module")
def desk(made_topics: Topics) -> Desk:
    made_topics.empty()
    return Desk(made_topics)


def test_a_letter_is_listed_with_its_reason_its_ids_and_its_size(desk: Desk) -> None:
    key = desk.letter(b"rubbish", [("eventId", b"e-1"), ("eventType", b"OrderCreated")])

    [letter] = desk.listed("--id", key)

    assert (letter["reason"], letter["bytes"], letter["replay"]) == ("it is no event", 7, "NONE")
    assert letter["ids"] == {"eventId": "e-1", "eventType": "OrderCreated", "key": key}
    assert letter["letter"].startswith(f"{dead_letters(ORDERS)}/")
    assert letter["record"].startswith(f"{ORDERS}/")


def test_letters_are_chosen_by_topic_reason_and_whether_they_wait(desk: Desk) -> None:
    key = desk.letter(b"rubbish")

    assert desk.listed("--id", key, "--topic", "cpq.quote.v1") == []
    assert desk.listed("--id", key, "--reason", "something else") == []
    assert len(desk.listed("--id", key, "--topic", dead_letters(ORDERS), "--waiting")) == 1


@pytest.mark.parametrize("width", [60, 200])
def test_people_see_the_place_of_a_letter_as_a_whole(desk: Desk, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """It is what `show` and `replay` ask for."""
    monkeypatch.setattr(out, "width", width)
    key = desk.letter(b"rubbish")

    result = desk.run("list", "--id", key)

    assert "1 dead letter\n" in result.stdout
    assert desk.place(key) in result.stdout


def test_people_see_the_reason_of_a_letter(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(out, "width", 200)
    key = desk.letter(b"rubbish")

    assert "it is no event" in desk.run("list", "--id", key).stdout


def test_a_value_does_nothing_to_the_terminal(desk: Desk) -> None:
    key = desk.letter("\x1b]0;owned\x07 caf\u00e9 \u202e".encode(), [("odd", b"\x1b[2J")])

    shown = desk.run("show", desk.place(key)).stdout

    assert r"\x1b]0;owned\x07 café \u202e" in shown
    assert r"header odd: \x1b[2J" in shown
    assert "\x1b" not in shown


def test_a_fact_that_there_is_not_is_not_shown(desk: Desk) -> None:
    shown = desk.run("show", desk.place(desk.letter(b"rubbish"))).stdout

    assert [line for line in shown.splitlines() if line.endswith(": ")] == []
    assert "left out" not in shown


def test_a_value_that_is_no_text_is_shown_as_hex(desk: Desk) -> None:
    key = desk.letter(b"\xff\xfe\x00")

    assert "00000000  ff fe00" in desk.run("show", desk.place(key)).stdout


def test_a_record_is_sent_again_as_it_was(desk: Desk) -> None:
    key = desk.letter(b"rubbish", [("eventId", b"e-2")])

    result = desk.run("replay", desk.place(key))

    assert result.exit_code == 0, result.output
    first, second = desk.records(key)
    assert (second.value(), second.headers(), second.partition()) == (first.value(), first.headers(), first.partition())
    assert desk.listed("--id", key)[0]["replay"] == "DONE"
    assert desk.listed("--id", key, "--waiting") == []


def test_a_second_replay_says_so_and_sends_nothing_unless_it_is_asked_again(desk: Desk) -> None:
    key = desk.letter(b"rubbish")
    place = desk.place(key)
    desk.run("replay", place)

    told, after = desk.run("replay", place), len(desk.records(key))
    desk.run("replay", place, "--again")

    assert f"{place} was sent again at" in told.stdout
    assert (told.exit_code, after, len(desk.records(key))) == (0, 2, 3)


def test_a_record_that_is_cut_in_its_letter_is_sent_whole(desk: Desk) -> None:
    key = desk.letter(b"x" * 950_000)

    desk.run("replay", desk.place(key))

    assert [len(record.value() or b"") for record in desk.records(key)] == [950_000, 950_000]


def test_a_record_without_key_goes_where_it_was(desk: Desk) -> None:
    marker = str(uuid4()).encode()
    source = desk.send(ORDERS, marker, None, [("eventId", marker)])
    DeadLetters(desk.topics.kafka).put(source, "it is no event")

    desk.run("replay", desk.place(marker.decode()))

    again = [record for record in desk.topics.records(ORDERS) if record.value() == marker]
    assert [record.partition() for record in again] == [source.partition()] * 2


SPEAKING_FOR_A_LETTER = [("deadLetterReplayIs", b"DONE"), ("deadLetterCut", b"5"), ("deadLetterSource", b"nowhere/0/0")]


def test_a_record_cannot_say_that_a_letter_was_sent_again_nor_hide_its_own(desk: Desk) -> None:
    """Kills: taking the letter of such a record for a mark, which nobody sees."""
    other = desk.letter(b"rubbish")

    key = desk.letter(b"rubbish", [("deadLetterReplayOf", desk.place(other).encode()), ("odd", b"1"), *SPEAKING_FOR_A_LETTER])

    [letter] = desk.listed("--id", key, "--waiting")
    assert (letter["leftOut"], letter["bytes"]) == ("headers that begin with deadLetter", 7)
    assert "header odd: 1" in desk.run("show", letter["letter"]).stdout
    assert len(desk.listed("--id", other, "--waiting")) == 1


def test_a_record_with_headers_of_letters_is_sent_again_as_it_was(desk: Desk) -> None:
    key = desk.letter(b"rubbish", [("deadLetterReplayOf", b"nowhere/0/0"), ("odd", b"1")])

    result = desk.run("replay", desk.place(key))

    assert result.exit_code == 0, result.output
    first, second = desk.records(key)
    assert (second.value(), second.headers()) == (first.value(), first.headers())


def test_a_letter_of_an_earlier_release_with_the_header_of_a_mark_is_seen(desk: Desk) -> None:
    key = str(uuid4())
    headers = [("deadLetterReplayOf", b"nowhere/0/0"), ("deadLetterSource", f"{ORDERS}/0/0".encode())]

    desk.send(dead_letters(ORDERS), b"rubbish", key.encode(), headers)

    assert len(desk.listed("--id", key, "--waiting")) == 1


GONE: dict[str, Headers] = {
    "its record is gone": [("deadLetterSource", f"{ORDERS}/0/999999".encode()), ("deadLetterCut", b"20")],
    "it names a record of another topic": [("deadLetterSource", b"cpq.quote.v1/0/0")],
    "it names no record": [],
}


@pytest.mark.parametrize("headers", GONE.values(), ids=GONE)
def test_a_letter_is_refused_when(desk: Desk, headers: Headers) -> None:
    key = str(uuid4())
    desk.send(dead_letters(ORDERS), b"rubbish", key.encode(), headers)

    result = desk.run("replay", desk.place(key), "--json")

    assert result.exit_code == 1
    assert json.loads(result.stdout)[0]["outcome"] == "REFUSED"
    assert desk.records(key) == []


def test_a_replay_that_kafka_does_not_confirm_is_unknown_and_not_repeated(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    key = desk.letter(b"rubbish")
    place = desk.place(key)

    def losing_the_answer(producer: Any, topic: str, *rest: Any, **named: Any) -> KafkaError | None:
        refusal = refusal_of(producer, topic, *rest, **named)
        return KafkaError(KafkaError._MSG_TIMED_OUT) if topic == ORDERS else refusal

    monkeypatch.setattr("workers.kafka.letters.refusal_of", losing_the_answer)
    lost = desk.run("replay", place)
    monkeypatch.undo()
    repeated = desk.run("replay", place)

    assert (lost.exit_code, repeated.exit_code) == (1, 1)
    assert "may have been sent: Kafka did not confirm it" in lost.stdout
    assert "its outcome is not known; --again sends it once more: UNKNOWN" in repeated.stdout
    assert len(desk.records(key)) == 2


def test_all_letters_of_a_topic_are_sent_but_not_those_that_were(desk: Desk) -> None:
    old, begun, new = (desk.letter(b"rubbish") for _ in range(3))
    desk.run("replay", desk.place(old))
    marks = [("deadLetterReplayOf", desk.place(begun).encode()), ("deadLetterReplayIs", b"BEGUN")]
    desk.send(dead_letters(ORDERS), None, begun.encode(), marks)

    desk.run("replay", "--topic", ORDERS)

    assert [len(desk.records(key)) for key in (old, begun, new)] == [2, 1, 2]


UNKNOWN: dict[str, tuple[list[str], str]] = {
    "a letter that is not there": (
        ["replay", f"{dead_letters(ORDERS)}/0/999999"],
        "there is no dead letter at oms.order.v1.dlq/0/999999",
    ),
    "a place of another topic": (["show", "somewhere/0/1"], "there is no dead letter at somewhere/0/1"),
    "no place": (["show", "first"], "'first' is no place of a dead letter"),
    "a topic that is not there": (["list", "--topic", "nope"], "there is no topic 'nope'; there are cpq.approval.v1"),
    "neither a letter nor a topic": (["replay"], "give one letter, or all letters of a topic by --topic"),
}


@pytest.mark.parametrize(("arguments", "line"), UNKNOWN.values(), ids=UNKNOWN)
def test_something_unknown_is_one_line(desk: Desk, arguments: list[str], line: str) -> None:
    result = desk.run(*arguments)

    assert result.exit_code == 2
    [told] = result.output.splitlines()
    assert told.startswith(f"q2o: {line}")
