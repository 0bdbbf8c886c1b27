"""What a full queue drops, asked for in the configuration of the sidecar and as an argument of the middleware."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from inferwatch.delivery.delivery import Delivery
from inferwatch.delivery.spool import open_spool
from inferwatch.events import CloudEvent
from inferwatch_cli.proxy_options import ProxyOptions
from inferwatch_cli.proxying import sidecar_of
from inferwatch_logger import CaptureMiddleware

BYTES = 65_536


def through_the_sidecar(url: str, policy: str | None, directory: Path) -> Delivery:
    config = directory / "inferwatch.yaml"
    config.write_text("capture: {}\n" if policy is None else f"capture: {{when_full: {policy}}}\n")
    options = ProxyOptions(
        sink=[url],
        spool=directory / "spool",
        spool_bytes=BYTES,
        config=config,
        inference_service="m",
    )
    return sidecar_of(options).delivery


def through_the_middleware(url: str, policy: str | None, directory: Path) -> Delivery:
    async def app(*_: object) -> None:
        raise AssertionError("nobody asks the application")

    options = {} if policy is None else {"when_full": policy}
    middleware = CaptureMiddleware(
        app,
        sink=url,
        name="m",
        spool=directory / "spool",
        queue_bytes=BYTES,
        **options,  # type: ignore[arg-type]
    )
    assert middleware.delivery is not None
    return middleware.delivery


@pytest.mark.parametrize("made", [through_the_sidecar, through_the_middleware])
@pytest.mark.parametrize("policy", [None, "drop_oldest", "drop_newest"])
def test_a_full_queue_drops_what_it_was_told_to(made: object, policy: str | None, tmp_path: Path) -> None:
    url = "http://127.0.0.1:9"

    async def test() -> None:
        delivery = made(url, policy, tmp_path)  # type: ignore[operator]
        for number in range(200):
            delivery.emit(CloudEvent(str(number), "/s", "t", data=bytes(1000)))
        await delivery.aclose(0.01)
        account = delivery.account()
        assert account.dropped == {"queue_full": 200 - account.queued}

    asyncio.run(test())
    left = open_spool(tmp_path / "spool", BYTES, [url])
    ids = [int(item.event.id) for item in left.positions[0].take(1000, 10**9)]
    left.close()
    first = 0 if policy == "drop_newest" else 200 - len(ids)
    assert ids == list(range(first, first + len(ids)))
    assert 30 < len(ids) < 100
