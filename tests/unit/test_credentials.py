"""The credentials of a local stack outlive releases that add some."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from workers.local.credentials import ADDED, load_credentials
from workers.local.errors import StackError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "credentials.json"


def forget(file: Path, *names: str) -> None:
    kept = {name: value for name, value in json.loads(file.read_text()).items() if name not in names}
    file.write_text(json.dumps(kept))


def test_a_file_of_an_earlier_release_gets_what_is_new_and_keeps_the_rest(file: Path) -> None:
    before = asdict(load_credentials(file))
    forget(file, *ADDED)

    found = load_credentials(file)

    assert {name: value for name, value in asdict(found).items() if name not in ADDED} == {
        name: value for name, value in before.items() if name not in ADDED
    }
    assert load_credentials(file) == found
    assert file.stat().st_mode & 0o077 == 0


def test_a_file_without_the_password_of_a_database_is_damaged(file: Path) -> None:
    load_credentials(file)
    forget(file, "postgres")

    with pytest.raises(StackError, match="is damaged"):
        load_credentials(file)
