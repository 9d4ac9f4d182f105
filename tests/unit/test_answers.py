"""What a person typed, and what a form has shown: by the engine's history of the process."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from workers.runtime.engine_answers import Update, shown_between, typed_by
from workers.runtime.engine_people import LARGE_TYPES, MOST_UPDATES, SMALL_TYPES, PeopleCalls
from workers.runtime.variables import encode
from workers.tasks.persons import AnswerNotUnderstood, Person

OPENED = datetime(2026, 5, 4, 9, tzinfo=UTC)
CLOSED = OPENED + timedelta(minutes=10)
TRUE, FORGED = encode({"netTotal": "883.20"})["netTotal"], encode({"netTotal": "1.00"})["netTotal"]
COMPLETION = "operation-1"


def update(minutes: float, value: dict[str, Any] = TRUE, operation_id: str | None = None) -> Update:
    """The net total gets a value so many minutes after the form was opened."""
    return Update(name="netTotal", value=value, at=OPENED + timedelta(minutes=minutes), operation_id=operation_id)


@pytest.mark.parametrize(
    ("updates", "shown"),
    [
        ([update(-2, FORGED), update(-1)], [TRUE]),
        ([update(-2), update(-1, FORGED)], [FORGED]),
        ([update(-1), update(-1, FORGED)], [TRUE, FORGED]),
        ([update(-1), update(3, FORGED), update(4)], [TRUE, FORGED, TRUE]),
        ([update(-1), update(11, FORGED)], [TRUE]),
        ([update(-1), update(10, FORGED, COMPLETION)], [TRUE]),
        ([update(3, FORGED), update(-1)], [TRUE, FORGED]),
        ([update(3, FORGED)], [FORGED]),
    ],
    ids=[
        "what was replaced before",
        "what replaced it before",
        "two at once",
        "forged and put back",
        "after the completion",
        "by the completion",
        "in any order",
        "set only later",
    ],
)
def test_a_form_has_shown_what_was_there_when_it_was_opened_and_each_value_since(
    updates: list[Update], shown: list[dict[str, Any]]
) -> None:
    assert shown_between(updates, OPENED, CLOSED, COMPLETION) == {"netTotal": shown}


def test_a_person_has_typed_what_their_own_completion_wrote() -> None:
    updates = [update(-1), update(3, FORGED, "operation-2"), update(10, TRUE, COMPLETION)]

    assert typed_by(updates, COMPLETION) == {"netTotal": TRUE}


def person(**typed: Any) -> Person:
    return Person(user_id="rita", task_id="t", roles=(), typed=encode(typed), seen={})


def test_what_a_person_wrote_has_no_character_that_turns_or_ends_it() -> None:
    assert person(comment=" fine\u202e,\ntoo\0 ").prose("comment") == "fine,\ntoo"


def test_a_field_that_was_left_out_is_empty() -> None:
    nobody = person(reasonCode=None)

    assert (nobody.prose("comment"), nobody.identifier("reasonCode"), nobody.has_checked("confirmed")) == ("", "", False)


@pytest.mark.parametrize("value", [7, True, {"a": 1}, ["APPROVE"], b"APPROVE"])
def test_a_value_of_another_type_than_text_is_not_understood(value: Any) -> None:
    with pytest.raises(AnswerNotUnderstood, match="decision must be text, and is of type"):
        person(decision=value).text("decision")


@pytest.mark.parametrize("kind", ["File", "Object"])
def test_a_file_or_an_object_is_not_understood(kind: str) -> None:
    sent = Person(user_id="rita", task_id="t", roles=(), typed={"decision": {"type": kind, "value": None}}, seen={})

    with pytest.raises(AnswerNotUnderstood, match=f"of type {kind}"):
        sent.text("decision")


@pytest.mark.parametrize("value", ["true", 1, None])
def test_only_a_ticked_box_is_a_confirmation(value: Any) -> None:
    assert not person(confirmed=value).has_checked("confirmed")
    assert person(confirmed=True).has_checked("confirmed")


def test_too_much_text_is_refused_and_not_cut() -> None:
    with pytest.raises(AnswerNotUnderstood, match="comment has 2,001 characters: write at most 2,000"):
        person(comment="x" * 2001).prose("comment")


@pytest.mark.parametrize("reference", ["r" * 201, "two\nlines", "turned\u202e"])
def test_a_reference_that_is_not_what_it_looks_like_is_refused(reference: str) -> None:
    with pytest.raises(AnswerNotUnderstood, match="externalReference must be one line"):
        person(externalReference=reference).identifier("externalReference")


class KeptHistory(PeopleCalls):
    """An engine whose history has so many values of large and of small types, `by_completion` of the large ones by the completion."""

    def __init__(self, *, large: int = 0, by_completion: int = 0, small: int = 1, renamed: int = 0) -> None:
        self.counts = {LARGE_TYPES: large, SMALL_TYPES: small}
        self.by_completion = by_completion
        self.renamed = renamed
        self.has_read = False

    def get(self, path: str, **params: Any) -> Any:
        if path == "/history/detail/count":
            return {"count": self.by_completion if "userOperationId" in params else self.counts[params["variableTypeIn"]]}
        if path == "/history/user-operation/count":
            return {"count": self.renamed}
        raise AssertionError(f"nobody should ask for {path}")

    def rows(self, path: str, **_: Any) -> list[dict[str, Any]]:
        if path == "/history/task":
            return [{"id": "1", "deleteReason": "completed", "startTime": OPENED.isoformat(), "endTime": CLOSED.isoformat()}]
        if path == "/history/user-operation":
            return [{"userId": "rina", "operationId": COMPLETION}]
        self.has_read = True
        row = {"variableName": "decision", "variableType": "String", "value": "APPROVE"}
        return [{**row, "time": CLOSED.isoformat(), "userOperationId": COMPLETION}]


@pytest.mark.parametrize(
    ("history", "is_read"),
    [
        (KeptHistory(), True),
        (KeptHistory(large=1), False),
        (KeptHistory(large=1, by_completion=1), True),
        (KeptHistory(large=2, by_completion=1), False),
        (KeptHistory(small=MOST_UPDATES), True),
        (KeptHistory(small=MOST_UPDATES + 1), False),
        (KeptHistory(renamed=1), False),
    ],
    ids=["a form", "a large value", "typed", "typed and another", "many values", "too many values", "a renamed task"],
)
def test_a_history_without_measure_or_of_a_renamed_task_is_not_read_and_says_nothing(
    history: KeptHistory, *, is_read: bool
) -> None:
    completion = history.who_completed("instance", "approve-quote")

    assert completion is not None
    assert history.has_read == is_read
    assert completion.typed == ({"decision": {"type": "String", "value": "APPROVE"}} if is_read else {})
    assert completion.shown == {}
