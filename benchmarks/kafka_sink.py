"""The sink onto Kafka that documentation leads to: `python -m benchmarks.kafka_sink PORT BOOTSTRAP`.

FastAPI parses HTTP, the cloudevents SDK the event, and confluent-kafka writes it, polled by a thread; each request is
answered after the acknowledgement of all replicas.
"""

from __future__ import annotations

import asyncio
import sys
import threading

from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from cloudevents.core.bindings.kafka import to_binary_event
from cloudevents.core.formats.json import JSONFormat
from confluent_kafka import Producer
from fastapi import FastAPI, Request, Response

from benchmarks.serving import serve


def application(producer: Producer) -> FastAPI:
    app = FastAPI()

    @app.post("/events")
    async def take(request: Request) -> Response:
        body = await request.body()
        message = to_binary_event(from_http_event(HTTPMessage(dict(request.headers), body)), JSONFormat())
        loop = asyncio.get_running_loop()
        done: asyncio.Future[object] = loop.create_future()

        def delivered(error: object, _: object) -> None:
            loop.call_soon_threadsafe(done.set_result, error)

        headers: list[tuple[str, str | bytes | None]] = [*message.headers.items()]
        producer.produce(
            "peer", message.value, "default/income/predictor/default", headers=headers, on_delivery=delivered
        )
        return Response(status_code=200 if await done is None else 503)

    return app


def poll(producer: Producer) -> None:
    while True:
        producer.poll(0.1)


if __name__ == "__main__":
    port, bootstrap = sys.argv[1:]
    opened = Producer(
        {
            "bootstrap.servers": bootstrap,
            "acks": "all",
            "enable.idempotence": True,
            "compression.type": "lz4",
            "linger.ms": 0,
        }
    )
    threading.Thread(target=poll, args=(opened,), daemon=True).start()
    serve(application(opened), int(port), lifespan="off")
