"""Delivery to several sinks, through memory or a queue file: nobody waits for anybody, nothing is lost or doubled."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferwatch.delivery.account import Account, total
from inferwatch.delivery.delivery import Delivery
from inferwatch.delivery.memory import MemorySink
from inferwatch.delivery.spool import open_spool, spooled_accounts
from inferwatch.errors import ConfigError, DeliveryError, QueueFileError
from inferwatch.events import CloudEvent
from tests.core.delivery.scripted_sink import scripted_sink
from tests.waiting import run, until

BUSY = DeliveryError("busy", retryable=True)
SIZE = 1 << 17


def event(number: int) -> CloudEvent:
    return CloudEvent(str(number), "/s", "t", time_ns=number, data=b"x" * 500)


@pytest.fixture(params=["memory", "file"])
def spool(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return None if request.param == "memory" else tmp_path / "spool"


def test_a_sink_that_fails_holds_up_no_other(spool: Path | None) -> None:
    async def test() -> None:
        failing = True
        good, bad = MemorySink(), MemorySink(lambda _: BUSY if failing else None)
        delivery = Delivery([good, bad], spool=spool, queue_bytes=10 * SIZE)
        for number in range(300):
            delivery.emit(event(number))
        await until(lambda: len(good.events) == 300)
        assert delivery.accounts()["MemorySink"] == Account(300, 300, 0, 0, {})
        behind = delivery.accounts()["MemorySink#2"]
        assert (behind.captured, behind.delivered, behind.queued + behind.in_flight) == (300, 0, 300)
        assert delivery.account() == total(delivery.accounts().values())
        failing = False
        await until(lambda: len(bad.events) == 300)
        await delivery.aclose()
        assert delivery.account() == Account(600, 600, 0, 0, {})
        expected = [event(number) for number in range(300)]
        assert sorted(bad.events, key=lambda item: int(item.id)) == expected
        assert sorted(good.events, key=lambda item: int(item.id)) == expected

    run(test())


def test_each_sink_drops_its_own_oldest(spool: Path | None) -> None:
    async def test() -> None:
        good, bad = MemorySink(), MemorySink(lambda _: BUSY)
        delivery = Delivery([good, bad], spool=spool, queue_bytes=SIZE)
        for number in range(1000):
            delivery.emit(event(number))
            if number % 50 == 0:
                await until(lambda sent=number: len(good.events) == sent + 1)  # type: ignore[misc]
        await until(lambda: len(good.events) == 1000)
        account = delivery.accounts()["MemorySink#2"]
        assert account.captured == 1000
        assert account.dropped["queue_full"] == 1000 - account.queued - account.in_flight > 700
        await delivery.aclose(0.01)
        assert delivery.account().captured == 2000

    run(test())


def test_what_one_process_leaves_the_next_delivers_in_order(tmp_path: Path) -> None:
    async def first() -> None:
        delivery = Delivery([MemorySink(lambda _: BUSY)], spool=tmp_path, queue_bytes=SIZE)
        for number in range(100):
            delivery.emit(event(number))
        await delivery.aclose(timeout_s=0.02)
        delivery.emit(event(100))
        assert delivery.account() == Account(101, 0, 100, 0, {"shutdown": 1})

    async def second() -> None:
        sink = MemorySink()
        delivery = Delivery([sink], spool=tmp_path, queue_bytes=SIZE)
        delivery.start()
        await until(lambda: len(sink.events) == 100)
        assert sink.events == [event(number) for number in range(100)]
        await delivery.aclose()
        assert delivery.account() == Account(100, 100, 0, 0, {})

    run(first())
    assert spooled_accounts(tmp_path) == {"MemorySink": Account(100, 0, 100, 0, {})}
    run(second())
    assert spooled_accounts(tmp_path) == {"MemorySink": Account(100, 100, 0, 0, {})}


def test_a_crash_while_events_are_sent_sends_them_again(tmp_path: Path) -> None:
    queue = open_spool(tmp_path, SIZE, ["MemorySink"])
    for number in range(5):
        queue.put(event(number), 0.0)
    (position,) = queue.positions
    position.settle(position.take(1, 10**6))
    position.take(2, 10**6)
    queue.close()  # as a kill leaves it: two are marked as sent

    async def test() -> None:
        sink = MemorySink()
        delivery = Delivery([sink], spool=tmp_path, queue_bytes=SIZE)
        delivery.start()
        await until(lambda: len(sink.events) == 4)
        await delivery.aclose()
        assert [item.id for item in sink.events] == ["1", "2", "3", "4"]
        assert delivery.account() == Account(5, 5, 0, 0, {})

    run(test())


def test_two_of_one_directory_have_a_file_each(tmp_path: Path) -> None:
    async def test() -> None:
        deliveries = [Delivery([MemorySink(lambda _: BUSY)], spool=tmp_path, queue_bytes=SIZE) for _ in range(2)]
        for number, delivery in enumerate(deliveries):
            delivery.emit(event(number))
        assert sorted(path.name for path in tmp_path.iterdir()) == ["0.queue", "1.queue"]
        assert spooled_accounts(tmp_path) == {"MemorySink": Account(2, 0, 2, 0, {})}
        for delivery in deliveries:
            await delivery.aclose(0.01)

    run(test())


def test_without_a_file_events_wait_in_memory_and_one_line_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "taken").write_bytes(b"")

    async def test() -> None:
        sink = MemorySink()
        delivery = Delivery([sink], spool=tmp_path / "taken")
        for number in range(10):
            delivery.emit(event(number))
        await delivery.aclose()
        assert delivery.account() == Account(10, 10, 0, 0, {})
        assert "cannot make the directory" in str(delivery.spool_fault)

    run(test())
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_sink_is_known_by_its_url_without_the_query(tmp_path: Path) -> None:
    async def test() -> None:
        async with scripted_sink() as server:
            delivery = Delivery([server.url], spool=tmp_path, queue_bytes=SIZE)
            delivery.emit(event(1))
            await until(lambda: server.ids == ["1"])
            await delivery.aclose()
            assert delivery.names == [f"http://127.0.0.1:{server.port}/logs"]

    run(test())


@pytest.mark.parametrize("sinks", [[], ["ftp://a"], ["http://a", ""]])
def test_sinks_that_cannot_be_used_are_refused(sinks: list[str]) -> None:
    with pytest.raises(ConfigError, match="sink"):
        Delivery(sinks)


def test_a_queue_too_small_for_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="queue_bytes: 1000 is too small for a queue file"):
        Delivery(["http://a"], spool=tmp_path, queue_bytes=1000)


def test_a_directory_without_queue_files_has_no_account(tmp_path: Path) -> None:
    with pytest.raises(QueueFileError, match="no queue file in"):
        spooled_accounts(tmp_path)


def test_with_drop_newest_what_waits_stays(spool: Path | None) -> None:
    async def test() -> None:
        failing = True
        sink = MemorySink(lambda _: BUSY if failing else None)
        delivery = Delivery([sink], spool=spool, queue_bytes=SIZE, when_full="drop_newest")
        for number in range(1000):
            delivery.emit(event(number))
        account = delivery.account()
        kept = account.queued + account.in_flight
        assert account == Account(1000, 0, account.queued, account.in_flight, {"queue_full": 1000 - kept})
        assert 30 < kept < 500
        failing = False
        await until(lambda: delivery.account().delivered == kept)
        assert [int(item.id) for item in sink.events] == list(range(kept))
        delivery.emit(event(1000))
        await until(lambda: delivery.account().delivered == kept + 1)
        await delivery.aclose()

    run(test())


def test_with_drop_newest_what_waits_for_a_sink_that_is_gone_makes_room(tmp_path: Path) -> None:
    old = open_spool(tmp_path, SIZE, ["http://old"])
    for number in range(500):
        old.put(event(number), 0.0)
    old.close()

    async def test() -> None:
        sink = MemorySink()
        delivery = Delivery([sink], spool=tmp_path, queue_bytes=SIZE, when_full="drop_newest")
        for number in range(700):
            delivery.emit(event(number))
            if number % 50 == 0:
                await until(lambda sent=number: len(sink.events) == sent + 1)  # type: ignore[misc]
        await delivery.aclose()
        assert delivery.account() == Account(700, 700, 0, 0, {})

    run(test())
    left = spooled_accounts(tmp_path)["http://old"]
    assert left == Account(500, 0, left.queued, 0, {"queue_full": 500 - left.queued})


def test_a_policy_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="when_full: 'drop' is none of drop_oldest, drop_newest"):
        Delivery(["http://a"], when_full="drop")  # type: ignore[arg-type]
