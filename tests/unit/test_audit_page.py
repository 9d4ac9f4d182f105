"""docs/audit.md lists every invariant as the audit has it."""

from __future__ import annotations

from domain.auditing.projections import CONSUMERS
from tests.support.audit_page import PAGE, page
from workers.kafka.views import VIEWS


def test_the_page_of_the_audit_is_up_to_date() -> None:
    now = PAGE.read_text(encoding="utf-8")

    assert page(now) == now, "run `make invariants`"


def test_the_audit_knows_the_consumer_of_each_view() -> None:
    consumers = {view.projection: view.consumer for view in VIEWS}

    assert CONSUMERS.items() <= consumers.items()
