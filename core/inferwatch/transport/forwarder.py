"""Puts events on a Kafka topic, and tells whoever brought them once the brokers have them.

One thread sends, a group at a time: what arrives while a group is under way makes up the next one. So a key's events
keep their order, and no event passes one that was refused.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final, Self

from inferwatch.closing import Closing
from inferwatch.delivery.kafka import Producer
from inferwatch.errors import DeliveryError
from inferwatch.events import CloudEvent
from inferwatch.payload_log.ledger import Ledger, Tally
from inferwatch.wire.kafka import Message, to_kafka

logger = logging.getLogger(__name__)

_MESSAGE_BYTES: Final = 1024
"""What a message costs in memory beside its value."""
_GROUP_BYTES: Final = 8 * 1024 * 1024
_PROBE_S: Final = 2.0
_RETRY_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class _Taken:
    """What one call brought, and the future that it waits for."""

    messages: Sequence[Message]
    size_bytes: int
    done: Future[None]


class Forwarder(Closing):
    """An `Intake` that writes to a topic. Thread-safe; its account is of this process alone, since it keeps no file.

    An event is `stored` once every in-sync replica has it. What the brokers do not take is refused: `unavailable` where
    they are away, `too_large` where they never will. After the first such failure of the brokers everything is refused
    at once until they answer again, which is tried twice a second. What comes before they were first asked waits.
    """

    def __init__(self, producer: Producer, topic: str, *, max_inflight_bytes: int) -> None:
        self.max_inflight_bytes = max_inflight_bytes
        self._producer = producer
        self._topic = topic
        self._fault: str | None = "the brokers have not answered yet"
        self._asked = False
        self._waiting: deque[_Taken] = deque()
        self._waiting_bytes = 0
        self._tally = Tally()
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="inferwatch-forwarder", daemon=True)

    @classmethod
    def open(cls, producer: Producer, topic: str, *, max_inflight_bytes: int = 256 * 1024 * 1024) -> Self:
        """Return a forwarder at work."""
        forwarder = cls(producer, topic, max_inflight_bytes=max_inflight_bytes)
        forwarder._thread.start()
        return forwarder

    @property
    def fault(self) -> str | None:
        """Why events are refused at present; None while they are taken."""
        return self._fault

    @property
    def waiting_bytes(self) -> int:
        """The size of what waits for the brokers, at most `max_inflight_bytes`."""
        return self._waiting_bytes

    def append(
        self, events: Sequence[CloudEvent] = (), *, ignored: Sequence[str] = (), malformed: Sequence[str] = ()
    ) -> Future[None]:
        """Take what was received; the future is done once the brokers have it. What is no payload is counted only.

        It fails with `DeliveryError` where any event may be sent again, or where none was taken. Raises `DeliveryError`
        at once where too much waits already (refused, reason `overloaded`), or the brokers are known to be away.
        """
        messages = [to_kafka(event) for event in events]
        size_bytes = sum(_MESSAGE_BYTES + len(message.value) for message in messages)
        with self._changed:
            self._require_room(size_bytes, len(events) + len(ignored) + len(malformed))
            for kind in ignored:
                self._tally.add("ignored", kind)
            for reason in malformed:
                self._tally.add("malformed", reason)
            taken = _Taken(messages, size_bytes, Future())
            if messages:
                self._waiting.append(taken)
                self._waiting_bytes += size_bytes
                self._changed.notify()
            else:
                taken.done.set_result(None)
        return taken.done

    def refuse(self, reason: str, count: int = 1) -> None:
        """Count events that were turned away before they came here."""
        with self._changed:
            self._tally.add("refused", reason, count)

    def ledger(self) -> Ledger:
        """Return the account of every event received so far; what waits for the brokers is not yet in it."""
        with self._changed:
            return self._tally.ledger()

    def close(self) -> None:
        """Send what was taken, and close every connection. Later calls of `append` raise."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _require_room(self, size_bytes: int, count: int) -> None:
        if self._closing or (self._asked and self._fault is not None and size_bytes):
            self._tally.add("refused", "unavailable", count)
            raise DeliveryError(self._fault or "this process is ending", retryable=True)
        if self._waiting_bytes and self._waiting_bytes + size_bytes > self.max_inflight_bytes:
            self._tally.add("refused", "overloaded", count)
            raise DeliveryError(f"{self._waiting_bytes} bytes wait for the brokers, try again later", retryable=True)

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            runner.run(self._probe())
            while (group := self._next_group()) is not None:
                runner.run(self._forward(group) if group else self._probe())
            runner.run(self._producer.aclose())

    def _next_group(self) -> list[_Taken] | None:
        """Wait for what is to be sent; nothing where it is time to look for the brokers, None at the end."""
        with self._changed:
            pause_s = _PROBE_S if self._fault is None else _RETRY_S
            self._changed.wait_for(lambda: self._waiting or self._closing, pause_s)
            if not self._waiting:
                return None if self._closing else []
            group, size_bytes = [self._waiting.popleft()], 0
            while self._waiting and (size_bytes := size_bytes + group[-1].size_bytes) < _GROUP_BYTES:
                group.append(self._waiting.popleft())
            return group

    async def _probe(self) -> None:
        try:
            await self._producer.reach(self._topic)
        except DeliveryError as error:
            self._note(str(error))
        else:
            self._note(None)

    async def _forward(self, group: Sequence[_Taken]) -> None:
        messages = [message for taken in group for message in taken.messages]
        try:
            outcomes = await self._producer.send(self._topic, messages)
        except Exception as error:  # noqa: BLE001 - a thread that ended would leave every sender waiting
            outcomes = [DeliveryError(f"{type(error).__name__}: {error}", retryable=True)] * len(messages)
        self._note(next((str(outcome) for outcome in outcomes if outcome is not None and outcome.retryable), None))
        end = 0
        for taken in group:
            start, end = end, end + len(taken.messages)
            self._settle(taken, outcomes[start:end])

    def _settle(self, taken: _Taken, outcomes: Sequence[DeliveryError | None]) -> None:
        refused = [outcome for outcome in outcomes if outcome is not None]
        reasons = Counter("unavailable" if outcome.retryable else "too_large" for outcome in refused)
        with self._changed:
            self._waiting_bytes -= taken.size_bytes
            self._tally.add("stored", count=len(outcomes) - len(refused))
            for reason, count in reasons.items():
                self._tally.add("refused", reason, count)
        fault = next((outcome for outcome in refused if outcome.retryable), None)
        if fault is None and len(refused) == len(outcomes):
            fault = refused[0]
        if fault is None:
            taken.done.set_result(None)
        else:
            taken.done.set_exception(fault)

    def _note(self, fault: str | None) -> None:
        """Remember how the brokers are. Where they fail, what waits behind fails as well: its turn would be later."""
        with self._changed:
            if fault is not None and (self._fault is None or not self._asked):
                logger.warning("events are refused until the brokers take them again: %s", fault)
            self._fault, self._asked = fault, True
            behind = list(self._waiting) if fault is not None else []
            if behind:
                self._waiting.clear()
        for taken in behind:
            self._settle(taken, [DeliveryError(fault or "", retryable=True)] * len(taken.messages))
