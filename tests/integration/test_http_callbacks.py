"""Callbacks of providers over HTTP: whose signature is accepted, what a repeat does, and what becomes of a contradiction."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import structlog
from sqlalchemy import Engine, select

from domain.delivery import evaluating
from domain.delivery.callbacks import ExternalCallbackConflict, ExternalCallbackRecord
from domain.delivery.steps import FulfillmentStep
from domain.errors import TryAgain
from domain.fallout.cases import FalloutCase
from domain.store import table_of
from domain.store.facts import ConflictLog
from tests.support.database import count
from tests.support.http import PROVIDER, Api, completed, is_problem, serving
from tests.support.offers import Offers
from tests.support.races import race_for_row
from workers.http.routes.callbacks import LARGEST_CALLBACK_BYTES
from workers.providers.signatures import new_secret
from workers.runtime.secret_files import SecretFile

STEP = "CHECK_SERVICEABILITY"


@pytest.fixture
def step_id(offers: Offers) -> UUID:
    """A step whose request the provider has."""
    step_id = offers.running_order().steps[STEP]
    offers.start_step(step_id)
    return step_id


def step(offers: Offers, step_id: UUID) -> dict[str, Any]:
    with offers.uow() as uow:
        row = uow.read(FulfillmentStep, step_id)
    return {"status": row.status, "version": row.version, "external_ref": row.external_ref}


class TestWhatHappens:
    def test_a_completion_completes_its_step(self, api: Api, offers: Offers, step_id: UUID) -> None:
        response = api.call_back(completed(offers.tenant_id, step_id))

        assert (response.status_code, response.json()) == (200, {"processedStatus": "APPLIED", "replayed": False})
        assert step(offers, step_id) == {"status": "COMPLETED", "version": 3, "external_ref": "external-1"}

    def test_the_order_is_evaluated_after_its_last_step(self, api: Api, offers: Offers) -> None:
        order = offers.running_order()
        for code in order.steps:
            offers.start_step(order.steps[code])
            assert api.call_back(completed(offers.tenant_id, order.steps[code])).status_code == 200

        assert offers.order(order.order_id).status == "FULFILLED"

    def test_a_failed_evaluation_does_not_refuse_the_callback(
        self, api: Api, offers: Offers, step_id: UUID, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def busy(*_: object) -> str:
            raise TryAgain

        monkeypatch.setattr(evaluating, "evaluate", busy)

        assert api.call_back(completed(offers.tenant_id, step_id)).json()["processedStatus"] == "APPLIED"

    def test_a_callback_for_a_tenant_that_does_not_exist_is_refused_and_leaves_nothing(
        self, api: Api, db: Engine, step_id: UUID
    ) -> None:
        nobody = uuid4()

        is_problem(api.call_back(completed(nobody, step_id)), 404, "UNKNOWN_TENANT")

        assert [count(db, table) for table in (ExternalCallbackRecord, FalloutCase, ConflictLog)] == [0, 0, 0]

    @pytest.mark.usefixtures("step_id")
    def test_a_callback_about_an_unknown_step_is_recorded_as_unmatched(self, api: Api, offers: Offers) -> None:
        response = api.call_back(completed(offers.tenant_id, uuid4()))

        assert (response.status_code, response.json()["processedStatus"]) == (200, "UNMATCHED")

    @pytest.mark.parametrize(
        "changes", [{"eventType": "step.sang"}, {"externalRef": None, "requestId": None, "occurredAt": None, "more": [1]}]
    )
    def test_additional_and_missing_members_of_a_callback_are_recorded(
        self, api: Api, offers: Offers, db: Engine, step_id: UUID, changes: dict[str, Any]
    ) -> None:
        event = completed(offers.tenant_id, step_id, **changes)

        assert api.call_back(event).status_code == 200

        record = table_of(ExternalCallbackRecord)
        with db.connect() as connection:
            assert connection.scalar(select(record.c.payload)) == event

    def test_a_provider_reports_about_its_own_steps_only(self, api: Api, offers: Offers, step_id: UUID) -> None:
        with offers.uow() as uow:
            uow.connection.execute(table_of(FulfillmentStep).update().values(provider_name="another"))

        response = api.call_back(completed(offers.tenant_id, step_id))

        assert response.json()["processedStatus"] == "UNMATCHED"
        assert step(offers, step_id)["status"] == "IN_PROGRESS"


class TestRepeats:
    def test_the_same_event_again_changes_nothing(self, api: Api, offers: Offers, step_id: UUID) -> None:
        event = completed(offers.tenant_id, step_id)
        duplicates = api.metric("q2o_callback_duplicates_total", provider=PROVIDER, hash_match="true")
        api.call_back(event)

        response = api.call_back(event)

        assert (response.status_code, response.json()) == (200, {"processedStatus": "APPLIED", "replayed": True})
        assert response.headers["Idempotent-Replayed"] == "true"
        assert step(offers, step_id)["version"] == 3
        assert api.metric("q2o_callback_duplicates_total", provider=PROVIDER, hash_match="true") == duplicates + 1

    def test_the_same_event_with_other_content_is_recorded_as_a_conflict(
        self, api: Api, offers: Offers, db: Engine, step_id: UUID
    ) -> None:
        event = completed(offers.tenant_id, step_id)
        duplicates = api.metric("q2o_callback_duplicates_total", provider=PROVIDER, hash_match="false")
        api.call_back(event)

        with structlog.testing.capture_logs() as logs:
            response = api.call_back({**event, "externalRef": "external-2"})

        assert is_problem(response, 409, "PROVIDER_CONFLICT")["stepId"] == str(step_id)
        assert count(db, ExternalCallbackConflict) == 1
        assert step(offers, step_id)["external_ref"] == "external-1"
        assert api.metric("q2o_callback_duplicates_total", provider=PROVIDER, hash_match="false") == duplicates + 1
        [record] = [log for log in logs if log["event"] == "command_refused"]
        assert record["externalEventId"] == event["eventId"]
        assert record["businessKey"] == event["stepRef"]

    def test_a_conflict_that_is_repeated_is_kept_once_and_refused_each_time(
        self, api: Api, offers: Offers, db: Engine, step_id: UUID
    ) -> None:
        event = completed(offers.tenant_id, step_id)
        api.call_back(event)
        conflicts = api.metric("q2o_callback_duplicates_total", provider=PROVIDER, hash_match="false")

        answers = [api.call_back({**event, "externalRef": reference}) for reference in ("external-2", "external-2", "external-3")]

        assert [answer.status_code for answer in answers] == [409] * 3
        assert count(db, ExternalCallbackConflict) == 2
        assert api.metric("q2o_callback_duplicates_total", provider=PROVIDER, hash_match="false") == conflicts + 3

    def test_an_unmatched_event_with_other_content_is_recorded_as_a_conflict(self, api: Api, offers: Offers, db: Engine) -> None:
        first = completed(offers.tenant_id, uuid4())
        offers.running_order()  # a tenant without a step is taken for one that does not exist
        api.call_back(first)

        response = api.call_back({**first, "externalRef": "other"})

        assert is_problem(response, 409, "PROVIDER_CONFLICT")
        with db.connect() as connection:
            cases = set(connection.scalars(select(table_of(FalloutCase).c.type)))
        assert count(db, ExternalCallbackConflict) == 1
        assert cases == {"UNSOLICITED_CALLBACK", "PROVIDER_CONFLICT"}

    def test_of_two_deliveries_at_once_one_has_an_effect(self, api: Api, offers: Offers, db: Engine, step_id: UUID) -> None:
        """Kills: reading the event id first, in place of the claim by insert."""
        event = completed(offers.tenant_id, step_id)

        first, second = race_for_row(db, table_of(FulfillmentStep), step_id, *[lambda: api.call_back(event)] * 2)

        assert [first.result().json()["replayed"], second.result().json()["replayed"]] == [False, True]
        assert step(offers, step_id)["version"] == 3

    def test_another_event_of_the_same_fact_has_no_effect(self, api: Api, offers: Offers, step_id: UUID) -> None:
        api.call_back(completed(offers.tenant_id, step_id))

        response = api.call_back(completed(offers.tenant_id, step_id))

        assert response.json() == {"processedStatus": "NO_EFFECT", "replayed": False}


class TestWhoMaySpeak:
    def test_a_secret_that_was_replaced_in_its_file_is_taken_without_a_restart(
        self, offers: Offers, step_id: UUID, tmp_path: Path
    ) -> None:
        file, new = tmp_path / "secret", new_secret()
        file.write_text(new_secret())
        with serving(offers.engine, offers.tenant_id, callback_secret=SecretFile(file)) as api:
            is_problem(api.call_back(completed(offers.tenant_id, step_id), secret=new), 401, "SIGNATURE_INVALID")

            file.write_text(new + "\n")

            assert api.call_back(completed(offers.tenant_id, step_id), secret=new).status_code == 200

    def test_a_signature_by_another_secret_is_401(self, api: Api, offers: Offers, db: Engine, step_id: UUID) -> None:
        is_problem(api.call_back(completed(offers.tenant_id, step_id), secret=new_secret()), 401, "SIGNATURE_INVALID")
        assert count(db, ExternalCallbackRecord) == 0

    @pytest.mark.parametrize(
        "changes", [{"signature": "v1,AAAA"}, {"timestamp": str(int((datetime.now(UTC) - timedelta(minutes=6)).timestamp()))}]
    )
    def test_a_wrong_signature_is_401(self, api: Api, offers: Offers, step_id: UUID, changes: dict[str, Any]) -> None:
        is_problem(api.call_back(completed(offers.tenant_id, step_id), **changes), 401, "SIGNATURE_INVALID")

    def test_a_signature_is_over_the_bytes_and_not_over_their_meaning(self, api: Api, offers: Offers, step_id: UUID) -> None:
        """Kills: checking the signature over the event after it was parsed and serialized again."""
        event = completed(offers.tenant_id, step_id)
        spaced, compact = json.dumps(event, indent=3).encode(), json.dumps(event, separators=(",", ":")).encode()

        is_problem(api.call_back(spaced, id=event["eventId"], sends=compact), 401, "SIGNATURE_INVALID")
        assert api.call_back(spaced, id=event["eventId"]).json()["processedStatus"] == "APPLIED"

    def test_no_signature_at_all_is_401(self, api: Api, offers: Offers, step_id: UUID) -> None:
        response = api.client.post(f"/callbacks/{PROVIDER}", json=completed(offers.tenant_id, step_id))

        is_problem(response, 401, "SIGNATURE_INVALID")

    def test_a_provider_that_is_not_configured_is_404(self, api: Api, offers: Offers, step_id: UUID) -> None:
        is_problem(api.call_back(completed(offers.tenant_id, step_id), provider="nobody"), 404, "NOT_FOUND")

    def test_the_signed_id_must_be_the_id_of_the_event(self, api: Api, offers: Offers, step_id: UUID) -> None:
        is_problem(api.call_back(completed(offers.tenant_id, step_id), id="another"), 422, "REQUEST_INVALID")

    @pytest.mark.parametrize("reference", ["", "step", "order:x:y", "step:nobody:nothing", f"step:{'-' * 36}:x"])
    def test_a_reference_that_names_no_tenant_is_422(self, api: Api, offers: Offers, step_id: UUID, reference: str) -> None:
        is_problem(api.call_back(completed(offers.tenant_id, step_id, stepRef=reference)), 422, "REQUEST_INVALID")

    def test_a_callback_whose_reference_names_no_step_is_recorded_as_unmatched(
        self, api: Api, offers: Offers, step_id: UUID
    ) -> None:
        event = completed(offers.tenant_id, step_id, stepRef=f"step:{offers.tenant_id}:nothing")

        assert api.call_back(event).json()["processedStatus"] == "UNMATCHED"

    @pytest.mark.parametrize(
        "raw",
        [b"", b"[]", b"{", b'{"a": NaN}', b'{"a": 1e999}', b"[" * 9_000],
    )
    def test_a_signed_body_that_is_no_event_is_422(self, api: Api, raw: bytes) -> None:
        is_problem(api.call_back(raw), 422, "REQUEST_INVALID")

    @pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le"])
    def test_a_signed_body_in_another_encoding_is_400(self, api: Api, offers: Offers, step_id: UUID, encoding: str) -> None:
        event = completed(offers.tenant_id, step_id)

        problem = is_problem(api.call_back(json.dumps(event).encode(encoding), id=event["eventId"]), 400, "REQUEST_INVALID")

        assert "UTF-8" in problem["detail"]

    @pytest.mark.parametrize("escaped", [r'"\u0000"', r'"\\\u0000"', r'{"\u0000": 1}', r'"\ud800"', "NaN", "1e999"])
    def test_what_cannot_be_stored_is_422(self, api: Api, offers: Offers, db: Engine, step_id: UUID, escaped: str) -> None:
        event = completed(offers.tenant_id, step_id, more="?")
        raw = json.dumps(event).replace('"?"', escaped).encode()

        is_problem(api.call_back(raw, id=event["eventId"]), 422, "REQUEST_INVALID")
        assert count(db, ExternalCallbackRecord) == 0

    def test_the_letters_of_an_escape_are_no_nul(self, api: Api, offers: Offers, db: Engine, step_id: UUID) -> None:
        event = completed(offers.tenant_id, step_id, more=r"written \u0000 by a person")

        assert api.call_back(event).json()["processedStatus"] == "APPLIED"

        record = table_of(ExternalCallbackRecord)
        with db.connect() as connection:
            assert connection.scalar(select(record.c.payload)) == event

    def test_a_payload_above_the_cap_is_413(self, api: Api, offers: Offers, step_id: UUID) -> None:
        event = completed(offers.tenant_id, step_id, more="x" * LARGEST_CALLBACK_BYTES)

        is_problem(api.call_back(event), 413, "BODY_TOO_LARGE")
