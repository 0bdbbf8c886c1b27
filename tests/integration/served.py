"""A whole `inferwatch up` as a process of its own."""

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

START_S = 60.0


@dataclass(frozen=True, slots=True)
class Served:
    """The process, and where it answers."""

    url: str
    process: subprocess.Popen[bytes]

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            return json.load(answer)

    def text(self, path: str, accept: str = "*/*") -> str:
        request = urllib.request.Request(self.url + path, headers={"Accept": accept})
        with urllib.request.urlopen(request, timeout=10) as answer:
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
def served(config: Path, log: Path, *options: str) -> Iterator[Served]:
    """Start `up`, yield it once it is ready, and stop it with SIGTERM."""
    port = free_port()
    command = [sys.executable, "-m", "inferwatch_cli", "up", "--config", str(config), "--port", str(port), *options]
    with running(command, log) as process:
        url = f"http://127.0.0.1:{port}"
        _await(url, process, log)
        yield Served(url, process)


def _await(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
