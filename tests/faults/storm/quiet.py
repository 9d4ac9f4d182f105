"""What is still open after a storm has healed: business under way, and process instances that reconciliation has yet to look at."""

from __future__ import annotations

from datetime import timedelta
from time import monotonic

from sqlalchemy import text

from domain.auditing.open_work import open_work
from reconciliation.instances import LONGEST_WAIT
from reconciliation.rounds import LEASE
from tests.support.suite import Shop

AGAIN = 10.0  # seconds between two requests for the same looks; a sweep takes half as long
WATCHED = "status IN ('STARTED', 'LOST')"
LOOK_NOW = text(
    f"""UPDATE workflow_correlation SET next_check_at = clock_timestamp()
    WHERE {WATCHED} AND next_check_at <= clock_timestamp() + CAST(:within AS interval)"""
)
TO_LOOK_AT = text(
    f"""SELECT count(*) FROM workflow_correlation
    WHERE tenant_id = :tenant AND {WATCHED} AND next_check_at <= clock_timestamp() + CAST(:lease AS interval)"""
)
UNDELIVERED = text("SELECT * FROM workflow_command WHERE tenant_id = :tenant AND status = 'PENDING' ORDER BY position")


class Looks:
    """The looks of reconciliation at the process instances, of which the storm has deleted some; the next look may be ten minutes away.

    A lease lasts for half a minute, and the wait after a look for a minute: so what is due within the time of a lease may only be leased.
    """

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._asked_at = monotonic()
        self._are_over = False
        self._ask(2 * LONGEST_WAIT)

    def are_over(self) -> bool:
        """Whether every instance was looked at since the storm has healed. Asks again for the looks that are left."""
        self._are_over = self._are_over or not self.left()
        if self._are_over:
            return True
        if monotonic() - self._asked_at > AGAIN:
            self._asked_at = monotonic()
            self._ask(LEASE)
        return False

    def left(self) -> list[str]:
        """A sentence when instances are left to look at."""
        with self._shop.database.connect() as connection:
            number = connection.scalar(TO_LOOK_AT, {"tenant": self._shop.tenant_id, "lease": LEASE})
        return [f"{number} process instances that reconciliation has to look at"] if number else []

    def _ask(self, within: timedelta) -> None:
        """Let the looks of this time come now. A sweep that has asked the engine before puts none of them off, because its lease is gone."""
        with self._shop.database.begin() as connection:
            connection.execute(LOOK_NOW, {"within": within})


def still_open(shop: Shop) -> list[str]:
    """A sentence for each kind of work that is open."""
    with shop.database.connect() as connection:
        work = open_work(connection, shop.tenant_id)
    instances = shop.engine.count_unfinished("order-fulfillment", f"order:{shop.tenant_id}:%")
    return [f"{number} {name}" for name, number in {**work, "process instances of orders": instances}.items() if number]


def undelivered(shop: Shop) -> list[str]:
    """Tell of each command that the engine has not carried out, and of the state of its process, in a sentence."""
    with shop.database.connect() as connection:
        rows = connection.execute(UNDELIVERED, {"tenant": shop.tenant_id}).all()
    return [
        f"{row.kind} {row.name} to {row.business_key} has waited since {row.created_at}, tried {row.refusals} times ({row.last_reason}); "
        f"instances: {[(each.id, each.state) for each in shop.engine.past_instances(row.business_key)]}"
        for row in rows
    ]
