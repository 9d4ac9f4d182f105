"""`q2o token` issues a token for the suite that was started last; when it cannot, it says in one line what is missing."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from uuid import uuid4

import pytest
from typer.testing import CliRunner, Result

from workers.cli import app
from workers.http.auth import Principal
from workers.http.tokens import local_tokens
from workers.local.credentials import environment_file
from workers.runtime.settings import DEMO_TENANT

SECRET = "a secret that is long enough for HS256"
SELLER = ("--subject", "alice", "--role", "salesAgent")
BUYER = ("--subject", "carla", "--role", "customer")


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point the command at this data directory, and hide the settings of the developer's shell."""
    for name in [name for name in os.environ if name.startswith("Q2O_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("Q2O_DATA_DIR", str(tmp_path))
    return tmp_path


def token(*arguments: str, **settings: str) -> Result:
    """Run the command with these settings in its environment: `jwt_secret` is Q2O_JWT_SECRET."""
    return CliRunner().invoke(app, ["token", *arguments], env={f"Q2O_{name.upper()}": value for name, value in settings.items()})


def principal(*arguments: str, **settings: str) -> Principal:
    """Read who the token that the command issues stands for."""
    issued = token(*arguments, jwt_secret=SECRET, **settings)
    assert issued.exit_code == 0, issued.output
    return asyncio.run(local_tokens(SECRET)(f"Bearer {issued.stdout.strip()}"))


def demand_one_line(ended: Result, *words: str) -> None:
    [line] = ended.stderr.splitlines()
    assert all(word in line for word in ("q2o:", *words)), line
    assert (ended.exit_code, ended.stdout) == (2, "")


def test_without_a_suite_the_command_says_what_to_start() -> None:
    demand_one_line(token(*SELLER), "q2o up", "Q2O_JWT_SECRET")


def test_for_an_unknown_role_the_command_names_the_known_ones() -> None:
    demand_one_line(token("--subject", "alice", "--role", "boss"), "boss", "salesAgent", "authorityAdmin")


def test_no_token_is_issued_for_a_name_that_the_product_writes_itself() -> None:
    demand_one_line(token("--subject", "reconciliation", "--role", "salesAgent", jwt_secret=SECRET), "part of the product")


def test_a_token_is_for_the_tenant_of_the_demo_when_no_suite_was_started() -> None:
    assert principal(*SELLER).tenant_id == DEMO_TENANT


def test_a_token_is_for_the_tenant_of_the_suite_that_was_started_last(data_dir: Path) -> None:
    tenant_id = uuid4()
    environment_file(data_dir).write_text(f"export Q2O_KAFKA='a b'\nexport Q2O_TENANT={tenant_id}\n")

    assert principal(*SELLER).tenant_id == tenant_id


def test_the_tenant_of_the_environment_comes_before_that_of_the_last_suite(data_dir: Path) -> None:
    environment_file(data_dir).write_text(f"export Q2O_TENANT={uuid4()}\n")
    tenant_id = uuid4()

    assert principal(*SELLER, tenant=str(tenant_id)).tenant_id == tenant_id


def test_the_tenant_that_the_command_names_comes_before_all_others() -> None:
    tenant_id = uuid4()

    assert principal(*SELLER, "--tenant", str(tenant_id), tenant=str(uuid4())).tenant_id == tenant_id


def test_a_tenant_that_is_no_uuid_is_reported_with_its_variable() -> None:
    demand_one_line(token(*SELLER, tenant="acme", jwt_secret=SECRET), "Q2O_TENANT=acme", "UUID")


def test_the_token_of_a_buyer_needs_customers() -> None:
    demand_one_line(token(*BUYER, jwt_secret=SECRET), "--customer")


def test_the_token_of_a_buyer_names_the_customers() -> None:
    assert principal(*BUYER, "--customer", "C-1", "--customer", "C-2").customers == {"C-1", "C-2"}
