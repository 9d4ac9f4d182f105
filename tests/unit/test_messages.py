"""The messages that the domain sends are declared once, with the variables that they carry."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
from lxml import etree

from domain import messages
from domain.messages import Message
from domain.store import UnitOfWork

MODELS = Path(__file__).parents[2] / "bpmn"
BPMN = "{http://www.omg.org/spec/BPMN/20100524/MODEL}"
NO_DATABASE = cast("UnitOfWork", None)


def test_every_declared_message_is_compared_with_the_models() -> None:
    declared = {value for value in vars(messages).values() if isinstance(value, Message)}

    assert declared == set(messages.ALL)


def messages_that_begin_work_beside_a_process() -> set[str]:
    """The messages of events that interrupt nothing: each delivery begins another run."""
    found = set()
    for model in map(etree.parse, map(str, MODELS.glob("*.bpmn"))):
        names = {each.get("id"): each.get("name") for each in model.iter(f"{BPMN}message")}
        events = [each for each in model.iter() if "false" in (each.get("isInterrupting"), each.get("cancelActivity"))]
        found |= {str(names[each.get("messageRef")]) for event in events for each in event.iter(f"{BPMN}messageEventDefinition")}
    return found


def test_a_message_that_begins_work_beside_a_process_is_looked_for_before_it_is_sent() -> None:
    assert messages_that_begin_work_beside_a_process() == {"OrderCancellationRequested"}
    assert "OrderCancellationRequested" in messages.LOOKED_FOR


def test_a_message_that_is_looked_for_sets_a_variable_by_which_it_is_found() -> None:
    looked_for = [message for message in messages.ALL if message.looked_for]

    assert len({message.variables for message in looked_for} - {()}) == len(looked_for)


@pytest.mark.parametrize("variables", [{}, {"cancellation_id": 1, "reason": "late"}], ids=["too few", "too many"])
def test_a_message_is_refused_with_other_variables_than_it_declares(variables: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="OrderCancellationRequested carries"):
        messages.ORDER_CANCELLATION_REQUESTED.correlate(NO_DATABASE, "order:1", **variables)
