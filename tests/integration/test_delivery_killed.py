"""A process that is killed at any moment leaves a queue file that holds what was captured, and whose account sums."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from inferwatch.delivery.account import Account
from inferwatch.delivery.file_queue import FileQueue
from inferwatch.delivery.queue_records import accounts

SIZE_BYTES = 1 << 17
SINKS = ("fast", "slow")
WRITER = """
import os, random, sys, time
from pathlib import Path
from inferwatch.delivery.file_queue import FileQueue
from inferwatch.events import CloudEvent
path, size, first, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
chance = random.Random(seed)
queue = FileQueue(path, size, ("fast", "slow"))
sent = ([], [])
os.write(1, b"ready\\n")
number = first
while True:
    if chance.random() < 0.5:
        queue.put(CloudEvent(str(number), "/s", "t", data=b"x" * chance.randrange(0, 3000)), time.time())
        os.write(1, b"put %d\\n" % number)
        number += 1
    sink = 0 if chance.random() < 0.8 else 1
    items = sent[sink]
    if not items:
        items += queue.positions[sink].take(chance.randrange(1, 8), 10**6)
    elif chance.random() < 0.3:
        queue.positions[sink].restore(items)
        items.clear()
    else:
        item = items.pop(0)
        queue.positions[sink].settle([item], None if chance.random() < 0.8 else "refused")
        os.write(1, b"done %d %s\\n" % (sink, item.event.id.encode()))
"""


def written(path: Path, first: int, chance: random.Random) -> list[list[bytes]]:
    """Return what a writer said it had done before it was killed."""
    command = [sys.executable, "-c", WRITER, str(path), str(SIZE_BYTES), str(first), str(chance.randrange(10**6))]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        said = [writer.stdout.readline() for _ in range(chance.randrange(1, 1500))]
        writer.kill()
        said += writer.stdout.readlines()
    return [line.split() for line in said if line.endswith(b"\n")]


def settled(account: Account) -> int:
    return account.delivered + sum(account.dropped.values()) - account.dropped.get("queue_full", 0)


@pytest.mark.integration
def test_the_account_is_exact_and_nothing_captured_is_lost_after_fifty_kills(tmp_path: Path) -> None:
    chance = random.Random(20261121)  # noqa: S311 - a seed for the moments of the kills
    path = tmp_path / "0.queue"
    put: list[int] = []
    done: tuple[Counter[int], Counter[int]] = (Counter(), Counter())
    unreported = [0, 0]
    for _ in range(50):
        said = written(path, put[-1] + 1 if put else 0, chance)
        put += [int(words[1]) for words in said if words[0] == b"put"]
        for words in said:
            if words[0] == b"done":
                done[int(words[1])][int(words[2])] += 1
        seen = accounts(path)
        queue = FileQueue(path, SIZE_BYTES, SINKS)
        for index, position in enumerate(queue.positions):
            account = position.account()
            assert account == seen[SINKS[index]], "reading changes nothing"
            assert account.captured == account.delivered + account.queued + sum(account.dropped.values())
            assert account.in_flight == 0
            items = position.take(10**6, 10**9)
            waiting = [int(item.event.id) for item in items]
            position.restore(items)
            if waiting and waiting[-1] == put[-1] + 1:
                put.append(waiting[-1])  # captured, and killed before it could say so
            if account.captured == len(put) + 1:
                put.append(put[-1] + 1)  # the same, and done with already
            assert account.captured == len(put)
            assert waiting == sorted(set(waiting)), "in order, once each"
            extra = settled(account) - sum(done[index].values()) - unreported[index]
            assert 0 <= extra <= 1, "at most the one that it was about to report"
            unreported[index] += extra
            assert not set(waiting) & set(done[index])
            lost = set(put) - set(waiting) - set(done[index])
            assert len(lost) == account.dropped.get("queue_full", 0) + unreported[index]
            assert max(done[index].values()) == 1, "what was settled is not sent again"
        queue.close()
    assert seen["slow"].dropped["queue_full"] > 100
    assert seen["fast"].delivered > 1000
    assert not list(tmp_path.glob("*.damaged-*"))
