"""The messages that the domain sends are declared once, with the variables that they carry."""

from __future__ import annotations

from typing import cast

import pytest

from domain import messages
from domain.messages import Message
from domain.store import UnitOfWork

NO_DATABASE = cast("UnitOfWork", None)


def test_every_declared_message_is_compared_with_the_models() -> None:
    declared = {value for value in vars(messages).values() if isinstance(value, Message)}

    assert declared == set(messages.ALL)


@pytest.mark.parametrize("variables", [{}, {"cancellation_id": 1, "reason": "late"}], ids=["too few", "too many"])
def test_a_message_is_refused_with_other_variables_than_it_declares(variables: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="OrderCancellationRequested carries"):
        messages.ORDER_CANCELLATION_REQUESTED.correlate(NO_DATABASE, "order:1", **variables)
