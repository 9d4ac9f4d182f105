"""Requests that are refused for their form, before their route reads them: repeated headers, unknown parameters, wrong bodies and methods."""

from __future__ import annotations

import gzip
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.http import Api, Caller, is_problem, new_quote
from tests.support.offers import Offers
from workers.http.entrance import SINGLE, accepts_gzip

JSON = ("Content-Type", "application/json")


def sent(caller: Caller, *headers: tuple[str, str], content: bytes = b"{}", path: str = "/quotes") -> httpx.Response:
    """Post with exactly these headers besides the token's."""
    token = ("Authorization", f"Bearer {caller.token}")
    return caller.client.send(caller.client.build_request("POST", path, content=content, headers=[token, *headers]))


class TestRepeatedHeaders:
    @pytest.mark.parametrize("name", SINGLE)
    @pytest.mark.parametrize("second", ["a", "b"])
    def test_a_header_that_comes_twice_is_refused(self, api: Api, name: str, second: str) -> None:
        response = sent(api.sales, (name, "a"), (name, second))

        assert is_problem(response, 400, "HEADER_REPEATED")["detail"] == f"{name.title()} comes more than once: send it once."

    def test_a_command_with_two_keys_does_nothing(self, api: Api) -> None:
        key = str(uuid4())
        refused = api.sales.client.post(
            "/quotes",
            json=new_quote(),
            headers=[("Authorization", f"Bearer {api.sales.token}"), ("Idempotency-Key", key), ("Idempotency-Key", str(uuid4()))],
        )

        is_problem(refused, 400, "HEADER_REPEATED")
        assert "Idempotent-Replayed" not in api.sales.post("/quotes", new_quote(), key=key).headers

    def test_other_headers_may_come_twice(self, api: Api) -> None:
        response = sent(api.sales, ("X-Trace", "a"), ("X-Trace", "b"), JSON)

        is_problem(response, 400, "IDEMPOTENCY_KEY_MISSING")


class TestParametersOfTheAddress:
    @pytest.mark.parametrize("path", ["/quotes", "/orders", "/approval-tasks", "/fallout-cases", "/authority-grants"])
    def test_a_parameter_that_comes_twice_is_refused(self, api: Api, path: str) -> None:
        response = api.sales.get(path, limit=[1, 2])

        assert is_problem(response, 422, "REQUEST_INVALID")["detail"] == "query/limit: comes more than once: send it once"

    @pytest.mark.parametrize(
        "path", ["/quotes", "/orders", "/approval-tasks", "/fallout-cases", "/quotes/00000000-0000-0000-0000-000000000000"]
    )
    def test_a_misspelt_parameter_is_refused_because_the_answer_would_show_too_much(self, api: Api, path: str) -> None:
        response = api.sales.get(path, stauts="OPEN")

        assert is_problem(response, 422, "REQUEST_INVALID")["detail"] == "query/stauts: there is no such parameter"

    @pytest.mark.parametrize("path", ["/quotes", "/orders"])
    def test_every_parameter_that_is_described_is_known(self, api: Api, path: str) -> None:
        described = api.client.get("/openapi.json", headers={"Authorization": f"Bearer {api.sales.token}"}).json()
        names = [each["name"] for each in described["paths"][path]["get"]["parameters"] if each["in"] == "query"]

        details = [each["detail"] for each in api.sales.get(path, **dict.fromkeys(names, "?")).json()["errors"]]

        assert names
        assert "there is no such parameter" not in details

    def test_a_command_with_a_parameter_does_nothing(self, api: Api) -> None:
        key = str(uuid4())
        refused = api.sales.post("/quotes?dryRun=true", new_quote(), key=key)

        is_problem(refused, 422, "REQUEST_INVALID")
        assert "Idempotent-Replayed" not in api.sales.post("/quotes", new_quote(), key=key).headers


class TestMediaTypes:
    @pytest.mark.parametrize(
        "media_type",
        [
            "text/plain",
            "application/xml",
            "application/jsonp",
            "application/merge-patch+json",
            "application/x-www-form-urlencoded",
            "application/json; charset=utf-16",
            "application/json; charset=latin-1",
            "application/json; boundary=x",
            "application/json, text/plain",
            "json",
            "",
        ],
    )
    def test_a_body_of_another_type_is_refused(self, api: Api, media_type: str) -> None:
        response = sent(api.sales, ("Content-Type", media_type), ("Idempotency-Key", "k"))

        is_problem(response, 415, "MEDIA_TYPE_UNSUPPORTED")
        assert response.headers["accept"] == "application/json"

    def test_a_body_without_a_type_is_refused(self, api: Api) -> None:
        is_problem(sent(api.sales, ("Idempotency-Key", "k")), 415, "MEDIA_TYPE_UNSUPPORTED")

    @pytest.mark.parametrize(
        "media_type",
        [
            "application/json; charset=utf-8",
            "application/json;charset=UTF-8",
            'APPLICATION/JSON; Charset="utf-8"',
            "application/json",
        ],
    )
    def test_json_may_say_that_it_is_utf_8(self, api: Api, media_type: str) -> None:
        assert api.sales.post("/quotes", new_quote(), **{"Content-Type": media_type}).status_code == 201

    def test_a_callback_of_another_type_is_refused(self, api: Api, offers: Offers) -> None:
        event = {"eventId": "e", "eventType": "step.completed", "stepRef": f"step:{offers.tenant_id}:{uuid4()}"}

        response = api.call_back(event, content_type="text/plain")

        is_problem(response, 415, "MEDIA_TYPE_UNSUPPORTED")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/quotes/{id}", "GET, PATCH"),
        ("/authority-grants", "GET, POST"),
        ("/orders/{id}", "GET"),
        ("/quotes/{id}/acceptances", "POST"),
    ],
)
def test_a_method_that_a_path_does_not_have_is_refused_with_all_that_it_has(api: Api, path: str, allowed: str) -> None:
    token = {"Authorization": f"Bearer {api.sales.token}"}

    response = api.client.delete(path.format(id=uuid4()), headers=token)

    is_problem(response, 405, "METHOD_NOT_ALLOWED")
    assert response.headers["allow"] == allowed


class TestEncodings:
    @pytest.mark.parametrize(
        ("accept_encoding", "is_gzipped"),
        [
            ("gzip", True),
            ("gzip;q=0", False),
            ("gzip; q=0.000, deflate", False),
            ("gzip;q=0.5", True),
            ("*", True),
            ("identity", False),
        ],
    )
    def test_an_answer_is_compressed_for_those_who_accept_it(self, api: Api, accept_encoding: str, is_gzipped: bool) -> None:  # noqa: FBT001 - a parameter
        with api.client.stream("GET", "/openapi.json", headers={"Accept-Encoding": accept_encoding}) as response:
            raw = b"".join(response.iter_raw())

        assert (response.headers.get("content-encoding") == "gzip") is is_gzipped
        assert (gzip.decompress(raw) if is_gzipped else raw).startswith(b"{")
        assert "accept-encoding" in response.headers["vary"].lower()

    @pytest.mark.parametrize(
        ("accept_encoding", "accepted"),
        [
            ("", False),
            ("*;q=0", False),
            ("*;q=0, gzip", True),
            ("gzip;q=0, *", False),
            ("GZIP", True),
            ("x-gzip", True),
            ("br;q=1.0, gzip;q=0.001", True),
            ("gzip;q=nonsense", False),
        ],
    )
    def test_a_weight_of_zero_is_a_refusal(self, accept_encoding: str, accepted: bool) -> None:  # noqa: FBT001 - a parameter
        assert accepts_gzip(accept_encoding) is accepted


NO_NUMBERS = ["1_0", " 5 ", "5 ", "+5", "5.", ".5", "1e1", "5.123", "\u0665", "0x5", "", "NaN", "1000.5\n", "-0"]


class TestNumbersInText:
    @pytest.mark.parametrize("text", NO_NUMBERS)
    def test_a_percentage_in_text_is_written_by_the_published_pattern(self, api: Api, text: str) -> None:
        quote = new_quote()
        quote["lines"][0]["discountPercent"] = text

        is_problem(api.sales.post("/quotes", quote), 422, "REQUEST_INVALID")

    @pytest.mark.parametrize("text", NO_NUMBERS)
    def test_an_amount_in_text_is_written_by_the_published_pattern(self, api: Api, text: str) -> None:
        entry = {"productOfferingId": "FIBRE", "listPrice": text, "unitCost": "1"}
        body: dict[str, Any] = {"expectedActiveVersion": None, "priceBookVersion": "p-1", "entries": [entry]}

        is_problem(api.pricer.post("/price-books/STANDARD/publications", body), 422, "REQUEST_INVALID")

    @pytest.mark.parametrize("text", ["5", "05.5", "100.00", "0"])
    def test_a_percentage_of_the_published_pattern_is_taken(self, api: Api, text: str) -> None:
        quote = new_quote()
        quote["lines"][0]["discountPercent"] = text

        assert api.sales.post("/quotes", quote).status_code == 201

    @pytest.mark.parametrize("text", ["1_0", " 5", "5.0", "+5", "\u0665", "5e0"])
    @pytest.mark.parametrize("path", ["/authority-grants", "/quotes", "/orders"])
    def test_a_number_in_an_address_is_written_in_digits(self, api: Api, path: str, text: str) -> None:
        who = api.administrator if path == "/authority-grants" else api.sales
        is_problem(who.get(path, limit=text), 422, "REQUEST_INVALID")

    @pytest.mark.parametrize("tag", ['"1_0"', '" 5 "', '"5.0"', '"+5"'])
    def test_a_version_is_written_in_digits(self, api: Api, tag: str) -> None:
        body = {"expectedRevisionId": str(uuid4()), "reasonCode": "X"}

        is_problem(api.sales.patch(f"/quotes/{uuid4()}", body, **{"If-Match": tag}), 400, "PRECONDITION_INVALID")


def test_a_request_without_a_body_is_told_that_it_needs_one(api: Api) -> None:
    response = sent(api.sales, JSON, ("Idempotency-Key", str(uuid4())), content=b"")

    problem = is_problem(response, 422, "REQUEST_INVALID")
    assert problem["detail"] == "body: the request needs a JSON body: send {} at least"
