"""What notebooks do with a payload log: beside a server that writes it, and where nobody may write."""

from __future__ import annotations

import json
import os
import shutil
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pytest

import inferwatch
from inferwatch.clock import ManualClock
from inferwatch.events import REQUEST_TYPE
from inferwatch.payload_log.journal import Journal
from inferwatch.payload_log.sealing import Sealer
from tests.components import missing
from tests.core.payload_log.test_erasure import take, traffic
from tests.core.pipeline.deriving import EVENING
from tests.integration.served import Served, served
from tests.waiting import eventually
from tests.watched import MODEL, attributes

pytestmark = pytest.mark.integration

NAMES = ["age", "fnlwgt", "hours"]
NOBODY = 65534


def post(up: Served, number: int) -> None:
    body = json.dumps({"instances": [[float(number), 0.5, 0.25]] * 20}).encode()
    headers = {"content-type": "application/json", **attributes(REQUEST_TYPE, f"id-{number}")}
    with urllib.request.urlopen(urllib.request.Request(up.url, body, headers), timeout=60) as answer:
        assert answer.status == 200


@contextmanager
def posting(up: Served) -> Iterator[list[int]]:
    """Send until the end; yield the numbers of what was sent, or is about to be."""
    sent: list[int] = []
    enough = threading.Event()

    def send() -> None:
        while not enough.is_set():
            sent.append(len(sent))
            post(up, sent[-1])

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield sent
    finally:
        enough.set()
        thread.join()


def test_notebooks_read_while_up_writes_and_seals(tmp_path: Path) -> None:
    rows = np.random.default_rng(3).normal(size=(500, 3))
    np.savetxt(tmp_path / "reference.csv", rows, delimiter=",", header=",".join(NAMES), comments="")
    config = tmp_path / "inferwatch.yaml"
    detector = "{kind: drift, method: histogram, window: {rows: 100}}"
    namespace, name = MODEL.split("/")
    model = (
        f"{{namespace: {namespace}, name: {name}, reference: reference.csv, burn_in_rows: 0, detectors: [{detector}]}}"
    )
    config.write_text(f"payload_log: {{path: data, segment_bytes: 65536}}\nmodels: [{model}]")
    data, pattern = tmp_path / "data", str(tmp_path / "data" / "segments" / "*.parquet")
    with served(config, tmp_path / "up.log") as up:
        sealed: set[int] = set()
        seen: list[int] = []
        with posting(up) as sent:
            while len(set(seen)) < 5 or len(sealed) < 3:
                frame = inferwatch.payloads(MODEL, data=data)
                ages = frame.get("age", pd.Series(dtype=float))
                assert ages.tolist() == [float(number) for number in range(len(frame) // 20) for _ in range(20)]
                seen.append(len(frame))
                assert len(frame) // 100 <= len(inferwatch.findings(data=data)) <= len(sent) * 20 // 100
                if any((data / "segments").glob("*.parquet")):
                    sealed.add(sealed_events(pattern))
        assert seen == sorted(seen)
        (frame,) = eventually("all is derived", lambda: all_of(data, len(sent) * 20))
        assert list(frame.columns[-3:]) == NAMES
        assert frame["id"].nunique() == len(sent)
        flat = inferwatch.findings(MODEL, data=data, flat=True)
        assert set(flat["feature"].unique()) == set(NAMES)


def sealed_events(pattern: str) -> int:
    (in_duckdb,) = duckdb.execute(f"SELECT count(DISTINCT id) FROM '{pattern}'").fetchall()[0]
    assert in_duckdb <= pl.read_parquet(pattern)["id"].n_unique()  # a file may have come in between
    return int(in_duckdb)


def all_of(data: Path, rows: int) -> object:
    frame = inferwatch.payloads(MODEL, data=data)
    return [frame] if len(frame) == rows else None


@pytest.mark.parametrize("sealed", [False, True])
def test_a_log_in_a_place_where_nobody_may_write_is_read(tmp_path: Path, sealed: bool) -> None:
    """A finished log, as in a backup that is mounted; who reads is neither its owner nor root."""
    if os.geteuid() != 0:
        missing("the right to read as another user", "sudo make integration")
    log = tmp_path / "log"
    take(log, traffic())
    if sealed:
        with Journal.open(log, clock=ManualClock(EVENING)) as journal:
            clock = ManualClock(EVENING)
            Sealer(journal, segment_bytes=1, segment_age_s=1, retention_s=None, clock=clock).seal(everything=True)
    expected = inferwatch.payloads("default/income", data=shutil.copytree(log, tmp_path / "copy"))
    assert len(expected) == 3
    for path in (log, *log.rglob("*"), *tmp_path.parents[:2], tmp_path):
        path.chmod(0o555)
    assert as_nobody(lambda: inferwatch.payloads("default/income", data=log).equals(expected))
    assert {path.suffix for path in log.iterdir()} <= {".db", ".lock", ""}


def as_nobody(claim: Callable[[], bool]) -> bool:
    """Return what a claim comes to in a child that may write nowhere. It cannot import what is not loaded by now."""
    if os.fork() == 0:
        holds = False
        try:
            os.setuid(NOBODY)
            holds = claim()
        finally:
            os._exit(0 if holds else 1)
    return os.waitstatus_to_exitcode(os.wait()[1]) == 0
