"""The two ends of a topic as processes: `inferwatch ingest` and `inferwatch store`, and senders like KServe's agent."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import yaml

from inferwatch.events import REQUEST_TYPE, RESPONSE_TYPE
from tests.integration.served import Served, served

Client = Literal["confluent", "kafka-python"]
CLIENTS: tuple[Client, ...] = ("confluent", "kafka-python")
RECOVERY_S = 90.0


@dataclass
class Cluster:
    """A directory with the configuration that both ends read."""

    directory: Path
    bootstrap: str
    topic: str
    client: Client = "confluent"
    options: Mapping[str, Any] = field(default_factory=dict)
    further: Mapping[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        path = self.directory / "inferwatch.yaml"
        transport = {
            "kind": "kafka",
            "bootstrap": self.bootstrap,
            "topic": self.topic,
            "group": f"of-{self.topic}",
            "client": self.client,
            "options": dict(self.options),
        }
        path.write_text(yaml.safe_dump({"transport": transport, "payload_log": {"path": "data"}, **self.further}))
        return path

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def log(self, command: str) -> Path:
        return self.directory / f"{command}.log"

    @contextmanager
    def running(self, command: str, *options: str, port: int | None = None, until: str = "/readyz") -> Iterator[Served]:
        """Yield `ingest` or `store`, once it answers 200 there."""
        log = self.log(command)
        with served(self.config, log, *options, command=command, port=port, until=until) as it:
            yield it

    def letters(self) -> list[dict[str, Any]]:
        """Return the dead letters."""
        path = self.data / "dead-letter.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def headers(kind: str, identity: str, second: int, **extensions: str) -> dict[str, str]:
    """Return the headers of KServe's agent."""
    return {
        "Ce-Specversion": "1.0",
        "Ce-Id": identity,
        "Ce-Source": "http://localhost:9081/",
        "Ce-Type": kind,
        "Ce-Time": f"2026-11-21T10:{second // 60 % 60:02d}:{second % 60:02d}.5Z",
        "Ce-Inferenceservicename": "income",
        "Ce-Namespace": "prod",
        "Ce-Component": "predictor",
        "Ce-Endpoint": "",
        "Content-Type": "application/json",
        **extensions,
    }


def post(url: str, fields: Mapping[str, str], body: bytes, path: str = "/") -> tuple[int, bytes]:
    """Return status and body of one POST on a connection of its own."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        connection.request("POST", path, body, dict(fields))
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


class Sender(threading.Thread):
    """Sends inferences one after the other until `stop`, and keeps what was acknowledged; goes on whatever happens."""

    def __init__(self, port: int, name: str, models: int) -> None:
        super().__init__(name=name, daemon=True)
        self.port = port
        self.models = models
        self.acknowledged: list[tuple[str, str]] = []
        self.refused: list[tuple[float, int]] = []
        self.broken = 0
        self.stopping = threading.Event()
        self._client = HTTPConnection("127.0.0.1", port, timeout=20)

    def run(self) -> None:
        number = 0
        while not self.stopping.is_set():
            identity = f"{self.name}-{number}"
            for kind in (REQUEST_TYPE, RESPONSE_TYPE):
                self._send(kind, identity, number)
            number += 1
        self._client.close()

    def _send(self, kind: str, identity: str, number: int) -> None:
        body = b'{"instances": [[1, 2]]}' if kind == REQUEST_TYPE else b'{"predictions": [1]}'
        try:
            model = {"Ce-Inferenceservicename": f"income-{number % self.models}"}
            self._client.request("POST", "/", body, headers(kind, identity, number, **model))
            reply = self._client.getresponse()
            reply.read()
        except (OSError, HTTPException):
            self.broken += 1
            self._client.close()
            time.sleep(0.05)
            return
        if reply.status == 200:
            self.acknowledged.append((identity, kind))
        else:
            assert reply.status == 503, reply.status
            self.refused.append((time.monotonic(), reply.status))
            time.sleep(0.05)


@contextmanager
def sending(port: int, models: int = 1) -> Iterator[list[Sender]]:
    """Yield four senders at work, for so many models in turn; they stop at the end."""
    senders = [Sender(port, f"s{number}", models) for number in range(4)]
    for sender in senders:
        sender.start()
    try:
        yield senders
    finally:
        for sender in senders:
            sender.stopping.set()
        for sender in senders:
            sender.join(30)
