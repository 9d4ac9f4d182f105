"""What clients were told of races over HTTP, compared by `q2o audit --clients` with the database and with the metrics."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import func, select, update

from domain.fallout.cases import FalloutCase
from domain.offers.price_books import PriceBookHead
from domain.offers.quotes import Quote
from domain.store import table_of
from reconciliation.audit_clients import CALLBACK, METRICS, ClientRecord
from tests.integration.test_audit_command import Run, checks_of, run
from tests.support.fulfilment import Fulfilment
from tests.support.http import Api, accept, completed, decide, edit, withdraw
from tests.support.metrics import total
from tests.support.offers import BERT, ENTRIES, MONA, PRICE_BOOK, PRICE_BOOK_VERSION, Offers
from tests.support.races import race_for_row
from workers.http.auth import Role

__all__ = ["run"]

STEP = "RESERVE_INVENTORY"
OF_CLIENTS = ("I24", "I25", "I26", "I27", "I29")
Call = Callable[[], httpx.Response]


@dataclass
class Clients:
    """The clients who send commands, and the record of the answers that they got (docs/audit.md#the-clients-record)."""

    api: Api
    offers: Offers
    before: dict[str, float]
    record: list[dict[str, Any]] = field(default_factory=list)

    def told(self, command: str, answer: httpx.Response) -> None:
        """Note an answer."""
        key = answer.request.headers.get("idempotency-key") or answer.request.headers["webhook-id"]
        replayed = answer.headers.get("idempotent-replayed") == "true"
        self._note(command, key, status=answer.status_code, body=answer.json(), **({"replayed": True} if replayed else {}))

    def lost(self, command: str, answer: httpx.Response) -> None:
        """Note that no answer came: the client never looks at the one that there is."""
        self._note(command, answer.request.headers["idempotency-key"], status=None)

    def _note(self, command: str, key: str, **told: Any) -> None:
        self.record.append({"tenantId": str(self.api.tenant_id), "command": command, "idempotencyKey": key, **told})

    def meet(self, command: str, entity: Any, row_id: object, *calls: Call) -> None:
        """Let commands wait for one row, and note how each was answered."""
        for rival in race_for_row(self.offers.engine, table_of(entity), row_id, *calls):
            self.told(command, rival.result())

    def lines(self) -> list[dict[str, Any]]:
        """The whole record: the answers, and by how much each metric has grown."""
        growth = [{"metric": name, "increase": total(name) - before} for name, before in self.before.items()]
        return [*self.record, *growth]


@pytest.fixture
def clients(api: Api, offers: Offers) -> Clients:
    return Clients(api, offers, {name: total(name) for name in METRICS})


def update_at_once(clients: Clients) -> None:
    """M1: three edits of one version."""
    offer = clients.offers.draft_quote()
    edits = [
        partial(clients.api.sales.patch, f"/quotes/{offer.quote_id}", edit(offer.ids, termMonths=months), version=offer.version)
        for months in (12, 24, 36)
    ]
    clients.meet("edit-quote", Quote, offer.quote_id, *edits)


def publish_at_once(clients: Clients) -> None:
    """M2: two publications on one version; an offer whose price they make stale is refused."""
    offer = clients.offers.approved_quote(policy="REPRICE_REQUIRED_ON_PUBLISH")
    with clients.offers.engine.connect() as connection:
        head = connection.scalar(select(PriceBookHead.id).where(PriceBookHead.tenant_id == clients.api.tenant_id))
    prices = [{"productOfferingId": offering, "listPrice": "80", "unitCost": "38"} for offering in ENTRIES]
    publications = [
        partial(
            clients.api.pricer.post,
            f"/price-books/{PRICE_BOOK}/publications",
            {"expectedActiveVersion": PRICE_BOOK_VERSION, "priceBookVersion": version, "entries": prices},
        )
        for version in ("p-45", "p-46")
    ]
    clients.meet("publish-price-book", PriceBookHead, head, *publications)
    clients.told("accept-quote", accept(clients.api.customer, offer))


def sign_at_once(clients: Clients) -> None:
    """M3: two signatures on one requirement, and one on a price that was never shown."""
    offer = clients.offers.quote_in_approval()
    [requirement_id, *_] = clients.offers.requirement_ids(offer)
    clients.told("decide-approval", decide(clients.api.approver, offer, requirement_id, priceResultId=str(uuid4())))
    sign = partial(decide, clients.api.approver, offer, requirement_id)
    clients.meet("decide-approval", Quote, offer.quote_id, sign, sign)


def accept_at_once(clients: Clients) -> None:
    """M4: four acceptances at once, of which two share a key; then one of a quote that has expired."""
    offer, late = clients.offers.approved_quote(), clients.offers.approved_quote()
    calls = [partial(accept, clients.api.customer, offer, key=key) for key in ("first", "second", "same", "same")]
    clients.meet("accept-quote", Quote, offer.quote_id, *calls)
    with clients.offers.engine.begin() as connection:
        connection.execute(update(table_of(Quote)).filter_by(id=late.quote_id).values(valid_until=func.clock_timestamp()))
    clients.told("accept-quote", accept(clients.api.customer, late))


def repeat_keys(clients: Clients) -> None:
    """M5: a repeat after an answer, one after a lost answer, and a key that comes again with another body."""
    for key, tell in (("answered", clients.told), ("unanswered", clients.lost)):
        cancel = partial(withdraw, clients.api.sales, clients.offers.draft_quote(), "cancellations", key=key)
        tell("cancel-quote", cancel())
        clients.told("cancel-quote", cancel())
        clients.told("cancel-quote", cancel(reason="ANOTHER"))


def call_back_at_once(clients: Clients) -> None:
    """M8: one event is delivered twice, and once with another content."""
    work = Fulfilment.running(clients.offers)
    work.start(STEP)
    event = completed(clients.api.tenant_id, work.step(STEP).id)
    for changes in ({}, {}, {"externalRef": "external-2"}):
        clients.told(CALLBACK, clients.api.call_back({**event, **changes}))


def claim_at_once(clients: Clients) -> None:
    """M12: two case workers claim one case."""
    case = Fulfilment.contradicted(clients.offers).case()
    workers = (clients.api.caller(BERT, Role.FALLOUT_L2), clients.api.caller(MONA, Role.FALLOUT_MANAGERS))
    claims = [partial(worker.post, f"/fallout-cases/{case.id}/claims", {}, version=case.version) for worker in workers]
    clients.meet("claim-case", FalloutCase, case.id, *claims)


RACES = (update_at_once, publish_at_once, sign_at_once, accept_at_once, repeat_keys, call_back_at_once, claim_at_once)


@pytest.fixture
def lines(clients: Clients) -> list[dict[str, Any]]:
    """Let every race take place; gives the record."""
    for race in RACES:
        race(clients)
    return clients.lines()


def audited(run: Run, file: Path, lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Write a record, and audit with it."""
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return checks_of(run("--json", "--clients", str(file)))


def test_the_audit_believes_the_record_of_real_races_and_misses_every_answer_that_is_taken_out(
    run: Run, lines: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Kills: a metric that counts a race twice, or not at all, and an audit that does not notice it."""
    file = tmp_path / "clients.jsonl"

    whole = audited(run, file, lines)
    operations = ClientRecord.read(file).operations or ()
    counted = {name: [number for number, each in enumerate(operations) if counts(each)] for name, counts in METRICS.items()}
    taken_out = {numbers[0] for numbers in counted.values()}
    left = [line for number, line in enumerate(lines) if number not in taken_out and line.get("status", 0) is not None]
    less = audited(run, file, left)

    assert {code: (whole[code]["violations"], whole[code]["passed"]) for code in OF_CLIENTS} == dict.fromkeys(
        OF_CLIENTS, ([], True)
    )
    assert less["I29"]["violations"] == [
        f"{name} grew by {len(numbers)}, and clients got {len(numbers) - 1} such answers, with 0 outcomes unknown."
        for name, numbers in counted.items()
    ]
