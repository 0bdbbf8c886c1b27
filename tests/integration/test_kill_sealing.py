"""A process that is killed at any step of sealing loses no event and repeats none."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

import inferwatch
from inferwatch.clock import NS_PER_S, ManualClock
from inferwatch.events import CloudEvent
from inferwatch.payload_log.database import connect
from inferwatch.payload_log.entry import Entry
from inferwatch.payload_log.journal import Journal
from inferwatch.payload_log.reader import JournalReader
from inferwatch.payload_log.sealing import Sealer
from tests.core.payload_log.test_erasure import take
from tests.inferences import NOON, request

pytestmark = pytest.mark.integration

EVENTS = 1500

STEPS = {
    "before the first row group": "stop(pyarrow.parquet.ParquetWriter, 'write_table', 0)",
    "within the file": "stop(pyarrow.parquet.ParquetWriter, 'write_table', 2)",
    "before the file is complete": "stop(pyarrow.parquet.ParquetWriter, 'close', 0)",
    "before it is on the disk": "stop(segment, '_sync', 0)",
    "before it has its name": "stop(pathlib.Path, 'replace', 0)",
    "before its name is on the disk": "stop(segment, 'sync_directory', 0)",
    "before it is named": "stop(Journal, 'run', 0)",
    "before the first rows are emptied": "stop(Journal, 'run', 1)",
    "while rows are emptied": "stop(Journal, 'run', 3)",
    "within the commit that empties": "stop_in_chore(4)",
    "within the second file": "stop(pyarrow.parquet.ParquetWriter, 'write_table', 7)",
}

RETAINING = {
    "before payloads leave the index": "stop(sealing, 'forget_payloads', 0)",
    "while payloads leave the index": "stop(sealing, 'forget_payloads', 1)",
    "before the keys of a file go": "stop(Journal, 'run', 0)",
    "while the keys of a file go": "stop_in_chore(2)",
    "before the file is named no more": "stop(sealing, 'note_contents', 0)",
    "within the commit that names it no more": "stop_in_chore(3)",
    "before the file is removed": "stop(pathlib.Path, 'unlink', 0)",
    "within the file that is written anew": "stop(pyarrow.parquet.ParquetWriter, 'write_table', 0)",
    "before it takes the place of the old one": "stop(pathlib.Path, 'replace', 0)",
    "before it is noted": "stop(sealing, 'note_contents', 1)",
}

SCRIPT = """
import os, pathlib, signal, sys
import pyarrow.parquet
from inferwatch.payload_log import sealing, segment
from inferwatch.payload_log.journal import Journal
from tests.integration.test_kill_sealing import retain, seal

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def stop(owner, name, passes):
    original, left = getattr(owner, name), [passes]
    def trapped(*arguments, **options):
        if not left[0]:
            die()
        left[0] -= 1
        return original(*arguments, **options)
    setattr(owner, name, trapped)

def stop_in_chore(passes):
    original, left = Journal.run, [passes]
    def run(self, chore):
        left[0] -= 1
        return original(self, chore if left[0] else lambda log: (chore(log), die()))
    Journal.run = run

segment.GROUP_ROWS = 100
step, work = sys.argv[2:]
exec(step)
{"seal": seal, "retain": retain}[work](pathlib.Path(sys.argv[1]))
"""


def events() -> list[CloudEvent]:
    return [request(f"{number}", number, [[number] * 20]) for number in range(EVENTS)]


def seal(directory: Path) -> None:
    """Seal a log in three files, as `up` does between a start and a stop."""
    with Journal.open(directory, clock=ManualClock(NOON)) as journal:
        sealer = Sealer(journal, segment_bytes=50_000, segment_age_s=1e9, retention_s=None, clock=ManualClock(NOON))
        sealer.tidy()
        while sealer.seal() is not None:
            pass


@pytest.mark.parametrize("step", STEPS)
def test_no_step_loses_or_repeats_an_event(tmp_path: Path, step: str) -> None:
    with Journal.open(tmp_path, clock=ManualClock(NOON)) as journal:
        journal.append(events()).result()
        expected = journal.read(0, EVENTS)
    killed = subprocess.run([sys.executable, "-c", SCRIPT, tmp_path, STEPS[step], "seal"], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert read(tmp_path) == expected
    seal(tmp_path)
    assert read(tmp_path) == expected
    with Journal.open(tmp_path, clock=ManualClock(NOON)) as journal:
        journal.append(events()[:10]).result()
        ledger = journal.ledger()
        assert (journal.end(), ledger.stored, ledger.duplicate) == (EVENTS, EVENTS, 10)
        with JournalReader(tmp_path) as reader:
            named = {part.file for part in reader.sealed()}
    assert {path.name for path in (tmp_path / "segments").iterdir()} == named
    assert len(named) == 3


def retain(directory: Path) -> None:
    """Look after the retention of 300 seconds of event time, as `up` does after a start."""
    with Journal.open(directory, clock=ManualClock(NOON)) as journal:
        sealer = Sealer(journal, segment_bytes=1 << 30, segment_age_s=1e9, retention_s=300, clock=ManualClock(NOON))
        sealer.tidy()
        sealer.retain()


@pytest.mark.parametrize("step", RETAINING)
def test_no_step_of_the_retention_loses_what_is_kept(tmp_path: Path, step: str) -> None:
    """Of three files one goes, one is written anew, and one stays."""
    take(tmp_path, events())
    expected = [entry for entry in read(tmp_path) if entry.time_ns >= NOON + (EVENTS - 1 - 300) * NS_PER_S]
    assert len(expected) == 301
    seal(tmp_path)
    killed = subprocess.run(
        [sys.executable, "-c", SCRIPT, tmp_path, RETAINING[step], "retain"], check=False, timeout=60
    )
    assert killed.returncode == -signal.SIGKILL
    assert read(tmp_path)[-len(expected) :] == expected
    retain(tmp_path)
    assert read(tmp_path) == expected
    indexed = inferwatch.payloads("default/income", data=tmp_path)["id"].tolist()
    assert indexed == [entry.event.id for entry in expected]
    with JournalReader(tmp_path) as reader:
        named = {part.file: part.first_offset for part in reader.sealed()}
    assert {path.name for path in (tmp_path / "segments").iterdir()} == set(named)
    with closing(connect(tmp_path / "log.db", read_only=True)) as log:
        (keys,) = log.execute("SELECT count(*) FROM events WHERE offset < ?", (min(named.values()),)).fetchone()
    assert keys == 0


def read(directory: Path) -> list[Entry]:
    with JournalReader(directory) as reader:
        return list(reader.entries())
