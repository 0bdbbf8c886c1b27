"""A whole `inferwatch up`, or `ingest` or `store`, as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inferwatch_cli.demo.processes import free_port, running

START_S = 180.0


@dataclass(frozen=True, slots=True)
class Served:
    """The process, and where it answers."""

    url: str
    process: subprocess.Popen[bytes]

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return json.load(answer)

    def status(self, path: str) -> tuple[int, bytes]:
        """Return status and body; status 0 where nobody answers."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()
        except (urllib.error.URLError, ConnectionError):
            return 0, b""

    def await_status(self, path: str, status: int, log: Path, patience_s: float = START_S) -> bytes:
        """Wait until a path answers so, and return the body."""
        deadline = time.monotonic() + patience_s
        while True:
            assert self.process.poll() is None, log.read_text()
            found, body = self.status(path)
            if found == status:
                return body
            assert time.monotonic() < deadline, (path, found, body, log.read_text())
            time.sleep(0.05)

    def text(self, path: str, accept: str = "*/*") -> str:
        request = urllib.request.Request(self.url + path, headers={"Accept": accept})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return str(answer.read().decode())

    def all(self, path: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        cursor = ""
        while True:
            page = self.get(f"{path}&limit=1000{cursor}")
            items.extend(page["items"])
            if page["next"] is None:
                return items
            cursor = f"&cursor={page['next']}"


@contextmanager
def served(
    config: Path, log: Path, *options: str, command: str = "up", port: int | None = None, until: str = "/readyz"
) -> Iterator[Served]:
    """Start `up`, or what the command is, yield it once it answers 200 at `until`, and stop it with SIGTERM."""
    port = free_port() if port is None else port
    line = [sys.executable, "-m", "inferwatch_cli", command, "--config", str(config), "--port", str(port), *options]
    with running([*line, "--host", "127.0.0.1"], log) as process:
        it = Served(f"http://127.0.0.1:{port}", process)
        it.await_status(until, 200, log)
        yield it
