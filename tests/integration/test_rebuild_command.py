"""`q2o rebuild --tenant` refuses a tenant of which nothing is stored: a mistyped one would look as if all were well."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

from sqlalchemy import Engine

from tests.integration.test_command_line import Ended, assert_one_line, q2o
from tests.support.database import acting
from tests.support.offers import Offers


def rebuilt(db: Engine, data_dir: Path, tenant: str) -> Ended:
    address = acting(db, "reconcile").url.render_as_string(hide_password=False)
    return q2o(data_dir, "rebuild", "order_search", "--tenant", tenant, reconcile_database_url=address)


def test_a_rebuild_of_an_unknown_tenant_is_refused_in_one_line(db: Engine, offers: Offers, tmp_path: Path) -> None:
    offers.draft_quote()
    unknown = str(uuid4())

    assert_one_line(rebuilt(db, tmp_path, unknown), f"no quote, order or decision is stored of tenant {unknown}: ")


def test_a_rebuild_of_a_tenant_without_orders_reads_nothing(db: Engine, offers: Offers, tmp_path: Path) -> None:
    offers.draft_quote()

    ended = rebuilt(db, tmp_path, str(offers.tenant_id))

    assert ended.returncode == 0, ended.stderr
    assert "order_search: 0 rows read, 0 of them rebuilt" in ended.stderr
