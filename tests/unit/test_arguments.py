"""A wrong value of an option is one line and exit code 2, never a traceback, and nothing is started."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from workers.cli import app
from workers.providers.signatures import new_secret

TOKEN = ("token", "--subject", "alice", "--role", "salesAgent")
SANDBOX = ("sandbox", "--callback-url", "http://127.0.0.1:1/callbacks/sandbox")
TENANT = "00000000-0000-4000-8000-000000000001"
SETTINGS = {"Q2O_JWT_SECRET": "s" * 32, "Q2O_CALLBACK_SECRET": new_secret(), "Q2O_KAFKA": "127.0.0.1:1"}


@pytest.fixture(autouse=True)
def no_settings_of_the_shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("Q2O_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("Q2O_DATA_DIR", str(tmp_path))


def q2o(*arguments: str, **variables: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env={**SETTINGS, **variables})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*TOKEN, "--hours", "nan"), "--hours nan is not a number"),
        ((*TOKEN, "--hours", "inf"), "--hours inf is not a number"),
        ((*TOKEN, "--hours", "1e12"), "is not a number from 0.001 to 8760"),
        ((*TOKEN, "--hours", "-1"), "is not a number from 0.001 to 8760"),
        ((*TOKEN, "--region", "\u202eEU"), "--region"),
        ((*TOKEN, "--region", ""), "--region"),
        ((*TOKEN, "--customer", " c"), "--customer"),
        (("token", "--subject", "a:b", "--role", "salesAgent"), "subject"),
        (("token", "--subject", "alice", "--role", "boss"), "no such role: boss"),
        (("token", "--subject", "alice", "--role", "customer"), "--customer"),
        (("sandbox", "--callback-url", "nonsense"), "--callback-url nonsense is not an address"),
        ((*SANDBOX, "--host", "a..b"), "--host a..b is not a host name"),
        (("deploy", "--suite-models"), "--tenant"),
        (("deploy", "--tenant", TENANT, "--name", "\udcff"), "--name \\udcff is not a name"),
        (("tasks", "--topic", ""), "--topic"),
        # An argument that is not UTF-8 has halves of surrogate pairs.
        (("explain", "\udcff"), "the order \\udcff is not a name"),
        (("explain", ""), "the order  is not a name"),
        (("rebuild", "\udcff"), "no such projection: \\udcff"),
        (("dead-letters", "list", "--topic", "\udcff"), "there is no topic"),
        (("dead-letters", "show", "\udcff"), "is no place of a dead letter"),
    ],
)
def test_a_value_that_cannot_be_is_refused_in_one_line(arguments: tuple[str, ...], words: str) -> None:
    ended = q2o(*arguments)

    assert (ended.exit_code, ended.stdout) == (2, ""), ended.exception
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith("q2o: ")
    assert words in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("retain", "--loop", "--dry-run"), "--loop does not go with --dry-run"),
        (("retain", "--loop", "--json"), "--loop does not go with --json"),
        (("retain", "--loop", "--dry-run", "--json"), "--loop does not go with --dry-run and --json"),
        (("deploy", "--accounts-only", "--tenant", TENANT), "--accounts-only does not go with --tenant"),
        (
            ("deploy", "--accounts-only", "--tenant", TENANT, "--models", "."),
            "--accounts-only does not go with --tenant and --models",
        ),
        (("deploy", "--accounts-only", "--tenant", TENANT, "--name", "n"), "--accounts-only does not go with --tenant and --name"),
        (("deploy", "--models", ".", "--suite-models", "--tenant", TENANT), "--models does not go with --suite-models"),
        (("dead-letters", "show", "oms.order.v1.dlq/0/1", "--hex", "--json"), "--json does not go with --hex"),
    ],
)
def test_options_that_would_cancel_each_other_are_refused_before_anything_is_read(arguments: tuple[str, ...], words: str) -> None:
    ended = q2o(*arguments)

    assert (ended.exit_code, ended.stdout) == (2, ""), ended.exception
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith(f"q2o: {words}: ")


@pytest.mark.parametrize(
    "arguments",
    [
        (*SANDBOX, "--port", "65536"),
        (*SANDBOX, "--port", "-1"),
        (*TOKEN, "--tenant", "acme"),
        ("deploy", "--tenant", "acme"),
        ("deploy", "--models", "/nothing/is/here"),
        ("demo", "--quotes", "19"),
        ("no-such-command",),
    ],
)
def test_a_value_of_another_type_is_refused_with_the_usage(arguments: tuple[str, ...]) -> None:
    ended = q2o(*arguments)

    assert (ended.exit_code, ended.stdout) == (2, "")
    assert ended.stderr.startswith("Usage: ")


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("Q2O_JWT_SECRET", "short", "Q2O_JWT_SECRET is not long enough"),
        ("Q2O_TENANT", "acme", "Q2O_TENANT=acme is not a UUID"),
        ("Q2O_JWT_SECRETS", "x", "Q2O_JWT_SECRETS is no setting: did you mean Q2O_JWT_SECRET?"),
    ],
)
def test_a_tool_checks_its_settings_too(variable: str, value: str, words: str) -> None:
    ended = q2o(*TOKEN, **{variable: value})

    assert (ended.exit_code, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"q2o: {words}")


def test_right_values_pass() -> None:
    assert q2o(*TOKEN, "--hours", "0.5").exit_code == 0
