"""What failed is told in one line, also when the error says nothing."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import DBAPIError

from domain.texts import reason_of


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("\n no such row \nLINE 1: SELECT"), "no such row"),
        (ValueError(), "ValueError"),
        (ValueError(" \n "), "ValueError"),
        (DBAPIError("SELECT 1", None, Exception("invalid input\nLINE 1")), "invalid input"),
        (DBAPIError("SELECT 1", None, Exception()), "DBAPIError"),
    ],
)
def test_the_reason_of_an_error_is_one_line(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason
