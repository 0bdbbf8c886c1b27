"""Senders invent model names: what is kept of one lies on the disk."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

import orjson
import pytest

from inferwatch.clock import NS_PER_S, format_time, parse_time
from inferwatch.payload_log import index
from inferwatch.settings import Settings
from inferwatch_cli.checks import Checked
from inferwatch_cli.up import open_up
from inferwatch_logger.access import Application
from tests.cli.test_up import envelope
from tests.logger.test_access import ask

START_NS = parse_time("2026-01-01T00:00:00Z")
BATCH = 300


def send(application: Application, first: int) -> None:
    """Send a batch, a name and a second for each event; the time for its other half passes within the batch."""
    times = (format_time(START_NS + number * NS_PER_S) for number in range(first, first + BATCH))
    members = [envelope(str(number)) | {"time": time} for number, time in enumerate(times, first)]
    kind = "application/cloudevents-batch+json"
    assert ask(application, "/events", "POST", orjson.dumps(members), content_type=kind)[0] == 200
    listing = orjson.loads(ask(application, "/api/models")[1])
    assert len(listing["items"]) == 100  # and all of them are derived by now


@pytest.mark.slow
@pytest.mark.usefixtures("derived")
def test_invented_names_leave_nothing_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "MOST_NUMBERS", 200)
    sizes = []
    with open_up(Checked(Settings(), ()), tmp_path) as up:
        send(up.application, 0)
        tracemalloc.start()
        try:
            for part in (1, 2, 6):
                for batch in range(part, part + min(part, 4)):
                    send(up.application, batch * BATCH)
                gc.collect()
                sizes.append(tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()
    assert sizes[2] - sizes[1] < 4 * BATCH * 100
