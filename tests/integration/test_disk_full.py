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
from inferwatch.payload_log.segments import DIRECTORY
from inferwatch.payload_log.state import FILE_NAME, State
from tests.components import missing
from tests.integration.served import Served, served
from tests.waiting import eventually
from tests.watched import attributes

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
        with urllib.request.urlopen(urllib.request.Request(up.url, body, headers), timeout=60) as answer:
            return int(answer.status), ""
    except urllib.error.HTTPError as answer:
        return answer.code, answer.read().decode()


def status(up: Served, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(up.url + path, timeout=60) as answer:
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


def test_a_full_disk_of_what_is_derived_loses_nothing(tmp_path: Path, small: Path) -> None:
    """The log lies elsewhere: events are taken all along, and derived once there is room."""
    data, config = tmp_path / "data", tmp_path / "inferwatch.yaml"
    config.write_text("payload_log: {segment_bytes: 65536}")
    data.mkdir()
    State.open(small).close()
    (data / FILE_NAME).symlink_to(small / FILE_NAME)
    with served(config, tmp_path / "up.log", "--data", str(data)) as up:
        accepted = taken(up, "before", 20)
        stored = eventually("the first are listed", lambda: listed(up, accepted))
        assert sorted(stored) == sorted(accepted)
        rest = fill(small)
        accepted += taken_until(up, 503, "pipeline: ", FILE_NAME)
        rest.unlink()
        eventually("the pipeline goes on", lambda: status(up, "/readyz")[0] == 200)
        accepted += taken(up, "after", 20)
        stored = eventually("all that was accepted is listed", lambda: listed(up, accepted))
        assert sorted(stored) == sorted(accepted)
        ledger = up.get("/api/ledger")["ingest"]
        assert ledger["received"] == ledger["stored"] == len(accepted)


def test_a_full_disk_of_sealed_files_loses_nothing(tmp_path: Path, small: Path) -> None:
    """The databases lie elsewhere: events stay in the log, readable, and are sealed once there is room."""
    data, config = tmp_path / "data", tmp_path / "inferwatch.yaml"
    config.write_text("payload_log: {segment_bytes: 65536}")
    data.mkdir()
    (data / DIRECTORY).symlink_to(small)
    with served(config, tmp_path / "up.log", "--data", str(data)) as up:
        accepted = taken(up, "before", 60)
        eventually("the first are sealed", lambda: [*small.glob("*.parquet")])
        rest = fill(small)
        accepted += taken_until(up, 200, "sealing: ", "No space left")
        sealed = sorted(path.name for path in small.glob("*.parquet"))
        stored = eventually("all are listed meanwhile", lambda: listed(up, accepted))
        assert sorted(stored) == sorted(accepted)
        rest.unlink()
        eventually("sealing goes on", lambda: len([*small.glob("*.parquet")]) > len(sealed))
        eventually("nothing is missing any more", lambda: "warnings" not in status(up, "/readyz")[1])
        stored = eventually("all are listed", lambda: listed(up, accepted))
        assert sorted(stored) == sorted(accepted)
        assert not [*small.glob("*.new")]
        found = up.get(f"/api/payloads?id={accepted[0]}")["items"]
        assert len(found) == 1


def taken(up: Served, name: str, count: int) -> list[str]:
    """Post so many events, every one of which has to be taken; return their ids."""
    names = [f"{name}-{number}" for number in range(count)]
    assert {post(up, each)[0] for each in names} == {200}
    return names


def taken_until(up: Served, code: int, *words: str) -> list[str]:
    """Post events until `/readyz` answers with the code and the words; return their ids."""
    names: list[str] = []

    def told() -> bool:
        names.extend(taken(up, f"full-{len(names)}", 10))
        answered, sentence = status(up, "/readyz")
        return answered == code and all(word in sentence for word in words)

    eventually("the full disk is told of", told)
    return names
