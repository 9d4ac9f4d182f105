"""An address of a database that nobody could ever connect with is refused before anything is connected to, in one line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.unit.test_start_checks import problem
from workers.local.errors import StackError
from workers.local.given import check_database
from workers.runtime.database import connect
from workers.runtime.database_fitness import DatabaseUnreachableError, require_fit
from workers.runtime.environment import Environment, SettingError
from workers.runtime.setting_kinds import DATABASE
from workers.start_checks import require_settings

SECRET = "not-to-be-shown"
ADDRESS = f"postgresql+psycopg://q2o:{SECRET}@127.0.0.1:1/q2o"
WRONG: Mapping[str, str] = {
    "sslmod=verify-full": """has parameters that libpq does not take (invalid connection option "sslmod")""",
    "sslmode=verify-ful": """has parameters that libpq does not take (invalid sslmode value: "verify-ful")""",
    "target_session_attrs=writable": "has parameters that libpq does not take (invalid target_session_attrs value",
    "gssencmode=no": "has parameters that libpq does not take (invalid gssencmode value",
    "ssl_min_protocol_version=TLSv9": "has parameters that libpq does not take (invalid",
    "sslmode=require&sslrootcert=system": "has parameters that libpq does not take (weak sslmode",
    "service=nowhere": "has parameters that libpq does not take (definition of service",
    "autocommit=true": "has parameters that libpq does not take (invalid connection option",
    "connect_timeout=abc": "has the parameter connect_timeout, but no whole number for it",
    "keepalives_idle=1m": "has the parameter keepalives_idle, but no whole number for it",
    "tcp_user_timeout=1_0": "has the parameter tcp_user_timeout, but no whole number for it",
    "sslmode=": "has the parameter sslmode without a value",
    "sslmode=verify-full&sslrootcert": "has the parameter sslrootcert without a value",
    "sslmode=disable&sslmode=verify-full": "has the parameter sslmode more than once",
    "sslrootcert=ca.pem%00&sslmode=verify-full": "has a text for sslrootcert that cannot be sent",
    "password=\udcff": "has a text for password that cannot be sent",
    "host=a:1&host=b:2&port=3": "has hosts and ports that do not fit together",
    "host=a,b&port=1,2,3": "has hosts and ports that do not fit together",
}


@pytest.mark.parametrize("parameters", WRONG)
def test_parameters_that_libpq_would_refuse_are_named_at_the_start(parameters: str) -> None:
    assert problem("relay", database_url=f"{ADDRESS}?{parameters}").startswith(f"Q2O_DATABASE_URL {WRONG[parameters]}")


def test_an_address_in_a_file_and_one_of_a_single_process_are_judged_alike(tmp_path: Path) -> None:
    (tmp_path / "address").write_text(f"{ADDRESS}?sslmode=verify-ful\n")

    own = problem("relay", relay_database_url=f"{ADDRESS}?sslmode=verify-ful")
    in_file = problem("relay", database_url="", database_url_file=str(tmp_path / "address"))

    assert own.startswith("Q2O_RELAY_DATABASE_URL has parameters")
    assert in_file.startswith("Q2O_DATABASE_URL_FILE has parameters")


def test_the_database_of_a_local_engine_is_judged_alike() -> None:
    address = "postgresql+psycopg://camunda@127.0.0.1:1/camunda?sslmod=disable"

    with pytest.raises(SettingError, match=r"Q2O_ENGINE_DATABASE_URL=.* has parameters that libpq does not take"):
        require_settings("up", {"Q2O_ENGINE_DATABASE_URL": address})
    with pytest.raises(StackError, match="Q2O_ENGINE_DATABASE_URL has parameters that libpq does not take"):
        check_database("Q2O_ENGINE_DATABASE_URL", address)


@pytest.mark.parametrize(
    "address",
    [
        "postgresql+psycopg://",
        "postgresql+psycopg:///q2o?host=/run/postgresql",
        f"{ADDRESS}?sslmode=verify-full&sslrootcert=/ca.pem&sslcert=/worker.pem&sslkey=/worker.pk8",
        f"{ADDRESS}?connect_timeout=2&keepalives_idle=30&tcp_user_timeout=10000&options=-c%20search_path%3Dq2o",
        f"postgresql+psycopg://q2o:{SECRET}@/q2o?host=a:5432&host=b:5432&target_session_attrs=read-write",
        f"postgresql+psycopg://q2o:{SECRET}@/q2o?host=a,b&port=5432,5433&target_session_attrs=prefer-standby&load_balance_hosts=random",
        "postgresql+psycopg://q2o@db/q2o?hostaddr=10.0.0.1&password=p%3Fa%26b%20%27%5C",
    ],
)
def test_an_address_with_which_libpq_would_connect_passes(address: str) -> None:
    assert DATABASE.fault(address) is None
    assert Environment({"Q2O_DATABASE_URL": address}).secret("database_url") == address


def test_an_address_at_which_there_is_no_database_is_named_without_a_password_among_its_parameters() -> None:
    nowhere = connect(f"postgresql+psycopg://q2o@127.0.0.1:1/q2o?password={SECRET}&sslpassword={SECRET}&sslmode=prefer", "tests")

    with pytest.raises(DatabaseUnreachableError, match=r"q2o@127\.0\.0\.1:1/q2o\?sslmode=prefer: ") as refused:
        require_fit(nowhere)

    assert SECRET not in str(refused.value)
