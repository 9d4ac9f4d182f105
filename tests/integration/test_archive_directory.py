"""Nothing is written to, or deleted on the strength of, a directory that is not the one of the archive."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from tests.support.offers import Offers
from tests.support.retaining import AT_ONCE, archiving, lines_of


def finish_a_quote(offers: Offers) -> None:
    offers.draft_quote()
    with offers.engine.begin() as connection:
        connection.execute(text("UPDATE quote SET status = 'CANCELLED'"))


def quotes_of(offers: Offers) -> int:
    with offers.engine.connect() as connection:
        return int(connection.scalar(text("SELECT count(*) FROM quote WHERE tenant_id = :id"), {"id": offers.tenant_id}) or 0)


def archive(offers: Offers, directory: Path) -> int:
    """Archive once; returns how many tenants failed."""
    return archiving(offers.engine, directory).run(AT_ONCE)[1]


@pytest.fixture
def mounted(offers: Offers, tmp_path: Path) -> Path:
    """The directory of an archive that has a file; another quote of its tenant is finished."""
    directory = tmp_path / "mounted"
    directory.mkdir()
    finish_a_quote(offers)
    assert archive(offers, directory) == 0
    finish_a_quote(offers)
    return directory


def test_an_empty_directory_in_the_place_of_the_archive_gets_no_file_and_no_row_is_deleted(
    offers: Offers, mounted: Path, tmp_path: Path
) -> None:
    """Kills: a volume that is not mounted after a reboot, so that its place on the local disk is written to."""
    unmounted = tmp_path / "unmounted"
    unmounted.mkdir()

    with capture_logs() as logs:
        failed = archive(offers, unmounted)

    assert (failed, quotes_of(offers), list(unmounted.iterdir())) == (1, 1, [])
    [reason] = [line["reason"] for line in logs if line["event"] == "archive_failed"]
    assert reason.startswith(f"{unmounted} does not hold file 1 of tenant {offers.tenant_id} ")
    assert "mount the directory of the archive, or name it in Q2O_ARCHIVE_DIR" in reason


def test_the_archive_goes_on_when_its_directory_is_back(offers: Offers, mounted: Path, tmp_path: Path) -> None:
    archive(offers, tmp_path)

    assert (archive(offers, mounted), quotes_of(offers)) == (0, 0)


def test_a_directory_that_is_not_there_is_not_made(offers: Offers, tmp_path: Path) -> None:
    finish_a_quote(offers)

    assert (archive(offers, tmp_path / "nowhere"), quotes_of(offers)) == (1, 1)

    assert not (tmp_path / "nowhere").exists()


DAMAGED: Mapping[str, Callable[[Path, Path], object]] = {
    "its manifest is missing": lambda _, manifest: manifest.unlink(),
    "its manifest is another": lambda _, manifest: manifest.write_bytes(b"{}"),
    "its content is missing": lambda content, _: content.unlink(),
    "its content is empty": lambda content, _: content.write_bytes(b""),
    "its last line is cut off": lambda content, _: content.write_bytes(
        b"".join(content.read_bytes().splitlines(keepends=True)[:-1])
    ),
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_no_file_is_written_after_one_that_is_not_as_it_was_registered(
    offers: Offers, mounted: Path, damage: Callable[[Path, Path], object]
) -> None:
    [content], [manifest] = (list((mounted / str(offers.tenant_id)).glob(f"*.{kind}")) for kind in ("jsonl", "manifest.json"))
    damage(content, manifest)

    assert (archive(offers, mounted), quotes_of(offers)) == (1, 1)

    assert list((mounted / str(offers.tenant_id)).glob("000002*")) == []


def test_a_tenant_without_an_archive_begins_none_where_no_other_tenant_has_one(
    offers: Offers, mounted: Path, tmp_path: Path
) -> None:
    """Kills: the first file of a new tenant, written to a directory whose volume is not mounted."""
    archive(offers, mounted)
    unmounted, new = tmp_path / "unmounted", Offers(offers.engine, uuid4())
    unmounted.mkdir()
    finish_a_quote(new)

    before = archive(new, unmounted), quotes_of(new), list(unmounted.iterdir())
    after = archive(new, mounted), quotes_of(new)

    assert (before, after) == ((1, 1, []), (0, 0))


def test_an_older_backup_of_the_database_goes_on_in_the_same_directory(offers: Offers, mounted: Path) -> None:
    archive(offers, mounted)
    lost = {path: path.read_bytes() for path in (mounted / str(offers.tenant_id)).glob("000002*")}
    with offers.engine.begin() as connection:
        connection.execute(text("DELETE FROM archive_file WHERE sequence = 2"))
    finish_a_quote(offers)

    assert (archive(offers, mounted), quotes_of(offers)) == (0, 0)

    assert len({line["dossier"] for line in lines_of(offers.engine, mounted, offers.tenant_id)}) == 2
    assert {path: path.read_bytes() for path in lost} == lost
