"""Both ends of HTTP/2, by the h2 library: an upstream that answers by rules, and a client."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    Event,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.settings import SettingCodes, Settings

from inferwatch_logger.proxy.frames import goaway
from tests.logger.proxy.relayed import Handler, Reader, Upstream, Writer

Fields = list[tuple[str, str]]

TABLE_BYTES = 16_384
"""More than the standard's, so that a reader has to mind the settings."""


@dataclass
class Stream:
    """What one side had of a stream."""

    fields: Fields = field(default_factory=list)
    body: bytes = b""
    trailer: Fields = field(default_factory=list)
    ended: bool = False
    reset: int | None = None


class End:
    """One end of a connection: what came, by stream, and what is sent within the windows that the other end opens."""

    def __init__(self, reader: Reader, writer: Writer, *, client: bool) -> None:
        self.reader, self.writer = reader, writer
        self.h2 = H2Connection(H2Configuration(client_side=client, header_encoding="utf-8"))
        tables = {SettingCodes.HEADER_TABLE_SIZE: TABLE_BYTES}
        self.h2.local_settings = Settings(client=client, initial_values=tables)
        self.h2.decoder.max_allowed_table_size = TABLE_BYTES
        self.h2.initiate_connection()
        self.streams: dict[int, Stream] = defaultdict(Stream)
        self.dismissed = False
        self.changed = asyncio.Condition()
        self.flush()

    def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())

    async def receive(self, react: Callable[[Event], None] = lambda _: None) -> None:
        """Take note of all that comes until the connection ends."""
        while data := await self.reader.read(65_536):
            if goaway() in data:  # after which this library would take nothing more
                self.dismissed = True
                data = data.replace(goaway(), b"")
            for event in self.h2.receive_data(data):
                self._note(event)
                react(event)
            self.flush()
            async with self.changed:
                self.changed.notify_all()

    def _note(self, event: Event) -> None:
        stream = self.streams[getattr(event, "stream_id", None) or 0]
        if isinstance(event, RequestReceived | ResponseReceived):
            stream.fields = [(str(name), str(value)) for name, value in event.headers]
        elif isinstance(event, DataReceived):
            stream.body += event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, TrailersReceived):
            stream.trailer = [(str(name), str(value)) for name, value in event.headers]
        elif isinstance(event, StreamEnded):
            stream.ended = True
        elif isinstance(event, StreamReset):
            stream.reset = int(event.error_code)

    async def greeted(self) -> None:
        """Wait for the settings of the other end."""
        await self.until(lambda: self.h2.remote_settings.header_table_size == TABLE_BYTES)

    async def until(self, holds: Callable[[], bool]) -> None:
        async with self.changed:
            await self.changed.wait_for(holds)

    async def send(self, stream: int, body: bytes, *, end: bool) -> None:
        while body:
            await self.until(lambda: self.h2.local_flow_control_window(stream) > 0)
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            part, body = body[:room], body[room:]
            self.h2.send_data(stream, part, end_stream=end and not body)
            self.flush()


Answer = Callable[[End, int], None]


def answering(answer: Answer) -> Handler:
    """Answer each request by what `answer` does with its stream once it is complete."""

    async def handler(_: Upstream, reader: Reader, writer: Writer) -> None:
        end = End(reader, writer, client=False)

        def react(event: Event) -> None:
            if isinstance(event, StreamEnded):
                answer(end, event.stream_id)

        await end.receive(react)

    return handler


class Client(End):
    """The client's end; use it in `async with`."""

    def __init__(self, reader: Reader, writer: Writer) -> None:
        super().__init__(reader, writer, client=True)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Client:
        self._task = asyncio.create_task(self.receive())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def begin(self, path: str, fields: Fields, *, end: bool = False) -> int:
        stream = self.h2.get_next_available_stream_id()
        head = [(":method", "POST"), (":scheme", "http"), (":authority", "h"), (":path", path)]
        self.h2.send_headers(stream, [*head, *fields], end_stream=end)
        self.flush()
        return stream

    async def ask(self, path: str, body: bytes, fields: Fields) -> Stream:
        stream = self.begin(path, fields)
        await self.send(stream, body, end=True)
        return await self.answered(stream)

    async def answered(self, stream: int) -> Stream:
        await self.until(lambda: self.streams[stream].ended or self.streams[stream].reset is not None)
        return self.streams[stream]
