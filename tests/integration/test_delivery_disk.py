"""A queue file on a file system that is full, or fills up: the process lives, and what was captured is there."""

from __future__ import annotations

import asyncio
import errno
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from inferwatch.delivery.account import Account
from inferwatch.delivery.delivery import Delivery
from inferwatch.delivery.memory import MemorySink
from inferwatch.events import CloudEvent
from tests.components import missing

pytestmark = pytest.mark.integration

SIZE_BYTES = 4 << 20


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MiB."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        missing("the right to mount a small file system", "sudo make integration")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def fill(directory: Path) -> None:
    with (directory / "rest").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            assert error.errno == errno.ENOSPC  # noqa: PT017 - which write it is does not matter


def deliver(spool: Path) -> tuple[Delivery, MemorySink]:
    sink = MemorySink()

    async def test() -> Delivery:
        delivery = Delivery([sink], spool=spool, queue_bytes=SIZE_BYTES)
        delivery.start()
        fill(spool)
        for number in range(2000):
            delivery.emit(CloudEvent(str(number), "/s", "t", data=bytes(1500)))
        await delivery.aclose()
        return delivery

    return asyncio.run(test()), sink


def test_a_disk_that_fills_up_later_does_not_matter(small: Path) -> None:
    delivery, sink = deliver(small)
    assert delivery.spool_fault is None
    assert delivery.account() == Account(2000, 2000, 0, 0, {})
    assert len(sink.events) == 2000


def test_on_a_disk_too_full_for_the_file_events_wait_in_memory(small: Path) -> None:
    (small / "other").write_bytes(bytes(4 << 20))
    delivery, sink = deliver(small)
    assert "No space left on device" in str(delivery.spool_fault)
    assert len(sink.events) == delivery.account().delivered == 2000 - delivery.account().dropped.get("queue_full", 0)
    assert not list(small.glob("*.queue"))
