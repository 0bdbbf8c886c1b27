"""What reads a topic: the interface that either client is behind."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from inferwatch.delivery.kafka_options import Client, Options

SESSION_MS: Final = 15_000
"""A member that is not heard of for so long has lost its partitions. One that comes back under its name has them at
once."""
MOST_RECORDS: Final = 2_000


class Record(NamedTuple):
    """A record of a topic. `timestamp_ms` is Unix time, negative where the record has none."""

    partition: int
    offset: int
    timestamp_ms: int
    headers: Sequence[tuple[str, bytes | None]]
    value: bytes | None


class Follower(Protocol):
    """Whoever reads. Its methods are called inside `Consumer.poll` and `Consumer.close`."""

    def position(self, partition: int, /) -> int | None:
        """Return the offset to go on from; None where that is the group's."""
        ...

    def leave(self) -> None:
        """Finish what was read, before partitions go to another member."""
        ...


class Consumer(Protocol):
    """Reads a topic as a member of a group. For one thread; raises `TransportError`, after which it is to be closed."""

    @property
    def ours(self) -> Collection[int] | None:
        """The partitions that the group has assigned to us, which may be none; None before it has said."""
        ...

    @property
    def told(self) -> bool:
        """Whether the group has answered every `commit`. More than one at a time queue, and who leaves behind them."""
        ...

    def poll(self, timeout_s: float, /) -> Sequence[Record]:
        """Return the next records, at most `MOST_RECORDS`, as soon as there is any; each partition's in order."""
        ...

    def commit(self, positions: Mapping[int, int], /) -> None:
        """Tell the group, without waiting, from which offset on each partition of ours is still to be read.

        Before partitions go to another member, it knows: that member asks where to begin. Of what was lost (the session
        ran out) it is told nothing: who has it now may have read further.
        """
        ...

    def reach(self) -> int:
        """Return how many partitions the topic has, where the brokers answer and have it."""
        ...

    def ends(self) -> Mapping[int, int]:
        """Return the offset behind the last record of each of our partitions, as far as that is known."""
        ...

    def close(self) -> None:
        """Leave."""
        ...


@dataclass(frozen=True, slots=True)
class Subscription:
    """A topic and the group that reads it; `member` is this reader's name in it, the same after every restart."""

    bootstrap: str
    topic: str
    group: str
    member: str
    client: Client = "confluent"
    options: Options | None = None
