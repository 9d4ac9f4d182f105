"""The people of the demo: their logins to Tasklist and Cockpit, and the roles in their API tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from domain.granting import GrantAuthority
from workers.deployment import Person
from workers.http.tokens import issue_token

REGION = "ID-JAVA"
# Long enough to try the demo out for an afternoon.
TOKEN_LIFETIME = timedelta(hours=8)

# The engine allows only letters and digits in ids of people and groups.
RSM = Person(id="rina", first_name="Rina", last_name="Sari", groups=("approverRsm",))
DIRECTOR = Person(id="dewi", first_name="Dewi", last_name="Hartono", groups=("approverDirector", "approverFinance"))
DEAL_DESK = Person(id="budi", first_name="Budi", last_name="Santoso", groups=("dealDesk",))
OPERATOR = Person(id="oscar", first_name="Oscar", last_name="Lim", groups=("operators",))
FIRST_LEVEL = Person(id="anna", first_name="Anna", last_name="Wijaya", groups=("falloutL1",))
SECOND_LEVEL = Person(id="bert", first_name="Bert", last_name="Halim", groups=("falloutL2",))
FALLOUT_MANAGER = Person(id="mona", first_name="Mona", last_name="Lestari", groups=("falloutManagers",))
FULFILLMENT_MANAGER = Person(id="felix", first_name="Felix", last_name="Putra", groups=("fulfillmentManagers",))
PEOPLE = (RSM, DIRECTOR, DEAL_DESK, OPERATOR, FIRST_LEVEL, SECOND_LEVEL, FALLOUT_MANAGER, FULFILLMENT_MANAGER)
ADMINISTRATORS = ("ayu", "agus")
"""Who grants authority, and who confirms it."""


def _grants(person: Person, **limits: Any) -> Iterator[GrantAuthority]:
    for role in person.groups:
        yield GrantAuthority(subject=person.id, role=role, granted_by=ADMINISTRATORS[0], **limits)


AUTHORITY = (
    *_grants(RSM, region=REGION, max_discount_percent=Decimal(25)),
    *_grants(DIRECTOR, max_discount_percent=Decimal(60), max_deal_amount=Decimal(5_000_000)),
    *(grant for person in (FIRST_LEVEL, SECOND_LEVEL, FALLOUT_MANAGER, FULFILLMENT_MANAGER) for grant in _grants(person)),
)
"""The authority grants of the people: how far their signatures reach, and that case workers may work on cases."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """A person with a token. A buyer's token names the customers for whom they buy."""

    subject: str
    roles: tuple[str, ...]
    customers: tuple[str, ...] = ()


SALES = Actor(subject="alice", roles=("salesAgent",))
CUSTOMER = Actor(subject="carla", roles=("customer",), customers=("C-1001",))
MANAGER = Actor(subject=RSM.id, roles=("approverRsm",))
CASE_WORKER = Actor(subject=SECOND_LEVEL.id, roles=tuple(SECOND_LEVEL.groups))
DIRECTOR_AND_FINANCE = Actor(subject=DIRECTOR.id, roles=("approverDirector", "approverFinance"))


def buyer_of(customer_id: str) -> Actor:
    """A person who buys for this customer."""
    return replace(CUSTOMER, customers=(customer_id,))


def token_of(actor: Actor, secret: str, tenant_id: UUID) -> str:
    """A bearer token of this person for one tenant."""
    return issue_token(secret, actor.subject, tenant_id, actor.roles, REGION, TOKEN_LIFETIME, actor.customers)
