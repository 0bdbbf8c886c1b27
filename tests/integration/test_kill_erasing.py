"""A process that is killed at any step of erasing leaves what the next one finishes, without being asked again."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import inferwatch
from inferwatch.clock import ManualClock
from inferwatch.errors import Fault, InvalidEvent
from inferwatch.payload_log import segment
from inferwatch.payload_log.dead_letter import DeadLetter
from inferwatch.payload_log.erasure import WithValue, erase
from inferwatch.payload_log.erasure_plan import FILE_NAME
from inferwatch.payload_log.journal import Journal
from inferwatch.payload_log.sealing import Sealer
from tests.core.payload_log.test_erasure import INCOME, PERSON, holding, stored, take, traffic
from tests.core.pipeline.deriving import EVENING
from tests.inferences import request

pytestmark = pytest.mark.integration

LEFT = ["id-0", "id-0", "id-2", "id-2", "id-1", "last"]

SCRIPT = """
import os, pathlib, signal, sys
import pandas, pyarrow.compute, pyarrow.parquet  # each of the children would take a second for it
from inferwatch.payload_log import database, erasure, erasure_plan
from tests.core.payload_log.test_erasure import INCOME

directory, left, traced = pathlib.Path(sys.argv[1]), [0], []

def step(*_):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)

def stepping(owner, name):
    original = getattr(owner, name)
    def trapped(*arguments, **options):
        step()
        return original(*arguments, **options)
    setattr(owner, name, trapped)

def open_database(*arguments, **options):
    connection = database.open_database(*arguments, **options)
    connection.set_trace_callback(step)
    return connection

erasure_plan.open_database = open_database
for name in ("replace", "unlink", "open"):
    stepping(pathlib.Path, name)
stepping(os, "fsync")
for number in range(1, 1000):
    copy = directory / f"killed-{number}"
    os.system(f"cp -r {directory / 'log'} {copy}")
    child = os.fork()
    if not child:
        left[0] = number
        erasure.erase(copy, INCOME, erasure.with_id("id-1"), "id-1")
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if status != signal.SIGKILL:
        sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A log (files, a head, a dead letter), as often as erasing has steps, killed at one of them each."""
    directory = tmp_path_factory.mktemp("erasing")
    log = directory / "log"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(segment, "COMPRESSION", "none")  # so that what is left of a person would be found
        take(log, traffic())
        with Journal.open(log, clock=ManualClock(EVENING)) as journal:
            clock = ManualClock(EVENING)
            sealer = Sealer(journal, segment_bytes=90, segment_age_s=1e9, retention_s=None, clock=clock)
            while sealer.seal() is not None:
                pass
        assert len(list((log / "segments").iterdir())) > 1
    take(log, [request("last", 20, [{"age": 1, "name": "Ann"}])])
    person = {"id": "id-1", "inferenceservicename": "income", "who": PERSON}
    DeadLetter(log).keep(InvalidEvent([Fault("time", "bad")]), person, b"{}")
    assert {"segments", "log"} == {path.parent.name for path in log.rglob("*") if PERSON.encode() in content(path)}
    ended = subprocess.run([sys.executable, "-c", SCRIPT, directory], check=False, timeout=120)
    assert ended.returncode == 0
    *cut_short, whole = sorted(directory.glob("killed-*"), key=lambda path: int(path.name.partition("-")[2]))
    assert is_erased(whole)
    assert len(cut_short) > 40
    return cut_short


def content(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def is_erased(log: Path) -> bool:
    ids = inferwatch.payloads("default/income", data=log)["id"].tolist()
    return not holding(log, PERSON) and stored(log) == LEFT and ids == ["id-0", "id-2", "last"]


def test_whoever_opens_the_log_next_finishes(killed: list[Path]) -> None:
    begun = 0
    for number, log in enumerate(killed):
        again = shutil.copytree(log, log.with_name(f"opened-{number}"))
        is_begun = (again / FILE_NAME).exists()
        with Journal.open(again, clock=ManualClock(EVENING)):
            pass
        assert not (again / FILE_NAME).exists()
        assert is_erased(again) or not is_begun
        begun += is_begun
    assert 20 < begun < len(killed)


def test_erasing_again_finishes(killed: list[Path]) -> None:
    for number, log in enumerate(killed):
        again = shutil.copytree(log, log.with_name(f"again-{number}"))
        is_begun = (again / FILE_NAME).exists()
        assert erase(again, INCOME, WithValue("name", PERSON), "id-1") in ((0,) if is_begun else (0, 1))
        assert is_erased(again)


def test_before_it_begins_nothing_is_gone_and_then_all_will_be(killed: list[Path]) -> None:
    begun = [(log / FILE_NAME).exists() for log in killed]
    first = begun.index(True)
    assert all(len(stored(log)) == len(LEFT) + 2 for log in killed[:first])
    after = begun[first:]
    last = len(after) - after[::-1].index(True)
    assert all(after[:last])
    assert all(is_erased(log) for log in killed[first + last :])
