"""A process that dies says so: exit code 70, and a sentence on standard error that names the loop, the reason and where its trace is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from sqlalchemy import Engine, text

from tests.integration.test_command_line import q2o_process
from tests.support.database import new_database
from workers import cli


@pytest.fixture
def schema_of_another_release(database: str) -> Iterator[Engine]:
    with new_database(database, "q2o_ends") as engine:
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE workflow_command RENAME TO workflow_request"))
        yield engine


def test_a_process_whose_loop_dies_names_the_loop_the_reason_and_its_trace(
    schema_of_another_release: Engine, tmp_path: Path
) -> None:
    address = schema_of_another_release.url.render_as_string(hide_password=False)
    engine = {"engine_url": "http://127.0.0.1:9/engine-rest", "engine_user": "q2o-dispatch", "engine_password": "x"}

    ended = q2o_process(tmp_path, "dispatch", database_url=address, **engine)

    [sentence] = [line for line in ended.stderr.splitlines() if line.startswith("q2o:")]
    assert ended.returncode == 70
    assert sentence.startswith("q2o: the loop `dispatch` died of ProgrammingError: ")
    assert "its trace is in the log above" in sentence
    [trace] = [line for line in ended.stderr.splitlines() if '"loop_died"' in line]
    assert '"loop": "dispatch"' in trace


def test_a_fault_of_ours_in_a_command_is_a_sentence_below_its_trace(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = typer.Typer()

    @broken.command()
    def break_down() -> None:
        raise KeyError("[red] member")

    monkeypatch.setattr(cli, "app", broken)
    monkeypatch.setattr("sys.argv", ["q2o"])

    with pytest.raises(SystemExit) as ended:
        cli.main()

    lines = capsys.readouterr().err.splitlines()
    assert ended.value.code == 70
    assert lines[0].startswith("Traceback")
    assert lines[-1].startswith("q2o: a fault of ours ends this command: KeyError: '[red] member'")
