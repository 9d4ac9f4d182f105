"""Archive files: JSON lines with a hash chain, and a manifest beside each file (decision 0038).

    <directory>/<tenant>/000001-<first 12 digits of its last hash>.jsonl
    <directory>/<tenant>/000001-<the same>.manifest.json

Each line ends with its hash: SHA-256 of the hash before it, then of the line up to its own hash. The chain goes on from file to file. What
is personal in a row is encrypted with its customer's key, so that erasing the key breaks no chain (decision 0039).
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

_HASH = b',"hash":"'
_END = b'"}'
_DIGITS = 64  # of SHA-256
_UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
REMEDY = "mount the directory of the archive, or name it in Q2O_ARCHIVE_DIR; until then nothing is written or deleted"
SPARE_LEVELS = 200  # whoever reads a line later may stand deeper in Python's stack than whoever writes it


class BrokenArchiveError(Exception):
    """An archive file is missing, or is not what was written; the text names file and line."""


class Entry(NamedTuple):
    """A row that is about to be written. `sealed` is None when it has no personal data, or when its customer is unknown."""

    table: str
    dossier: UUID
    row: str
    key_id: str | None = None
    sealed: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A file as its manifest describes it. `previous_hash` ends the file before it."""

    tenant_id: UUID
    sequence: int
    name: str
    lines: int
    previous_hash: str
    first_hash: str
    last_hash: str


def seal(key: bytes, personal: str, table: str) -> str:
    """Encrypt personal data: the same data give the same text, so that a file can be written again and compared."""
    return base64.b64encode(AESSIV(key).encrypt(personal.encode(), [table.encode()])).decode()


def unseal(key: bytes, sealed: str, table: str) -> list[Any]:
    """Decrypt personal data. Raises BrokenArchiveError when they were not encrypted with this key, or cannot be read."""
    try:
        document = AESSIV(key).decrypt(base64.b64decode(sealed), [table.encode()])
    except (InvalidTag, ValueError) as error:
        raise BrokenArchiveError(f"personal data of {table} cannot be decrypted with the key of their customer") from error
    personal: list[Any] = _parsed(document, f"personal data of {table}")
    return personal


def require_readable(document: str) -> None:
    """Demand that a row can be read back once it is archived. Raises ValueError or RecursionError when it cannot.

    PostgreSQL stores numbers of more digits, and documents of more levels, than Python reads.
    """
    json.loads(SPARE_LEVELS * "[" + document + SPARE_LEVELS * "]")


def write(directory: Path, tenant_id: UUID, sequence: int, previous_hash: str, entries: Iterable[Entry]) -> Written:
    """Write a file and its manifest: each is there as a whole or not at all, also after the machine has lost power."""
    lines: list[bytes] = []
    first_hash, last_hash = "", previous_hash
    for number, entry in enumerate(entries, 1):
        body = _body(number, entry)
        last_hash = _hash(last_hash, body)
        first_hash = first_hash or last_hash
        lines.append(body + _HASH + last_hash.encode() + _END + b"\n")
    written = Written(
        tenant_id=tenant_id,
        sequence=sequence,
        name=f"{sequence:06d}-{last_hash[:12]}",
        lines=len(lines),
        previous_hash=previous_hash,
        first_hash=first_hash,
        last_hash=last_hash,
    )
    folder = directory / str(tenant_id)
    folder.mkdir(exist_ok=True, mode=0o700)
    _put(folder / f"{written.name}.jsonl", b"".join(lines))
    _put(folder / f"{written.name}.manifest.json", _manifest(written))
    _flush(folder)
    _flush(directory)
    return written


def entries(directory: Path, file: Written) -> Iterator[dict[str, Any]]:
    """The lines of a file, each verified before it is given. Raises BrokenArchiveError at the first line that is not as it was written."""
    folder = directory / str(file.tenant_id)
    _compare_manifest(folder / f"{file.name}.manifest.json", file)
    last_hash, number = file.previous_hash, 0
    for number, line in enumerate(_lines(folder / f"{file.name}.jsonl"), 1):
        body, stated = line[: -(len(_HASH) + _DIGITS + len(_END) + 1)], line[-(_DIGITS + len(_END) + 1) : -(len(_END) + 1)]
        last_hash = _hash(last_hash, body)
        if stated != last_hash.encode() or line != body + _HASH + stated + _END + b"\n":
            raise BrokenArchiveError(f"line {number} of {file.name} is changed, or a line before it is missing or was moved")
        yield _parsed(line, f"line {number} of {file.name}")
    if (number, last_hash) != (file.lines, file.last_hash):
        raise BrokenArchiveError(
            f"{file.name} has {number} lines and ends with {last_hash[:12]}, not {file.lines} and {file.last_hash[:12]}"
        )


def require_last(directory: Path, file: Written) -> None:
    """Demand that the last registered file of a tenant is in this directory, by its manifest and its last hash, before another one is written.

    Raises BrokenArchiveError when it is not: then the directory is not mounted, or is another one.
    """
    folder = directory / str(file.tenant_id)
    try:
        _compare_manifest(folder / f"{file.name}.manifest.json", file)
        _compare_end(folder / f"{file.name}.jsonl", file)
    except BrokenArchiveError as error:
        raise BrokenArchiveError(
            f"{directory} does not hold file {file.sequence} of tenant {file.tenant_id} ({error}): {REMEDY}"
        ) from error


def tenants_in(directory: Path) -> Collection[UUID]:
    """The tenants that have a folder in this directory. Raises OSError when it cannot be read."""
    return {UUID(folder.name) for folder in directory.iterdir() if _UUID.fullmatch(folder.name)}


def _parsed(document: bytes, what: str) -> Any:
    try:
        return json.loads(document)
    except (ValueError, RecursionError) as error:
        raise BrokenArchiveError(f"{what} cannot be read: {error}") from error


def _body(number: int, entry: Entry) -> bytes:
    sealed = f',"key":{json.dumps(entry.key_id)},"sealed":{json.dumps(entry.sealed)}' if entry.sealed else ""
    return f'{{"line":{number},"table":"{entry.table}","dossier":"{entry.dossier}","row":{entry.row}{sealed}'.encode()


def _hash(before: str, body: bytes) -> str:
    return hashlib.sha256(before.encode() + body).hexdigest()


def _manifest(written: Written) -> bytes:
    described = {
        "tenantId": str(written.tenant_id),
        "sequence": written.sequence,
        "lines": written.lines,
        "previousHash": written.previous_hash,
        "firstHash": written.first_hash,
        "lastHash": written.last_hash,
    }
    return json.dumps(described, indent=1).encode() + b"\n"


def _compare_manifest(path: Path, file: Written) -> None:
    try:
        found = path.read_bytes()
    except OSError as error:
        raise BrokenArchiveError(f"{path.name} cannot be read: {error.strerror}") from error
    if found != _manifest(file):
        raise BrokenArchiveError(f"{path.name} is not what was written")


def _compare_end(path: Path, file: Written) -> None:
    end = _HASH + file.last_hash.encode() + _END + b"\n"
    try:
        with path.open("rb") as content:
            content.seek(max(content.seek(0, os.SEEK_END) - len(end), 0))
            found = content.read()
    except OSError as error:
        raise BrokenArchiveError(f"{path.name} cannot be read: {error.strerror}") from error
    if found != end:
        raise BrokenArchiveError(f"{path.name} does not end as it was written")


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield from file
    except OSError as error:
        raise BrokenArchiveError(f"{path.name} cannot be read: {error.strerror}") from error


def _put(path: Path, content: bytes) -> None:
    """Write a file to the disk as a whole, and then give it its name. A file that is there already stays if it has the same content.

    Raises BrokenArchiveError if its content differs, because files of the archive are never changed.
    """
    if path.exists():
        if path.read_bytes() != content:
            raise BrokenArchiveError(f"{path.name} is there already, and is not what would be written: move it out of the archive")
        _flush(path)
        return
    # In containers, two writers often have the same process id.
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with unfinished.open("xb") as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Write a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def as_written(tenant_id: UUID, rows: Iterable[Any], beginning: str) -> Iterator[Written]:
    """Registered files as the archive must have them, in their order. Raises BrokenArchiveError for a gap in their numbers."""
    previous_hash = beginning
    for number, row in enumerate(rows, 1):
        if row.sequence != number:
            raise BrokenArchiveError(f"file {number} of tenant {tenant_id} is not registered, file {row.sequence} is")
        yield Written(
            tenant_id=tenant_id,
            sequence=row.sequence,
            name=row.name,
            lines=row.lines,
            previous_hash=previous_hash,
            first_hash=row.first_hash,
            last_hash=row.last_hash,
        )
        previous_hash = row.last_hash


def restored(line: Mapping[str, Any], paths: Iterable[tuple[str, ...]], keys: Mapping[str, bytes]) -> dict[str, Any]:
    """The row of a line with its personal data; without their key, they stay away, because their customer was erased."""
    row: dict[str, Any] = line["row"]
    key = keys.get(line.get("key", ""))
    if "sealed" not in line or key is None:
        return row
    for path, value in zip(paths, unseal(key, line["sealed"], line["table"]), strict=True):
        _put_back(row, path, value)
    return row


def _put_back(row: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    *folders, name = path
    target: Any = row
    for folder in folders:
        target = target.get(folder)
        if not isinstance(target, dict):
            return
    if value is not None or not folders:
        target[name] = value
