"""The dead letter keeps what helps to find a broken sender, within bounds, and no credentials."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import pytest

from inferwatch.clock import ManualClock, parse_time
from inferwatch.errors import Fault, InvalidEvent
from inferwatch.payload_log.dead_letter import MAX_BODY_BYTES, DeadLetter

FAULT = InvalidEvent([Fault("id", "is missing"), Fault("time", "no time")], "missing_attribute")


def letters(dead_letter: DeadLetter) -> list[dict[str, Any]]:
    return [json.loads(line) for line in dead_letter.path.read_text().splitlines()]


@pytest.fixture
def dead_letter(tmp_path: Path) -> DeadLetter:
    return DeadLetter(tmp_path, clock=ManualClock(parse_time("2026-11-21T12:00:00Z")))


def test_a_record_says_when_why_and_what(dead_letter: DeadLetter) -> None:
    dead_letter.keep(FAULT, {"source": "s", "component": "p"}, "Grüße\n".encode())
    dead_letter.keep(FAULT, {}, b"\xff\x00")
    first, second = letters(dead_letter)
    assert first == {
        "time": "2026-11-21T12:00:00Z",
        "reason": "missing_attribute",
        "error": "id: is missing; time: no time",
        "attributes": {"source": "s", "component": "p"},
        "body": "Grüße\n",
    }
    assert second["body"] == {"base64": "/wA="}


@pytest.mark.parametrize(
    "attributes",
    [
        {"authorization": "s3cret"},
        {"Proxy-Authorization": "s3cret", "cookie": "s3cret", "x-api-key": "s3cret"},
        {"metadata": '{"Authorization":["s3cret"],"Cookie":["s3cret"]}'},
        {"metadata": '{"authorization":["s3cret"'},
        {"metadata": {"X-Api-Key": ["s3cret"]}},
        {"Metadata": "%7B%22Authorization%22%3A%5B%22s3cret%22%5D%7D"},
        {"anything": {"nested": {"cookie": "s3cret"}}},
    ],
)
def test_credentials_are_left_out(dead_letter: DeadLetter, attributes: dict[str, Any]) -> None:
    dead_letter.keep(FAULT, {"id": "7", **attributes}, b"{}")
    assert "s3cret" not in dead_letter.path.read_text()
    assert letters(dead_letter)[0]["attributes"]["id"] == "7"


def test_an_envelope_that_may_hide_a_credential_is_withheld(dead_letter: DeadLetter) -> None:
    dead_letter.keep(FAULT, {}, b'{"metadata": "{\\"Authorization\\": [\\"s3cret\\"]}", ', envelope=True)
    dead_letter.keep(FAULT, {}, b'{"specversion": ', envelope=True)
    withheld, kept = letters(dead_letter)
    assert (withheld["body"], withheld["withheld"]) == (None, True)
    assert kept["body"] == '{"specversion": '


@pytest.mark.parametrize("unit", [b"x", "ü".encode(), "€".encode()])
def test_a_record_is_bounded(dead_letter: DeadLetter, unit: bytes) -> None:
    attributes = {f"name{number}": "v" * 10_000 for number in range(200)}
    dead_letter.keep(FAULT, attributes, b"." + unit * MAX_BODY_BYTES)
    (record,) = letters(dead_letter)
    assert record["truncated"] is True
    assert MAX_BODY_BYTES - 4 < len(record["body"].encode()) <= MAX_BODY_BYTES
    assert len(record["attributes"]) == 64
    assert dead_letter.path.stat().st_size < 64 * 4200 + 2 * MAX_BODY_BYTES


def test_the_files_are_bounded_and_the_newest_records_stay(tmp_path: Path) -> None:
    dead_letter = DeadLetter(tmp_path, max_file_bytes=2000)
    for number in range(100):
        dead_letter.keep(FAULT, {"id": str(number)}, b"x" * 100)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["dead-letter.jsonl", "dead-letter.jsonl.1"]
    assert all(file.stat().st_size < 2500 for file in files)
    kept = [json.loads(line)["attributes"]["id"] for file in reversed(files) for line in file.read_text().splitlines()]
    assert kept == [str(number) for number in range(100 - len(kept), 100)]
    assert dead_letter.lost == 0


def test_a_full_disk_loses_whole_records_and_counts_them(dead_letter: DeadLetter) -> None:
    dead_letter.keep(FAULT, {}, b"first")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        dead_letter.keep(FAULT, {}, b"x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    dead_letter.keep(FAULT, {}, b"last")
    assert [record["body"] for record in letters(dead_letter)] == ["first", "last"]
    assert dead_letter.lost == 1
