"""A disk that fills up: new events are refused and it says so; with space again everything accepted is there."""

from __future__ import annotations

import errno
import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from inferwatch.events import REQUEST_TYPE
from tests.components import missing
from tests.integration.served import Served, served
from tests.watched import attributes, eventually

pytestmark = pytest.mark.integration


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MiB."""
    directory = tmp_path / "small"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(directory)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        missing("the right to mount a small file system", "sudo make integration")
    yield directory
    subprocess.run(["umount", directory], check=True)


def fill(directory: Path) -> Path:
    path = directory / "rest"
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            assert error.errno == errno.ENOSPC  # noqa: PT017 - which write it is does not matter
    return path


def post(up: Served, identity: str) -> tuple[int, str]:
    body = json.dumps({"instances": [[0.5] * 400]}).encode()
    headers = {"content-type": "application/json", **attributes(REQUEST_TYPE, identity)}
    try:
        with urllib.request.urlopen(urllib.request.Request(up.url, body, headers), timeout=20) as answer:
            return int(answer.status), ""
    except urllib.error.HTTPError as answer:
        return answer.code, answer.read().decode()


def status(up: Served, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(up.url + path, timeout=20) as answer:
            return int(answer.status), answer.read().decode()
    except urllib.error.HTTPError as answer:
        return answer.code, answer.read().decode()


def test_a_full_disk_refuses_says_so_and_recovers_without_loss(tmp_path: Path, small: Path) -> None:
    config = tmp_path / "inferwatch.yaml"
    config.write_text("payload_log: {segment_bytes: 65536}")
    with served(config, tmp_path / "up.log", "--data", str(small)) as up:
        accepted = [f"before-{number}" for number in range(200) if post(up, f"before-{number}")[0] == 200]
        rest = fill(small)
        answers = {f"full-{number}": post(up, f"full-{number}") for number in range(1000)}
        accepted += [identity for identity, (code, _) in answers.items() if code == 200]
        refused = [sentence for code, sentence in answers.values() if code == 503]
        assert refused
        assert len(refused) + sum(code == 200 for code, _ in answers.values()) == 1000
        assert "log.db" in json.loads(refused[-1])["error"]
        code, sentence = status(up, "/readyz")
        assert code == 503
        assert "payload log" in json.loads(sentence)["error"]
        assert status(up, "/healthz")[0] == 200
        rest.unlink()
        eventually("the log takes events again", lambda: status(up, "/readyz")[0] == 200)
        assert post(up, "after")[0] == 200
        stored = eventually("all that was accepted is listed", lambda: listed(up, [*accepted, "after"]))
        assert sorted(stored) == sorted([*accepted, "after"])
        ledger = up.get("/api/ledger")["ingest"]
        assert (ledger["stored"], ledger["refused"]) == (len(stored), {"storage": len(refused)})
        assert ledger["received"] == len(stored) + len(refused)


def listed(up: Served, wanted: list[str]) -> list[str] | None:
    """Return the ids of the payloads, once all that are wanted are among them."""
    found = [str(item["id"]) for item in up.all("/api/payloads?")]
    return found if set(wanted) <= set(found) else None
