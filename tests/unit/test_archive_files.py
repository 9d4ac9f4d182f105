"""Two writers of one archive file never share an unfinished file, and a file that is there is never changed."""

from __future__ import annotations

import os
from errno import ENOSPC
from pathlib import Path
from uuid import UUID

import pytest

from domain import archives
from reconciliation.archive_files import BrokenArchiveError, Entry, Written, entries, write

TENANT = UUID(int=1)


def write_one(directory: Path) -> Written:
    return write(directory, TENANT, 1, archives.beginning(TENANT), [Entry("quote", UUID(int=2), '{"id": 1}')])


def files_in(directory: Path) -> dict[str, tuple[int, bytes]]:
    """Name -> which file it is, and its content."""
    return {path.name: (path.stat().st_ino, path.read_bytes()) for path in (directory / str(TENANT)).iterdir()}


def test_two_writers_of_the_same_file_with_the_same_process_id_both_succeed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kills: an unfinished file of two containers, into which one writes while the other gives it its name."""
    fsync, others = os.fsync, list[Written]()
    turns = [lambda: others.append(write_one(tmp_path))]

    def let_the_other_write(handle: int) -> None:
        if turns:
            turns.pop()()
        fsync(handle)

    monkeypatch.setattr(os, "getpid", lambda: 7)
    monkeypatch.setattr(os, "fsync", let_the_other_write)

    written = write_one(tmp_path)

    assert [line["row"] for line in entries(tmp_path, written)] == [{"id": 1}]
    assert (others, sorted(files_in(tmp_path))) == ([written], [f"{written.name}.jsonl", f"{written.name}.manifest.json"])


def test_a_writer_that_fails_leaves_no_unfinished_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills: a full disk that gets fuller with each try."""

    def fail(_: int) -> None:
        raise OSError(ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)

    with pytest.raises(OSError, match="No space left"):
        write_one(tmp_path)

    assert files_in(tmp_path) == {}


def test_a_file_that_is_there_already_is_flushed_and_stays_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills: a file believed to be on the disk, although the machine may have lost power before its writer had flushed it."""
    written = write_one(tmp_path)
    before, flushed, fsync = files_in(tmp_path), set[int](), os.fsync

    def note(handle: int) -> None:
        flushed.add(os.fstat(handle).st_ino)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", note)

    assert (write_one(tmp_path), files_in(tmp_path)) == (written, before)
    assert flushed >= {inode for inode, _ in before.values()}


@pytest.mark.parametrize("kind", ["jsonl", "manifest.json"])
def test_a_file_that_is_there_already_and_is_another_is_neither_taken_over_nor_changed(tmp_path: Path, kind: str) -> None:
    written = write_one(tmp_path)
    (tmp_path / str(TENANT) / f"{written.name}.{kind}").write_bytes(b"of somebody else")
    before = files_in(tmp_path)

    with pytest.raises(BrokenArchiveError, match=rf"{written.name}\.{kind} is there already, and is not what would be written"):
        write_one(tmp_path)

    assert files_in(tmp_path) == before
