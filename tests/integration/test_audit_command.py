"""`q2o audit` looks every invariant up with the rights of `audit`, and says what it could not look at."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, Engine, text
from typer.testing import CliRunner, Result

from domain import auditing
from domain.auditing import Snapshot, outside
from domain.auditing.invariants import INVARIANTS, Side
from tests.support.database import acting
from tests.support.fulfilment import Fulfilment
from tests.support.offers import Offers, offers_of_new_tenant
from tests.support.ports import free_port_that_refuses
from tests.support.projected import show_all
from tests.support.waiting import eventually
from workers import cli_auditing, suite
from workers.cli import app

Run = Callable[..., Result]


@pytest.fixture
def run(db: Engine, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `q2o audit` with some more settings."""
    monkeypatch.setattr(suite, "connect", lambda *_: acting(db, "audit"))

    def run(*arguments: str, **settings: str) -> Result:
        given = {"COLUMNS": "200", "Q2O_DATABASE_URL": db.url.render_as_string(hide_password=False), **settings}
        return CliRunner().invoke(app, ["audit", *arguments], env=given)

    return run


@pytest.fixture
def work(offers: Offers) -> Fulfilment:
    return Fulfilment.running(offers)


def checks_of(result: Result) -> dict[str, Any]:
    [report] = json.loads(result.stdout)["audits"]
    return {check["code"]: check for check in report["checks"]}


def test_an_order_on_its_way_is_no_violation(run: Run, work: Fulfilment) -> None:
    result = run("--tenant", str(work.offers.tenant_id))

    assert result.exit_code == 0, result.output
    assert "1 tenant, no violation" in result.output


def test_what_is_on_its_way_counts_as_missing_in_a_settled_tenant(run: Run, work: Fulfilment) -> None:
    result = run("--settled", "--json")

    assert result.exit_code == 1
    assert not json.loads(result.stdout)["passed"]
    assert [code for code, check in checks_of(result).items() if check["violations"]] == ["I15", "I20", "I23"]


def test_every_tenant_is_audited_when_none_is_named(run: Run, db: Engine, work: Fulfilment) -> None:
    other = Fulfilment.running(offers_of_new_tenant(db)).offers.tenant_id

    audits = json.loads(run("--json").stdout)["audits"]

    assert {audit["tenantId"] for audit in audits} == {str(work.offers.tenant_id), str(other)}


def test_a_session_that_is_cut_during_the_audit_is_told_in_one_line(run: Run, db: Engine, work: Fulfilment) -> None:
    """Kills: the trace of a fault of ours, where the database was restarted."""
    with db.connect() as holder, ThreadPoolExecutor(1) as pool:
        holder.execute(text("LOCK TABLE quote_acceptance IN ACCESS EXCLUSIVE MODE"))
        running = pool.submit(run)
        with db.connect().execution_options(isolation_level="AUTOCOMMIT") as other:
            waiting = text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            eventually(lambda: other.execute(waiting).all(), "the audit waits, and its session is cut")
        result = running.result(60)

    assert result.exit_code == 2
    tenant_id = work.offers.tenant_id
    assert f"q2o: not looked at: tenant {tenant_id}: {CUT}" in result.stderr.splitlines()
    assert "1 tenant, no violation in what was looked at" in result.stdout


CUT = "terminating connection due to administrator command"


def cut_sessions_of(tenants: Collection[UUID], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the database end the session that reads one of these tenants."""
    inspect = auditing.inspect

    def cut(connection: Connection, tenant_id: UUID, **how: Any) -> Snapshot:
        if tenant_id in tenants:
            connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        return inspect(connection, tenant_id, **how)

    monkeypatch.setattr(auditing, "inspect", cut)


def three_tenants(db: Engine) -> list[UUID]:
    """Make three tenants with a quote each, in the order of the audit."""
    made = [offers_of_new_tenant(db) for _ in range(3)]
    for each in made:
        each.draft_quote()
    return sorted(each.tenant_id for each in made)


def test_a_tenant_that_cannot_be_read_leaves_what_was_found_in_the_others(
    run: Run, db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kills: a report that is thrown away because the session was cut in a later tenant."""
    first, second, third = three_tenants(db)
    with db.begin() as connection:
        connection.execute(text("UPDATE quote SET version = version + 1 WHERE tenant_id = ANY(:wrong)"), {"wrong": [first, third]})
    cut_sessions_of([second], monkeypatch)

    result = run("--json")

    audits = {UUID(each["tenantId"]): each for each in json.loads(result.stdout)["audits"]}
    assert result.exit_code == 1, result.output
    assert [audits[each]["violations"] > 0 for each in (first, second, third)] == [True, False, True]
    assert audits[second]["outOfReach"] == [f"tenant {second}: {CUT}"]
    assert {check["notLookedAt"] for check in audits[second]["checks"]} == {CUT}


def test_tenants_are_not_tried_for_ever_while_none_can_be_read(run: Run, db: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_auditing, "GIVE_UP", 2)
    first, second, third = three_tenants(db)
    cut_sessions_of([first, second], monkeypatch)

    result = run("--json")

    unread = [each["tenantId"] for each in json.loads(result.stdout)["audits"] if each["outOfReach"]]
    assert (result.exit_code, unread) == (2, [str(first), str(second), str(third)])


ODD, NO_DAY = "soon", "2026-02-30T00:00:00+00:00"  # the second has the form of a time, and is none


def say_valid_until(db: Engine, text_of_time: str) -> None:
    """Let the newest event of each quote say so, as the lists have consumed it."""
    with db.begin() as connection:
        connection.execute(
            text(
                "UPDATE outbox_event SET status = 'PUBLISHED', payload = payload || CAST(:odd AS jsonb) WHERE aggregate_type = 'quote'"
            ),
            {"odd": json.dumps({"validUntil": text_of_time})},
        )


def test_an_odd_time_in_an_event_is_a_violation(run: Run, db: Engine, work: Fulfilment) -> None:
    """Kills: an audit that ends without a report at the first value that is no time."""
    show_all(db)
    say_valid_until(db, ODD)

    result = run("--json")

    assert result.exit_code == 1, result.output
    assert [each for each in checks_of(result)["I20"]["violations"] if each.endswith("is not what its events add up to.")]


def test_a_rule_that_cannot_be_checked_is_named_and_the_others_are_checked(run: Run, db: Engine, work: Fulfilment) -> None:
    """Kills: one transaction in which a failed query leaves every later rule unchecked."""
    show_all(db)
    say_valid_until(db, NO_DAY)

    result = run("--json")

    checks = checks_of(result)
    assert result.exit_code == 2, result.output
    assert checks["I20"]["notLookedAt"].startswith("date/time field value out of range")
    assert not checks["I20"]["passed"]
    assert all(checks[code]["passed"] for code in ("I1", "I5", "I9", "I21"))
    assert f"I20: {checks['I20']['notLookedAt']}" in json.loads(result.stdout)["audits"][0]["outOfReach"]


def test_people_are_told_which_rule_could_not_be_checked_and_that_not_all_is_well(run: Run, db: Engine, work: Fulfilment) -> None:
    show_all(db)
    say_valid_until(db, NO_DAY)

    result = run()

    assert result.exit_code == 2
    assert "q2o: not looked at: I20: date/time field value out of range" in result.stderr
    assert "1 tenant, no violation in what was looked at" in result.stdout


def test_rows_that_cannot_be_compared_leave_the_rules_checked(run: Run, work: Fulfilment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills: an audit that ends without a report when what other sides are compared with cannot be read."""
    monkeypatch.setattr(outside, "_STEPS", text("SELECT 1 / 0 WHERE :tenant_id IS NOT NULL"))

    result = run("--json")

    assert result.exit_code == 2, result.output
    assert checks_of(result)["I16"]["notLookedAt"] == "UnreadError: division by zero"
    assert checks_of(result)["I1"]["passed"]


def test_an_unknown_tenant_is_one_line(run: Run, work: Fulfilment) -> None:
    unknown = uuid4()

    result = run("--tenant", str(unknown))

    assert result.exit_code == 2
    [line] = result.output.splitlines()
    assert line.startswith(f"q2o: nothing is stored of tenant {unknown}: give one of 1 tenant by --tenant")


def test_a_side_that_is_not_set_up_is_not_looked_at_and_has_not_passed(run: Run, work: Fulfilment) -> None:
    checks = checks_of(run("--json"))

    beside = {code for code, each in INVARIANTS.items() if each.side in {Side.ENGINE, Side.KAFKA, Side.LEDGER, Side.CLIENTS}}
    unseen = {code for code, check in checks.items() if check["notLookedAt"]}
    assert beside <= unseen
    assert not any(checks[code]["passed"] for code in unseen)
    assert checks["I16"]["notLookedAt"] == "Q2O_ENGINE_URL is not set"


def test_a_side_that_is_out_of_reach_is_named_and_is_exit_code_2(run: Run, work: Fulfilment) -> None:
    with free_port_that_refuses() as port:
        away = f"http://127.0.0.1:{port}"
        engine = {"Q2O_ENGINE_URL": f"{away}/engine-rest", "Q2O_ENGINE_USER": "q2o", "Q2O_ENGINE_PASSWORD": "q2o"}

        result = run(Q2O_PROVIDER_LEDGER_URL=f"{away}/ledger", **engine)

    assert result.exit_code == 2
    assert f"q2o: not looked at: the provider does not show its ledger at {away}/ledger" in result.stderr
    assert "I16" in result.stdout
    assert "not looked at" in result.stdout


def test_the_directory_of_archives_is_read(run: Run, db: Engine, work: Fulfilment, tmp_path: Path) -> None:
    with db.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO archive_file (tenant_id, id, sequence, name, lines, first_hash, last_hash) "
                "VALUES (:tenant, gen_random_uuid(), 1, 'x.jsonl', 1, '', '')"
            ),
            {"tenant": work.offers.tenant_id},
        )

    without, within = run("--json"), run("--json", Q2O_ARCHIVE_DIR=str(tmp_path))

    assert checks_of(without)["I32"]["violations"] == ["This tenant has 1 archive file, and no directory of archives is named."]
    assert checks_of(within)["I32"]["violations"][0].startswith("The archive is broken")


def test_a_record_of_what_clients_were_told_is_compared(run: Run, work: Fulfilment, tmp_path: Path) -> None:
    record = tmp_path / "clients.jsonl"
    told = {"tenantId": str(work.offers.tenant_id), "command": "accept-quote", "idempotencyKey": "lost", "status": 201}
    record.write_text(f"{json.dumps(told)}\n{json.dumps({'metric': 'q2o_stale_price_rejections_total', 'increase': 1})}\n")

    checks = checks_of(run("--json", "--clients", str(record)))

    assert checks["I25"]["violations"] == ["Key lost of accept-quote was answered as done, and nothing of it is stored."]
    assert checks["I29"]["violations"] == [
        "q2o_stale_price_rejections_total grew by 1, and clients got 0 such answers, with 0 outcomes unknown."
    ]


def test_a_record_of_clients_that_cannot_be_read_is_one_line(run: Run, work: Fulfilment, tmp_path: Path) -> None:
    record = tmp_path / "clients.jsonl"
    record.write_text('{"status": "x"}\n')

    result = run("--clients", str(record))

    assert result.exit_code == 2
    assert f"line 1 of {record} is no entry of a client's record" in result.output
