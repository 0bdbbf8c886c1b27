"""An acknowledged event is in the journal exactly once, whenever the process is killed."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import threading
from collections import Counter
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest

from inferwatch.events import REQUEST_TYPE
from inferwatch.payload_log.journal import Journal

SERVER = """
import sys, uvicorn
from pathlib import Path
from inferwatch.payload_log.dead_letter import DeadLetter
from inferwatch.payload_log.journal import Journal
from inferwatch_logger.ingest import Ingest
directory, listener = Path(sys.argv[1]), int(sys.argv[2])
with Journal.open(directory) as journal:
    app = Ingest(journal, DeadLetter(directory))
    uvicorn.run(app, fd=listener, lifespan="off", http="httptools", log_level="error")
"""
ROUNDS, SENDERS = 6, 4


class Sender(threading.Thread):
    """Sends events one after the other, every fifth twice, some malformed, until the connection breaks."""

    def __init__(self, port: int, name: str, acknowledged: threading.Semaphore) -> None:
        super().__init__(name=name)
        self.client = HTTPConnection("127.0.0.1", port, timeout=30)
        self.acknowledged = acknowledged
        self.accepted: list[str] = []
        self.malformed = 0
        self.sent = 0

    def run(self) -> None:
        try:
            for number in range(1_000_000):
                identity = f"{self.name}-{number}"
                for _ in range(2 if number % 5 == 0 else 1):
                    self.send(identity, broken=number % 17 == 0)
        except (OSError, HTTPException):
            self.client.close()

    def send(self, identity: str, *, broken: bool) -> None:
        headers = {
            "ce-specversion": "1.0",
            "ce-id": "" if broken else identity,
            "ce-source": "test",
            "ce-type": REQUEST_TYPE,
            "ce-time": "2026-11-21T12:00:00Z",
        }
        self.sent += 1
        self.client.request("POST", "/", identity.encode() * 50, headers)
        reply = self.client.getresponse()
        reply.read()
        assert reply.status == (400 if broken else 200)
        if broken:
            self.malformed += 1
        else:
            self.accepted.append(identity)
        self.acknowledged.release()


def send_and_kill(directory: Path, round_number: int, chance: random.Random) -> list[Sender]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [sys.executable, "-c", SERVER, str(directory), str(listener.fileno())]
        with subprocess.Popen(command, pass_fds=[listener.fileno()]) as server:
            port = listener.getsockname()[1]
            acknowledged = threading.Semaphore(0)
            senders = [Sender(port, f"{round_number}-{number}", acknowledged) for number in range(SENDERS)]
            for sender in senders:
                sender.start()
            for _ in range(chance.randrange(1, 800)):
                assert acknowledged.acquire(timeout=30)
            server.kill()
    for sender in senders:
        sender.join()
    return senders


@pytest.mark.integration
def test_nothing_acknowledged_is_lost_by_kill_nine(tmp_path: Path) -> None:
    chance = random.Random(20261121)  # noqa: S311 - a seed for the moments of the kills
    accepted: list[str] = []
    malformed = sent = 0
    for round_number in range(ROUNDS):
        senders = send_and_kill(tmp_path, round_number, chance)
        for sender in senders:
            accepted += sender.accepted
            malformed += sender.malformed
            sent += sender.sent
        with Journal.open(tmp_path) as journal:
            stored = Counter(entry.event.id for entry in journal.read(0, 10**6))
            ledger = journal.ledger()
            fault = journal.fault
        assert set(accepted) <= set(stored)
        assert max(stored.values()) == 1
        assert ledger.stored == len(stored)
        answered = len(accepted) + malformed
        assert answered <= ledger.received <= sent, "at most one event a sender and round was not answered"
        assert sum(ledger.malformed.values()) >= malformed
        assert fault is None
    assert len(accepted) > ROUNDS
