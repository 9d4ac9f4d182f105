"""Provides the jars of the JVM services: a lock file names them with their sha256; each is downloaded once per user and checked at every start.

A download goes to a staging directory first and moves to its place only when its sha256 is right, so neither an
interrupted download nor a wrong response of a registry is ever used as a jar.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import requests
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from workers.local.errors import StackError

# More at once would not be faster, because registries limit parallel downloads.
PARALLEL_DOWNLOADS = 8
DOWNLOAD_TIMEOUT_SECONDS = 60
# A network that fails for a moment needs no person; a network that is down is reported within seconds.
RETRYING = Retrying(
    retry=retry_if_exception_type((requests.ConnectionError, requests.Timeout)),
    stop=stop_after_attempt(3),
    wait=wait_random_exponential(max=3),
    reraise=True,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedJar:
    """One entry of a lock file: Maven coordinates and the sha256 of the jar."""

    group: str
    artifact: str
    version: str
    classifier: str
    sha256: str

    @property
    def file_name(self) -> str:
        """The name in the jar directory. It contains the group, because artifacts of two groups may have the same name."""
        return "-".join(part for part in (self.group, self.artifact, self.version, self.classifier) if part) + ".jar"


def read_lock(lock: Path) -> list[LockedJar]:
    """Read the jars that a `jgo.lock.toml` names, in its order, which is the order on the class path."""
    entries = tomllib.loads(lock.read_text())["dependencies"]
    return [
        LockedJar(
            group=entry["groupId"],
            artifact=entry["artifactId"],
            version=entry["version"],
            classifier=entry.get("classifier", ""),
            sha256=entry["sha256"],
        )
        for entry in entries
    ]


def default_jar_directory(environment: Mapping[str, str]) -> Path:
    """The directory that Q2O_JAR_DIR names, else one in the user's cache directory."""
    if named := environment.get("Q2O_JAR_DIR"):
        return Path(named)
    home = Path.home()
    cache = home / "Library" / "Caches" if sys.platform == "darwin" else Path(environment.get("XDG_CACHE_HOME") or home / ".cache")
    return cache / "q2o" / "jars"


class JarStore:
    """A directory of jars; every jar that it gives out has been checked."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def provide(self, jars: Sequence[LockedJar]) -> list[Path]:
        """The paths of the jars; missing ones are downloaded.

        Raises StackError when a jar cannot be downloaded, and when a jar is broken: then with its name, the expected and the
        actual sha256, and the file to delete.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        missing = [jar for jar in jars if not (self._directory / jar.file_name).exists()]
        if missing:
            self._fetch(missing)
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            return list(pool.map(self._checked, jars))

    def _checked(self, jar: LockedJar) -> Path:
        path = self._directory / jar.file_name
        compare(path, jar)
        return path

    def _fetch(self, missing: Sequence[LockedJar]) -> None:
        with tempfile.TemporaryDirectory(dir=self._directory, prefix=".staging-") as staging:
            pool = ThreadPoolExecutor(PARALLEL_DOWNLOADS)
            try:
                _watch([pool.submit(self._fetch_one, jar, Path(staging)) for jar in missing], self._directory)
            finally:
                # The first failure (or Ctrl-C) cancels the rest, so that nobody waits for a hundred more time-outs.
                pool.shutdown(cancel_futures=True)

    def _fetch_one(self, jar: LockedJar, staging: Path) -> None:
        found = _resolve(jar, staging)
        compare(found, jar)
        kept = staging / jar.file_name
        shutil.copyfile(found, kept)
        kept.replace(self._directory / jar.file_name)


def compare(path: Path, jar: LockedJar) -> None:
    """Raise StackError when the file's sha256 is not the locked one."""
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != jar.sha256:
        raise StackError(
            f"The jar {jar.artifact} {jar.version} is broken: its sha256 should be {jar.sha256}, but {path} has {actual}; delete that file and start again"
        )


def _resolve(jar: LockedJar, staging: Path) -> Path:
    """Take the jar from the user's own Maven repository, or let jgo download it into the staging directory."""
    from jgo.config import GlobalSettings
    from jgo.constants import default_maven_repo
    from jgo.maven import MavenContext

    logging.getLogger("jgo").setLevel(logging.ERROR)
    context = MavenContext(
        repo_cache=staging,
        local_repos=[Path(os.environ.get("M2_REPO") or default_maven_repo())],
        remote_repos=GlobalSettings.load().repositories or None,
        timeout=DOWNLOAD_TIMEOUT_SECONDS,
    )
    try:
        component = context.project(jar.group, jar.artifact).at_version(jar.version)
        return Path(RETRYING(component.artifact(classifier=jar.classifier).resolve))
    except (requests.RequestException, RuntimeError) as error:
        raise StackError(
            f"Cannot download the jar {jar.artifact} {jar.version} ({type(error).__name__}): check the network and HTTPS_PROXY, "
            "or name a mirror under [repositories] in ~/.config/jgo.conf, then start again (jars that were downloaded are kept)"
        ) from error


def _watch(downloads: Sequence[Future[None]], directory: Path) -> None:
    """Show progress on standard error: a bar in a terminal, a few plain lines elsewhere. Raises the first failure."""
    console = Console(stderr=True)
    title = f"Downloading {len(downloads)} jars to {directory}"
    if not console.is_terminal:
        console.print(f"{title} …", soft_wrap=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=len(downloads))
        for count, download in enumerate(as_completed(downloads), start=1):
            download.result()
            progress.advance(task)
            if not console.is_terminal and count % 25 == 0:
                console.print(f"  {count} of {len(downloads)}")
