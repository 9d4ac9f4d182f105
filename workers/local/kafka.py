"""Runs Apache Kafka for the local stack: broker and controller in one JVM (KRaft), on two ports."""

from __future__ import annotations

import base64
import subprocess
import uuid
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from workers.local.errors import StackError
from workers.local.java import class_path, jvm_command
from workers.local.ports import HOST, accepts
from workers.local.processes import Program, end_leftovers
from workers.local.service import Service
from workers.local.source import CONFIGURATION
from workers.runtime.kafka_access import KafkaAccess

START_TIMEOUT_SECONDS = 90.0
HEAP_MIB = 256
RESPONSE_TIMEOUT = timedelta(seconds=5)


class Kafka(Service):
    """One broker. `bootstrap` is its address (`bootstrap.servers` of a client)."""

    name = "kafka"

    def __init__(self, data_dir: Path, ports: tuple[int, int], java: Path) -> None:
        self.port, self._controller_port = ports
        self.bootstrap = f"{HOST}:{self.port}"
        self._java = java
        self._directory = data_dir / "kafka"
        self._log = data_dir / "logs" / "kafka.log"
        self._mark = _mark(data_dir)

    def launch(self, jars: Sequence[Path]) -> None:
        """Format the storage before the first start, and start the JVM; `wait` returns when it serves clients."""
        self._directory.mkdir(exist_ok=True)
        properties = self._write_properties()
        if not (self._directory / "data" / "meta.properties").exists():
            self._format(properties, jars)
        self._program = Program("Kafka", self._command("kafka.Kafka", [str(properties)]), self._log, class_path(jars))
        self._program.start()

    def wait(self) -> None:
        """Wait until the broker serves clients. Raises StackError when the JVM ends or is not ready in time."""
        self._launched.wait_until(self._responds, START_TIMEOUT_SECONDS)

    @classmethod
    def end_leftovers(cls, data_dir: Path) -> None:
        end_leftovers("java", _mark(data_dir))

    def start(self) -> None:
        self._launched.start()
        self.wait()

    def _command(self, main: str, arguments: list[str]) -> list[str]:
        logging = f"log4j2.configurationFile={CONFIGURATION / 'kafka' / 'log4j2.properties'}"
        return jvm_command(self._java, mark=self._mark, heap_mib=HEAP_MIB, main=main, properties=[logging], arguments=arguments)

    def _write_properties(self) -> Path:
        lines = [
            (CONFIGURATION / "kafka" / "server.properties").read_text(),
            f"listeners=PLAINTEXT://{self.bootstrap},CONTROLLER://{HOST}:{self._controller_port}",
            f"advertised.listeners=PLAINTEXT://{self.bootstrap}",
            f"controller.quorum.voters=1@{HOST}:{self._controller_port}",
            f"log.dirs={self._directory / 'data'}",
        ]
        file = self._directory / "server.properties"
        file.write_text("\n".join(lines) + "\n")
        return file

    def _format(self, properties: Path, jars: Sequence[Path]) -> None:
        command = self._command(
            "kafka.tools.StorageTool", ["format", "-t", _cluster_id(), "-c", str(properties), "--ignore-formatted"]
        )
        formatted = subprocess.run(command, check=False, capture_output=True, text=True, env=class_path(jars))  # noqa: S603 - ours
        if formatted.returncode != 0:
            complaint = (formatted.stderr.strip() or formatted.stdout.strip()).splitlines()
            raise StackError(
                f"Kafka could not create its files in {self._directory} ({complaint[-1] if complaint else formatted.returncode})"
            )

    def _responds(self) -> bool:
        # Its library takes a while to load, and a stack that only uses a given Kafka does not need this one.
        from workers.runtime.kafka import is_reachable

        return accepts(HOST, self.port) and is_reachable(KafkaAccess(bootstrap=self.bootstrap), RESPONSE_TIMEOUT)


def _cluster_id() -> str:
    # StorageTool reads a leading minus as an option, so the id gets none.
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")


def _mark(data_dir: Path) -> str:
    return f"-Dq2o.kafka={data_dir}"
