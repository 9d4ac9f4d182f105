"""A row that Python cannot read holds up neither the archive of the other business nor the audit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import Engine, text
from structlog.testing import capture_logs

from domain import archives
from domain.store.unit_of_work import housekeeping
from reconciliation.archive_files import BrokenArchiveError, Entry, seal, unseal, write
from reconciliation.archived_rows import load, seeing_archives
from tests.support.database import acting
from tests.support.offers import Offers
from tests.support.retaining import AT_ONCE, archiving, lines_of
from tests.support.unfit import DEEP, MANY_DIGITS, nested

KEY = bytes(range(64))
ODD = {"many digits": MANY_DIGITS, "three thousand levels": DEEP, "levels at the end of the stack": nested(900)}
PLANT = text(
    "INSERT INTO shown_form SELECT tenant_id, gen_random_uuid(), id, NULL, jsonb_build_object(CAST(:fact AS text), CAST(:odd AS jsonb)), "
    "'hash', clock_timestamp() FROM quote WHERE id = :quote"
)


@pytest.mark.parametrize("document", ODD.values(), ids=ODD)
@pytest.mark.parametrize("fact", ["kind", "form"], ids=["plain", "personal"])
def test_a_dossier_that_could_not_be_read_back_stays_and_the_others_are_archived(
    offers: Offers, tmp_path: Path, fact: str, document: str
) -> None:
    """Kills: an archive that gives up a tenant in each run because of one odd row, and one that nobody can read any more."""
    odd, even = (offers.draft_quote().quote_id for _ in range(2))
    with offers.engine.begin() as connection:
        connection.execute(text("UPDATE quote SET status = 'CANCELLED'"))
        connection.execute(PLANT, {"fact": fact, "odd": document, "quote": odd})

    with capture_logs() as logs:
        deleted, failed = archiving(offers.engine, tmp_path).run(AT_ONCE)

    with offers.engine.connect() as connection:
        assert list(connection.scalars(text("SELECT id FROM quote"))) == [odd]
    assert {line["dossier"] for line in lines_of(offers.engine, tmp_path, offers.tenant_id)} == {str(even)}
    assert (deleted > 0, failed) == (True, 1)
    assert [(line["event"], line["tenantId"], line["dossier"]) for line in logs if line["log_level"] == "error"] == [
        ("dossier_not_read", str(offers.tenant_id), str(odd))
    ]


@pytest.mark.parametrize("document", [MANY_DIGITS, DEEP], ids=["many digits", "three thousand levels"])
def test_personal_data_that_cannot_be_read_are_a_fault_of_the_archive(document: str) -> None:
    sealed = seal(KEY, document, "quote")

    with pytest.raises(BrokenArchiveError, match="personal data of quote cannot be read"):
        unseal(KEY, sealed, "quote")


ARCHIVED: Mapping[str, tuple[str, str]] = {
    "an odd row": (f'{{"id": {DEEP}}}', "[]"),
    "odd personal data": ('{"id": 1}', f"[{DEEP}]"),
}


@pytest.mark.parametrize(("row", "personal"), ARCHIVED.values(), ids=ARCHIVED)
def test_the_audit_names_an_archived_row_that_it_cannot_read(db: Engine, tmp_path: Path, row: str, personal: str) -> None:
    """Kills: one archived row that ends the audit of every tenant."""
    tenant_id = uuid4()
    with housekeeping(acting(db, "retain")) as connection:
        [key] = archives.keys_for(connection, tenant_id, {"customer"}).values()
        entry = Entry("quote", uuid4(), row, str(key.id), seal(bytes(key.key), personal, "quote"))
        written = write(tmp_path, tenant_id, 1, archives.beginning(tenant_id), [entry])
        described = {name: getattr(written, name) for name in ("name", "lines", "first_hash", "last_hash")}
        archives.register(connection, tenant_id, 1, **described)

    with seeing_archives(acting(db, "audit"), tmp_path) as connection:
        whole = load(connection, tenant_id, tmp_path)

    assert [each.startswith("The archive is broken:") for each in whole.violations] == [True]
    assert "cannot be read" in whole.violations[0]
