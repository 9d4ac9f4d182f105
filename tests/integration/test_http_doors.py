"""What cannot be stored is refused over HTTP by one rule (`domain.texts`): in bodies, queries, headers and signed callbacks."""

from __future__ import annotations

import json
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import Engine

from domain.delivery.callbacks import ExternalCallbackRecord
from domain.offers.quotes import Quote
from tests.support.database import count
from tests.support.http import Api, completed, is_problem, new_quote
from tests.support.offers import Offers
from tests.support.unfit import SIGNABLE, UNFIT

REFUSED = {400, 422}


def posted(api: Api, raw: bytes, **headers: str) -> httpx.Response:
    given = {"Authorization": f"Bearer {api.sales.token}", "Idempotency-Key": "1", "Content-Type": "application/json"}
    return api.client.post("/quotes", content=raw, headers={**given, **headers})


@pytest.mark.parametrize("member", ["customerId", "nobodyKnows"])
@pytest.mark.parametrize("document", UNFIT.values(), ids=UNFIT)
def test_a_body_is_refused_and_leaves_nothing(api: Api, db: Engine, document: str, member: str) -> None:
    raw = json.dumps(new_quote(**{member: "?"})).replace('"?"', document).encode()

    response = posted(api, raw)

    assert response.status_code in REFUSED
    is_problem(response, response.status_code, "REQUEST_INVALID")
    assert count(db, Quote) == 0


@pytest.mark.parametrize("document", UNFIT.values(), ids=UNFIT)
def test_a_document_in_the_place_of_a_body_is_refused(api: Api, document: str) -> None:
    response = posted(api, document.encode())

    assert response.status_code in REFUSED
    is_problem(response, response.status_code, "REQUEST_INVALID")


@pytest.mark.parametrize("document", SIGNABLE.values(), ids=SIGNABLE)
def test_a_signed_callback_is_refused_and_leaves_nothing(api: Api, offers: Offers, db: Engine, document: str) -> None:
    event = completed(offers.tenant_id, uuid4(), more="?")

    response = api.call_back(json.dumps(event).replace('"?"', document).encode(), id=event["eventId"])

    is_problem(response, 422, "REQUEST_INVALID")
    assert count(db, ExternalCallbackRecord) == 0


def test_the_refusal_of_a_callback_says_what_to_correct(api: Api, offers: Offers) -> None:
    event = completed(offers.tenant_id, uuid4(), more="\0")

    refusal = is_problem(api.call_back(event), 422, "REQUEST_INVALID")

    assert "has a NUL" in refusal["detail"]


@pytest.mark.parametrize(
    "query", ["subject=%00", "subject=%ED%A0%BD%E2%80%AE", "after=%00", "limit=1e999", "limit=" + "9" * 5000, "after=" + "[" * 900]
)
def test_a_query_is_refused(api: Api, query: str) -> None:
    response = api.client.get(f"/authority-grants?{query}", headers={"Authorization": f"Bearer {api.administrator.token}"})

    is_problem(response, 422, "REQUEST_INVALID")


@pytest.mark.parametrize("path", ["/quotes/%00", "/quotes/%ED%A0%BD", "/orders/" + "%5B" * 900])
def test_a_path_is_refused(api: Api, path: str) -> None:
    is_problem(api.sales.get(path), 422, "REQUEST_INVALID")


@pytest.mark.parametrize("key", [b"caf\xc3\xa9", b"\xed\xa0\xbd", b"a\tb"])
def test_a_key_that_is_no_plain_text_is_refused(api: Api, key: bytes) -> None:
    headers = [
        (b"Authorization", f"Bearer {api.sales.token}".encode()),
        (b"Idempotency-Key", key),
        (b"Content-Type", b"application/json"),
    ]

    response = api.client.post("/quotes", content=json.dumps(new_quote()).encode(), headers=headers)

    is_problem(response, 400, "IDEMPOTENCY_KEY_INVALID")
